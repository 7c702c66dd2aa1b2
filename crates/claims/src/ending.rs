//! From a deleted claim to nothing: the node drained in tiers, the machine ended, the finalizers taken off.
//!
//! Owns who is evicted when. Pods go through the eviction API, tier by tier; only when the claim's termination grace
//! period runs out are pods deleted without asking, each early enough to have its own grace.

use crate::conditions::{Conditions, DRAINED, INSTANCE_TERMINATING, LAUNCHED, VOLUMES_DETACHED};
use crate::joining::{has_taint, is_ready};
use crate::orders::duration;
use crate::shared::{Case, Next, Shared, StepError};
use api::karpenter::{DISRUPTED, EXCLUDE_BALANCERS, NodeClaim, TERMINATION, TERMINATION_TIMESTAMP};
use clouds::watching::{code, within};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Preconditions};
use serde_json::json;

/// Between looks at a node that is being drained, and at a machine that is going.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);
const MACHINE_GOES: SignedDuration = SignedDuration::from_secs(2);
/// A drain takes at least so long: what the scheduler was binding when the taint came is seen by then.
const SHORTEST_DRAIN: SignedDuration = SignedDuration::from_secs(5);
/// A pod that should be gone for so long is not waited for.
const STUCK: SignedDuration = SignedDuration::from_mins(1);
const MOST_PODS: u32 = 1000;

pub(crate) async fn end(shared: &Shared, case: &Case) -> Result<Next, StepError> {
    let claim = &*case.claim;
    if !claim.finalizers().iter().any(|finalizer| finalizer == TERMINATION) {
        return Ok(Next::Wait);
    }
    let now = shared.clock.now();
    let deadline = deadline(shared, claim).await?;
    let mut conditions = case.conditions(now);
    if let Some(node) = case.node.as_deref() {
        let taken = case.machine_gone && !is_ready(node);
        if !taken && let Some(next) = drain(shared, claim, node, deadline, &mut conditions, now).await? {
            if conditions.changed {
                shared.write_conditions(claim, &conditions, json!({})).await?;
            }
            return Ok(next);
        }
    }
    if conditions.is_true(LAUNCHED) {
        conditions.set_true(INSTANCE_TERMINATING);
    }
    if conditions.changed {
        // A conflict is met with another look; the write that follows it is the one that counts.
        shared.write_conditions(claim, &conditions, json!({})).await?;
    }
    if !shared.terminate(claim).await? {
        return Ok(Next::At(now.saturating_add(MACHINE_GOES).unwrap_or(now)));
    }
    if let Some(node) = case.node.as_deref() {
        shared.delete_node(node).await?;
    }
    shared.drop_finalizer(claim).await?;
    tracing::info!(nodeclaim = claim.name_any(), "deleted nodeclaim");
    Ok(Next::Wait)
}

/// When the drain's time is over; noted on the claim once, so that it only ever becomes earlier.
async fn deadline(shared: &Shared, claim: &NodeClaim) -> Result<Option<Timestamp>, StepError> {
    if let Some(noted) = claim.annotations().get(TERMINATION_TIMESTAMP) {
        return Ok(noted.parse().ok());
    }
    let Some(grace) = claim.spec.termination_grace_period.as_deref().and_then(duration) else {
        return Ok(None);
    };
    let asked = claim.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let Some(at) = asked.and_then(|asked| asked.saturating_add(grace).ok()) else { return Ok(None) };
    let patch = json!({"metadata": {"annotations": {TERMINATION_TIMESTAMP: at.to_string()}}});
    shared.patch_claim(claim, patch).await?;
    Ok(Some(at))
}

/// One look at a drain. `None`: nothing is left to wait for.
async fn drain(
    shared: &Shared,
    claim: &NodeClaim,
    node: &Node,
    deadline: Option<Timestamp>,
    conditions: &mut Conditions,
    now: Timestamp,
) -> Result<Option<Next>, StepError> {
    if !has_taint(node, DISRUPTED) || !node.labels().contains_key(EXCLUDE_BALANCERS) {
        shared.write_node(&marked(node)).await?;
        // What follows sees the node as it was written.
    }
    let pods = pods_on(shared, &node.name_any()).await?;
    let late = |pod: &Pod| {
        let went = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        went.is_some_and(|at| at.saturating_add(STUCK).is_ok_and(|end| end < now))
    };
    let waiting: Vec<&Pod> = pods.iter().filter(|pod| must_go(pod) && !late(pod)).collect();
    let over = deadline.is_some_and(|at| at <= now);
    if let Some(first) = waiting.iter().map(|pod| tier(pod)).min() {
        let mut refused = false;
        for pod in &waiting {
            let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
            let latest = deadline.and_then(|at| at.checked_sub(SignedDuration::from_secs(own.max(0))).ok());
            if let Some(deadline) = deadline.filter(|_| latest.is_some_and(|latest| latest <= now)) {
                force(shared, node, pod, deadline, now).await?;
            } else if tier(pod) == first && pod.metadata.deletion_timestamp.is_none() && !protected(pod, now)
            {
                refused |= !evict(shared, pod).await?;
            }
        }
        let message = format!("{} pods are still on the node", waiting.len());
        conditions.set(DRAINED, "Unknown", "Draining", &message);
        // Not with each look: when it is news.
        if refused && conditions.changed {
            let text = format!("Failed to drain node, {} pods are waiting to be evicted", waiting.len());
            shared.warn(node, "FailedDraining", text);
        }
        return Ok(Some(Next::At(now.saturating_add(LOOK_AGAIN).unwrap_or(now))));
    }
    if !conditions.is_true(DRAINED) {
        conditions.set(DRAINED, "Unknown", "Draining", "no pod is left on the node");
        let began = conditions.since(DRAINED).unwrap_or(now);
        let earliest = began.saturating_add(SHORTEST_DRAIN).unwrap_or(now);
        if earliest > now && !over {
            return Ok(Some(Next::At(earliest)));
        }
        conditions.set_true(DRAINED);
    }
    if over {
        let message = "the termination grace period is over";
        conditions.set(VOLUMES_DETACHED, "False", "TerminationGracePeriodElapsed", message);
        return Ok(None);
    }
    if let Some(volume) = attached(shared, &node.name_any(), &pods).await? {
        let message = format!("volume {volume} is still attached");
        conditions.set(VOLUMES_DETACHED, "Unknown", "AwaitingVolumeDetachment", &message);
        tracing::debug!(nodeclaim = claim.name_any(), volume, "waiting for a volume");
        if conditions.changed {
            let text = format!("Awaiting deletion of bound VolumeAttachments ({volume})");
            shared.say(node, "AwaitingVolumeDetachment", text);
        }
        return Ok(Some(Next::At(now.saturating_add(LOOK_AGAIN).unwrap_or(now))));
    }
    conditions.set_true(VOLUMES_DETACHED);
    Ok(None)
}

/// The node as it says to everybody that it is leaving.
fn marked(node: &Node) -> Node {
    let mut node = node.clone();
    node.labels_mut().insert(EXCLUDE_BALANCERS.to_owned(), "karpenter".to_owned());
    let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
    if !taints.iter().any(|taint| taint.key == DISRUPTED) {
        taints.push(Taint {
            key: DISRUPTED.to_owned(),
            value: None,
            effect: "NoSchedule".to_owned(),
            time_added: None,
        });
    }
    node
}

async fn pods_on(shared: &Shared, node: &str) -> Result<Vec<Pod>, StepError> {
    let params = ListParams::default().fields(&format!("spec.nodeName={node}")).limit(MOST_PODS);
    let list = within(shared.limit, Api::<Pod>::all(shared.client.clone()).list(&params)).await?;
    Ok(list.items)
}

/// Whether a pod has to leave before the machine may go.
fn must_go(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let over = matches!(phase, "Succeeded" | "Failed");
    let of_node = pod.owner_references().iter().any(|owner| owner.kind == "Node");
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    !over && !of_node && !mirror && !stays_to_the_end(pod)
}

/// Whether a pod tolerates the taint of a leaving node, as daemons do that have to see its end.
fn stays_to_the_end(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_ref());
    spec.into_iter().flatten().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        let value = toleration.value.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == "NoSchedule")
            && ((key.is_empty() && exists) || (key == DISRUPTED && (exists || value.is_empty())))
    })
}

/// The order in which pods go: others first, then DaemonSets', then critical ones, then critical daemons.
fn tier(pod: &Pod) -> u8 {
    let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref()).unwrap_or_default();
    let critical = matches!(class, "system-cluster-critical" | "system-node-critical");
    let daemon = pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet");
    u8::from(daemon) + 2 * u8::from(critical)
}

/// Whether a pod asks not to be disturbed: `true`, or for a time from its start.
fn protected(pod: &Pod, now: Timestamp) -> bool {
    let Some(value) = pod.annotations().get(api::karpenter::DO_NOT_DISRUPT) else { return false };
    if value == "true" {
        return true;
    }
    let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let until = duration(value).zip(start).and_then(|(wait, start)| start.saturating_add(wait).ok());
    until.is_some_and(|until| now < until)
}

/// False where it was refused for now.
async fn evict(shared: &Shared, pod: &Pod) -> Result<bool, StepError> {
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let same = Preconditions { uid: pod.uid(), resource_version: None };
    let params = EvictParams {
        delete_options: Some(DeleteParams { preconditions: Some(same), ..DeleteParams::default() }),
        ..EvictParams::default()
    };
    match within(shared.limit, pods.evict(&pod.name_any(), &params)).await {
        Ok(_) => {
            shared.say(pod, "Evicted", "Evicted pod: its node's claim is deleted".to_owned());
            Ok(true)
        }
        // Gone, another one by now, or held by a budget: looked at again.
        Err(error) if matches!(code(&error), Some(404 | 409 | 429 | 500)) => {
            tracing::debug!(pod = pod.name_any(), %error, "not evicted yet");
            Ok(!matches!(code(&error), Some(429 | 500)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Deletes a pod without asking, with what is left of its grace.
async fn force(
    shared: &Shared,
    node: &Node,
    pod: &Pod,
    deadline: Timestamp,
    now: Timestamp,
) -> Result<(), StepError> {
    let going = pod.metadata.deletion_timestamp.as_ref().is_some_and(|time| time.0 <= deadline);
    if going {
        return Ok(());
    }
    let left = deadline.duration_since(now).as_secs().max(1);
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let params = DeleteParams {
        grace_period_seconds: u32::try_from(left).ok(),
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    tracing::warn!(pod = pod.name_any(), "deleted without asking: the termination grace period ends");
    shared.warn(node, "TerminationGracePeriodExpiring", format!("All pods will be deleted by {deadline}"));
    match within(shared.limit, pods.delete(&pod.name_any(), &params)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A volume that a pod which had to go left attached.
async fn attached(shared: &Shared, node: &str, staying: &[Pod]) -> Result<Option<String>, StepError> {
    // Volumes of pods that stay to the end are not waited for.
    let stays = staying.iter().any(|pod| !must_go(pod) && has_claims(pod));
    if stays {
        return Ok(None);
    }
    let api: Api<VolumeAttachment> = Api::all(shared.client.clone());
    match within(shared.limit, api.list(&ListParams::default())).await {
        Ok(list) => {
            let of_node = list.items.into_iter().find(|attachment| attachment.spec.node_name == node);
            Ok(of_node.map(|attachment| attachment.spec.source.persistent_volume_name.unwrap_or_default()))
        }
        // A server that does not know the kind attaches nothing.
        Err(error) if code(&error) == Some(404) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn has_claims(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().any(|volume| volume.persistent_volume_claim.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(change: &Value) -> Pod {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"containers": []},
            "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"}});
        json_merge(&mut pod, change);
        serde_json::from_value(pod).unwrap()
    }

    fn json_merge(into: &mut Value, change: &Value) {
        let Some(fields) = change.as_object() else {
            *into = change.clone();
            return;
        };
        for (key, value) in fields {
            json_merge(&mut into[key], value);
        }
    }

    fn owned(kind: &str) -> Value {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": kind, "name": "o", "uid": "u"}]}})
    }

    #[test]
    fn who_has_to_go_and_in_which_tier() {
        let critical = json!({"spec": {"priorityClassName": "system-cluster-critical"}});
        let mut critical_daemon = owned("DaemonSet");
        critical_daemon["spec"] = json!({"priorityClassName": "system-node-critical"});
        let tiers =
            [json!({}), owned("DaemonSet"), critical, critical_daemon].map(|change| tier(&pod(&change)));
        assert_eq!(tiers, [0, 1, 2, 3]);
        let tolerates = |toleration: Value| json!({"spec": {"tolerations": [toleration]}});
        for (change, goes) in [
            (json!({}), true),
            (tolerates(json!({"key": "karpenter.sh/disrupted", "operator": "Exists"})), false),
            (tolerates(json!({"key": "karpenter.sh/disrupted", "operator": "Equal"})), false),
            (tolerates(json!({"operator": "Exists"})), false),
            (tolerates(json!({"key": "other", "operator": "Exists"})), true),
            (json!({"status": {"phase": "Succeeded"}}), false),
            (owned("Node"), false),
            (json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}), false),
        ] {
            assert_eq!(must_go(&pod(&change)), goes, "{change}");
        }
    }

    #[test]
    fn a_pod_is_protected_for_ever_or_for_a_time() {
        let now: Timestamp = "2026-01-01T00:04:00Z".parse().unwrap();
        for (value, holds) in
            [("true", true), ("5m", true), ("3m", false), ("banana", false), ("false", false)]
        {
            let pod = pod(&json!({"metadata": {"annotations": {"karpenter.sh/do-not-disrupt": value}}}));
            assert_eq!(protected(&pod, now), holds, "{value}");
        }
    }
}
