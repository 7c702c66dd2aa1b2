//! What the server adds to and refuses in objects of single kinds, for every writer alike.
//!
//! Owns the order: defaults, admission, validation, and what follows from a write. Leaves metadata to `store`.

pub mod schema;

use crate::store::resource::{NAMESPACES, PODS, SERVICE_ACCOUNTS};
use crate::store::{ApiError, At, Cause, Object, ResourceInfo, State};
use serde_json::{Value, json};
use std::sync::Arc;

/// Completes a new object: defaults and admission.
pub(crate) fn on_create(_state: &mut State, info: &ResourceInfo, value: &mut Value) -> Result<(), ApiError> {
    match info.name {
        PODS => value["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"}),
        NAMESPACES => {
            value["status"] = json!({"phase": "Active"});
            value["spec"] = json!({"finalizers": ["kubernetes"]});
            let name = value["metadata"]["name"].clone();
            value["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        _ => {}
    }
    Ok(())
}

/// Completes the new version of an object.
pub(crate) fn on_update(
    _state: &mut State,
    _info: &ResourceInfo,
    _old: &Object,
    _value: &mut Value,
) -> Result<(), ApiError> {
    Ok(())
}

/// Collects what is wrong with an object.
pub(crate) fn validate(_info: &ResourceInfo, _value: &Value, _old: Option<&Value>, _causes: &mut Vec<Cause>) {
}

/// What follows from a creation.
pub(crate) fn after_create(state: &mut State, at: &At<'_>, object: &Arc<Object>) -> Result<(), ApiError> {
    if object.resource() == NAMESPACES {
        let account = json!({"metadata": {"name": "default"}});
        state.create(at, SERVICE_ACCOUNTS, object.name(), account, false)?;
    }
    Ok(())
}

/// What follows from an update.
pub(crate) fn after_update(_state: &mut State, _at: &At<'_>, _object: &Arc<Object>) -> Result<(), ApiError> {
    Ok(())
}

/// What follows from an object being gone.
pub(crate) fn after_delete(_state: &mut State, _at: &At<'_>, _object: &Arc<Object>) -> Result<(), ApiError> {
    Ok(())
}
