//! The one place that puts reasons into words.

mod ahead;

use crate::{
    CoolDown, HeadroomVerdict, Input, PodBlock, PoolChange, PoolRejection, Reason, RemovalCause,
    RemovalPhase, VolumeConflict, VolumeRefusal,
};
use std::collections::BTreeMap;
use std::fmt;

impl fmt::Display for PoolRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::NodeNameMismatch => f.write_str("node(s) didn't match the requested node name"),
            Self::UntoleratedTaint { taint } => write!(f, "node(s) had untolerated taint {taint}"),
            Self::AffinityMismatch => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::PortConflict => f.write_str("node(s) didn't have free ports for the requested pod ports"),
            Self::Insufficient { resources } => {
                for (i, name) in resources.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    match &*name.0 {
                        "pods" => f.write_str("Too many pods")?,
                        _ if name.is_device_claim() => {
                            f.write_str("resourceclaim not available on the node")?;
                        }
                        _ if name.is_claimed_device() => f.write_str("cannot allocate all claims")?,
                        _ => write!(f, "Insufficient {name}")?,
                    }
                }
                Ok(())
            }
            Self::DiskConflict => f.write_str("node(s) had no available disk"),
            Self::ExclusiveClaimInUse => f.write_str(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already \
                 in-use by another pod",
            ),
            Self::VolumeLimitExceeded => f.write_str("node(s) exceed max volume count"),
            Self::CsiDriverMissing { driver } => {
                write!(f, "{driver} CSI driver is not installed on the node")
            }
            Self::VolumeConflicts { conflicts } => {
                for (i, conflict) in conflicts.iter().enumerate() {
                    write!(f, "{}{conflict}", if i > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::VolumeZoneMismatch => f.write_str("node(s) had no available volume zone"),
            Self::VolumesRefused { why } => write!(f, "{why}"),
            Self::SpreadMismatch => f.write_str("node(s) didn't match pod topology spread constraints"),
            Self::SpreadLabelMissing => {
                f.write_str("node(s) didn't match pod topology spread constraints (missing required label)")
            }
            Self::PodAffinityMismatch => f.write_str("node(s) didn't match pod affinity rules"),
            Self::PodAntiAffinityMismatch => f.write_str("node(s) didn't match pod anti-affinity rules"),
            Self::ExistingAntiAffinity => {
                f.write_str("node(s) didn't satisfy existing pods anti-affinity rules")
            }
            Self::NotModelled { rule } => write!(f, "{rule} is not modelled yet"),
            Self::MaxSizeReached { .. } => f.write_str("max node group size reached"),
            Self::BackOff { .. } => f.write_str("in backoff after failed scale-up"),
            Self::NotHealthy { .. } => f.write_str("not ready for scale-up"),
            Self::NoTemplate => {
                f.write_str("no node template: the pool has no node and its provider describes none")
            }
            Self::Frozen { why } => write!(f, "not to be changed now: {why}"),
            Self::ProviderStale => f.write_str("its provider does not answer"),
            Self::NodeCeiling { .. } => f.write_str("max total nodes in cluster reached"),
            Self::ResourceCeiling => f.write_str("max total cpu or memory in cluster reached"),
            Self::NotChosen => f.write_str("not chosen by the expander grpc"),
            Self::TooLittleChoice => f.write_str(
                "fewer machine types, zones or other values would do than the pool's minValues asks for",
            ),
            Self::LimitReached => f.write_str("the pool's limits would be exceeded"),
            Self::NothingAvailable => f.write_str("no machine type that suits the pool is on offer"),
            Self::TooManyResources => {
                f.write_str("the pods ask for more kinds of resources than one plan can hold")
            }
            Self::AheadShare { most } => {
                write!(f, "no more than {most} of its machines may wait for what is to come")
            }
            Self::AheadCost => f.write_str("machines that wait for what is to come may not cost more"),
            Self::RoundLimit { max_per_round } => {
                write!(f, "limit of {max_per_round} new nodes per scale-up reached")
            }
        }
    }
}

impl fmt::Display for VolumeConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeAffinity => "node(s) didn't match PersistentVolume's node affinity",
            Self::NoneToBind => "node(s) didn't find available persistent volumes to bind",
            Self::NotEnoughSpace => "node(s) did not have enough free storage",
            Self::NotFound => "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        })
    }
}

impl fmt::Display for VolumeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimNotFound { claim } => write!(f, "persistentvolumeclaim \"{claim}\" not found"),
            Self::EphemeralClaimNotMade { claim } => {
                write!(
                    f,
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{claim}\""
                )
            }
            Self::ClaimOfAnother { claim, pod } => {
                let namespace = &claim.namespace;
                write!(f, "PVC {claim} was not created for pod {namespace}/{pod} (pod is not owner)")
            }
            Self::ClaimLost { claim, volume } => write!(
                f,
                "persistentvolumeclaim \"{claim}\" bound to non-existent persistentvolume \"{volume}\""
            ),
            Self::ClaimDeleting { claim } => {
                write!(f, "persistentvolumeclaim \"{claim}\" is being deleted")
            }
            Self::UnboundImmediate => f.write_str("pod has unbound immediate PersistentVolumeClaims"),
        }
    }
}

impl fmt::Display for PodBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControllerNotFound { kind } => write!(f, "its {kind} was not found"),
            Self::MinReplicasReached { replicas, min } => {
                write!(
                    f,
                    "its workload wants {replicas} replicas, fewer than the {min} that may be disturbed"
                )
            }
            Self::NotReplicated => f.write_str("no workload would create it again"),
            Self::UnmovableKubeSystemPod => {
                f.write_str("it is in kube-system and has no PodDisruptionBudget")
            }
            Self::NotSafeToEvictAnnotation => f.write_str("its annotation forbids eviction"),
            Self::RunsUntilCompletion => f.write_str("its annotation asks to let it finish"),
            Self::LocalStorageRequested { volume } => {
                write!(f, "its volume \"{volume}\" is local to the node")
            }
            Self::NotEnoughPdb { pdb } => write!(f, "PodDisruptionBudget {pdb} allows no disruption now"),
            Self::NotModelled { rule } => {
                write!(f, "{rule} is not modelled yet, so its new place is unknown")
            }
        }
    }
}

impl fmt::Display for RemovalCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::UnderUsed => "underutilized",
            Self::Unready => "unready",
            Self::NeverJoined => "never joined",
            Self::Drifted => "drifted",
            Self::Expired => "expired",
        })
    }
}

impl fmt::Display for RemovalPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Marking => "marking",
            Self::Draining => "draining",
            Self::Releasing => "releasing",
            Self::Undoing => "undoing",
        })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes => f.write_str("nodes"),
            Self::Pods => f.write_str("pods"),
            Self::Workloads => f.write_str("workloads"),
            Self::DaemonSets => f.write_str("DaemonSets"),
            Self::Pdbs => f.write_str("PodDisruptionBudgets"),
            Self::Namespaces => f.write_str("namespaces"),
            Self::NodeRules => f.write_str("rules for nodes"),
            Self::Headroom => f.write_str("objects that ask for headroom"),
            Self::Volumes => f.write_str("volumes and their claims"),
            Self::Attachments => f.write_str("CSI drivers and attachments"),
            Self::Devices => f.write_str("devices and claims of them"),
            Self::Outlooks => f.write_str("outlooks of workloads"),
            Self::Pools(provider) => write!(f, "pools of {provider}"),
        }
    }
}

fn percent(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// `2 Insufficient cpu, 1 node(s) had untolerated taint {…}`: each wording with the number of pools it refused.
fn counted<'a>(rejections: impl Iterator<Item = &'a PoolRejection>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for rejection in rejections {
        match rejection {
            // kube-scheduler counts each short resource as a reason of its own.
            PoolRejection::Insufficient { resources } => {
                for name in resources {
                    let one = PoolRejection::Insufficient { resources: vec![name.clone()] };
                    *counts.entry(one.to_string()).or_default() += 1;
                }
            }
            // So it counts each conflict of volumes.
            PoolRejection::VolumeConflicts { conflicts } => {
                for conflict in conflicts {
                    *counts.entry(conflict.to_string()).or_default() += 1;
                }
            }
            other => *counts.entry(other.to_string()).or_default() += 1,
        }
    }
    counts.iter().map(|(text, n)| format!("{n} {text}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FitsOn { node } => write!(f, "there is room on node {node}; the scheduler will bind it"),
            Self::WaitsForMachine { pool } => {
                write!(f, "waits for a machine of pool {pool} that is on its way")
            }
            Self::TriggeredScaleUp { pools } => {
                let list: Vec<_> = pools.iter().map(ToString::to_string).collect();
                write!(f, "pod triggered scale-up: [{}]", list.join(" "))
            }
            Self::Launching { pool, instance_type, zone } => {
                write!(f, "pod triggered scale-up: a machine like {instance_type} in {zone} of pool {pool}")
            }
            Self::NoPoolHelps { rejections } => {
                write!(f, "pod didn't trigger scale-up: {}", counted(rejections.values()))
            }
            Self::NoPools => f.write_str("pod didn't trigger scale-up: there are no pools"),
            Self::Expendable { priority, cutoff } => {
                write!(f, "its priority {priority} is under the cut-off {cutoff}: it may wait")
            }
            Self::Nominated { node } => write!(f, "the scheduler is making room for it on node {node}"),
            Self::TooYoung { until } => write!(f, "waits until {until:.0} before it may trigger a scale-up"),
            Self::PodNotModelled { rule } => {
                write!(
                    f,
                    "it uses {rule}, which is not modelled yet: left to the scheduler, no node is bought for it"
                )
            }
            Self::BoundToNamedNode => f.write_str("it asks for one named node: a new node would not help"),
            Self::DaemonPod => {
                f.write_str("a DaemonSet pod waits for its own node: a new node would not help")
            }
            Self::VolumesRefused { why } => write!(f, "pod didn't trigger scale-up: {why}"),
            Self::ScaleUpDisabled => f.write_str("scale-up is switched off"),
            Self::NoReadyNodes => f.write_str("no node is ready, and scale-up from zero is switched off"),
            Self::Gated => f.write_str("held back by its scheduling gates"),
            Self::AwaitsExpander => f.write_str("the expander grpc has not answered yet"),
            Self::AwaitsScheduler => f.write_str("the scheduler has not looked at it yet"),
            Self::ConsumesRequest { of } => write!(
                f,
                "Unschedulable pod didn't trigger scale-up, because it's consuming {} {}/{}",
                of.kind, of.namespace, of.name
            ),
            of_a_node => of_a_node.fmt_node(f),
        }
    }
}

impl fmt::Display for HeadroomVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pods have room on nodes that are ready", self.ready, self.wanted)?;
        if self.taken > 0 {
            write!(f, ", {} are there themselves", self.taken)?;
        }
        if self.coming > 0 {
            write!(f, ", {} on machines that are on their way", self.coming)?;
        }
        if self.bought > 0 {
            let list: Vec<_> = self.changes.iter().map(ToString::to_string).collect();
            write!(f, ", {} on machines that are bought: [{}]", self.bought, list.join(" "))?;
        }
        match (&self.why, self.short()) {
            (_, 0) => Ok(()),
            (Some(Reason::NoPoolHelps { rejections }), short) => {
                write!(f, "; {short} have none: {}", counted(rejections.values()))
            }
            (Some(why), short) => write!(f, "; {short} have none: {why}"),
            (None, short) => write!(f, "; {short} have none"),
        }
    }
}

impl fmt::Display for PoolChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} {}->{} (max: {})}}", self.pool, self.from, self.to, self.max)
    }
}

impl Reason {
    fn fmt_node(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAutoscaled => f.write_str("belongs to no pool of ours"),
            Self::InUse { utilization_permille, threshold_permille } => write!(
                f,
                "in use: {} of allocatable is requested, over the threshold of {}",
                percent(*utilization_permille),
                percent(*threshold_permille)
            ),
            Self::NothingAllocatable => {
                f.write_str("kept: it offers no cpu or no memory, so its use cannot be told")
            }
            Self::NoPlaceFor { pod, utilization_permille } => write!(
                f,
                "needed: pod {pod} fits on no other node ({} of this one is requested)",
                percent(*utilization_permille)
            ),
            Self::PlaceNotAssured { pod } => write!(
                f,
                "kept: pod {pod} fits on other nodes, but may be left without a place when the scheduler binds \
                 others there first"
            ),
            Self::NotWorthMoving { saves } => {
                let others = match saves.nodes.saturating_sub(1) {
                    0 => String::new(),
                    one_or_more => format!(", with {one_or_more} other nodes"),
                };
                let hundredths = |permille: u32| format!("{}.{:02}", permille / 1000, permille % 1000 / 10);
                write!(
                    f,
                    "kept: taking it away{others} would save at most {} of {} for {} pods moved, {} of what such pods \
                     cost here; at least {} and a twentieth of the price are asked for",
                    saves.saving,
                    saves.price,
                    saves.pods,
                    hundredths(saves.score_permille),
                    hundredths(saves.least_permille)
                )
            }
            Self::DisruptionBudget { pool, cause } => {
                write!(f, "kept: {cause}, and the disruption budgets of pool {pool} allow no more now")
            }
            Self::TakesMovedPods => f.write_str("kept: takes the pods of nodes that go"),
            Self::HoldsHeadroom { of } => write!(f, "kept: holds headroom of {of}"),
            Self::Unneeded { cause, since, removable_at } => {
                write!(f, "{cause} since {since:.0}; may be removed from {removable_at:.0}")
            }
            Self::BlockedBy { pods } => {
                f.write_str("kept:")?;
                for (i, blocked) in pods.iter().enumerate() {
                    let by: Vec<_> = blocked.by.iter().map(ToString::to_string).collect();
                    write!(f, "{} pod {}: {}", if i > 0 { ";" } else { "" }, blocked.pod, by.join(", and "))?;
                }
                Ok(())
            }
            more => more.fmt_guard(f),
        }
    }

    /// What keeps a node that could go, and what it waits for.
    fn fmt_guard(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScaleDownDisabledAnnotation => f.write_str("kept: its annotation forbids scale-down"),
            Self::ScaleDownDisabled => f.write_str("scale-down is switched off"),
            Self::AtMinimum { min } => write!(f, "kept: its pool is at its minimum of {min}"),
            Self::InCoolDown { after, until } => {
                let after = match after {
                    CoolDown::AfterScaleUp => "scale-up",
                    CoolDown::AfterDeletion => "deletion",
                    CoolDown::AfterFailure => "failed deletion",
                };
                write!(f, "unneeded, but the wait after the last {after} ends at {until:.0}")
            }
            Self::RemovalLimit { in_flight, limit } => {
                write!(f, "unneeded, but {in_flight} of at most {limit} removals are under way")
            }
            Self::RecentlyUnremovable { until } => {
                write!(f, "found unremovable lately; looked at again at {until:.0}")
            }
            Self::BeingRemoved { cause, phase, since } => {
                write!(f, "being removed ({cause}): {phase} since {since:.0}")
            }
            Self::StartingUp { since } => write!(f, "starting up since {since:.0}"),
            Self::NotReadyYetTolerated { since, removable_at } => {
                write!(f, "not ready since {since:.0}; may be removed from {removable_at:.0}")
            }
            Self::UnreadyWithPods { pod } => write!(f, "not ready, but pod {pod} is still on it"),
            Self::MachineUnknown => f.write_str("kept: its provider does not name a machine for it"),
            Self::TooManyUnready { unready, of } => {
                write!(f, "kept: {unready} of {of} nodes are not ready, so removals wait")
            }
            Self::Suspended { unready, of } => {
                write!(f, "scaling is suspended: {unready} of {of} nodes are not ready")
            }
            Self::ZoneUnready { zone, unready, of } => {
                write!(
                    f,
                    "kept: {unready} of {of} nodes of zone {zone} are not ready, so removals wait there"
                )
            }
            Self::PoolUnready { pool, unready, of } => {
                write!(
                    f,
                    "kept: {unready} of {of} nodes of pool {pool} are not ready, so removals wait there"
                )
            }
            Self::KeptBy { reasons } => {
                let words: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                let words: Vec<&str> =
                    words.iter().map(|words| words.strip_prefix("kept: ").unwrap_or(words)).collect();
                write!(f, "kept: {}", words.join("; "))
            }
            Self::UnreadyKept => f.write_str("kept: nodes that are not ready are not removed"),
            Self::PoolCoolDown { until } => {
                write!(f, "kept: a scale-up made it, and its pool keeps new nodes until {until:.0}")
            }
            Self::ClusterMinimum { resource, min } => {
                write!(f, "kept: the cluster must keep {min} of {resource}")
            }
            Self::DeletionDelayed { by, until } => {
                write!(f, "being removed: annotation {by} holds its deletion back, until {until:.0} at most")
            }
            Self::PodsAreWaiting => f.write_str("kept: pods are waiting that may need it"),
            more => more.fmt_pool(f),
        }
    }

    /// Of pools and of rounds.
    fn fmt_pool(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoolRejected { rejection } => write!(f, "{rejection}"),
            Self::Growing { from, to, ready, since } => {
                write!(f, "growing {from}->{to} since {since:.0}: {ready} ready")
            }
            Self::MachineNeverJoined { machine } => {
                write!(f, "machine {machine} never became a node; given back")
            }
            Self::InputNotFresh { input, why } => {
                write!(f, "nothing is planned that needs {input}: not up to date ({why})")
            }
            Self::MaxNodesTotal { max_nodes_total } => {
                write!(f, "max total nodes in cluster reached ({max_nodes_total})")
            }
            more => more.fmt_ahead(f),
        }
    }
}
