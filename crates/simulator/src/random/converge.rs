//! What the quiet phase must end in.
//!
//! Owns the expectations of a cluster that nothing disturbs any more: every pod that can be placed is placed, and
//! nothing that we put on a node is left there.

use super::generate::IMPOSSIBLE;
use crate::engine::RunResult;
use jiff::SignedDuration;
use model::PodPhase;

/// A pod that is younger than this may still wait: boot, back-off and drains take their time.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
/// Nodes that every scenario must reach at once.
const LEAST_NODES: usize = 20;

/// Notes what did not converge as broken invariants.
pub(super) fn check(result: &RunResult) {
    let now = result.end;
    result.seen.with(|seen| {
        seen.checks.finish(now, LONGEST_WAIT);
        let mut broken = Vec::new();
        for pod in seen.checks.truth().waiting_pods() {
            let ended = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
            let age = now.duration_since(pod.created_at);
            if ended || pod.daemon || pod.labels.contains_key(IMPOSSIBLE) || age < LONGEST_WAIT {
                continue;
            }
            let why = seen.verdicts.get(&pod.key).map(ToString::to_string);
            broken.push(format!(
                "not placed in bounded time: pod {} waits for {} min; the planner says: {}",
                pod.key,
                age.as_mins(),
                why.as_deref().unwrap_or("nothing"),
            ));
        }
        if seen.measure.nodes_peak < LEAST_NODES {
            let peak = seen.measure.nodes_peak;
            broken
                .push(format!("the scenario is too small: {peak} nodes at most, {LEAST_NODES} are the rule"));
        }
        for what in broken {
            seen.checks.broken(now, &what);
        }
    });
}
