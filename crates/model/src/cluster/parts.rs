//! Workloads that are parts of others: the ReplicaSets of a Deployment, the Jobs of a CronJob.
//!
//! Owns the index, and what is asked of a workload with all of its parts.

use super::{Cluster, live_owner};
use crate::{Pod, PodKey, Workload, WorkloadKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts(BTreeMap<WorkloadKey, BTreeSet<WorkloadKey>>);

impl Parts {
    pub(super) fn of(workloads: &BTreeMap<WorkloadKey, Arc<Workload>>) -> Self {
        let mut parts = Self::default();
        for (key, workload) in workloads {
            parts.replace(key, None, Some(workload));
        }
        parts
    }

    pub(super) fn replace(
        &mut self,
        key: &WorkloadKey,
        old: Option<&Arc<Workload>>,
        new: Option<&Arc<Workload>>,
    ) {
        if let Some(whole) = old.and_then(|old| old.part_of.as_ref())
            && let Some(parts) = self.0.get_mut(whole)
        {
            parts.remove(key);
            if parts.is_empty() {
                self.0.remove(whole);
            }
        }
        if let Some(whole) = new.and_then(|new| new.part_of.as_ref()) {
            self.0.entry(whole.clone()).or_default().insert(key.clone());
        }
    }
}

impl Cluster {
    /// A workload of that name, where it owns pods itself, and those that are parts of it.
    fn workloads_under<'c>(&'c self, key: &'c WorkloadKey) -> impl Iterator<Item = &'c Arc<Workload>> {
        let parts = self.parts.0.get(key).into_iter().flatten();
        std::iter::once(key).chain(parts).filter_map(|key| self.workloads.get(key))
    }

    /// How many pods of a workload, its parts' included, exist and are neither ended nor being deleted.
    pub fn live_pods_under(&self, key: &WorkloadKey) -> u32 {
        self.workloads_under(key).map(|workload| self.live_pods_of(&workload.uid)).sum()
    }

    /// The newest pod of a workload that lives: what its next one will be like. Pods bear their owner's name.
    pub fn newest_pod_under(&self, key: &WorkloadKey) -> Option<&Arc<Pod>> {
        let first_of = |workload: &'_ Arc<Workload>| {
            let prefix = format!("{}-", workload.key.name);
            let from =
                PodKey { namespace: Arc::clone(&workload.key.namespace), name: Arc::from(prefix.as_str()) };
            let named = self.pods.range(from..).map(|(_, pod)| pod).take_while(move |pod| {
                pod.key.namespace == workload.key.namespace && pod.key.name.starts_with(&prefix)
            });
            let mut own = named.filter(|pod| live_owner(pod) == Some(&workload.uid));
            own.next()
        };
        self.workloads_under(key)
            .filter_map(first_of)
            .max_by(|one, two| (one.created_at, &two.key).cmp(&(two.created_at, &one.key)))
    }
}
