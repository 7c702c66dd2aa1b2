//! Follows every change of the store: measures it, has it checked, tidies up ended pods of a trace.
//!
//! Owns the order of these; what is measured and what must hold is elsewhere.

use super::checks::Checks;
use crate::measure::Measure;
use model::{PodKey, Reason};
use sandbox::store::resource::PODS;
use sandbox::store::{Change, ChangeKind, DeleteOptions, Store, Subscription};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the observer and the controller's hook both write to.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) measure: Measure,
    pub(crate) checks: Checks,
    /// Why pods wait, as of the last round.
    pub(crate) verdicts: BTreeMap<PodKey, Reason>,
    pub(crate) rounds: u64,
}

impl Seen {
    pub(super) fn hear_round(&mut self, round: &controller::Round<'_>) {
        self.rounds += 1;
        self.verdicts.clone_from(&round.decision.verdicts.pods);
        self.checks.round(round);
    }
}

/// A handle to it.
#[derive(Clone, Debug)]
pub(crate) struct SharedSeen(Arc<Mutex<Seen>>);

impl SharedSeen {
    pub(crate) fn new(seen: Seen) -> Self {
        Self(Arc::new(Mutex::new(seen)))
    }

    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Seen) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs until its task is dropped. `tidies` = pods that ended and that nobody owns are deleted at once.
pub(super) async fn observe(store: Store, mut changes: Subscription, seen: SharedSeen, tidies: bool) {
    loop {
        // Falling behind the log is impossible while nothing else runs in between; if it happened, what was missed
        // could not be checked, so stopping is better than going on with a wrong count.
        let Ok(batch) = changes.next().await else { return };
        take_in(&store, &batch, &seen, tidies);
    }
}

fn take_in(store: &Store, batch: &[Change], seen: &SharedSeen, tidies: bool) {
    let now = store.clock().now();
    seen.with(|seen| {
        for change in batch {
            seen.measure.observe(now, change);
            seen.checks.observe(now, change);
        }
    });
    if tidies {
        for change in batch.iter().filter(|change| has_ended(change)) {
            let options = DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
            // Gone already is as good.
            let _ = store.delete(PODS, change.object.namespace(), change.object.name(), &options);
        }
    }
}

fn has_ended(change: &Change) -> bool {
    change.kind == ChangeKind::Modified
        && change.object.resource() == PODS
        && change.object.text("status.phase") == Some("Succeeded")
        && change.object.metadata().is_some_and(|metadata| !metadata.contains_key("ownerReferences"))
}
