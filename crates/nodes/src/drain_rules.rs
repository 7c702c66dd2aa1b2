//! Whether a pod may be moved off its node: Cluster Autoscaler's rules, each by its name.
//!
//! Owns the rules and their order. Unlike there, *all* reasons that block a pod are collected, and an annotation that
//! forbids eviction wins over every rule that would allow it. Whether there is a place for the pod is not asked here.

use crate::budgets::Budgets;
use crate::planted::PlantedBug;
use crate::pool_policy;
use crate::round::{Round, after};
use jiff::{SignedDuration, Timestamp};
use model::{BlockedPod, DaemonSetKey, Pod, PodBlock, PodPhase, Profile, SafeToEvict, WorkloadKey};
use std::sync::Arc;

/// A pod that should have been gone this long ago is stuck with its node.
const LONG_TERMINATING: SignedDuration = SignedDuration::from_secs(30);

const REPLICATED_KINDS: [&str; 4] = ["ReplicationController", "ReplicaSet", "Job", "StatefulSet"];

/// What is to become of a pod when its node goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes with the node and nobody misses it: mirror, `DaemonSet`, ended or stuck pods.
    Stays,
    /// It has to be evicted and needs a place elsewhere.
    Moves,
    /// It has to be evicted, and may wait for a place: expendable pods.
    Leaves,
    Blocked(Vec<PodBlock>),
}

/// The fate of one pod.
pub(crate) fn fate(round: &Round<'_>, budgets: &Budgets, pod: &Pod) -> Fate {
    if pod.mirror || matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) || pod.terminal {
        return Fate::Stays;
    }
    if pod.deletion_at.is_some_and(|gone| after(gone, LONG_TERMINATING) <= round.now) {
        return Fate::Stays;
    }
    let mut blocks = Vec::new();
    if pod.safe_to_evict == SafeToEvict::No && round.planted.has(PlantedBug::IgnoredDoNotDisrupt) {
        return Fate::Leaves;
    }
    if pod.safe_to_evict == SafeToEvict::No {
        blocks.push(PodBlock::NotSafeToEvictAnnotation);
    }
    controller(round, pod, &mut blocks);
    if pod.daemon {
        return if blocks.is_empty() { Fate::Stays } else { Fate::Blocked(blocks) };
    }
    if pod.safe_to_evict != SafeToEvict::Yes {
        replication(round, pod, &mut blocks);
        system_pod(round, budgets, pod, &mut blocks);
        local_storage(round, pod, &mut blocks);
    }
    if let Some(pdb) = budgets.forbidding(pod) {
        blocks.push(PodBlock::NotEnoughPdb { pdb: Arc::from(pdb.to_string()) });
    }
    blocks.extend(pod.shape.unmodelled.iter().map(|rule| PodBlock::NotModelled { rule: *rule }));
    if !blocks.is_empty() {
        return Fate::Blocked(blocks);
    }
    if pod.shape.priority < round.policies.expendable_pods_priority_cutoff {
        Fate::Leaves
    } else {
        Fate::Moves
    }
}

/// The controller must still be there to create the pod again, with enough replicas.
fn controller(round: &Round<'_>, pod: &Pod, blocks: &mut Vec<PodBlock>) {
    if !round.policies.skip_nodes_with_custom_controller_pods || pod.safe_to_evict == SafeToEvict::Yes {
        return;
    }
    let Some(owner) = &pod.owner else { return };
    let kind = &*owner.kind;
    let missing = || PodBlock::ControllerNotFound { kind: Arc::clone(&owner.kind) };
    if kind == "DaemonSet" {
        let key = DaemonSetKey::new(&pod.key.namespace, &owner.name);
        if round.cluster.daemon_sets().get(&key).is_none_or(|set| set.uid != owner.uid) {
            blocks.push(missing());
        }
        return;
    }
    if pod.daemon || !REPLICATED_KINDS.contains(&kind) {
        return;
    }
    let key = WorkloadKey::new(kind, &pod.key.namespace, &owner.name);
    let workload = round.cluster.workloads().get(&key).filter(|workload| workload.uid == owner.uid);
    let min = round.policies.min_replica_count;
    match workload {
        None => blocks.push(missing()),
        Some(workload) if kind != "Job" && workload.desired < min => {
            blocks.push(PodBlock::MinReplicasReached { replicas: workload.desired, min });
        }
        Some(_) => {}
    }
}

fn replication(round: &Round<'_>, pod: &Pod, blocks: &mut Vec<PodBlock>) {
    if pod.safe_to_evict == SafeToEvict::OnCompletion {
        blocks.push(PodBlock::RunsUntilCompletion);
    }
    let strict = round.policies.skip_nodes_with_custom_controller_pods;
    let replicated =
        pod.owner.as_ref().is_some_and(|owner| !strict || REPLICATED_KINDS.contains(&&*owner.kind));
    if !replicated {
        blocks.push(PodBlock::NotReplicated);
    }
}

fn system_pod(round: &Round<'_>, budgets: &Budgets, pod: &Pod, blocks: &mut Vec<PodBlock>) {
    let policies = round.policies;
    if !policies.skip_nodes_with_system_pods || &*pod.key.namespace != "kube-system" {
        return;
    }
    if of_node_policy(round, pod) {
        // There neither age nor a budget lets it go.
        blocks.push(PodBlock::UnmovableKubeSystemPod);
        return;
    }
    let limit = policies.blocking_system_pod_timeout;
    let old_enough = !limit.is_zero() && after(pod.created_at, limit) <= round.now;
    if budgets.covering(pod).next().is_none() && !old_enough {
        blocks.push(PodBlock::UnmovableKubeSystemPod);
    }
}

/// Whether a pod's node follows the rules of a cluster-wide policy.
fn of_node_policy(round: &Round<'_>, pod: &Pod) -> bool {
    let node = pod.node.as_ref().and_then(|name| round.cluster.nodes().get(name));
    let pool = node.and_then(|node| round.cluster.pool_of(node));
    pool.is_some_and(|pool| pool_policy::profile(round, pool) == Profile::NodePolicy)
}

fn local_storage(round: &Round<'_>, pod: &Pod, blocks: &mut Vec<PodBlock>) {
    if round.policies.skip_nodes_with_local_storage {
        let local = pod.local_volumes.iter().filter(|volume| !volume.exempt);
        blocks.extend(local.map(|v| PodBlock::LocalStorageRequested { volume: Arc::clone(&v.name) }));
    }
}

/// Whether a pod, if it has to move, takes room elsewhere.
pub(crate) fn needs_place(round: &Round<'_>, pod: &Pod) -> bool {
    let ended = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) || pod.terminal;
    !ended
        && !pod.mirror
        && !pod.daemon
        && pod.shape.priority >= round.policies.expendable_pods_priority_cutoff
}

/// When time alone may change a pod's fate.
pub(crate) fn next_change(round: &Round<'_>, pod: &Pod) -> Option<Timestamp> {
    let stuck = pod.deletion_at.map(|gone| after(gone, LONG_TERMINATING));
    let limit = round.policies.blocking_system_pod_timeout;
    let aged =
        (&*pod.key.namespace == "kube-system" && !limit.is_zero()).then(|| after(pod.created_at, limit));
    stuck.into_iter().chain(aged).filter(|at| *at > round.now).min()
}

/// What has to happen to the pods of one node before it can go.
pub(crate) struct NodePods {
    /// To be evicted, largest first, with those that need a place marked.
    pub moving: Vec<(Arc<Pod>, bool)>,
    pub blocked: Vec<BlockedPod>,
}

/// Looks at every pod of a node.
pub(crate) fn pods_of(round: &Round<'_>, budgets: &Budgets, node: &model::NodeName) -> NodePods {
    let mut found = NodePods { moving: Vec::new(), blocked: Vec::new() };
    for pod in round.cluster.pods_on(node) {
        match fate(round, budgets, pod) {
            Fate::Stays => {}
            Fate::Moves => found.moving.push((Arc::clone(pod), true)),
            Fate::Leaves => found.moving.push((Arc::clone(pod), false)),
            Fate::Blocked(by) => found.blocked.push(BlockedPod { pod: pod.key.clone(), by }),
        }
    }
    let size = |pod: &Pod| std::cmp::Reverse(packing::size_units(&pod.shape.requests));
    found.moving.sort_by_key(|(pod, _)| size(pod));
    found
}
