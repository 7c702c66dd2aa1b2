//! What would change a reason, and until when it holds at most.
//!
//! Owns the advice that `explain` prints under a reason's sentence. Every reason has an arm of its own, so that a new one
//! cannot be added without saying what a reader can do about it; `None` means that nothing is to be done.

use crate::{BlockedPod, CoolDown, PodBlock, PoolId, PoolRejection, Reason, VolumeConflict, VolumeRefusal};
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Advice: a fixed sentence, or one that names something.
pub type Advice = Cow<'static, str>;

#[expect(clippy::unnecessary_wraps, reason = "most arms answer with it as it stands")]
const fn says(text: &'static str) -> Option<Advice> {
    Some(Cow::Borrowed(text))
}

impl PoolRejection {
    /// What would let the pool, or the node, take the pod.
    pub fn advice(&self) -> Option<Advice> {
        match self {
            Self::Unschedulable => says("kubectl uncordon the node, or wait until its removal is done"),
            Self::NodeNameMismatch => says("take spec.nodeName off the pod"),
            Self::UntoleratedTaint { taint } => Some(Cow::Owned(format!(
                "add a toleration for {taint} to the pod, or take the taint off the pool"
            ))),
            Self::AffinityMismatch => {
                says("compare the pod's nodeSelector and node affinity with the labels of the pool")
            }
            Self::PortConflict => says("take the host port off the pod, or allow more nodes"),
            Self::Insufficient { .. } => says("lower the pod's requests, or add a pool with larger machines"),
            Self::DiskConflict | Self::ExclusiveClaimInUse => {
                says("wait for the other pod that uses the volume, or stop it")
            }
            Self::VolumeLimitExceeded => {
                says("use machines that attach more volumes, or fewer volumes a pod")
            }
            Self::CsiDriverMissing { driver } => {
                Some(Cow::Owned(format!("install the CSI driver {driver} on the pool's nodes")))
            }
            Self::VolumeConflicts { conflicts } => conflicts.first().and_then(|first| first.advice()),
            Self::VolumeZoneMismatch => says("give the pool nodes in the zone of the volume"),
            Self::VolumesRefused { why } => why.advice(),
            Self::SpreadMismatch => {
                says("raise maxSkew, use ScheduleAnyway, or let pools of the other zones grow")
            }
            Self::SpreadLabelMissing => {
                says("give the pool's nodes the label of the spread constraint's topologyKey")
            }
            Self::PodAffinityMismatch => {
                says("run a pod that its affinity asks for, or make the affinity preferred")
            }
            Self::PodAntiAffinityMismatch | Self::ExistingAntiAffinity => {
                says("allow more nodes, or make the anti-affinity preferred")
            }
            Self::NotModelled { .. } => says("nodes for such pods have to be added by hand"),
            Self::MaxSizeReached { max } => Some(Cow::Owned(format!("raise the pool's maximum over {max}"))),
            Self::BackOff { code, .. } => Some(Cow::Owned(format!(
                "see why its last order failed ({code}); it is tried again when the wait is over"
            ))),
            Self::NotHealthy { .. } => says("see why the pool's nodes are not ready: kubectl describe node"),
            Self::NoTemplate => {
                says("let the pool have one node, or describe its machines by annotations or tags")
            }
            Self::Frozen { .. } => says("end what holds the pool: unpause it, or let its roll-out finish"),
            Self::ProviderStale => says("see the log for the provider's error; it is asked again by itself"),
            Self::NodeCeiling { .. } => says("raise --max-nodes-total"),
            Self::ResourceCeiling => says("raise --cores-total or --memory-total, or use smaller machines"),
            Self::RoundLimit { .. } => None,
            Self::NotChosen => {
                says("see why the program of --grpc-expander-url chose others; it is asked again")
            }
            Self::TooLittleChoice => {
                says("lower minValues, widen the pool's requirements, or use --min-values-policy=BestEffort")
            }
            Self::LimitReached => says("raise the pool's spec.limits"),
            Self::NothingAvailable => {
                says("widen the pool's requirements: more types, zones or capacity types")
            }
            Self::AheadShare { .. } => says("raise ahead.mostSharePercent, or the pool's maximum"),
            Self::AheadCost => says("raise ahead.mostPerHour"),
            Self::TooManyResources => says("ask for fewer kinds of extended resources at once"),
        }
    }

    /// Until when it holds, where time alone ends it.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::BackOff { until, .. } => Some(*until),
            _ => None,
        }
    }
}

impl VolumeConflict {
    fn advice(self) -> Option<Advice> {
        match self {
            Self::NodeAffinity => says("give the pool nodes where the volume can be used"),
            Self::NoneToBind => says("create a volume or a storage class that serves the claim there"),
            Self::NotEnoughSpace => says("give the storage class more capacity there"),
            Self::NotFound => says("the claim's volume is gone: restore the volume, or make the claim anew"),
        }
    }
}

impl VolumeRefusal {
    fn advice(&self) -> Option<Advice> {
        match self {
            Self::ClaimNotFound { .. } => says("create the claim, or correct its name in the pod"),
            Self::EphemeralClaimNotMade { .. } => None,
            Self::ClaimOfAnother { .. } => says("delete the claim, so that the pod's own can be made"),
            Self::ClaimLost { .. } => says("restore the volume, or make the claim anew"),
            Self::ClaimDeleting { .. } => says("wait until the claim is gone, and create it again"),
            Self::UnboundImmediate => {
                says("see why the claim is not bound (kubectl describe pvc), or use WaitForFirstConsumer")
            }
        }
    }
}

impl PodBlock {
    /// What would let the pod leave its node.
    pub fn advice(&self) -> Option<Advice> {
        match self {
            Self::ControllerNotFound { .. } => says("delete the pod if its workload is gone for good"),
            Self::MinReplicasReached { .. } => says("raise its replicas, or lower --min-replica-count"),
            Self::NotReplicated => {
                says("give it an owner such as a Deployment, or annotate it safe-to-evict \"true\"")
            }
            Self::UnmovableKubeSystemPod => {
                says("give it a PodDisruptionBudget, or --skip-nodes-with-system-pods=false")
            }
            Self::NotSafeToEvictAnnotation => says("take the annotation off where the pod may move"),
            Self::RunsUntilCompletion => None,
            Self::LocalStorageRequested { .. } => {
                says("--skip-nodes-with-local-storage=false, or annotate it safe-to-evict-local-volumes")
            }
            Self::NotEnoughPdb { .. } => {
                says("see why the budget's pods are not healthy, or allow more disruptions in it")
            }
            Self::NotModelled { .. } => says("move the pod by hand"),
        }
    }
}

/// What would let one of several pools help: told where there is only one.
fn of_pools(rejections: &BTreeMap<PoolId, PoolRejection>) -> Option<Advice> {
    match rejections.len() {
        1 => rejections.values().next().and_then(PoolRejection::advice),
        _ => says("see below what each pool says"),
    }
}

/// What would let the pods of a node leave it: told where one thing holds one of them.
fn of_blocks(pods: &[BlockedPod]) -> Option<Advice> {
    let mut blocks = pods.iter().flat_map(|pod| &pod.by);
    match (blocks.next(), blocks.next()) {
        (Some(only), None) => only.advice(),
        _ => says("see below what holds each pod"),
    }
}

impl Reason {
    /// What would change it; `None` where it passes by itself or is as it should be.
    pub fn advice(&self) -> Option<Advice> {
        match self {
            Self::NoPools => {
                says("name pools: --nodes, --node-group-auto-discovery, or objects of a pool's kind")
            }
            Self::NoPoolHelps { rejections } | Self::AheadRefused { rejections, .. } => of_pools(rejections),
            Self::PoolRejected { rejection } => rejection.advice(),
            Self::BlockedBy { pods } => of_blocks(pods),
            Self::VolumesRefused { why } => why.advice(),
            Self::Expendable { .. } => says("raise its priority, or lower --expendable-pods-priority-cutoff"),
            Self::PodNotModelled { .. } => says("add a node for it by hand"),
            Self::BoundToNamedNode => says("take the node's name off the pod"),
            Self::DaemonPod => says("make room on its node, or raise the DaemonSet's priority"),
            Self::ScaleUpDisabled => says("switch scaleUpEnabled on in the policies"),
            Self::Gated => says("whoever set the scheduling gate has to take it off"),
            Self::NotAutoscaled => says("no pool lists its machine: see provider IDs and discovery tags"),
            Self::NothingAllocatable => says("see why its kubelet reports no capacity"),
            Self::NoPlaceFor { .. } => says(
                "compare the pod's requests with what it uses (kubectl top pod) and lower them, or free room elsewhere",
            ),
            Self::PlaceNotAssured { .. } => {
                says("free room elsewhere, or lower the pod's requests to what it uses")
            }
            Self::NotWorthMoving { .. } => says(
                "lower --consolidation-score-percent, or leave the policy Balanced, to move pods for less",
            ),
            Self::ConsumesRequest { of } => Some(Cow::Owned(format!(
                "see what became of it: tideline explain headroom {}/{}; without the annotation it is bought for",
                of.namespace, of.name
            ))),
            Self::HoldsHeadroom { of } => Some(Cow::Owned(format!("ask for less headroom in {of}"))),
            Self::ScaleDownDisabledAnnotation => says("take the annotation off the node"),
            Self::ScaleDownDisabled => says("--scale-down-enabled=true"),
            Self::AtMinimum { min } => Some(Cow::Owned(format!("lower the pool's minimum under {min}"))),
            Self::MachineUnknown => says("see spec.providerID of the node and the provider's instances"),
            Self::TooManyUnready { .. }
            | Self::Suspended { .. }
            | Self::ZoneUnready { .. }
            | Self::PoolUnready { .. } => says("see why so many nodes are not ready"),
            Self::NoReadyNodes => says("bring a node back, or --scale-up-from-zero=true"),
            Self::KeptBy { .. } => says("see below what each says"),
            Self::UnreadyKept => says("--scale-down-unready-enabled=true"),
            Self::ClusterMinimum { resource, .. } => {
                Some(Cow::Owned(format!("lower the cluster's minimum of {resource}")))
            }
            Self::DeletionDelayed { .. } => says("whoever set the annotation takes it off when it is done"),
            Self::UnreadyWithPods { .. } => says("delete the pod, or bring its node back"),
            Self::PodsAreWaiting => says("see why pods are waiting: tideline status"),
            Self::InputNotFresh { .. } => says("see the log for the error; it is read again by itself"),
            Self::MaxNodesTotal { .. } => says("raise --max-nodes-total"),
            Self::InCoolDown { after: CoolDown::AfterScaleUp, .. } => {
                says("where some pool grows all day, --scale-down-delay-after-add=0s lets removals go on")
            }
            Self::AheadUnsure { .. } => says("lower ahead.leastConfidencePercent where it has proved right"),
            Self::AheadShapeUnknown => says("keep one replica, so that what the next ones need is known"),
            Self::InUse { .. } => says("it goes when less is requested of it, or with a higher threshold"),
            Self::FitsOn { .. }
            | Self::WaitsForMachine { .. }
            | Self::TriggeredScaleUp { .. }
            | Self::Launching { .. }
            | Self::Nominated { .. }
            | Self::TooYoung { .. }
            | Self::AwaitsScheduler
            | Self::AwaitsExpander
            | Self::TakesMovedPods
            | Self::DisruptionBudget { .. }
            | Self::Unneeded { .. }
            | Self::InCoolDown { after: CoolDown::AfterDeletion | CoolDown::AfterFailure, .. }
            | Self::PoolCoolDown { .. }
            | Self::RemovalLimit { .. }
            | Self::RecentlyUnremovable { .. }
            | Self::BeingRemoved { .. }
            | Self::StartingUp { .. }
            | Self::NotReadyYetTolerated { .. }
            | Self::Growing { .. }
            | Self::MachineNeverJoined { .. }
            | Self::AheadNothingDue
            | Self::AheadNotDue { .. }
            | Self::AheadReady { .. }
            | Self::AheadOrdered { .. }
            | Self::AheadLater { .. }
            | Self::NeededAgain { .. } => None,
        }
    }

    /// Until when it holds, where time alone ends it.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::TooYoung { until }
            | Self::InCoolDown { until, .. }
            | Self::PoolCoolDown { until }
            | Self::DeletionDelayed { until, .. }
            | Self::RecentlyUnremovable { until }
            | Self::Unneeded { removable_at: until, .. }
            | Self::NotReadyYetTolerated { removable_at: until, .. } => Some(*until),
            Self::AheadLater { order_at, .. } => Some(*order_at),
            Self::NeededAgain { due, .. } => Some(*due),
            Self::PoolRejected { rejection } => rejection.until(),
            Self::NoPoolHelps { rejections } => rejections.values().filter_map(PoolRejection::until).min(),
            _ => None,
        }
    }
}
