//! How many disruptions each `PodDisruptionBudget` still allows, over all removals in flight and planned.
//!
//! Owns the debiting: an eviction that was handed out or accepted and that the budget's own status may not show yet
//! is taken off, and so is each pod of a node that this round takes for removable.

use crate::planted::PlantedBug;
use crate::round::Round;
use model::{LabelSelector, Pdb, PdbKey, Pod, UnhealthyPodEviction};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct Budgets {
    by_namespace: BTreeMap<Arc<str>, Vec<Arc<Pdb>>>,
    left: BTreeMap<PdbKey, u32>,
    /// Evictions that this round's plan hands out, those that are asked for again included.
    handed_out: BTreeMap<PdbKey, u32>,
    ignored: bool,
}

impl Budgets {
    pub(crate) fn of(round: &Round<'_>) -> Self {
        let mut by_namespace: BTreeMap<Arc<str>, Vec<Arc<Pdb>>> = BTreeMap::new();
        let mut left = BTreeMap::new();
        for (key, pdb) in round.cluster.pdbs() {
            by_namespace.entry(Arc::clone(&key.namespace)).or_default().push(Arc::clone(pdb));
            // A status that is older than its spec allows nothing, as in the eviction API.
            left.insert(key.clone(), if pdb.status_is_current { pdb.disruptions_allowed } else { 0 });
        }
        let ignored = round.planted.has(PlantedBug::IgnoredPdb);
        let mut budgets = Self { by_namespace, left, handed_out: BTreeMap::new(), ignored };
        budgets.debit_evictions_in_flight(round);
        budgets
    }

    fn debit_evictions_in_flight(&mut self, round: &Round<'_>) {
        for removal in round.ledger.removals.values() {
            for (key, eviction) in &removal.evictions {
                let Some(pod) = round.cluster.pods().get(key) else { continue };
                let open = eviction.asked.is_some() || eviction.accepted_at.is_some();
                if open && pod.uid == eviction.uid && pod.deletion_at.is_none() {
                    self.debit(pod);
                }
            }
        }
    }

    /// The budgets that cover a pod, in key order.
    pub(crate) fn covering<'b>(&'b self, pod: &'b Pod) -> impl Iterator<Item = &'b Arc<Pdb>> {
        self.by_namespace
            .get(&pod.key.namespace)
            .into_iter()
            .flatten()
            .filter(|pdb| pdb.selector.as_ref().is_some_and(|s: &LabelSelector| s.matches(&pod.labels)))
    }

    /// The first budget that forbids evicting the pod now.
    ///
    /// More than one budget over a pod is an error to the eviction API, so then the answer is always one of them.
    pub(crate) fn forbidding<'b>(&'b self, pod: &'b Pod) -> Option<&'b PdbKey> {
        if self.ignored || self.left.is_empty() || pod.deletion_at.is_some() {
            return None;
        }
        let mut covering = self.covering(pod);
        let first = covering.next()?;
        if covering.next().is_some() {
            return Some(&first.key);
        }
        let free = !pod.ready && first.unhealthy_pod_eviction == UnhealthyPodEviction::AlwaysAllow;
        let left = self.left.get(&first.key).copied().unwrap_or(0);
        (!free && left == 0).then_some(&first.key)
    }

    /// Whether this plan may ask for the pod's eviction: never for more than the budgets' own status allows, also
    /// where the evictions were asked for before and are asked for again.
    pub(crate) fn hand_out(&mut self, pod: &Pod) -> bool {
        let covering: Vec<Arc<Pdb>> = self.covering(pod).map(Arc::clone).collect();
        let counts = |pdb: &Pdb| pod.ready || pdb.unhealthy_pod_eviction != UnhealthyPodEviction::AlwaysAllow;
        let spent = |pdb: &Pdb| {
            let allowed = if pdb.status_is_current { pdb.disruptions_allowed } else { 0 };
            self.handed_out.get(&pdb.key).copied().unwrap_or(0) >= allowed
        };
        if !self.ignored && covering.iter().any(|pdb| counts(pdb) && spent(pdb)) {
            return false;
        }
        for pdb in covering.iter().filter(|pdb| counts(pdb)) {
            *self.handed_out.entry(pdb.key.clone()).or_default() += 1;
        }
        true
    }

    /// Takes one disruption off every budget over the pod.
    pub(crate) fn debit(&mut self, pod: &Pod) {
        if self.left.is_empty() || pod.deletion_at.is_some() {
            return;
        }
        let keys: Vec<PdbKey> = self.covering(pod).map(|pdb| pdb.key.clone()).collect();
        for key in keys {
            if let Some(left) = self.left.get_mut(&key) {
                *left = left.saturating_sub(1);
            }
        }
    }
}
