//! Between the version that objects are kept in and the one that a client speaks.
//!
//! Owns events, which two groups serve with other field names, autoscalers, whose old version knows CPU only, and
//! custom resources, whose versions share a schema.

use super::route::Target;
use crate::store::resource::{EVENTS, EVENTS_GROUP, HORIZONTAL_POD_AUTOSCALERS};
use serde_json::{Value, json};

/// Field names of core events and of `events.k8s.io`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// The kept form as the client asked for it.
pub(crate) fn to_asked(target: &Target, mut value: Value) -> Value {
    if target.is_stored_form() {
        return value;
    }
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".to_owned(), Value::String(target.api_version()));
        if is_new_event(target) {
            rename(object, |(core, new)| (core, new));
        }
        if target.info.name == HORIZONTAL_POD_AUTOSCALERS {
            to_cpu_only(object);
        }
    }
    value
}

/// What a client sent as it is kept.
pub(crate) fn to_stored(target: &Target, mut value: Value) -> Value {
    if target.is_stored_form() {
        return value;
    }
    if let Some(object) = value.as_object_mut() {
        // An apiVersion that is not that of the path is left for the store to refuse or overwrite.
        object.insert("apiVersion".to_owned(), Value::String(target.info.api_version()));
        if is_new_event(target) {
            rename(object, |(core, new)| (new, core));
        }
        if target.info.name == HORIZONTAL_POD_AUTOSCALERS {
            from_cpu_only(object);
        }
    }
    value
}

/// `autoscaling/v2` to `v1`: the CPU metric becomes a field, other metrics are not shown.
fn to_cpu_only(object: &mut serde_json::Map<String, Value>) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let metrics = spec.remove("metrics");
    let cpu = metrics
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|m| m["resource"]["name"] == "cpu");
    if let Some(percent) = cpu.and_then(|metric| metric["resource"]["target"]["averageUtilization"].as_i64())
    {
        spec.insert("targetCPUUtilizationPercentage".to_owned(), json!(percent));
    }
}

/// `autoscaling/v1` to `v2`.
fn from_cpu_only(object: &mut serde_json::Map<String, Value>) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if let Some(percent) = spec.remove("targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        spec.insert(
            "metrics".to_owned(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
        );
    }
}

fn is_new_event(target: &Target) -> bool {
    target.info.name == EVENTS && target.group == EVENTS_GROUP
}

fn rename(
    object: &mut serde_json::Map<String, Value>,
    direction: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    for pair in EVENT_FIELDS {
        let (from, to) = direction(pair);
        if let Some(value) = object.remove(from) {
            object.insert(to.to_owned(), value);
        }
    }
}
