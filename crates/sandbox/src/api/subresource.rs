//! Subresources: status, scale, binding, log, finalize, tokens; and reviews, which allow everything.
//!
//! Owns the translation of each into a write of its object. Leaves eviction to `eviction`.

use super::body::ApiBody;
use super::reply;
use super::route::Target;
use super::service::Call;
use super::{eviction, write};
use crate::store::resource::{NAMESPACES, PODS, SERVICE_ACCOUNTS};
use crate::store::{ApiError, Cause, Object, Part, ScalePaths, Store};
use http::Response;
use jiff::ToSpan;
use serde_json::{Map, Value, json};

pub(crate) fn handle(store: &Store, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let subresource = target.subresource.as_deref().unwrap_or("");
    let (resource, method) = (target.info.name, call.method.as_str());
    match (subresource, method) {
        ("status", "GET") if target.info.has_status => super::list::get(store, call, target),
        ("status", "PUT") if target.info.has_status => write::update(store, call, target, Part::Status),
        ("status", "PATCH") if target.info.has_status => write::patch(store, call, target, Part::Status),
        ("scale", _) => match &target.info.scale {
            Some(paths) => scale(store, call, target, paths),
            None => Err(ApiError::UnknownPath),
        },
        ("binding", "POST") if resource == PODS => bind(store, call, target),
        ("eviction", "POST") if resource == PODS => eviction::evict(store, call, target),
        ("log", "GET") if resource == PODS => log(store, call, target),
        // Not the main part of a pod, in which containers are fixed.
        ("resize" | "ephemeralcontainers", "PUT") if resource == PODS => {
            write::update(store, call, target, Part::Whole)
        }
        ("resize" | "ephemeralcontainers", "PATCH") if resource == PODS => {
            write::patch(store, call, target, Part::Whole)
        }
        ("finalize", "PUT") if resource == NAMESPACES => {
            let object = store.get(resource, "", target.name()?)?;
            Ok(reply::bytes(200, reply::JSON, object.bytes()))
        }
        ("token", "POST") if resource == SERVICE_ACCOUNTS => token(store, target),
        ("exec" | "attach" | "portforward" | "proxy", _) => Err(ApiError::BadRequest(format!(
            "the sandbox runs no containers: {subresource} has nothing to connect to"
        ))),
        _ => Err(ApiError::UnknownPath),
    }
}

/// The object's numbers as an `autoscaling/v1` Scale.
fn scale_of(object: &Object, paths: &ScalePaths) -> Value {
    let number = |path: &str| object.at(path).and_then(Value::as_i64).unwrap_or(0);
    let selector = match &paths.label_selector {
        Some(path) => object.text(path).unwrap_or("").to_owned(),
        None => selector_text(object.at("spec.selector")),
    };
    let mut spec = json!({});
    if object.at(&paths.spec_replicas).is_some() {
        spec["replicas"] = json!(number(&paths.spec_replicas));
    }
    let meta = |field: &str| object.at("metadata").and_then(|m| m.get(field)).cloned().unwrap_or_default();
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let value @ Value::String(_) = meta(field) {
            metadata.insert(field.to_owned(), value);
        }
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// A label selector in its text form.
pub(crate) fn selector_text(selector: Option<&Value>) -> String {
    let Some(selector) = selector.and_then(Value::as_object) else { return String::new() };
    // Services and replication controllers select by a plain map.
    let plain = !selector.contains_key("matchLabels") && !selector.contains_key("matchExpressions");
    let labels = if plain { Some(selector) } else { selector.get("matchLabels").and_then(Value::as_object) };
    let mut terms: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or("");
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        terms.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.join(",")
}

fn scale(
    store: &Store,
    call: &Call,
    target: &Target,
    paths: &ScalePaths,
) -> Result<Response<ApiBody>, ApiError> {
    let (resource, name) = (target.info.name, target.name()?);
    let object = store.get(resource, &target.namespace, name)?;
    let current = scale_of(&object, paths);
    let wanted = match call.method.as_str() {
        "GET" => return Ok(reply::json(200, &current)),
        "PUT" => call.json()?,
        "PATCH" => {
            let mut wanted = current.clone();
            // A resourceVersion in the patch is a precondition; the one read is not.
            wanted["metadata"]["resourceVersion"].take();
            write::patched(write::patch_kind(call)?, false, &mut wanted, call.json()?)?;
            wanted
        }
        _ => return Err(ApiError::MethodNotAllowed),
    };
    let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let cause = Cause::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(ApiError::Invalid {
            kind: "Scale".to_owned(),
            name: name.to_owned(),
            causes: vec![cause],
        });
    }
    let dry_run = call.query.dry_run()?;
    let version = wanted["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let object = store.try_modify(resource, &target.namespace, name, Part::Main, dry_run, |value| {
        value["metadata"]["resourceVersion"] =
            version.filter(|v| !v.is_empty()).map_or(Value::Null, Value::String);
        set_at(value, &paths.spec_replicas, Value::from(replicas));
        Ok(true)
    })?;
    Ok(reply::json(200, &scale_of(&object, paths)))
}

/// Sets the value at a dotted path, making maps on the way.
pub(crate) fn set_at(value: &mut Value, path: &str, new: Value) {
    let mut slot = value;
    for step in path.split('.') {
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        slot = &mut slot[step];
    }
    *slot = new;
}

fn bind(store: &Store, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let binding = call.json()?;
    let name = target.name()?;
    let node = binding["target"]["name"].as_str().unwrap_or("").to_owned();
    if node.is_empty() {
        let cause = Cause::required("target.name", "the node to bind to");
        return Err(ApiError::Invalid {
            kind: "Binding".to_owned(),
            name: name.to_owned(),
            causes: vec![cause],
        });
    }
    let uid = binding["metadata"]["uid"].as_str().map(str::to_owned);
    let now = store.clock().now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let dry_run = call.query.dry_run()?;
    store.try_modify(PODS, &target.namespace, name, Part::Whole, dry_run, |pod| {
        let conflict = |message: String| Err(ApiError::conflict(PODS, name, message));
        if uid.is_some_and(|uid| Some(uid.as_str()) != pod["metadata"]["uid"].as_str()) {
            return conflict("Precondition failed: UID in precondition differs".to_owned());
        }
        if pod["metadata"].get("deletionTimestamp").is_some() {
            return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        match pod["spec"]["nodeName"].as_str() {
            Some(known) if !known.is_empty() => {
                return conflict(format!("pod {name} is already assigned to node \"{known}\""));
            }
            _ => {}
        }
        if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        bound(pod, &node, &now);
        for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
            pod["metadata"]["annotations"][key] = value.clone();
        }
        Ok(true)
    })?;
    Ok(reply::json(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// Puts a pod on a node, with the condition that says so.
pub(crate) fn bound(pod: &mut Value, node: &str, now: &str) {
    pod["spec"]["nodeName"] = json!(node);
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|known| known["type"] != "PodScheduled");
        list.push(condition);
    }
}

fn log(store: &Store, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let name = target.name()?;
    let pod = store.get(PODS, &target.namespace, name)?;
    let containers: Vec<&str> = ["spec.initContainers", "spec.containers"]
        .into_iter()
        .filter_map(|path| pod.at(path).and_then(Value::as_array))
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect();
    let main = pod.at("spec.containers").and_then(Value::as_array).and_then(|c| c.first());
    let asked = call.query.text("container").or_else(|| main.and_then(|c| c["name"].as_str())).unwrap_or("");
    if !containers.contains(&asked) {
        return Err(ApiError::BadRequest(format!("container {asked} is not valid for pod {name}")));
    }
    let started = pod.text("status.startTime");
    let (Some(started), Some("Running" | "Succeeded" | "Failed")) = (started, pod.text("status.phase"))
    else {
        return Err(ApiError::BadRequest(format!(
            "container \"{asked}\" in pod \"{name}\" is waiting to start: ContainerCreating"
        )));
    };
    let node = pod.text("spec.nodeName").unwrap_or("");
    let lines = [
        format!("{started} {asked}: started on {node}"),
        format!("{started} {asked}: simulated container, no process runs and nothing more is logged"),
    ];
    let tail = call.query.number("tailLines")?.map_or(lines.len(), |n| n as usize);
    let shown = lines.iter().skip(lines.len().saturating_sub(tail));
    Ok(reply::text(shown.fold(String::new(), |text, line| text + line + "\n")))
}

fn token(store: &Store, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let account = store.get(SERVICE_ACCOUNTS, &target.namespace, target.name()?)?;
    let expires = store.clock().now().checked_add(1.hours()).unwrap_or(jiff::Timestamp::MAX);
    let token = format!("sandbox:{}:{}", account.namespace(), account.name());
    Ok(reply::json(
        201,
        &json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": account.name(), "namespace": account.namespace()}, "spec": {"audiences": []},
            "status": {"token": token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()},
        }),
    ))
}

/// Answers reviews of who may do what: everyone may do everything.
pub(crate) fn review(call: &Call, path: &str) -> Option<Result<Response<ApiBody>, ApiError>> {
    let rest = path.strip_prefix("/apis/")?;
    let authentication = rest.strip_prefix("authentication.k8s.io/v1/");
    let authorization = rest.strip_prefix("authorization.k8s.io/v1/");
    let plural = authentication.or(authorization)?.rsplit('/').next()?;
    let user = json!({"username": "sandbox", "groups": ["system:masters", "system:authenticated"]});
    let status = match plural {
        "tokenreviews" => json!({"authenticated": true, "user": user}),
        "selfsubjectreviews" => json!({"userInfo": user}),
        "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews" => {
            json!({"allowed": true})
        }
        "selfsubjectrulesreviews" => json!({
            "incomplete": false,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }),
        _ => return None,
    };
    if call.method != "POST" {
        return Some(Err(ApiError::MethodNotAllowed));
    }
    Some(call.json().map(|mut value| {
        value["status"] = status;
        reply::json(201, &value)
    }))
}
