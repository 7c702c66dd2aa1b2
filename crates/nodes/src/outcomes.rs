//! What became of the steps of earlier rounds, written into the ledger.
//!
//! Owns the meaning of each answer for the intent that it belongs to. An answer to an intent that is no longer in the
//! ledger is old news.

use crate::back_off;
use crate::drains;
use crate::round::{Round, after};
use crate::{rules, waits};
use jiff::{SignedDuration, Timestamp};
use model::{Buy, Evict, Lower, NodeName, Outcome, OutcomeKind, Release, RemovalPhase, SoftTaint, Step};
use std::sync::Arc;

/// Wait before an order that was found out of date is looked at again.
const RECHECK: SignedDuration = SignedDuration::from_mins(1);

/// Code of an order that got no answer in all its attempts: it may or may not have been taken.
const UNANSWERED: &str = "Unanswered";
/// Such an order is asked for again after this, and given up when it is this old: by then the pool shows whether it
/// was taken.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(30);
const BUY_UNANSWERED_LIMIT: SignedDuration = SignedDuration::from_mins(2);
const RELEASE_UNANSWERED_LIMIT: SignedDuration = SignedDuration::from_mins(10);

fn again(outcome: &Outcome, since: Timestamp, limit: SignedDuration) -> Option<Timestamp> {
    let unanswered = matches!(&outcome.kind, OutcomeKind::Failed { code, .. } if &**code == UNANSWERED);
    (unanswered && outcome.at < after(since, limit)).then(|| after(outcome.at, ASK_AGAIN))
}

pub(crate) fn absorb(round: &mut Round<'_>) {
    let outcomes: Vec<Arc<Outcome>> = round.cluster.outcomes().to_vec();
    for outcome in outcomes {
        match &outcome.step {
            Step::Buy(step) => bought(round, step, &outcome),
            Step::Lower(step) => lowered(round, step, &outcome.kind),
            Step::MarkNode(step) => marked(round, &step.node, &step.intent, &outcome),
            Step::UndoNode(step) => undone(round, &step.node, &step.intent, &outcome),
            Step::Evict(step) => evicted(round, step, &outcome),
            Step::Release(step) => released(round, step, &outcome),
            Step::DeleteNode { intent, node, .. } => node_deleted(round, node, intent, &outcome),
            Step::SoftTaint(step) => soft_tainted(round, step, &outcome),
        }
    }
}

fn bought(round: &mut Round<'_>, step: &Buy, outcome: &Outcome) {
    let Some(order) = round.ledger.scale_ups.get_mut(&step.pool).filter(|order| order.intent == step.intent)
    else {
        return;
    };
    order.asked = None;
    if let Some(at) = again(outcome, order.begun_at, BUY_UNANSWERED_LIMIT) {
        order.not_before = Some(at);
        return;
    }
    match &outcome.kind {
        OutcomeKind::Done => order.ordered = true,
        OutcomeKind::Deferred { until, .. } => order.not_before = Some(*until),
        OutcomeKind::Obsolete { why } => {
            round.ledger.scale_ups.remove(&step.pool);
            rules::order_failed(round, step);
            back_off::out_of_date(round, &step.pool, why);
        }
        OutcomeKind::Failed { code, message } => {
            round.ledger.scale_ups.remove(&step.pool);
            rules::order_failed(round, step);
            back_off::failed(round, &step.pool, code, message);
        }
    }
}

fn lowered(round: &mut Round<'_>, step: &Lower, kind: &OutcomeKind) {
    let Some(order) = round.ledger.scale_ups.get_mut(&step.pool).filter(|order| order.intent == step.intent)
    else {
        return;
    };
    order.asked = None;
    match kind {
        OutcomeKind::Deferred { until, .. } => order.not_before = Some(*until),
        OutcomeKind::Done | OutcomeKind::Obsolete { .. } | OutcomeKind::Failed { .. } => {
            round.ledger.scale_ups.remove(&step.pool);
        }
    }
}

fn marked(round: &mut Round<'_>, node: &NodeName, intent: &model::IntentId, outcome: &Outcome) {
    let Some(removal) = round.ledger.removals.get_mut(node).filter(|removal| removal.intent == *intent)
    else {
        return;
    };
    removal.asked = None;
    if removal.phase != RemovalPhase::Marking {
        return;
    }
    match &outcome.kind {
        OutcomeKind::Done => removal.marked_at = Some(removal.marked_at.unwrap_or(outcome.at)),
        OutcomeKind::Deferred { until, .. } => removal.not_before = Some(*until),
        OutcomeKind::Obsolete { .. } => drains::undo(round, node),
        OutcomeKind::Failed { .. } => drains::fail(round, node),
    }
}

fn undone(round: &mut Round<'_>, node: &NodeName, intent: &model::IntentId, outcome: &Outcome) {
    let Some(removal) = round
        .ledger
        .removals
        .get_mut(node)
        .filter(|removal| removal.intent == *intent && removal.phase == RemovalPhase::Undoing)
    else {
        return;
    };
    removal.asked = None;
    removal.not_before = Some(match &outcome.kind {
        OutcomeKind::Done | OutcomeKind::Obsolete { .. } => {
            removal.undone = true;
            after(outcome.at, RECHECK)
        }
        OutcomeKind::Deferred { until, .. } => *until,
        OutcomeKind::Failed { .. } => after(outcome.at, RECHECK),
    });
}

fn evicted(round: &mut Round<'_>, step: &Evict, outcome: &Outcome) {
    let Some(eviction) = round
        .ledger
        .removals
        .get_mut(&step.node)
        .filter(|removal| removal.intent == step.intent)
        .and_then(|removal| removal.evictions.get_mut(&step.pod))
        .filter(|eviction| eviction.uid == step.uid)
    else {
        return;
    };
    eviction.asked = None;
    match &outcome.kind {
        OutcomeKind::Done | OutcomeKind::Obsolete { .. } => {
            eviction.accepted_at = Some(eviction.accepted_at.unwrap_or(outcome.at));
        }
        OutcomeKind::Deferred { until, .. } => eviction.not_before = *until,
        // Nobody waits for the pod of a DaemonSet.
        OutcomeKind::Failed { .. } if of_daemon_set(round, step) => {}
        OutcomeKind::Failed { .. } => drains::fail(round, &step.node),
    }
}

fn of_daemon_set(round: &Round<'_>, step: &Evict) -> bool {
    round.cluster.pods().get(&step.pod).is_some_and(|pod| pod.daemon)
}

fn released(round: &mut Round<'_>, step: &Release, outcome: &Outcome) {
    let of_node = step.node.as_ref().and_then(|node| round.ledger.removals.get_mut(node));
    let removal = match of_node {
        Some(removal) => Some(removal),
        None => round.ledger.orphans.get_mut(&step.machine),
    };
    let Some(removal) = removal.filter(|removal| removal.intent == step.intent) else { return };
    removal.asked = None;
    if let Some(at) = again(outcome, removal.phase_since, RELEASE_UNANSWERED_LIMIT) {
        removal.not_before = Some(at);
        return;
    }
    let (at, wait): (Timestamp, _) = (outcome.at, round.policies.delay_after_failure.max(RECHECK));
    match &outcome.kind {
        OutcomeKind::Done => {
            removal.released = true;
            round.ledger.last_deletion_at = Some(at);
            waits::note(round, &step.pool, |last| last.deletion_at = Some(at));
        }
        OutcomeKind::Deferred { until, .. } => removal.not_before = Some(*until),
        OutcomeKind::Obsolete { .. } | OutcomeKind::Failed { .. } => match &step.node {
            Some(node) => drains::fail(round, node),
            None => removal.not_before = Some(after(at, wait)),
        },
    }
}

fn soft_tainted(round: &mut Round<'_>, step: &SoftTaint, outcome: &Outcome) {
    let Some(change) =
        round.ledger.soft_taints.get_mut(&step.node).filter(|change| change.intent == step.intent)
    else {
        return;
    };
    change.asked = None;
    change.not_before = Some(match &outcome.kind {
        OutcomeKind::Deferred { until, .. } => *until,
        // The watch shows it; where it does not, the step is taken again.
        _ => after(outcome.at, RECHECK),
    });
}

fn node_deleted(round: &mut Round<'_>, node: &NodeName, intent: &model::IntentId, outcome: &Outcome) {
    let Some(removal) = round.ledger.removals.get_mut(node).filter(|removal| removal.intent == *intent)
    else {
        return;
    };
    removal.asked = None;
    removal.not_before = match &outcome.kind {
        OutcomeKind::Deferred { until, .. } => Some(*until),
        // The watch will show the node gone; where it does not, the step is taken again.
        _ => Some(after(outcome.at, RECHECK)),
    };
}
