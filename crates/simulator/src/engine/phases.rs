//! Which fault met the controller at what.
//!
//! Owns the table that shows how much of the controller's life the random scenarios reach.

use super::api_faults::kind_of;
use crate::scenario::FaultKind;
use model::{Ledger, RemovalPhase};
use sandbox::fault::Faults;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// What the ledger says that the controller is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    Idle,
    Buying,
    BackingOff,
    Marking,
    Draining,
    Releasing,
    Undoing,
    /// Giving back machines that never became nodes.
    GivingBack,
}

impl Phase {
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Buying,
        Self::BackingOff,
        Self::Marking,
        Self::Draining,
        Self::Releasing,
        Self::Undoing,
        Self::GivingBack,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Buying => "buying",
            Self::BackingOff => "backing off",
            Self::Marking => "marking",
            Self::Draining => "draining",
            Self::Releasing => "releasing",
            Self::Undoing => "undoing",
            Self::GivingBack => "giving back",
        }
    }

    /// All phases that a ledger is in at once.
    pub(super) fn of(ledger: &Ledger) -> BTreeSet<Self> {
        let mut phases = BTreeSet::new();
        if !ledger.scale_ups.is_empty() {
            phases.insert(Self::Buying);
        }
        if !ledger.back_offs.is_empty() {
            phases.insert(Self::BackingOff);
        }
        if !ledger.orphans.is_empty() {
            phases.insert(Self::GivingBack);
        }
        phases.extend(ledger.removals.values().map(|removal| match removal.phase {
            RemovalPhase::Marking => Self::Marking,
            RemovalPhase::Draining => Self::Draining,
            RemovalPhase::Releasing => Self::Releasing,
            RemovalPhase::Undoing => Self::Undoing,
        }));
        if phases.is_empty() {
            phases.insert(Self::Idle);
        }
        phases
    }
}

/// How often each fault met each phase.
pub type Hits = BTreeMap<(FaultKind, Phase), u64>;

#[derive(Debug, Default)]
struct State {
    now: BTreeSet<Phase>,
    /// Faults of calls that are counted already.
    injected: BTreeMap<FaultKind, u64>,
    hits: Hits,
}

impl State {
    /// Before the first round there is nothing that could be under way.
    fn phases(&self) -> Vec<Phase> {
        if self.now.is_empty() { vec![Phase::Idle] } else { self.now.iter().copied().collect() }
    }
}

/// A shared handle to the table of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct HitLog {
    state: Arc<Mutex<State>>,
    /// Told after each round.
    entered: Arc<Notify>,
}

impl HitLog {
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the controller is in a phase.
    pub(crate) async fn meet(&self, phase: Phase) {
        loop {
            let entered = self.entered.notified();
            if self.with(|state| state.now.contains(&phase)) {
                return;
            }
            entered.await;
        }
    }

    /// A round ended with this ledger: the faults of calls since the round before met what was going on until now.
    pub(crate) fn enter(&self, ledger: &Ledger, faults: Option<&Faults>) {
        let mut counts: BTreeMap<FaultKind, u64> = BTreeMap::new();
        for (count, number) in faults.into_iter().flat_map(Faults::counts) {
            if let Some(kind) = kind_of(count.fault) {
                *counts.entry(kind).or_insert(0) += number;
            }
        }
        let phases = Phase::of(ledger);
        self.with(|state| {
            for (kind, number) in &counts {
                let before = state.injected.get(kind).copied().unwrap_or(0);
                for phase in state.phases() {
                    if *number > before {
                        *state.hits.entry((*kind, phase)).or_insert(0) += number - before;
                    }
                }
            }
            state.injected = counts;
            state.now = phases;
        });
        self.entered.notify_waiters();
    }

    /// Counts a fault against every phase that the controller is in.
    pub(crate) fn hit(&self, fault: FaultKind) {
        self.with(|state| {
            for phase in state.phases() {
                *state.hits.entry((fault, phase)).or_insert(0) += 1;
            }
        });
    }

    pub(crate) fn hits(&self) -> Hits {
        self.with(|state| state.hits.clone())
    }
}
