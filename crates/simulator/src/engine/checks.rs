//! What must hold after every change, whatever went wrong.
//!
//! Owns showing each step to the checker and collecting what was broken; the invariants themselves are the checker's.

use super::durable::Durable;
use checker::{Violation, Watcher, check_plan};
use jiff::{SignedDuration, Timestamp};
use model::{Change, Cluster, PodKey, Policies, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// Broken invariants that are told one by one.
const MOST_LISTED: usize = 100;

/// The invariants of one run so far.
pub(crate) struct Checks {
    watcher: Watcher,
    truth: Cluster,
    durable: Durable,
    pub(crate) violations: u64,
    pub(crate) listed: Vec<String>,
    /// Rule and subject of what was told already: one mistake that lasts is one violation.
    told: BTreeSet<(checker::Rule, String)>,
    pub(crate) by_rule: BTreeMap<checker::Rule, u64>,
    /// From here on nothing changes but by us, where a scenario has such a phase.
    quiet_from: Option<Timestamp>,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} violations", self.violations)
    }
}

impl Checks {
    pub(crate) fn new(policies: &Policies, quiet_from: Option<Timestamp>) -> Self {
        Self {
            watcher: Watcher::new(policies.clone()),
            truth: Cluster::default(),
            durable: Durable::default(),
            violations: 0,
            listed: Vec::new(),
            told: BTreeSet::new(),
            by_rule: BTreeMap::new(),
            quiet_from,
        }
    }

    /// One change of what the API server holds.
    pub(super) fn observe(&mut self, now: Timestamp, change: Change) {
        if self.quiet_from.is_some_and(|from| from <= now) {
            self.quiet_from = None;
            self.watcher.quiet_since(now);
        }
        self.truth.apply(change);
        let found = self.watcher.observe(now, &self.truth);
        self.note(now, found);
    }

    /// A decision of the controller, on what the controller saw.
    pub(super) fn round(&mut self, round: &controller::Round<'_>) {
        let found = check_plan(round.cluster, round.policies, round.ledger, round.decision, round.now);
        self.note(round.now, found);
    }

    /// An eviction that is sent.
    pub(super) fn eviction(&mut self, now: Timestamp, key: &PodKey, uid: Option<&Uid>) {
        let mut found = self.watcher.evicted(now, &self.truth, key, uid);
        let meant = self.truth.pods().get(key).filter(|pod| uid.is_none_or(|uid| *uid == pod.uid));
        if let Some(node) = meant.and_then(|pod| pod.node.as_ref()) {
            found.extend(self.durable.evicted(now, node, key));
        }
        self.note(now, found);
    }

    /// What an eviction would break if the API server took it now.
    pub(super) fn eviction_taken(&mut self, key: &PodKey) -> Vec<Violation> {
        self.watcher.eviction_accepted(&self.truth, key)
    }

    /// One change of the store, for what must be durable before it.
    pub(super) fn stored(&mut self, now: Timestamp, change: &sandbox::store::Change) {
        let found = self.durable.observe(now, change);
        self.note(now, found);
    }

    /// The ledger is about to be put back to what a backup holds.
    pub(super) fn ledger_restored(&mut self, now: Timestamp) {
        self.durable.restored(now);
    }

    pub(super) fn note(&mut self, now: Timestamp, found: Vec<Violation>) {
        for violation in found {
            if self.told.insert((violation.rule, violation.subject.clone())) {
                *self.by_rule.entry(violation.rule).or_insert(0) += 1;
                self.broken(now, &violation.to_string());
            }
        }
    }

    /// Notes a broken invariant.
    pub(crate) fn broken(&mut self, now: Timestamp, what: &str) {
        self.violations += 1;
        if self.listed.len() < MOST_LISTED {
            self.listed.push(format!("{now}: {what}"));
        }
    }

    /// What must be true once nothing disturbs the cluster any more.
    pub(crate) fn finish(&mut self, now: Timestamp, patience: SignedDuration) {
        let found = self.watcher.finish(now, &self.truth, patience);
        self.note(now, found);
    }

    pub(crate) fn truth(&self) -> &Cluster {
        &self.truth
    }
}
