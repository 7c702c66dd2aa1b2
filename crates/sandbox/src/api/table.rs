//! Server-side tables, as `kubectl get` prints them.

use super::route::Target;
use super::view::{Include, metadata_of};
use crate::store::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The objects as a `Table`.
pub(crate) fn of(
    target: &Target,
    objects: &[&Object],
    include: Include,
    now: Timestamp,
    meta: &Value,
) -> Value {
    let _ = (target, now);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = json!({"cells": [object.name(), object.text("metadata.creationTimestamp")]});
            match include {
                Include::None => {}
                Include::Metadata => row["object"] = metadata_of(object.value()),
                Include::Object => row["object"] = object.value().clone(),
            }
            row
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "rows": rows,
        "columnDefinitions": [
            {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
            {"name": "Created At", "type": "date", "format": "", "description": "", "priority": 0},
        ],
    })
}
