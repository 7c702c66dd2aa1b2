//! Which pods must not be touched by a voluntary cause: the drain rules once more, on their own.

use crate::fit::live_on;
use jiff::{SignedDuration, Timestamp};
use model::{
    Cluster, DaemonSetKey, NodeName, Pdb, Pod, Policies, SafeToEvict, UnhealthyPodEviction, WorkloadKey,
};
use std::sync::Arc;

/// Pods of a node that would have to move: neither the node's own, nor ended, nor stuck.
pub(crate) fn movable_on<'c>(cluster: &'c Cluster, node: &NodeName, now: Timestamp) -> Vec<&'c Arc<Pod>> {
    live_on(cluster, node)
        .filter(|pod| !pod.mirror && !pod.daemon && !pod.terminal && !is_stuck(pod, now))
        .collect()
}

/// Whether a pod belongs to its node, and goes with it.
pub(crate) fn belongs_to_node(policies: &Policies, pod: &Pod) -> bool {
    let draining = &policies.draining;
    let daemons_go = pod
        .evict_daemon
        .unwrap_or(draining.evict_daemon_sets_from_occupied || draining.evict_daemon_sets_from_empty);
    pod.mirror || (pod.daemon && !daemons_go)
}

fn is_stuck(pod: &Pod, now: Timestamp) -> bool {
    pod.deletion_at.is_some_and(|gone| now.duration_since(gone) >= SignedDuration::from_secs(30))
}

/// Why a pod must stay where it is, budgets aside.
pub(crate) fn protection(
    cluster: &Cluster,
    policies: &Policies,
    pod: &Pod,
    now: Timestamp,
) -> Option<String> {
    if pod.deletion_at.is_some() {
        return None;
    }
    match pod.safe_to_evict {
        SafeToEvict::No => return Some("its annotation forbids eviction".to_owned()),
        SafeToEvict::OnCompletion => return Some("its annotation asks to let it finish".to_owned()),
        SafeToEvict::Yes => return None,
        SafeToEvict::Unset => {}
    }
    if !pod.shape.unmodelled.is_empty() {
        return Some("a rule of its own is not modelled".to_owned());
    }
    if let Some(why) = unowned(cluster, policies, pod) {
        return Some(why);
    }
    if policies.skip_nodes_with_local_storage
        && let Some(volume) = pod.local_volumes.iter().find(|volume| !volume.exempt)
    {
        return Some(format!("its volume {} is local", volume.name));
    }
    let system = policies.skip_nodes_with_system_pods && &*pod.key.namespace == "kube-system";
    let limit = policies.blocking_system_pod_timeout;
    let aged = !limit.is_zero() && now.duration_since(pod.created_at) >= limit;
    (system && !aged && budgets_over(cluster, pod).is_empty())
        .then(|| "it is a young pod of kube-system without a budget".to_owned())
}

fn unowned(cluster: &Cluster, policies: &Policies, pod: &Pod) -> Option<String> {
    let Some(owner) = &pod.owner else { return Some("nothing would create it again".to_owned()) };
    if !policies.skip_nodes_with_custom_controller_pods {
        return None;
    }
    let exists = match &*owner.kind {
        "ReplicaSet" | "StatefulSet" | "Job" | "ReplicationController" => cluster
            .workloads()
            .get(&WorkloadKey::new(&owner.kind, &pod.key.namespace, &owner.name))
            .is_some_and(|workload| workload.uid == owner.uid),
        "DaemonSet" => {
            cluster.daemon_sets().contains_key(&DaemonSetKey::new(&pod.key.namespace, &owner.name))
        }
        kind => return Some(format!("a {kind} owns it")),
    };
    (!exists).then(|| format!("its {} is gone", owner.kind))
}

pub(crate) fn budgets_over<'c>(cluster: &'c Cluster, pod: &Pod) -> Vec<&'c Arc<Pdb>> {
    cluster
        .pdbs()
        .values()
        .filter(|pdb| pdb.key.namespace == pod.key.namespace)
        .filter(|pdb| pdb.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels)))
        .collect()
}

/// Whether evicting the pod counts against a budget's allowance.
pub(crate) fn counts_against(pdb: &Pdb, pod: &Pod) -> bool {
    pod.deletion_at.is_none()
        && (pod.ready || pdb.unhealthy_pod_eviction != UnhealthyPodEviction::AlwaysAllow)
}

/// What a budget allows now.
pub(crate) fn allowance(pdb: &Pdb) -> u32 {
    if pdb.status_is_current { pdb.disruptions_allowed } else { 0 }
}
