//! Follows every change of the store: measures it, has it checked, tidies up ended pods of a trace.
//!
//! Owns the order of these; what is measured and what must hold is elsewhere.

use super::checks::Checks;
use super::phases::HitLog;
use super::truth;
use crate::measure::Measure;
use crate::scenario::FaultKind;
use checker::Violation;
use jiff::Timestamp;
use model::{Change, PodKey, PodPhase, Reason, Uid};
use sandbox::cluster::cloud::{FAULT, MachineFault};
use sandbox::store::resource::{PODS, SIMULATED_MACHINES};
use sandbox::store::{ChangeKind, DeleteOptions, Store, Subscription};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the observer and the controller's hooks write to.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) measure: Measure,
    pub(crate) checks: Checks,
    /// Why pods wait, as of the last round.
    pub(crate) verdicts: BTreeMap<PodKey, Reason>,
    pub(crate) rounds: u64,
    changes: Subscription,
    hits: HitLog,
}

/// A handle to it.
#[derive(Clone, Debug)]
pub(crate) struct SharedSeen {
    seen: Arc<Mutex<Seen>>,
    store: Store,
    /// Pods that ended and that nobody owns are deleted at once.
    tidies: bool,
}

impl SharedSeen {
    pub(super) fn new(store: &Store, measure: Measure, checks: Checks, hits: HitLog, tidies: bool) -> Self {
        let seen = Seen {
            measure,
            checks,
            verdicts: BTreeMap::new(),
            rounds: 0,
            // From the beginning: what stood before the first pod counts as well.
            changes: store.subscribe_from(0),
            hits,
        };
        Self { seen: Arc::new(Mutex::new(seen)), store: store.clone(), tidies }
    }

    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Seen) -> R) -> R {
        work(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in every change up to this moment.
    pub(super) fn sync(&self) {
        let now = self.store.clock().now();
        let ended = self.with(|seen| seen.take_in(now));
        for key in ended.into_iter().filter(|_| self.tidies) {
            let options = DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
            // Gone already is as good.
            let _ = self.store.delete(PODS, &key.namespace, &key.name, &options);
        }
    }

    pub(super) fn hear_round(&self, round: &controller::Round<'_>) {
        self.with(|seen| {
            seen.rounds += 1;
            seen.verdicts.clone_from(&round.decision.verdicts.pods);
            seen.checks.round(round);
        });
    }

    /// An eviction sets out for the API server.
    pub(super) fn before_eviction(&self, key: &PodKey, uid: Option<&Uid>) {
        self.sync();
        let now = self.store.clock().now();
        self.with(|seen| seen.checks.eviction(now, key, uid));
    }

    /// An eviction is there; gives what it breaks if it is taken.
    pub(super) fn eviction_arrives(&self, key: &PodKey) -> Vec<Violation> {
        self.sync();
        self.with(|seen| seen.checks.eviction_taken(key))
    }

    pub(super) fn eviction_taken(&self, broken: Vec<Violation>) {
        let now = self.store.clock().now();
        self.with(|seen| seen.checks.note(now, broken));
    }
}

impl Seen {
    /// Gives the pods without owner that ended.
    fn take_in(&mut self, now: Timestamp) -> Vec<PodKey> {
        let mut ended = Vec::new();
        // An error means that the log no longer reaches back; the log is far longer than what one task can write.
        while let Ok(batch) = self.changes.ready() {
            if batch.is_empty() {
                break;
            }
            for stored in batch {
                self.checks.stored(now, &stored);
                let Some(change) = truth::change_of(&stored) else { continue };
                if let Some(fault) = dealt_fault(&stored) {
                    self.hits.hit(fault);
                }
                if let Change::Pod(key, Some(pod)) = &change
                    && pod.phase == PodPhase::Succeeded
                    && pod.owner.is_none()
                {
                    ended.push(key.clone());
                }
                self.measure.observe(now, &stored, &change);
                self.checks.observe(now, change);
            }
        }
        ended
    }
}

/// The fault that a machine was made with.
fn dealt_fault(change: &sandbox::store::Change) -> Option<FaultKind> {
    if change.kind != ChangeKind::Added || change.object.resource() != SIMULATED_MACHINES {
        return None;
    }
    match MachineFault::parse(change.object.annotation(FAULT)?)? {
        MachineFault::NeverJoins => Some(FaultKind::NeverJoins),
        MachineFault::Fails { .. } => Some(FaultKind::MachineFails),
        MachineFault::NeverReady | MachineFault::NotReadyAfter(_) | MachineFault::VanishesAfter(_) => None,
    }
}

/// Runs until its task is dropped.
pub(super) async fn observe(store: Store, seen: SharedSeen) {
    let mut wake = store.subscribe();
    loop {
        seen.sync();
        // Only the wake-up counts; what changed is read by `sync`.
        let _ = wake.next().await;
    }
}
