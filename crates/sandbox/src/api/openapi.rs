//! OpenAPI v3: enough for `kubectl` to know which kinds are served and that the server validates fields.
//!
//! Owns the documents, one for each group and version. Schemas are those of custom resources; built-in kinds are
//! opaque objects here.

use super::body::ApiBody;
use super::discovery::catalogue;
use super::reply;
use crate::store::{ApiError, ResourceInfo, Store};
use http::Response;
use serde_json::{Map, Value, json};

fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

pub(crate) fn root(store: &Store) -> Value {
    let mut paths = Map::new();
    for (group, versions) in catalogue(store) {
        for version in versions.keys() {
            let base = base(&group, version);
            paths.insert(base.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{base}")}));
        }
    }
    json!({"paths": paths})
}

pub(crate) fn document(store: &Store, group: &str, version: &str) -> Result<Response<ApiBody>, ApiError> {
    let catalogue = catalogue(store);
    let infos = catalogue.get(group).and_then(|v| v.get(version)).ok_or(ApiError::UnknownPath)?;
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for info in infos {
        let kind = json!({"group": group, "version": version, "kind": info.kind});
        let name = schema_name(group, version, info);
        let scope = if info.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("/{}{scope}/{}", base(group, version), info.plural());
        let body = |media: &str| json!({"content": {media: {"schema": {"$ref": format!("#/components/schemas/{name}")}}}});
        let operation = |action: &str| {
            json!({
                "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind,
                "parameters": [
                    {"name": "dryRun", "in": "query", "schema": {"type": "string"}},
                    {"name": "fieldManager", "in": "query", "schema": {"type": "string"}},
                    {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}},
                ],
                "responses": {"200": body("application/json")},
            })
        };
        let get = json!({"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": kind, "responses": {"200": body("application/json")}});
        let one = json!({"x-kubernetes-action": "get", "x-kubernetes-group-version-kind": kind, "responses": {"200": body("application/json")}});
        paths.insert(path.clone(), json!({"get": get, "post": operation("post")}));
        paths.insert(
            format!("{path}/{{name}}"),
            json!({"get": one, "put": operation("put"), "patch": operation("patch"), "delete": operation("delete")}),
        );
        schemas.insert(name, schema(info, &kind));
    }
    Ok(reply::json(
        200,
        &json!({
            "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.33.0"}, "paths": paths,
            "components": {"schemas": schemas},
        }),
    ))
}

fn schema_name(group: &str, version: &str, info: &ResourceInfo) -> String {
    let group = if group.is_empty() { "core" } else { group };
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{}", reversed.join("."), info.kind)
}

fn schema(info: &ResourceInfo, kind: &Value) -> Value {
    let mut schema = match &info.custom {
        Some(custom) => custom.open_api(),
        None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    };
    schema["x-kubernetes-group-version-kind"] = json!([kind]);
    schema
}
