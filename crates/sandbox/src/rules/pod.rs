//! Pods and pod templates: defaults, admission, validation, what may change.
//!
//! Owns priorities, default tolerations and quality of service. Image registries and security are not modelled.

use super::quantity;
use crate::store::resource::PRIORITY_CLASSES;
use crate::store::{ApiError, Cause, Part, State};
use serde_json::{Map, Value, json};

/// Inserts a default where nothing stands.
pub(super) fn default(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    match map.get(field) {
        Some(known) if !known.is_null() => {}
        _ => {
            map.insert(field.to_owned(), value.into());
        }
    }
}

/// Defaults of a pod's spec, in pods and in templates alike.
pub(super) fn default_spec(spec: &mut Map<String, Value>, restart_policy: &str) {
    default(spec, "restartPolicy", restart_policy);
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", json!({}));
    // The old name of the field is kept in step.
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        default(spec, "serviceAccount", account);
    }
    for field in ["containers", "initContainers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                default_container(container);
            }
        }
    }
}

fn default_container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or("");
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    let policy =
        if image.contains('@') || tag.is_some_and(|tag| tag != "latest") { "IfNotPresent" } else { "Always" };
    default(container, "imagePullPolicy", policy);
    default(container, "resources", json!({}));
    if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut)
        && let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned()
        && !limits.is_empty()
    {
        // What has a limit and no request asks for its limit.
        let requests = resources.entry("requests").or_insert_with(|| json!({}));
        if let Some(requests) = requests.as_object_mut() {
            for (name, amount) in limits {
                requests.entry(name).or_insert(amount);
            }
        }
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            default(port, "protocol", "TCP");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            default(probe, "timeoutSeconds", 1);
            default(probe, "periodSeconds", 10);
            default(probe, "successThreshold", 1);
            default(probe, "failureThreshold", 3);
        }
    }
}

/// Defaults and admission of a new pod.
pub(super) fn complete(state: &State, value: &mut Value) -> Result<(), ApiError> {
    let name = value["metadata"]["name"].as_str().unwrap_or("").to_owned();
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        default_spec(spec, "Always");
        default(spec, "serviceAccountName", "default");
        default(spec, "serviceAccount", "default");
        default(spec, "enableServiceLinks", true);
        admit_priority(state, spec, &name)?;
        add_tolerations(spec);
    }
    value["status"] = json!({"phase": "Pending", "qosClass": qos_class(value)});
    Ok(())
}

/// Resolves the priority class into a number.
fn admit_priority(state: &State, spec: &mut Map<String, Value>, pod: &str) -> Result<(), ApiError> {
    let named = spec.get("priorityClassName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let class = match named {
        Some(name) => Some(state.find(PRIORITY_CLASSES, "", name).ok_or_else(|| ApiError::Forbidden {
            resource: crate::store::resource::PODS,
            name: pod.to_owned(),
            message: format!("no PriorityClass with name {name} was found"),
            cause: None,
        })?),
        None => state
            .objects(PRIORITY_CLASSES, None)
            .filter(|class| class.at("globalDefault") == Some(&Value::Bool(true)))
            .max_by_key(|class| class.at("value").and_then(Value::as_i64)),
    };
    let (mut priority, mut policy) = (0, "PreemptLowerPriority".to_owned());
    if let Some(class) = class {
        priority = class.at("value").and_then(Value::as_i64).unwrap_or(0);
        class.text("preemptionPolicy").unwrap_or("PreemptLowerPriority").clone_into(&mut policy);
        let name = class.name().to_owned();
        spec.insert("priorityClassName".to_owned(), Value::String(name));
    }
    spec.insert("priority".to_owned(), Value::from(priority));
    default(spec, "preemptionPolicy", policy);
    Ok(())
}

/// Lets a pod stay for five minutes on a node that stops answering, unless it says otherwise.
fn add_tolerations(spec: &mut Map<String, Value>) {
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if tolerations.is_null() {
        *tolerations = json!([]);
    }
    let Some(list) = tolerations.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = list.iter().any(|toleration| {
            let effect = toleration["effect"].as_str().unwrap_or("");
            let known = toleration["key"].as_str().unwrap_or("");
            (known == key || known.is_empty() && toleration["operator"] == "Exists")
                && matches!(effect, "" | "NoExecute")
        });
        if !covered {
            list.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
}

fn qos_class(pod: &Value) -> &'static str {
    let (mut any, mut all) = (false, true);
    for field in ["containers", "initContainers"] {
        for container in pod["spec"][field].as_array().into_iter().flatten() {
            for name in ["cpu", "memory"] {
                let limit = &container["resources"]["limits"][name];
                let request = &container["resources"]["requests"][name];
                any |= !limit.is_null() || !request.is_null();
                all &= !limit.is_null() && limit == request;
            }
        }
    }
    match (any, all) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

/// Checks a pod's spec at `path`.
pub(super) fn validate_spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array();
    if containers.is_none_or(Vec::is_empty) {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut names = std::collections::BTreeSet::new();
    for field in ["initContainers", "containers"] {
        for (index, container) in spec[field].as_array().into_iter().flatten().enumerate() {
            let here = format!("{path}.{field}[{index}]");
            validate_container(container, &here, causes);
            if let Some(name) = container["name"].as_str()
                && !names.insert(name)
            {
                causes.push(Cause {
                    reason: "FieldValueDuplicate",
                    field: format!("{here}.name"),
                    message: format!("Duplicate value: \"{name}\""),
                });
            }
        }
    }
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        let (field, value) =
            (format!("{path}.terminationGracePeriodSeconds"), &spec["terminationGracePeriodSeconds"]);
        causes.push(Cause::invalid(field, value, "must be greater than or equal to 0"));
    }
    quantity::validate_map(&spec["overhead"], &format!("{path}.overhead"), causes);
}

fn validate_container(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    if container["name"].as_str().unwrap_or("").is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
    }
    let resources = &container["resources"];
    for field in ["requests", "limits"] {
        quantity::validate_map(&resources[field], &format!("{path}.resources.{field}"), causes);
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = resources["limits"].get(name).and_then(quantity::milli);
        if let (Some(request_amount), Some(limit)) = (quantity::milli(request), limit)
            && request_amount > limit
        {
            let message = format!(
                "must be less than or equal to {name} limit of {}",
                text_of(&resources["limits"][name])
            );
            causes.push(Cause::invalid(format!("{path}.resources.requests"), request, &message));
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Checks a new pod's spec.
pub(super) fn validate_new(spec: &Value, causes: &mut Vec<Cause>) {
    validate_spec(spec, "spec", causes);
    let gated = spec["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    if gated && spec["nodeName"].as_str().is_some_and(|node| !node.is_empty()) {
        let message = "Forbidden: cannot be set until all schedulingGates have been cleared".to_owned();
        causes.push(Cause { reason: "FieldValueForbidden", field: "spec.nodeName".to_owned(), message });
    }
}

/// Fields of a pod's spec that may change; of containers, only the image.
const CHANGEABLE: [&str; 6] = [
    "containers",
    "initContainers",
    "activeDeadlineSeconds",
    "tolerations",
    "terminationGracePeriodSeconds",
    "schedulingGates",
];
/// Fields that may change while scheduling gates hold the pod back.
const CHANGEABLE_WHILE_GATED: [&str; 2] = ["nodeSelector", "affinity"];

/// Checks a change of a pod's spec. A write of the whole is a binding or a resize, which have rules of their own.
pub(super) fn validate_update(old: &Value, new: &Value, part: Part, causes: &mut Vec<Cause>) {
    let (Some(before), Some(after)) = (old["spec"].as_object(), new["spec"].as_object()) else { return };
    if part == Part::Whole {
        return;
    }
    let gated =
        before.get("schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty());
    let mut changed = before.keys().chain(after.keys()).filter(|field| {
        before.get(*field) != after.get(*field)
            && !CHANGEABLE.contains(&field.as_str())
            && !(gated && CHANGEABLE_WHILE_GATED.contains(&field.as_str()))
    });
    let fixed = |spec: &Map<String, Value>, field: &str| {
        let mut list = spec.get(field).cloned().unwrap_or_default();
        for container in list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
        list
    };
    let held = |spec: &Map<String, Value>| {
        spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let (had, has) = (held(before), held(after));
    let same_containers =
        ["containers", "initContainers"].iter().all(|field| fixed(before, field) == fixed(after, field));
    if changed.next().is_some() || !same_containers || had.iter().any(|toleration| !has.contains(toleration))
    {
        causes.push(frozen());
    }
}

fn frozen() -> Cause {
    Cause {
        reason: "FieldValueForbidden",
        field: "spec".to_owned(),
        message: "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing tolerations), `spec.terminationGracePeriodSeconds`".to_owned(),
    }
}
