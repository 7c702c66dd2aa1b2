//! What the server adds to and refuses in objects of single kinds, for every writer alike.
//!
//! Owns the order: defaults, admission, validation, and what follows from a write. Leaves metadata to `store`.

mod cel;
mod config;
mod custom;
mod node;
mod pod;
mod quantity;
pub mod schema;
mod service;
mod workload;

use crate::store::resource::{
    CONFIG_MAPS, CRON_JOBS, CUSTOM_RESOURCE_DEFINITIONS, DAEMON_SETS, DEPLOYMENTS, EVENTS,
    HORIZONTAL_POD_AUTOSCALERS, JOBS, LEASES, NAMESPACES, NODES, PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES, POD_DISRUPTION_BUDGETS, PODS, PRIORITY_CLASSES, REPLICA_SETS,
    REPLICATION_CONTROLLERS, SECRETS, SERVICE_ACCOUNTS, SERVICES, STATEFUL_SETS,
};
use crate::store::{ApiError, At, Cause, Object, Part, ResourceInfo, ResourceName, State};
use serde_json::{Value, json};
use std::sync::Arc;

fn is_workload(resource: ResourceName) -> bool {
    matches!(
        resource,
        DEPLOYMENTS
            | REPLICA_SETS
            | REPLICATION_CONTROLLERS
            | STATEFUL_SETS
            | DAEMON_SETS
            | JOBS
            | CRON_JOBS
            | POD_DISRUPTION_BUDGETS
            | HORIZONTAL_POD_AUTOSCALERS
    )
}

/// Kinds that are nothing without a spec.
fn needs_spec(resource: ResourceName) -> bool {
    matches!(resource, PODS | SERVICES) || is_workload(resource)
}

/// Completes a new object: defaults and admission.
pub(crate) fn on_create(
    state: &mut State,
    at: &At<'_>,
    info: &ResourceInfo,
    value: &mut Value,
) -> Result<(), ApiError> {
    if let Some(schema) = &info.custom {
        schema.complete(value);
        return Ok(());
    }
    if needs_spec(info.name) && !value["spec"].is_object() {
        let name = value["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let causes = vec![Cause::required("spec", "")];
        return Err(ApiError::Invalid { kind: info.kind.clone(), name, causes });
    }
    match info.name {
        PODS => pod::complete(state, value)?,
        NAMESPACES => {
            value["status"] = json!({"phase": "Active"});
            value["spec"] = json!({"finalizers": ["kubernetes"]});
            let name = value["metadata"]["name"].clone();
            value["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        NODES => node::complete(value),
        SERVICES => service::complete(state, value),
        SECRETS => service::complete_secret(value),
        PERSISTENT_VOLUME_CLAIMS => service::complete_claim(value),
        PERSISTENT_VOLUMES => {
            value["status"] = json!({"phase": "Available"});
            if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
                pod::default(spec, "persistentVolumeReclaimPolicy", "Retain");
                pod::default(spec, "volumeMode", "Filesystem");
            }
        }
        PRIORITY_CLASSES => {
            if let Some(object) = value.as_object_mut() {
                pod::default(object, "preemptionPolicy", "PreemptLowerPriority");
            }
        }
        CUSTOM_RESOURCE_DEFINITIONS => custom::complete(value, at.now),
        resource if is_workload(resource) => {
            workload::complete(resource, value);
            if info.has_status {
                value["status"] = match resource {
                    REPLICA_SETS | REPLICATION_CONTROLLERS => json!({"replicas": 0}),
                    STATEFUL_SETS => json!({"replicas": 0, "availableReplicas": 0}),
                    DAEMON_SETS => json!({
                        "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0,
                        "numberReady": 0,
                    }),
                    POD_DISRUPTION_BUDGETS => json!({
                        "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
                    }),
                    _ => json!({}),
                };
            }
        }
        _ => {}
    }
    Ok(())
}

/// Completes the new version of an object.
pub(crate) fn on_update(
    at: &At<'_>,
    info: &ResourceInfo,
    old: &Object,
    value: &mut Value,
    part: Part,
) -> Result<(), ApiError> {
    if let Some(schema) = &info.custom {
        schema.complete(value);
        return Ok(());
    }
    if part == Part::Status {
        return Ok(());
    }
    if needs_spec(info.name) && !value["spec"].is_object() {
        let causes = vec![Cause::required("spec", "")];
        return Err(ApiError::Invalid { kind: info.kind.clone(), name: old.name().to_owned(), causes });
    }
    match info.name {
        SERVICES => service::keep(old.value(), value),
        SECRETS => service::complete_secret(value),
        CUSTOM_RESOURCE_DEFINITIONS => custom::complete(value, at.now),
        resource if is_workload(resource) && old.value()["spec"] != value["spec"] => {
            workload::complete(resource, value);
        }
        _ => {}
    }
    Ok(())
}

/// Collects what is wrong with an object.
pub(crate) fn validate(
    info: &ResourceInfo,
    value: &Value,
    before: Option<(&Value, Part)>,
    causes: &mut Vec<Cause>,
) {
    if let Some(schema) = &info.custom {
        return schema.validate(value, causes);
    }
    // What was accepted before is not checked again: most writes change a status or a label.
    let old = before.map(|(old, _)| old);
    let unchanged = |field: &str| old.is_some_and(|old| old[field] == value[field]);
    match info.name {
        PODS if !unchanged("spec") => match before {
            None => pod::validate_new(&value["spec"], causes),
            Some((old, part)) => pod::validate_update(old, value, part, causes),
        },
        NODES => {
            if !unchanged("status") {
                for field in ["capacity", "allocatable"] {
                    quantity::validate_map(&value["status"][field], &format!("status.{field}"), causes);
                }
            }
            if !unchanged("spec") {
                node::validate(value, old, causes);
            }
        }
        CONFIG_MAPS if !(unchanged("data") && unchanged("binaryData")) => {
            config::validate(value, old, causes);
        }
        LEASES => config::validate_lease(value, causes),
        EVENTS if old.is_none() => config::validate_event(value, causes),
        SERVICES => service::validate(value, old, causes),
        CUSTOM_RESOURCE_DEFINITIONS => custom::validate(value, causes),
        resource if is_workload(resource) && !unchanged("spec") => {
            workload::validate(resource, value, old, causes);
        }
        _ => {}
    }
}

/// What follows from a creation.
pub(crate) fn after_create(state: &mut State, at: &At<'_>, object: &Arc<Object>) -> Result<(), ApiError> {
    match object.resource() {
        NAMESPACES => {
            let account = json!({"metadata": {"name": "default"}});
            state.create(at, SERVICE_ACCOUNTS, object.name(), account, false)?;
        }
        CUSTOM_RESOURCE_DEFINITIONS => state.registry.put(custom::info(object.value())?),
        _ => {}
    }
    Ok(())
}

/// What follows from an update.
pub(crate) fn after_update(state: &mut State, object: &Arc<Object>) -> Result<(), ApiError> {
    if object.resource() == CUSTOM_RESOURCE_DEFINITIONS {
        state.registry.put(custom::info(object.value())?);
    }
    Ok(())
}

/// What follows from an object being gone.
pub(crate) fn after_delete(state: &mut State, at: &At<'_>, object: &Arc<Object>) {
    if object.resource() == CUSTOM_RESOURCE_DEFINITIONS {
        custom::remove(state, at, object.value());
    }
}

#[cfg(test)]
mod tests;
