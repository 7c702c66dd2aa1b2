//! Nodes: what they begin with, and what of their spec may change.
//!
//! Owns taints as data. Leaves making them follow the node's condition to the node controller.

use crate::store::Cause;
use api::taints::NOT_READY;
use serde_json::{Value, json};

/// What a node can give away is what it has, where it does not say; and nothing is placed on it before it is ready.
pub(super) fn complete(value: &mut Value) {
    let capacity = value["status"]["capacity"].clone();
    if capacity.is_object() && value["status"]["allocatable"].is_null() {
        value["status"]["allocatable"] = capacity;
    }
    let taints = &mut value["spec"]["taints"];
    if !taints.is_array() {
        *taints = json!([]);
    }
    if let Some(taints) = taints.as_array_mut()
        && !taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule")
    {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

pub(super) fn validate(value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let taints: Vec<&Value> = value["spec"]["taints"].as_array().into_iter().flatten().collect();
    for (index, taint) in taints.iter().enumerate() {
        let path = format!("metadata.taints[{index}]");
        let effect = &taint["effect"];
        if !matches!(effect.as_str(), Some("NoSchedule" | "PreferNoSchedule" | "NoExecute")) {
            causes.push(Cause {
                reason: "FieldValueNotSupported",
                field: format!("{path}.effect"),
                message: format!(
                    "Unsupported value: {effect}: supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
                ),
            });
        }
        if taints[..index].iter().any(|known| known["key"] == taint["key"] && known["effect"] == *effect) {
            causes.push(Cause {
                reason: "FieldValueDuplicate",
                field: path,
                message: format!("Duplicate value: {taint}: taints must be unique by key and effect pair"),
            });
        }
    }
    let provider = |value: &Value| value["spec"]["providerID"].as_str().unwrap_or_default().to_owned();
    let before = old.map(provider).unwrap_or_default();
    if !before.is_empty() && before != provider(value) {
        let message =
            "Forbidden: node updates may not change providerID except from \"\" to valid".to_owned();
        causes.push(Cause { reason: "FieldValueForbidden", field: "spec.providerID".to_owned(), message });
    }
}
