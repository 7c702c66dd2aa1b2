//! Waiting pods that nothing tells apart but their names and ages: what a round looks at once for all of them.
//!
//! Owns the sorting of waiting pods into cohorts. It follows from the pods alone, however their news came.

use crate::{Pod, PodKey, Uid};
use jiff::Timestamp;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A pod as the example of its cohort: compared by all that deciding looks at, names and ages apart.
#[derive(Clone, Debug)]
struct Kin(Arc<Pod>);

impl Kin {
    fn flags(&self) -> [bool; 5] {
        let pod = &self.0;
        [pod.deletion_at.is_some(), pod.gated, pod.daemon, pod.mirror, pod.unschedulable_since.is_some()]
    }
}

impl Ord for Kin {
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, two) = (&self.0, &other.0);
        by_address_first(&one.shape, &two.shape)
            .then_with(|| by_address_first(&one.key.namespace, &two.key.namespace))
            .then_with(|| self.flags().cmp(&other.flags()))
            .then_with(|| one.phase.cmp(&two.phase))
            .then_with(|| one.scale_up_delay_seconds.cmp(&two.scale_up_delay_seconds))
            .then_with(|| one.nominated.cmp(&two.nominated))
            .then_with(|| one.consumes.cmp(&two.consumes))
            .then_with(|| owner(one).cmp(&owner(two)))
            .then_with(|| one.labels.cmp(&two.labels))
    }
}

/// Readers share what is equal, so most need no second look.
fn by_address_first<T: Ord + ?Sized>(one: &Arc<T>, two: &Arc<T>) -> Ordering {
    if Arc::ptr_eq(one, two) { Ordering::Equal } else { one.cmp(two) }
}

fn owner(pod: &Pod) -> Option<&Uid> {
    pod.owner.as_ref().map(|owner| &owner.uid)
}

impl PartialOrd for Kin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kin {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Kin {}

/// Waiting pods that are alike.
#[derive(Clone, Debug, Default)]
pub struct Cohort {
    pods: BTreeMap<PodKey, Arc<Pod>>,
    roll: OnceLock<Roll>,
}

/// What follows from who is in a cohort.
#[derive(Clone, Debug)]
struct Roll {
    names: Arc<[PodKey]>,
    youngest: Timestamp,
}

impl Cohort {
    /// Its pods, in key order.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    /// Their names, in key order.
    pub fn names(&self) -> &Arc<[PodKey]> {
        &self.roll().names
    }

    /// When the last of them was made.
    pub fn youngest(&self) -> Timestamp {
        self.roll().youngest
    }

    fn roll(&self) -> &Roll {
        self.roll.get_or_init(|| Roll {
            names: self.pods.keys().cloned().collect(),
            youngest: self.pods.values().map(|pod| pod.created_at).max().unwrap_or(Timestamp::UNIX_EPOCH),
        })
    }
}

/// All waiting pods by cohort.
#[derive(Clone, Debug, Default)]
pub(super) struct Cohorts(BTreeMap<Kin, Cohort>);

/// It follows from the pods.
impl PartialEq for Cohorts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Cohorts {}

impl Cohorts {
    pub(super) fn add(&mut self, pod: &Arc<Pod>) {
        let cohort = self.0.entry(Kin(Arc::clone(pod))).or_default();
        cohort.pods.insert(pod.key.clone(), Arc::clone(pod));
        cohort.roll.take();
    }

    pub(super) fn remove(&mut self, pod: &Arc<Pod>) {
        let kin = Kin(Arc::clone(pod));
        let Some(cohort) = self.0.get_mut(&kin) else { return };
        cohort.pods.remove(&pod.key);
        cohort.roll.take();
        if cohort.pods.is_empty() {
            self.0.remove(&kin);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Cohort> {
        self.0.values()
    }
}
