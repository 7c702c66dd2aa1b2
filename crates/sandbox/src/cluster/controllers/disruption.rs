//! Status of PodDisruptionBudgets: how many pods may be evicted now.

use super::objects::{self, controller_of, key_of, selector_at, share, stamp};
use super::selected::{Member, Owner};
use super::{Controllers, Key, Work, after, garbage::ignore_missing};
use crate::store::resource::{
    DEPLOYMENTS, POD_DISRUPTION_BUDGETS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use crate::store::{ApiError, Change, ChangeKind, Object, Part};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long an eviction that was granted counts although its pod is not seen to go.
const GRANT_LASTS: Duration = Duration::from_mins(2);

/// The pods that a budget chooses, by name.
type Members = BTreeMap<String, Member>;

struct Counts {
    expected: i64,
    desired: i64,
    healthy: i64,
    /// Why nothing may be evicted although the numbers are not known.
    failure: Option<String>,
}

impl Controllers {
    pub(super) fn budget_changed(&mut self, change: &Change) {
        let (namespace, name) = key_of(&change.object);
        let selector = match change.kind {
            ChangeKind::Deleted => None,
            _ => selector_at(&change.object, "spec.selector"),
        };
        self.budgets.set(&self.store, &namespace, &name, selector);
        self.work.insert(Work::Budget((namespace, name)));
    }

    pub(super) fn reconcile_budget(&mut self, key: &Key, now: Timestamp) -> Result<(), ApiError> {
        let Some(budget) = self.store.find(POD_DISRUPTION_BUDGETS, &key.0, &key.1) else { return Ok(()) };
        let none = BTreeMap::new();
        let pods = self.budgets.get(&key.0, &key.1).map_or(&none, |selected| &selected.members);
        let (granted, next) = granted(&budget, pods, now);
        let counts = self.count(&budget, pods, &granted);
        if let Some(at) = next {
            self.due.set(Work::Budget(key.clone()), at);
        }
        let allowed = if counts.expected > 0 && counts.failure.is_none() {
            (counts.healthy - counts.desired).max(0)
        } else {
            0
        };
        let done = self.store.modify(POD_DISRUPTION_BUDGETS, &key.0, &key.1, Part::Status, |value| {
            let before = value["status"].clone();
            let generation = value["metadata"]["generation"].clone();
            let status = &mut value["status"];
            status["disruptionsAllowed"] = allowed.into();
            status["currentHealthy"] = counts.healthy.into();
            status["desiredHealthy"] = counts.desired.into();
            status["expectedPods"] = counts.expected.into();
            status["observedGeneration"] = generation;
            match status.as_object_mut() {
                Some(status) if granted.is_empty() => {
                    status.remove("disruptedPods");
                }
                _ => status["disruptedPods"] = json!(granted),
            }
            let (holds, reason, message) = match (&counts.failure, allowed) {
                (Some(why), _) => ("False", "SyncFailed", why.as_str()),
                (None, 0) => ("False", "InsufficientPods", ""),
                (None, _) => ("True", "SufficientPods", ""),
            };
            objects::set_condition(value, "DisruptionAllowed", holds, reason, message, now);
            value["status"] != before
        });
        ignore_missing(done)
    }

    fn count(&self, budget: &Object, pods: &Members, granted: &Map<String, Value>) -> Counts {
        let healthy = pods
            .iter()
            .filter(|(name, pod)| pod.ready && !pod.terminating && !granted.contains_key(name.as_str()))
            .count() as i64;
        let namespace = budget.namespace();
        if let Some(most) = budget.at("spec.maxUnavailable") {
            return match self.scale_of_owners(namespace, pods) {
                Ok(expected) => {
                    let out = share(Some(most), expected, true).unwrap_or(0);
                    Counts { expected, desired: (expected - out).max(0), healthy, failure: None }
                }
                Err(why) => Counts { expected: 0, desired: 0, healthy, failure: Some(why) },
            };
        }
        match budget.at("spec.minAvailable") {
            Some(least @ Value::String(_)) => match self.scale_of_owners(namespace, pods) {
                Ok(expected) => {
                    let desired = share(Some(least), expected, true).unwrap_or(0);
                    Counts { expected, desired, healthy, failure: None }
                }
                Err(why) => Counts { expected: 0, desired: 0, healthy, failure: Some(why) },
            },
            least => {
                let desired = least.and_then(Value::as_i64).unwrap_or(1);
                Counts { expected: pods.len() as i64, desired, healthy, failure: None }
            }
        }
    }

    /// The replicas that the pods' owners want, each owner once; pods without an owner do not count.
    fn scale_of_owners(&self, namespace: &str, pods: &Members) -> Result<i64, String> {
        let mut scales: BTreeMap<String, i64> = BTreeMap::new();
        let owners: BTreeSet<&Owner> = pods.values().filter_map(|pod| pod.owner.as_ref()).collect();
        for Owner { kind, name, .. } in owners {
            let resource = match kind.as_str() {
                "ReplicaSet" => REPLICA_SETS,
                "StatefulSet" => STATEFUL_SETS,
                "ReplicationController" => REPLICATION_CONTROLLERS,
                _ => return Err(format!("{kind} {name} does not implement the scale subresource")),
            };
            let Some(owner) = self.store.find(resource, namespace, name) else { continue };
            // All ReplicaSets of one Deployment are one scale.
            let scaled = match controller_of(&owner) {
                Some(("Deployment", deployment, _)) => {
                    self.store.find(DEPLOYMENTS, namespace, deployment).unwrap_or(owner)
                }
                _ => owner,
            };
            scales.insert(scaled.uid().to_owned(), objects::int(&scaled, "spec.replicas").unwrap_or(1));
        }
        Ok(scales.values().sum())
    }
}

/// Evictions that were granted and whose pods are not yet seen to go, and when the first of them lapses.
fn granted(budget: &Object, pods: &Members, now: Timestamp) -> (Map<String, Value>, Option<Timestamp>) {
    let Some(disrupted) = budget.at("status.disruptedPods").and_then(Value::as_object) else {
        return (Map::new(), None);
    };
    let mut kept = Map::new();
    let mut next: Option<Timestamp> = None;
    for (name, since) in disrupted {
        let at = since.as_str().and_then(|text| text.parse::<Timestamp>().ok()).unwrap_or(now);
        let lapses = after(at, GRANT_LASTS);
        let waits = pods.get(name).is_some_and(|pod| !pod.terminating);
        if waits && lapses > now {
            kept.insert(name.clone(), stamp(at).into());
            next = Some(next.map_or(lapses, |next| next.min(lapses)));
        }
    }
    (kept, next)
}
