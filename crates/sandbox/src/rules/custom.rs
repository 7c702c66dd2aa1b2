//! Custom resource definitions: checked, accepted, and turned into resources that are served.
//!
//! Owns what the registry learns from a CRD. All versions share the schema of the stored one.

use super::schema::CustomSchema;
use crate::store::{ApiError, At, Cause, ChangeKind, ResourceInfo, ResourceName, ScalePaths, State};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The version that objects are kept in.
fn stored(spec: &Value) -> Option<&Value> {
    spec["versions"].as_array()?.iter().find(|version| version["storage"] == Value::Bool(true))
}

/// Fills in names that follow from others, and says that the definition is accepted.
pub(super) fn complete(value: &mut Value, now: Timestamp) {
    let names = &mut value["spec"]["names"];
    let kind = text(&names["kind"]).to_owned();
    if text(&names["singular"]).is_empty() {
        names["singular"] = json!(kind.to_lowercase());
    }
    if text(&names["listKind"]).is_empty() {
        names["listKind"] = json!(format!("{kind}List"));
    }
    let names = names.clone();
    let spec = &mut value["spec"];
    if !spec["conversion"].is_object() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    let stored = stored(spec).map(|version| text(&version["name"]).to_owned()).unwrap_or_default();
    if value["status"]["conditions"].is_array() {
        value["status"]["acceptedNames"] = names;
        return;
    }
    let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at});
    value["status"] = json!({
        "acceptedNames": names, "storedVersions": [stored],
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
}

pub(super) fn validate(value: &Value, causes: &mut Vec<Cause>) {
    let spec = &value["spec"];
    for field in ["plural", "kind"] {
        if text(&spec["names"][field]).is_empty() {
            causes.push(Cause::required(format!("spec.names.{field}"), ""));
        }
    }
    if text(&spec["group"]).is_empty() {
        causes.push(Cause::required("spec.group", ""));
    }
    let expected = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
    let name = text(&value["metadata"]["name"]);
    if name != expected {
        let message = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", format!("\"{name}\""), message));
    }
    if !matches!(text(&spec["scope"]), "Namespaced" | "Cluster") {
        causes.push(Cause {
            reason: "FieldValueNotSupported",
            field: "spec.scope".to_owned(),
            message: format!(
                "Unsupported value: {}: supported values: \"Cluster\", \"Namespaced\"",
                spec["scope"]
            ),
        });
    }
    let storing =
        spec["versions"].as_array().into_iter().flatten().filter(|v| v["storage"] == Value::Bool(true));
    if storing.count() != 1 {
        let message = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", "[]", message));
    }
    if let Some(version) = stored(spec)
        && let Err(cause) = CustomSchema::read(version)
    {
        causes.push(cause);
    }
}

/// What the server knows from a definition that was validated.
pub(super) fn info(value: &Value) -> Result<ResourceInfo, ApiError> {
    let spec = &value["spec"];
    let name = text(&value["metadata"]["name"]);
    let wrong = |cause: Cause| ApiError::Invalid {
        kind: "CustomResourceDefinition.apiextensions.k8s.io".to_owned(),
        name: name.to_owned(),
        causes: vec![cause],
    };
    let Some(version) = stored(spec) else { return Err(wrong(Cause::required("spec.versions", ""))) };
    let schema = CustomSchema::read(version).map_err(wrong)?;
    let names = &spec["names"];
    let mut versions = vec![text(&version["name"]).to_owned()];
    for other in spec["versions"].as_array().into_iter().flatten() {
        if other["served"] == Value::Bool(true) && other["storage"] != Value::Bool(true) {
            versions.push(text(&other["name"]).to_owned());
        }
    }
    let path = |value: &Value| value.as_str().map(|p| p.trim_start_matches('.').to_owned());
    let scale = &version["subresources"]["scale"];
    let scale = path(&scale["specReplicasPath"]).zip(path(&scale["statusReplicasPath"])).map(
        |(spec_replicas, status_replicas)| ScalePaths {
            spec_replicas,
            status_replicas,
            label_selector: path(&scale["labelSelectorPath"])
                .filter(|p| !p.is_empty())
                .or(Some(String::new())),
        },
    );
    Ok(ResourceInfo {
        name: ResourceName::new(text(&spec["group"]), text(&names["plural"])),
        versions,
        kind: text(&names["kind"]).to_owned(),
        singular: text(&names["singular"]).to_owned(),
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        has_status: version["subresources"]["status"].is_object(),
        counts_generations: true,
        scale,
        custom: Some(Arc::new(schema)),
    })
}

/// Takes a resource out of service, its objects with it whatever finalizers they have.
pub(super) fn remove(state: &mut State, at: &At<'_>, definition: &Value) {
    let spec = &definition["spec"];
    let resource = ResourceName::new(text(&spec["group"]), text(&spec["names"]["plural"]));
    let objects: Vec<Value> = state.objects(resource, None).map(|object| object.value().clone()).collect();
    for value in objects {
        state.commit(at, "delete", resource, ChangeKind::Deleted, value);
    }
    state.registry.remove(resource);
}
