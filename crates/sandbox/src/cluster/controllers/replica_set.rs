//! `ReplicaSet`s and `ReplicationController`s: as many pods as asked for.

use super::index::Tally;
use super::objects::{
    Key, PodName, condition_since, int, is_active, is_ready, node_of, owner_reference, pod_from_template,
};
use super::{Controllers, Work, after, garbage::ignore_missing, kind_of};
use crate::store::resource::PODS;
use crate::store::{ApiError, Object, Part, Propagation, ResourceName};
use jiff::Timestamp;
use serde_json::Value;
use std::cmp::{Ordering, Reverse};
use std::time::Duration;

/// Pods made or removed in one go; the rest follows in the next, so that one huge set does not starve others.
const BURST: usize = 500;
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

impl Controllers {
    pub(super) fn reconcile_replica_set(
        &mut self,
        resource: ResourceName,
        key: &Key,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let Some(set) = self.store.find(resource, &key.0, &key.1) else { return Ok(()) };
        let tally = self.index.tally_of(&set);
        let wanted = usize::try_from(int(&set, "spec.replicas").unwrap_or(1)).unwrap_or(0);
        if !set.is_terminating() {
            match tally.active.cmp(&wanted) {
                Ordering::Less => self.make_pods(&set, wanted - tally.active, now)?,
                Ordering::Greater => self.remove_pods(&set, tally.active - wanted, now)?,
                Ordering::Equal => {}
            }
        }
        self.report_replicas(&set, tally, now)
    }

    fn make_pods(&mut self, set: &Object, count: usize, now: Timestamp) -> Result<(), ApiError> {
        let (api_version, kind) = kind_of(set.resource());
        let Some(template) = set.at("spec.template") else { return Ok(()) };
        for _ in 0..count.min(BURST) {
            let owner = owner_reference(set, api_version, kind);
            let pod = pod_from_template(template, &PodName::Generated(set.name()), owner);
            let made = self.store.create(PODS, set.namespace(), pod)?;
            self.events.normal(set, kind, "SuccessfulCreate", &format!("Created pod: {}", made.name()), now);
        }
        if count > BURST {
            self.work.insert(Work::ReplicaSet(set.resource(), super::objects::key_of(set)));
        }
        Ok(())
    }

    fn remove_pods(&mut self, set: &Object, surplus: usize, now: Timestamp) -> Result<(), ApiError> {
        let (_, kind) = kind_of(set.resource());
        let mut ranked = self.pods_of(set);
        ranked.retain(|pod| is_active(pod));
        ranked.sort_by_cached_key(|pod| removal_rank(pod));
        for pod in ranked.into_iter().take(surplus.min(BURST)) {
            self.delete(&pod, Propagation::Background)?;
            self.events.normal(set, kind, "SuccessfulDelete", &format!("Deleted pod: {}", pod.name()), now);
        }
        if surplus > BURST {
            self.work.insert(Work::ReplicaSet(set.resource(), super::objects::key_of(set)));
        }
        Ok(())
    }

    fn report_replicas(&mut self, set: &Object, tally: Tally, now: Timestamp) -> Result<(), ApiError> {
        let available = self.available(set, tally, now);
        let numbers = [
            ("fullyLabeledReplicas", tally.active),
            ("readyReplicas", tally.ready),
            ("availableReplicas", available),
        ];
        let done = self.store.modify(set.resource(), set.namespace(), set.name(), Part::Status, |value| {
            let generation = value["metadata"]["generation"].clone();
            let replicas = Value::from(tally.active);
            report(value, &[("replicas", replicas), ("observedGeneration", generation)], &numbers)
        });
        ignore_missing(done)
    }

    /// Pods that were ready for as long as the set asks.
    fn available(&mut self, set: &Object, tally: Tally, now: Timestamp) -> usize {
        let patience =
            Duration::from_secs(int(set, "spec.minReadySeconds").unwrap_or(0).max(0).unsigned_abs());
        if patience.is_zero() {
            return tally.ready;
        }
        let moments: Vec<Timestamp> = self
            .pods_of(set)
            .iter()
            .filter(|pod| is_active(pod) && is_ready(pod))
            .map(|pod| after(condition_since(pod, "Ready").unwrap_or(now), patience))
            .collect();
        if let Some(next) = moments.iter().filter(|at| **at > now).min() {
            self.due.set(Work::ReplicaSet(set.resource(), super::objects::key_of(set)), *next);
        }
        moments.iter().filter(|at| **at <= now).count()
    }
}

/// Writes fields that are always there, and numbers that are left out at zero. True where anything changed.
pub(super) fn report(value: &mut Value, always: &[(&str, Value)], numbers: &[(&str, usize)]) -> bool {
    let before = value["status"].clone();
    if !value["status"].is_object() {
        value["status"] = Value::Object(serde_json::Map::new());
    }
    for (field, content) in always {
        value["status"][*field] = content.clone();
    }
    for (field, number) in numbers {
        if *number > 0 {
            value["status"][*field] = Value::from(*number);
        } else if let Some(status) = value["status"].as_object_mut() {
            status.remove(*field);
        }
    }
    value["status"] != before
}

/// Smallest goes first: not bound, not running, not ready, cheap to delete, ready for the shortest time, newest.
fn removal_rank(pod: &Object) -> impl Ord + use<> {
    let cost: i64 = pod.annotation(DELETION_COST).and_then(|text| text.parse().ok()).unwrap_or(0);
    let phase = match pod.text("status.phase") {
        Some("Pending") => 0,
        Some("Running") => 2,
        _ => 1,
    };
    let ready_since = condition_since(pod, "Ready").filter(|_| is_ready(pod));
    (
        node_of(pod).is_some(),
        phase,
        is_ready(pod),
        cost,
        Reverse(ready_since),
        Reverse(pod.text("metadata.creationTimestamp").unwrap_or("").to_owned()),
        pod.name().to_owned(),
    )
}
