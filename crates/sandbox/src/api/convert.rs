//! Between the version that objects are kept in and the one that a client speaks.
//!
//! Owns events, which two groups serve with other field names, and custom resources, whose versions share a schema.

use super::route::Target;
use crate::store::resource::{EVENTS, EVENTS_GROUP};
use serde_json::Value;

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
    }
    value
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
