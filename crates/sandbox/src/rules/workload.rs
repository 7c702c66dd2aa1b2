//! Workloads: defaults of their specs, selectors that match their templates, fields that never change.
//!
//! Owns `apps` and `batch` kinds, replication controllers, budgets and autoscalers. Leaves templates' pods to `pod`.

use super::pod::{default, default_spec, validate_spec};
use crate::store::resource::{
    CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS, JOBS, POD_DISRUPTION_BUDGETS,
    REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use crate::store::{Cause, ResourceName};
use serde_json::{Map, Value, json};

type Spec = Map<String, Value>;

pub(super) fn complete(resource: ResourceName, value: &mut Value) {
    let uid = value["metadata"]["uid"].as_str().unwrap_or("").to_owned();
    let name = value["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let template_labels = value["spec"]["template"]["metadata"]["labels"].clone();
    let labelled = value["metadata"]["labels"].as_object().is_some_and(|labels| !labels.is_empty());
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else { return };
    match resource {
        DEPLOYMENTS => default_deployment(spec),
        REPLICA_SETS => default(spec, "replicas", 1),
        REPLICATION_CONTROLLERS => {
            default(spec, "replicas", 1);
            default(spec, "selector", template_labels.clone());
        }
        STATEFUL_SETS => default_stateful_set(spec),
        DAEMON_SETS => {
            default(spec, "revisionHistoryLimit", 10);
            default(spec, "updateStrategy", json!({"type": "RollingUpdate"}));
            rolling(spec, &[("maxUnavailable", json!(1)), ("maxSurge", json!(0))]);
        }
        JOBS => default_job(spec, &uid, &name),
        CRON_JOBS => default_cron_job(spec),
        HORIZONTAL_POD_AUTOSCALERS => default(spec, "minReplicas", 1),
        _ => {}
    }
    let restart = if resource == JOBS { "Never" } else { "Always" };
    if let Some(template) = spec.get_mut("template") {
        default_template(template, restart);
    }
    if matches!(resource, REPLICA_SETS | REPLICATION_CONTROLLERS | DAEMON_SETS)
        && !labelled
        && template_labels.is_object()
    {
        value["metadata"]["labels"] = template_labels;
    }
}

fn default_template(template: &mut Value, restart: &str) {
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        default_spec(spec, restart);
    }
    if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|_, value| !value.is_null());
    }
}

/// Parameters of a rolling update, where that is the strategy.
fn rolling(spec: &mut Spec, parameters: &[(&str, Value)]) {
    for field in ["updateStrategy", "strategy"] {
        let Some(strategy) = spec.get_mut(field).and_then(Value::as_object_mut) else { continue };
        default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            default(strategy, "rollingUpdate", json!({}));
            if let Some(rolling) = strategy.get_mut("rollingUpdate").and_then(Value::as_object_mut) {
                for (name, value) in parameters {
                    default(rolling, name, value.clone());
                }
            }
        }
    }
}

fn default_deployment(spec: &mut Spec) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    default(spec, "strategy", json!({"type": "RollingUpdate"}));
    rolling(spec, &[("maxUnavailable", json!("25%")), ("maxSurge", json!("25%"))]);
}

fn default_stateful_set(spec: &mut Spec) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "updateStrategy", json!({"type": "RollingUpdate"}));
    rolling(spec, &[("partition", json!(0))]);
    let retention = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
    default(spec, "persistentVolumeClaimRetentionPolicy", retention);
}

fn default_job(spec: &mut Spec, uid: &str, name: &str) {
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    if spec["manualSelector"] != Value::Bool(true) && !spec.contains_key("selector") {
        spec.insert(
            "selector".to_owned(),
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}),
        );
        let labels = &mut spec["template"]["metadata"]["labels"];
        if !labels.is_object() {
            *labels = json!({});
        }
        for prefix in ["batch.kubernetes.io/", ""] {
            labels[format!("{prefix}controller-uid")] = json!(uid);
            labels[format!("{prefix}job-name")] = json!(name);
        }
    }
}

fn default_cron_job(spec: &mut Spec) {
    default(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = spec.get_mut("jobTemplate").and_then(|t| t.get_mut("spec")?.get_mut("template")) {
        default_template(template, "Never");
    }
}

pub(super) fn validate(resource: ResourceName, value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &value["spec"];
    match resource {
        POD_DISRUPTION_BUDGETS => return validate_budget(spec, causes),
        HORIZONTAL_POD_AUTOSCALERS => return validate_autoscaler(spec, causes),
        CRON_JOBS => {
            if spec["schedule"].as_str().unwrap_or("").is_empty() {
                causes.push(Cause::required("spec.schedule", ""));
            }
            return validate_spec(
                &spec["jobTemplate"]["spec"]["template"]["spec"],
                "spec.jobTemplate.spec.template.spec",
                causes,
            );
        }
        _ => {}
    }
    for field in
        ["replicas", "parallelism", "completions", "backoffLimit", "minReadySeconds", "revisionHistoryLimit"]
    {
        let number = &spec[field];
        if number.is_null() {
            continue;
        }
        if !number.as_i64().is_some_and(|n| (0..=i64::from(i32::MAX)).contains(&n)) {
            causes.push(Cause::invalid(
                format!("spec.{field}"),
                number,
                "must be greater than or equal to 0",
            ));
        }
    }
    if old.is_none_or(|old| old["spec"]["template"] != spec["template"]) {
        validate_spec(&spec["template"]["spec"], "spec.template.spec", causes);
    }
    validate_selector(resource, spec, causes);
    if let Some(old) = old {
        validate_frozen(resource, &old["spec"], spec, causes);
    }
}

fn validate_selector(resource: ResourceName, spec: &Value, causes: &mut Vec<Cause>) {
    let labels = &spec["template"]["metadata"]["labels"];
    let wanted = if resource == REPLICATION_CONTROLLERS {
        &spec["selector"]
    } else {
        &spec["selector"]["matchLabels"]
    };
    if spec["selector"].is_null() && resource != JOBS {
        causes.push(Cause::required("spec.selector", ""));
        return;
    }
    let matches = wanted.as_object().into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    if !matches {
        let message = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", labels, message));
    }
}

/// Fields that keep their first value.
fn validate_frozen(resource: ResourceName, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let frozen: &[&str] = match resource {
        DEPLOYMENTS | REPLICA_SETS | DAEMON_SETS => &["selector"],
        STATEFUL_SETS => &["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"],
        JOBS => &["selector", "template", "completionMode"],
        _ => &[],
    };
    for field in frozen.iter().filter(|field| old[**field] != new[**field]) {
        let cause = if resource == STATEFUL_SETS {
            Cause {
                reason: "FieldValueForbidden",
                field: "spec".to_owned(),
                message: "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden".to_owned(),
            }
        } else {
            Cause::invalid(format!("spec.{field}"), &new[*field], "field is immutable")
        };
        causes.push(cause);
    }
}

fn validate_budget(spec: &Value, causes: &mut Vec<Cause>) {
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        let message = "minAvailable and maxUnavailable cannot be both set";
        causes.push(Cause::invalid("spec", "…", message));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        let good = match &spec[field] {
            Value::Null => true,
            Value::Number(number) => number.as_u64().is_some(),
            Value::String(text) => {
                text.strip_suffix('%').is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n <= 100))
            }
            _ => false,
        };
        if !good {
            let message = "must be a whole number of at least 0 or a percentage up to 100%";
            causes.push(Cause::invalid(format!("spec.{field}"), &spec[field], message));
        }
    }
    let policy = &spec["unhealthyPodEvictionPolicy"];
    if !policy.is_null() && *policy != "IfHealthyBudget" && *policy != "AlwaysAllow" {
        causes.push(Cause {
            reason: "FieldValueNotSupported",
            field: "spec.unhealthyPodEvictionPolicy".to_owned(),
            message: format!(
                "Unsupported value: {policy}: supported values: \"AlwaysAllow\", \"IfHealthyBudget\""
            ),
        });
    }
}

fn validate_autoscaler(spec: &Value, causes: &mut Vec<Cause>) {
    let number = |field: &str| spec[field].as_i64().unwrap_or(0);
    if number("maxReplicas") < 1 {
        causes.push(Cause::invalid("spec.maxReplicas", &spec["maxReplicas"], "must be greater than 0"));
    } else if number("maxReplicas") < number("minReplicas") {
        let message = "must be greater than or equal to `minReplicas`";
        causes.push(Cause::invalid("spec.maxReplicas", &spec["maxReplicas"], message));
    }
}
