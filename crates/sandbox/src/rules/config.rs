//! Small kinds that hold text: `ConfigMaps`, Leases and Events.
//!
//! Owns their limits.

use crate::store::Cause;
use serde_json::Value;

/// Most bytes that the values of a `ConfigMap` may hold together.
const LARGEST_CONFIG_MAP: usize = 1024 * 1024;

pub(super) fn validate(value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if old.is_some_and(|old| old["immutable"] == Value::Bool(true)) {
        let message = "Forbidden: field is immutable when `immutable` is set".to_owned();
        causes.push(Cause { reason: "FieldValueForbidden", field: "data".to_owned(), message });
    }
    let size = |field: &str| -> usize {
        value[field]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, text)| text.as_str())
            .map(str::len)
            .sum()
    };
    // What is encoded in four letters is three bytes.
    if size("data") + size("binaryData") / 4 * 3 > LARGEST_CONFIG_MAP {
        let message = format!("Too long: may not be more than {LARGEST_CONFIG_MAP} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: String::new(), message });
    }
}

pub(super) fn validate_lease(value: &Value, causes: &mut Vec<Cause>) {
    let seconds = &value["spec"]["leaseDurationSeconds"];
    if seconds.as_i64().is_some_and(|seconds| seconds <= 0) {
        causes.push(Cause::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
}

/// An event lives in the namespace of what it is about, or in `default` where that has none.
pub(super) fn validate_event(value: &Value, causes: &mut Vec<Cause>) {
    let about = value["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let home = value["metadata"]["namespace"].as_str().unwrap_or_default();
    let right = if about.is_empty() { matches!(home, "default" | "") } else { about == home };
    if !right {
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            format!("\"{about}\""),
            "does not match event.namespace",
        ));
    }
}
