//! Workload manifests that were never applied: the pods that they would make.
//!
//! Owns the question "what would this Deployment need?": an object without a uid has not been to an API server, so
//! no controller has made its pods; they are made up here, one by one.

use crate::error::CommandError;
use intake::files::Object;
use intake::slim;
use serde_json::{Value, json};

/// Pods that one manifest may stand for.
const MOST_PODS: u64 = 200_000;

/// Whether an object comes from a file that nobody has applied.
pub(super) fn is_unapplied(object: &Object) -> bool {
    object.value.pointer("/metadata/uid").is_none()
}

/// Whether a kind makes pods of a template by a number.
pub(super) fn makes_pods(kind: &str) -> bool {
    matches!(kind, "Deployment" | "ReplicaSet" | "StatefulSet" | "ReplicationController" | "Job")
}

/// The pods that the workload would make.
pub(super) fn pods(object: &Object) -> Result<Vec<slim::Pod>, CommandError> {
    let field = if object.kind() == "Job" { "parallelism" } else { "replicas" };
    let replicas = match object.value.pointer(&format!("/spec/{field}")) {
        None | Some(Value::Null) => 1,
        Some(value) => value.as_u64().filter(|count| *count <= MOST_PODS).ok_or_else(|| {
            wrong(object, &format!("spec.{field} is {value}; write a number from 0 to {MOST_PODS}"))
        })?,
    };
    let template = object
        .value
        .pointer("/spec/template")
        .filter(|template| template.is_object())
        .ok_or_else(|| wrong(object, "has no spec.template; add the pods' template"))?;
    let text = |path: &str| object.value.pointer(path).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or_default();
    let namespace = text("/metadata/namespace").unwrap_or("default");
    let template: slim::Pod = Object { origin: object.origin.clone(), value: template.clone() }.decode()?;
    let owner: Value = json!([{
        "apiVersion": object.api_version(), "kind": object.kind(), "name": name,
        "uid": format!("{namespace}/{name}"), "controller": true,
    }]);
    let mut all = Vec::new();
    for number in 0..replicas {
        let mut pod = template.clone();
        pod.metadata.name = Some(format!("{name}-{number}"));
        pod.metadata.namespace = Some(namespace.to_owned());
        pod.metadata.owner_references = serde_json::from_value(owner.clone()).ok();
        all.push(pod);
    }
    Ok(all)
}

fn wrong(object: &Object, problem: &str) -> CommandError {
    let name = object.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name");
    CommandError::Input(format!("{}: {} {name}: {problem}", object.origin, object.kind()))
}
