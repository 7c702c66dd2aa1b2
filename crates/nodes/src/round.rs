//! The state of one round while it is being decided.
//!
//! Owns the collecting of steps, verdicts and wake-ups, and the rule for handing a step out: once, until it is
//! answered, the process that took it is gone, or its answer is overdue.

use crate::planted::Planted;
use jiff::{SignedDuration, Timestamp};
use model::{
    Asked, Buy, Cluster, Decision, Growth, IntentId, Ledger, NodeName, Plan, Policies, PoolId, Reason, Step,
    Verdicts,
};
use packing::SpotIx;

/// An answer that has not come after this is not coming: the step, being idempotent, is handed out again. Longer
/// than any executor's bounded retries.
const ANSWER_OVERDUE: SignedDuration = SignedDuration::from_mins(5);
/// When orders or removals have changed, what that makes possible is looked at this much later at the latest.
const SECOND_LOOK: SignedDuration = SignedDuration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Round<'a> {
    pub cluster: &'a Cluster,
    pub policies: &'a Policies,
    pub now: Timestamp,
    pub ledger: Ledger,
    pub verdicts: Verdicts,
    pub planted: Planted,
    pub growth: Growth,
    /// New machines in the room: where, of which pool, of which of its flavours.
    pub planned: Vec<(SpotIx, PoolId, u32)>,
    before: &'a Ledger,
    steps: Vec<Step>,
    wake_at: Option<Timestamp>,
}

impl<'a> Round<'a> {
    pub(crate) fn new(
        cluster: &'a Cluster,
        policies: &'a Policies,
        ledger: &'a Ledger,
        now: Timestamp,
        planted: Planted,
    ) -> Self {
        Self {
            cluster,
            policies,
            now,
            ledger: ledger.clone(),
            verdicts: Verdicts::default(),
            planted,
            growth: Growth::default(),
            planned: Vec::new(),
            before: ledger,
            steps: Vec::new(),
            wake_at: None,
        }
    }

    pub(crate) fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// What this round has bought so far; an order that is handed out again is an earlier one's.
    pub(crate) fn purchases(&self) -> impl Iterator<Item = &Buy> {
        let earlier =
            |buy: &Buy| self.before.scale_ups.get(&buy.pool).is_some_and(|order| order.intent == buy.intent);
        self.steps.iter().filter_map(move |step| match step {
            Step::Buy(buy) if !earlier(buy) => Some(buy),
            _ => None,
        })
    }

    pub(crate) fn new_intent(&mut self, kind: &str) -> IntentId {
        self.ledger.new_intent(kind)
    }

    /// Asks to be called again at a moment; the past needs no call.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
        }
    }

    /// Whether a moment has come; asks to be woken for it where it has not.
    pub(crate) fn reached(&mut self, at: Timestamp) -> bool {
        self.wake(at);
        at <= self.now
    }

    /// Whether a step is to be handed out now, and if so the note that it was.
    pub(crate) fn ask(&mut self, asked: Option<Asked>, not_before: Option<Timestamp>) -> Option<Asked> {
        if let Some(at) = not_before
            && !self.reached(at)
        {
            return None;
        }
        if self.is_asking(asked) {
            return None;
        }
        self.wake(after(self.now, ANSWER_OVERDUE));
        Some(Asked { epoch: self.ledger.epoch, at: self.now })
    }

    /// Whether a call that was handed out may still be on its way: what it asks for must not be given up meanwhile.
    pub(crate) fn is_asking(&mut self, asked: Option<Asked>) -> bool {
        asked.is_some_and(|asked| {
            asked.epoch == self.ledger.epoch && !self.reached(after(asked.at, ANSWER_OVERDUE))
        })
    }

    pub(crate) fn say(&mut self, node: &NodeName, reason: Reason) {
        self.verdicts.nodes.insert(node.clone(), reason);
    }

    pub(crate) fn conclude(mut self) -> Decision {
        let (before, ledger) = (self.before, &self.ledger);
        let moved = before.removals != ledger.removals
            || before.orphans != ledger.orphans
            || before.scale_ups != ledger.scale_ups
            || before.back_offs != ledger.back_offs;
        if moved {
            self.wake(after(self.now, SECOND_LOOK));
        }
        Decision {
            plan: Plan { steps: self.steps },
            rehearsed: Plan::default(),
            ledger: self.ledger,
            verdicts: self.verdicts,
            growth: self.growth,
            wake_at: self.wake_at,
        }
    }
}

/// A moment and a wait, held inside the calendar.
pub(crate) fn after(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}
