//! Strict field validation: names the fields of a sent object that its kind does not have.
//!
//! Owns `fieldValidation=Strict`. Built-in kinds are read into their Rust type and written back: what is lost was not
//! known. Custom resources ask their schema. Without `Strict` unknown fields are dropped or kept silently.

use super::route::Target;
use crate::store::ApiError;
use crate::store::resource as r;
use k8s_openapi::api::{
    apps::v1 as apps, autoscaling::v2 as autoscaling, batch::v1 as batch, coordination::v1 as coordination,
    core::v1 as core, policy::v1 as policy, scheduling::v1 as scheduling,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Refuses what `target`'s kind does not know in `value`, which has the form in which it is kept.
pub(crate) fn check(target: &Target, value: &Value) -> Result<(), ApiError> {
    let unknown = if let Some(schema) = &target.info.custom {
        schema.complete(&mut value.clone())
    } else {
        built_in(target, value)?
    };
    if unknown.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    Err(ApiError::BadRequest(format!(
        "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
        target.info.kind,
        target.version,
        target.info.kind,
        list.join(", ")
    )))
}

fn built_in(target: &Target, value: &Value) -> Result<Vec<String>, ApiError> {
    match target.info.name {
        r::PODS => lost::<core::Pod>(target, value),
        r::NODES => lost::<core::Node>(target, value),
        r::NAMESPACES => lost::<core::Namespace>(target, value),
        r::SERVICES => lost::<core::Service>(target, value),
        r::CONFIG_MAPS => lost::<core::ConfigMap>(target, value),
        r::PERSISTENT_VOLUME_CLAIMS => lost::<core::PersistentVolumeClaim>(target, value),
        r::REPLICATION_CONTROLLERS => lost::<core::ReplicationController>(target, value),
        r::DEPLOYMENTS => lost::<apps::Deployment>(target, value),
        r::REPLICA_SETS => lost::<apps::ReplicaSet>(target, value),
        r::STATEFUL_SETS => lost::<apps::StatefulSet>(target, value),
        r::DAEMON_SETS => lost::<apps::DaemonSet>(target, value),
        r::JOBS => lost::<batch::Job>(target, value),
        r::CRON_JOBS => lost::<batch::CronJob>(target, value),
        r::POD_DISRUPTION_BUDGETS => lost::<policy::PodDisruptionBudget>(target, value),
        r::PRIORITY_CLASSES => lost::<scheduling::PriorityClass>(target, value),
        r::LEASES => lost::<coordination::Lease>(target, value),
        r::HORIZONTAL_POD_AUTOSCALERS => lost::<autoscaling::HorizontalPodAutoscaler>(target, value),
        _ => Ok(Vec::new()),
    }
}

/// The paths that reading as `T` loses; an error where it cannot be read at all.
fn lost<T: DeserializeOwned + Serialize>(target: &Target, value: &Value) -> Result<Vec<String>, ApiError> {
    let unreadable = |error: serde_json::Error| {
        let kind = &target.info.kind;
        ApiError::BadRequest(format!(
            "{kind} in version \"{}\" cannot be handled as a {kind}: {error}",
            target.version
        ))
    };
    let known = serde_json::to_value(T::deserialize(value).map_err(unreadable)?).map_err(unreadable)?;
    let mut paths = Vec::new();
    compare(value, &known, "", &mut paths);
    Ok(paths)
}

fn compare(sent: &Value, known: &Value, path: &str, lost: &mut Vec<String>) {
    match (sent, known) {
        (Value::Object(sent), Value::Object(known)) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (key, inner) in sent {
                let here = format!("{path}{dot}{key}");
                match known.get(key) {
                    Some(kept) => compare(inner, kept, &here, lost),
                    // Empty values are left out when written, known or not.
                    None if is_empty(inner) => {}
                    None => lost.push(here),
                }
            }
        }
        (Value::Array(sent), Value::Array(known)) => {
            for (index, (inner, kept)) in sent.iter().zip(known).enumerate() {
                compare(inner, kept, &format!("{path}[{index}]"), lost);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
