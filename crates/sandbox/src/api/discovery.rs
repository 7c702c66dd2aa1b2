//! Discovery: which groups, versions and resources are served, in the old form and in the aggregated one.
//!
//! Owns the verbs that are announced. Leaves schemas to `openapi`.

use super::body::ApiBody;
use super::reply;
use crate::store::resource::{
    EVENTS, EVENTS_GROUP, HORIZONTAL_POD_AUTOSCALERS, NAMESPACES, PODS, SERVICE_ACCOUNTS,
};
use crate::store::{ApiError, ResourceInfo, Store};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Of what is computed when asked for.
const COMPUTED: &[&str] = &["get", "list"];
/// Groups without stored objects.
const REVIEW_GROUPS: [(&str, &[(&str, &str)]); 2] = [
    (
        "authentication.k8s.io",
        &[("tokenreviews", "TokenReview"), ("selfsubjectreviews", "SelfSubjectReview")],
    ),
    (
        "authorization.k8s.io",
        &[
            ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
            ("subjectaccessreviews", "SubjectAccessReview"),
        ],
    ),
];

pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0+tideline-sandbox", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64",
    })
}

pub(crate) fn root() -> Value {
    json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]})
}

/// Resources by group, then version, in the order of announcement.
pub(crate) fn catalogue(store: &Store) -> BTreeMap<String, BTreeMap<String, Vec<Arc<ResourceInfo>>>> {
    let mut groups: BTreeMap<String, BTreeMap<String, Vec<Arc<ResourceInfo>>>> = BTreeMap::new();
    for info in store.resources() {
        for version in &info.versions {
            let versions = groups.entry(info.group().to_owned()).or_default();
            versions.entry(version.clone()).or_default().push(Arc::clone(&info));
        }
        if info.name == HORIZONTAL_POD_AUTOSCALERS {
            let versions = groups.entry(info.group().to_owned()).or_default();
            versions.insert("v1".to_owned(), vec![Arc::clone(&info)]);
        }
        if info.name == EVENTS {
            groups
                .entry(EVENTS_GROUP.to_owned())
                .or_default()
                .insert("v1".to_owned(), vec![Arc::clone(&info)]);
        }
    }
    groups
}

/// The versions of a group, the preferred one first: where objects are kept.
fn ordered(versions: &BTreeMap<String, Vec<Arc<ResourceInfo>>>) -> Vec<&String> {
    let preferred = versions.values().flatten().next().map(|info| info.storage_version().to_owned());
    let mut names: Vec<&String> = versions.keys().collect();
    names.sort_by_key(|name| (Some(*name) != preferred.as_ref(), std::cmp::Reverse(*name)));
    names
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

pub(crate) fn groups(store: &Store, core: bool, accept: &str) -> Response<ApiBody> {
    if accept.split(',').next().is_some_and(|first| first.contains("as=APIGroupDiscoveryList")) {
        let version = if accept.contains("v=v2;") || accept.contains("v=v2,") || accept.ends_with("v=v2") {
            "v2"
        } else {
            "v2beta1"
        };
        return aggregated(store, core, version);
    }
    if core {
        return reply::json(
            200,
            &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        );
    }
    let mut groups: Vec<Value> = catalogue(store)
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| api_group(group, &ordered(versions)))
        .collect();
    let v1 = "v1".to_owned();
    groups.extend(REVIEW_GROUPS.iter().map(|(group, _)| api_group(group, &[&v1])));
    reply::json(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

fn api_group(group: &str, versions: &[&String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": group_version(group, version), "version": version}))
        .collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    json!({"name": group, "versions": versions, "preferredVersion": preferred})
}

pub(crate) fn group(store: &Store, group: &str) -> Result<Response<ApiBody>, ApiError> {
    let catalogue = catalogue(store);
    let v1 = "v1".to_owned();
    let mut answer = match catalogue.get(group) {
        Some(versions) => api_group(group, &ordered(versions)),
        None if REVIEW_GROUPS.iter().any(|(name, _)| *name == group) => api_group(group, &[&v1]),
        None => return Err(ApiError::UnknownPath),
    };
    answer["kind"] = json!("APIGroup");
    answer["apiVersion"] = json!("v1");
    Ok(reply::json(200, &answer))
}

fn verbs(info: &ResourceInfo) -> &'static [&'static str] {
    if info.group() == crate::load::GROUP { COMPUTED } else { VERBS }
}

/// Name, kind (with its group and version where they differ) and verbs of a subresource.
struct Subresource {
    name: &'static str,
    kind: String,
    group_version: Option<(&'static str, &'static str)>,
    verbs: &'static [&'static str],
}

fn subresources(info: &ResourceInfo) -> Vec<Subresource> {
    let mut list = Vec::new();
    let mut add = |name, kind: &str, group_version, verbs| {
        list.push(Subresource { name, kind: kind.to_owned(), group_version, verbs });
    };
    if info.name == PODS {
        add("binding", "Binding", None, &["create"]);
        add("eviction", "Eviction", Some(("policy", "v1")), &["create"]);
        add("log", "Pod", None, &["get"]);
    }
    if info.name == NAMESPACES {
        add("finalize", "Namespace", None, &["update"]);
    }
    if info.name == SERVICE_ACCOUNTS {
        add("token", "TokenRequest", Some(("authentication.k8s.io", "v1")), &["create"]);
    }
    if info.scale.is_some() {
        add("scale", "Scale", Some(("autoscaling", "v1")), &["get", "patch", "update"]);
    }
    if info.has_status {
        add("status", &info.kind, None, &["get", "patch", "update"]);
    }
    list
}

pub(crate) fn resources(store: &Store, group: &str, version: &str) -> Result<Response<ApiBody>, ApiError> {
    let mut list = Vec::new();
    let catalogue = catalogue(store);
    if let Some(infos) = catalogue.get(group).and_then(|versions| versions.get(version)) {
        for info in infos {
            list.push(json!({
                "name": info.plural(), "singularName": info.singular, "namespaced": info.namespaced,
                "kind": info.kind, "verbs": verbs(info), "shortNames": info.short_names, "categories": info.categories,
            }));
            for sub in subresources(info) {
                let mut entry = json!({
                    "name": format!("{}/{}", info.plural(), sub.name), "singularName": "",
                    "namespaced": info.namespaced, "kind": sub.kind, "verbs": sub.verbs,
                });
                if let Some((group, version)) = sub.group_version {
                    entry["group"] = json!(group);
                    entry["version"] = json!(version);
                }
                list.push(entry);
            }
        }
    } else if let Some((_, reviews)) =
        REVIEW_GROUPS.iter().find(|(name, _)| *name == group && version == "v1")
    {
        for (plural, kind) in *reviews {
            list.push(json!({
                "name": plural, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind,
                "verbs": ["create"],
            }));
        }
    } else {
        return Err(ApiError::UnknownPath);
    }
    Ok(reply::json(
        200,
        &json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version),
            "resources": list,
        }),
    ))
}

fn aggregated(store: &Store, core: bool, form: &str) -> Response<ApiBody> {
    let mut items: Vec<Value> = Vec::new();
    for (group, versions) in catalogue(store).iter().filter(|(group, _)| group.is_empty() == core) {
        let versions: Vec<Value> = ordered(versions)
            .into_iter()
            .filter_map(|version| Some((version, versions.get(version)?)))
            .map(|(version, infos)| {
                let resources: Vec<Value> =
                    infos.iter().map(|info| aggregated_resource(info, group, version)).collect();
                json!({"version": version, "freshness": "Current", "resources": resources})
            })
            .collect();
        let metadata = if group.is_empty() {
            json!({"creationTimestamp": null})
        } else {
            json!({"name": group, "creationTimestamp": null})
        };
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{form}"), "metadata": {},
        "items": items,
    });
    let content_type = match form {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    reply::bytes(200, content_type, Bytes::from(body.to_string()))
}

fn aggregated_resource(info: &ResourceInfo, group: &str, version: &str) -> Value {
    let subresources: Vec<Value> = subresources(info)
        .into_iter()
        .map(|sub| {
            let (group, version) = sub.group_version.unwrap_or((group, version));
            json!({
                "subresource": sub.name, "verbs": sub.verbs,
                "responseKind": {"group": group, "version": version, "kind": sub.kind},
            })
        })
        .collect();
    json!({
        "resource": info.plural(), "singularResource": info.singular,
        "responseKind": {"group": group, "version": version, "kind": info.kind},
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "verbs": verbs(info), "shortNames": info.short_names, "categories": info.categories, "subresources": subresources,
    })
}
