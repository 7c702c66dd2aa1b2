//! What the quiet phase must end in.
//!
//! Owns the expectations of a cluster that nothing disturbs any more: every pod that can be placed is placed, and
//! nothing that we put on a node is left there without a removal under way.

use super::generate::IMPOSSIBLE;
use crate::engine::RunResult;
use crate::scenario::Scenario;
use jiff::SignedDuration;
use sandbox::store::resource::{NODES, PODS};

/// A pod that is younger than this may still wait: boot, back-off and drains take their time.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);

/// Notes what did not converge as broken invariants.
pub(super) fn check(result: &RunResult, scenario: &Scenario) {
    let now = result.end;
    let mut broken = Vec::new();
    for pod in result.store.list(PODS) {
        let waits = pod.text("spec.nodeName").is_none_or(str::is_empty) && !pod.is_terminating();
        let ended = matches!(pod.text("status.phase"), Some("Succeeded" | "Failed"));
        let age = pod
            .text("metadata.creationTimestamp")
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map_or(SignedDuration::ZERO, |created| now.duration_since(created));
        if waits && !ended && pod.label(IMPOSSIBLE).is_none() && age > LONGEST_WAIT && !is_daemon(&pod) {
            let key = model::PodKey::new(pod.namespace(), pod.name());
            let why = result.seen.with(|seen| seen.verdicts.get(&key).map(ToString::to_string));
            broken.push(format!(
                "not placed in bounded time: pod {key} waits for {} min after the quiet phase began; the planner says: {}",
                age.as_mins(),
                why.as_deref().unwrap_or("nothing"),
            ));
        }
    }
    let marks = [api::taints::TO_BE_DELETED, api::taints::DISRUPTED];
    for node in result.store.list(NODES) {
        let marked = node.at("spec.taints").and_then(serde_json::Value::as_array).is_some_and(|taints| {
            taints.iter().any(|taint| marks.iter().any(|mark| taint["key"] == *mark))
        });
        let cordoned = node.annotation(api::annotations::CORDONED).is_some();
        let since = result.seen.with(|seen| seen.checks.marked_since(node.name()));
        let long = since.is_none_or(|since| now.duration_since(since) > LONGEST_WAIT);
        if (marked || cordoned) && long {
            broken.push(format!("left behind: node {} still carries our mark or cordon", node.name()));
        }
    }
    let nodes = result.seen.with(|seen| seen.measure.nodes_peak);
    if nodes < 20 {
        broken.push(format!("scenario too small: {nodes} nodes at most, 20 are the rule"));
    }
    debug_assert!(scenario.duration.is_some(), "random scenarios say how long they run");
    result.seen.with(|seen| {
        for what in broken {
            seen.checks.broken(now, &what);
        }
    });
}

fn is_daemon(pod: &sandbox::store::Object) -> bool {
    pod.at("metadata.ownerReferences.0.kind").is_some()
        || pod
            .at("metadata.ownerReferences")
            .and_then(serde_json::Value::as_array)
            .is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "DaemonSet"))
}
