//! What the status of a `CapacityBuffer` says: how much room it comes to, whether it is kept, whether it is there.
//!
//! Owns its form and when it is written: on change only, and each object not more often than an interval. Conditions of
//! others are left as they are.

use super::{Capacity, Resolved};
use api::capacity::buffers::{PROVISIONING, READY_FOR_PROVISIONING, ROOM_READY};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::ApiResource;
use model::{HeadroomVerdict, Verdicts, WorkloadKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One object is written at most once in this time.
pub(super) const INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// A status as it goes out.
#[derive(Debug)]
pub(crate) struct StatusWrite {
    pub(crate) resource: ApiResource,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) body: Value,
}

/// Keeps the statuses of buffers current.
#[derive(Default)]
pub(crate) struct BufferStatuses {
    /// What was written last, and when the next write may be.
    written: BTreeMap<WorkloadKey, (Value, Timestamp)>,
    due: Option<Timestamp>,
}

/// What one condition says.
struct Says {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl BufferStatuses {
    /// When the next write may be made; `None` while there is nothing to write.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// What is to be written now; what has to wait sets the time at which it is asked for again.
    pub(crate) fn news(
        &mut self,
        capacity: &Capacity,
        verdicts: &Verdicts,
        now: Timestamp,
    ) -> Vec<StatusWrite> {
        self.due = None;
        self.written.retain(|key, _| capacity.buffers.contains_key(key));
        let Some(resource) = &capacity.resource else { return Vec::new() };
        let mut writes = Vec::new();
        for (key, resolved, seen) in capacity.resolved() {
            let says = conditions(resolved, capacity.injects, verdicts.headroom.get(key));
            let last = self.written.get(key);
            let before = last.map_or(seen, |(status, _)| status);
            let status = status(resolved, says, before, now);
            if *before == status {
                continue;
            }
            if let Some((_, next)) = last.filter(|(_, next)| now < *next) {
                self.due = Some(self.due.map_or(*next, |due| due.min(*next)));
                continue;
            }
            writes.push(StatusWrite {
                resource: resource.clone(),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                body: json!({"status": with_nulls(&status)}),
            });
            let next = now.checked_add(INTERVAL).unwrap_or(now);
            self.written.insert(key.clone(), (status, next));
        }
        writes
    }
}

fn conditions(resolved: &Resolved, injects: bool, verdict: Option<&HeadroomVerdict>) -> Vec<Says> {
    let says = |kind, holds, reason, message: &str| Says { kind, holds, reason, message: message.to_owned() };
    let mut all = vec![match &resolved.count {
        Ok(_) => says(READY_FOR_PROVISIONING, true, "AttributesSetSuccessfully", "ready"),
        Err(why) => says(READY_FOR_PROVISIONING, false, "error", why),
    }];
    if !injects {
        return all;
    }
    match (&resolved.count, verdict) {
        (Err(_), _) => {
            let message = "CapacityBuffer is not ready for provisioning";
            all.push(says(PROVISIONING, false, "NotReadyForProvisioning", message));
            all.push(says(ROOM_READY, false, "NotReadyForProvisioning", message));
        }
        (Ok(0), _) => {
            let message = "CapacityBuffer has zero replicas";
            all.push(says(PROVISIONING, false, "BufferIsEmpty", message));
            all.push(says(ROOM_READY, false, "BufferIsEmpty", message));
        }
        // No round has looked at it yet.
        (Ok(_), None) => {}
        (Ok(_), Some(verdict)) => {
            let message = verdict.to_string();
            all.push(says(PROVISIONING, true, "FakePodsInjected", &message));
            let (holds, reason) = match (verdict.ready >= verdict.wanted, verdict.is_served()) {
                (true, _) => (true, "RoomOnNodes"),
                (false, true) => (false, "MachinesOnTheirWay"),
                (false, false) => (false, "NoRoom"),
            };
            all.push(says(ROOM_READY, holds, reason, &message));
        }
    }
    all
}

fn status(resolved: &Resolved, says: Vec<Says>, before: &Value, now: Timestamp) -> Value {
    let known: Vec<Condition> = serde_json::from_value(before["conditions"].clone()).unwrap_or_default();
    let mut conditions: Vec<Condition> = Vec::new();
    for one in says {
        let status = if one.holds { "True" } else { "False" };
        let old = known.iter().find(|old| old.type_ == one.kind && old.status == status);
        let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        conditions.push(Condition {
            type_: one.kind.to_owned(),
            status: status.to_owned(),
            reason: one.reason.to_owned(),
            message: one.message,
            last_transition_time: old.map_or(now, |old| old.last_transition_time.clone()),
            observed_generation: Some(resolved.generation),
        });
    }
    let ours = |kind: &str| [READY_FOR_PROVISIONING, PROVISIONING, ROOM_READY].contains(&kind);
    conditions.extend(known.into_iter().filter(|old| !ours(&old.type_)));
    let mut status = json!({"conditions": conditions});
    if let Ok(count) = &resolved.count {
        status["replicas"] = json!(i32::try_from(*count).unwrap_or(i32::MAX));
    }
    if let Some((name, generation)) = &resolved.template {
        status["podTemplateRef"] = json!({"name": name});
        status["podTemplateGeneration"] = json!(generation);
    }
    if let Some(strategy) = &resolved.strategy {
        status["provisioningStrategy"] = json!(strategy);
    }
    status
}

/// With what is not there said to be null, so that a merge takes it away.
fn with_nulls(status: &Value) -> Value {
    let mut whole = status.clone();
    for field in ["replicas", "podTemplateRef", "podTemplateGeneration", "provisioningStrategy"] {
        if whole.get(field).is_none() {
            whole[field] = Value::Null;
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::super::tests::{buffer, name, pods};
    use super::super::{Capacity, Requests, Told};
    use super::*;

    #[test]
    fn a_status_is_written_on_change_keeps_times_and_leaves_others_alone() {
        let mut all = Capacity::new(
            Some(ApiResource::erase::<api::capacity::CapacityBuffer>(&())),
            true,
            Requests::default(),
        );
        all.hear(Told::Template(name("t"), pods("500m", None)));
        all.hear(buffer(&json!({"podTemplateRef": {"name": "t"}, "replicas": 3})));
        let mut statuses = BufferStatuses::default();
        let start = Timestamp::UNIX_EPOCH;
        let first = statuses.news(&all, &Verdicts::default(), start);
        let status = &first[0].body["status"];
        assert_eq!((&status["replicas"], &status["podTemplateRef"]["name"]), (&json!(3), &json!("t")));
        assert_eq!(status["conditions"][0]["reason"], "AttributesSetSuccessfully");
        assert!(status["conditions"].get(1).is_none(), "no round has looked at it");

        let mut verdicts = Verdicts::default();
        let verdict = HeadroomVerdict { wanted: 3, ready: 1, coming: 2, ..HeadroomVerdict::default() };
        let key = intake::buffer_key("d", "b");
        verdicts.headroom.insert(key.clone(), verdict);
        assert!(statuses.news(&all, &verdicts, start).is_empty(), "not so soon after the last");
        let due = statuses.due().unwrap();
        let second = statuses.news(&all, &verdicts, due);
        let conditions = &second[0].body["status"]["conditions"];
        assert_eq!(
            (&conditions[1]["reason"], &conditions[2]["reason"]),
            (&json!("FakePodsInjected"), &json!("MachinesOnTheirWay"))
        );
        assert_eq!(conditions[0]["lastTransitionTime"], "1970-01-01T00:00:00Z");

        // Another process, which finds what was written and a condition of somebody else's.
        let mut seen = second[0].body["status"].clone();
        let foreign = json!({"type": "LimitedByQuotas", "status": "False", "reason": "R", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z"});
        seen["conditions"].as_array_mut().unwrap().push(foreign);
        all.buffers.get_mut(&key).unwrap().status = seen;
        assert!(BufferStatuses::default().news(&all, &verdicts, due).is_empty());
        all.hear(Told::Template(name("t"), None));
        let third = BufferStatuses::default().news(&all, &Verdicts::default(), due);
        let status = &third[0].body["status"];
        assert_eq!(
            (&status["conditions"][0]["reason"], &status["replicas"]),
            (&json!("error"), &Value::Null)
        );
        assert_eq!(status["conditions"][3]["type"], "LimitedByQuotas");
    }
}
