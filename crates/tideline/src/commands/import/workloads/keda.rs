//! ScaledObjects of KEDA: triggers cron, cpu, memory and prometheus.
//!
//! KEDA follows the trigger that wants most; so do providers of equal priority. A Prometheus query becomes an external
//! metric, whose rule is printed for the metrics configuration.

use super::{Draft, FALLBACK, decode, draft, fixed, hpa, reactive, scheduled};
use api::kapacity::{MetricSpec, ReplicaCron};
use cron::{Dialect, Window};
use intake::files::Object;
use jiff::tz::TimeZone;
use k8s_openapi::api::autoscaling::v2::{
    self, ContainerResourceMetricSource, CrossVersionObjectReference, ExternalMetricSource,
    HorizontalPodAutoscalerBehavior, MetricIdentifier, MetricTarget, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

const DEFAULT_MAX: i32 = 100;
/// Above everything that competes.
const HELD: i32 = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: Target,
    #[serde(default)]
    min_replica_count: i32,
    #[serde(default)]
    max_replica_count: Option<i32>,
    #[serde(default)]
    triggers: Vec<Trigger>,
    #[serde(default)]
    advanced: Advanced,
    /// Whatever else is set, by name.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    api_version: Option<String>,
    kind: Option<String>,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Advanced {
    horizontal_pod_autoscaler_config: HpaConfig,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HpaConfig {
    behavior: Option<HorizontalPodAutoscalerBehavior>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trigger {
    #[serde(rename = "type")]
    kind: String,
    metric_type: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    authentication_ref: Option<Value>,
}

impl Trigger {
    /// A field as text, however it was written.
    fn text(&self, field: &str) -> Option<String> {
        match self.metadata.get(field)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    fn needed(&self, field: &str) -> Result<String, String> {
        self.text(field)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("metadata.{field} is missing; write it"))
    }
}

/// Fields with what becomes of them.
const SPEC_FIELDS: [(&str, &str); 4] = [
    ("idleReplicaCount", "minReplicas holds also while nothing comes"),
    ("cooldownPeriod", "behavior.scaleDown.stabilizationWindowSeconds waits before every reduction"),
    ("fallback", "replicas stay as they are while metrics cannot be read"),
    ("initialCooldownPeriod", "there is no pause at the start"),
];
const ADVANCED_FIELDS: [(&str, &str); 2] = [
    ("scalingModifiers", "formulas have no counterpart; a rule of the metrics configuration can compute"),
    ("restoreToOriginalReplicaCount", "replicas stay as they are when the autoscaler is deleted"),
];

pub(super) fn read(object: &Object) -> Result<Draft, String> {
    let spec = object.value.get("spec").ok_or("spec is missing")?;
    let spec: Spec = decode("spec.", spec)?;
    let target = CrossVersionObjectReference {
        api_version: Some(spec.scale_target_ref.api_version.clone().unwrap_or_else(|| "apps/v1".to_owned())),
        kind: spec.scale_target_ref.kind.clone().unwrap_or_else(|| "Deployment".to_owned()),
        name: spec.scale_target_ref.name.clone(),
    };
    let mut draft = draft(object, target)?;
    (draft.min, draft.max) = (spec.min_replica_count, spec.max_replica_count.unwrap_or(DEFAULT_MAX));
    if draft.min < 0 || draft.max < draft.min {
        return Err(format!(
            "minReplicaCount {} and maxReplicaCount {} make no range; mend them",
            draft.min, draft.max
        ));
    }
    let mut metrics = Vec::new();
    for (index, trigger) in spec.triggers.iter().enumerate() {
        if let Err(why) = translate(&mut draft, &mut metrics, index, trigger) {
            draft.notes.push(format!("Not carried over: trigger {index} ({}): {why}", trigger.kind));
        }
    }
    if !metrics.is_empty() {
        let (behavior, kube_hpa) =
            hpa::behavior(spec.advanced.horizontal_pod_autoscaler_config.behavior.as_ref(), &mut draft.notes);
        draft.behavior = Some(behavior);
        draft.providers.push(reactive(metrics, kube_hpa));
    } else if !draft.providers.is_empty() {
        // Outside the windows.
        draft.providers.push(fixed(draft.min, FALLBACK));
    }
    for (field, instead) in SPEC_FIELDS {
        if spec.others.contains_key(field) {
            draft.notes.push(format!("Not carried over: {field}: {instead}."));
        }
    }
    for (field, instead) in ADVANCED_FIELDS {
        if spec.advanced.others.get(field).is_some_and(|value| value != &Value::Bool(false)) {
            draft.notes.push(format!("Not carried over: advanced.{field}: {instead}."));
        }
    }
    held(object, &mut draft)?;
    let namespace = draft.namespace.as_deref().map_or_else(String::new, |name| format!(" -n {name}"));
    draft.notes.push(format!(
        "Nothing is scaled while KEDA's HPA exists: kubectl delete scaledobject {}{namespace}",
        draft.name
    ));
    Ok(draft)
}

/// KEDA's annotations that pause.
fn held(object: &Object, draft: &mut Draft) -> Result<(), String> {
    let annotation = |key: &str| object.value.get("metadata")?.get("annotations")?.get(key)?.as_str();
    if let Some(text) = annotation("autoscaling.keda.sh/paused-replicas") {
        let replicas = text.parse::<i32>().ok().filter(|replicas| *replicas >= 0).ok_or_else(|| {
            format!("annotation autoscaling.keda.sh/paused-replicas: \"{text}\" is no number")
        })?;
        draft.providers.push(fixed(replicas, HELD));
        draft.notes.push(format!(
            "Held at {replicas} by the last provider, as by its annotation; remove it to go on."
        ));
        (draft.min, draft.max) = (draft.min.min(replicas), draft.max.max(replicas));
    } else if annotation("autoscaling.keda.sh/paused") == Some("true") {
        draft.paused = true;
    }
    Ok(())
}

fn translate(
    draft: &mut Draft,
    metrics: &mut Vec<MetricSpec>,
    index: usize,
    trigger: &Trigger,
) -> Result<(), String> {
    match trigger.kind.as_str() {
        "cron" => draft.providers.push(scheduled(vec![window(index, trigger)?])),
        "cpu" | "memory" => metrics.push(resource(trigger)?),
        "prometheus" => metrics.push(prometheus(draft, index, trigger)?),
        _ => {
            return Err(
                "there is no such trigger here; serve it as an external metric through Prometheus".to_owned()
            );
        }
    }
    Ok(())
}

fn window(index: usize, trigger: &Trigger) -> Result<ReplicaCron, String> {
    let (start, end) = (trigger.needed("start")?, trigger.needed("end")?);
    let time_zone = trigger.needed("timezone")?;
    let zone = cron::time_zone(&time_zone, &TimeZone::UTC).map_err(|error| error.to_string())?;
    Window::parse(&start, &end, &Dialect::KAPACITY, &zone).map_err(|error| error.to_string())?;
    let replicas = trigger.needed("desiredReplicas")?;
    let replicas = replicas
        .parse::<i32>()
        .ok()
        .filter(|replicas| *replicas >= 0)
        .ok_or_else(|| format!("metadata.desiredReplicas \"{replicas}\" is no number from 0 on"))?;
    Ok(ReplicaCron { name: format!("trigger-{index}"), description: None, time_zone, start, end, replicas })
}

fn resource(trigger: &Trigger) -> Result<MetricSpec, String> {
    let value = trigger.needed("value")?;
    let kind =
        trigger.metric_type.clone().or_else(|| trigger.text("type")).unwrap_or_else(|| "Utilization".into());
    let target = match kind.as_str() {
        "Utilization" => MetricTarget {
            type_: kind,
            average_utilization: Some(
                value.parse().map_err(|_| format!("metadata.value \"{value}\" is no percentage"))?,
            ),
            ..MetricTarget::default()
        },
        "AverageValue" => MetricTarget {
            type_: kind,
            average_value: Some(quantity("value", &value)?),
            ..MetricTarget::default()
        },
        _ => {
            return Err(format!(
                "metricType {kind} is not served for it; there are Utilization and AverageValue"
            ));
        }
    };
    let name = trigger.kind.clone();
    let metric = match trigger.text("containerName") {
        Some(container) => v2::MetricSpec {
            type_: "ContainerResource".to_owned(),
            container_resource: Some(ContainerResourceMetricSource { container, name, target }),
            ..v2::MetricSpec::default()
        },
        None => v2::MetricSpec {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricSource { name, target }),
            ..v2::MetricSpec::default()
        },
    };
    Ok(MetricSpec { metric, ..MetricSpec::default() })
}

fn quantity(field: &str, text: &str) -> Result<Quantity, String> {
    intake::quantity::milli(text).map_err(|error| format!("metadata.{field}: {error}"))?;
    Ok(Quantity(text.to_owned()))
}

fn prometheus(draft: &mut Draft, index: usize, trigger: &Trigger) -> Result<MetricSpec, String> {
    let (address, query) = (trigger.needed("serverAddress")?, trigger.needed("query")?);
    let threshold = quantity("threshold", &trigger.needed("threshold")?)?;
    if query.contains("<<") {
        return Err("its query contains <<, which rules use for their own fields".to_owned());
    }
    let name = metric_name(draft, index);
    draft.notes.push(format!(
        "Add to externalRules of ConfigMap kapacity-config (controller with --prometheus-address={address}):\n  \
         - seriesQuery: '{{__name__=\"up\"}}'\n    metricsQuery: '{}'\n    name: {{as: {name}}}\n    \
         resources: {{namespaced: false}}",
        query.replace('\'', "''").replace('\n', " ")
    ));
    for (field, instead) in [
        ("activationThreshold", "it scales from 0 as soon as the metric is over 0"),
        ("namespace", "write the tenant into the query or the address"),
        ("customHeaders", "give a token with --prometheus-token-file"),
        ("ignoreNullValues", "a query without a result changes nothing"),
    ] {
        if trigger.metadata.contains_key(field) {
            draft.notes.push(format!("Not carried over: {field} of trigger {index}: {instead}."));
        }
    }
    if trigger.authentication_ref.is_some() {
        draft.notes.push(format!(
            "Not carried over: authenticationRef of trigger {index}: give the controller --prometheus-token-file."
        ));
    }
    let type_ = trigger.metric_type.clone().unwrap_or_else(|| "AverageValue".to_owned());
    let target = match type_.as_str() {
        "AverageValue" => MetricTarget { type_, average_value: Some(threshold), ..MetricTarget::default() },
        "Value" => MetricTarget { type_, value: Some(threshold), ..MetricTarget::default() },
        _ => {
            return Err(format!("metricType {type_} is not served for it; there are AverageValue and Value"));
        }
    };
    let metric = v2::MetricSpec {
        type_: "External".to_owned(),
        external: Some(ExternalMetricSource { metric: MetricIdentifier { name, selector: None }, target }),
        ..v2::MetricSpec::default()
    };
    Ok(MetricSpec { metric, ..MetricSpec::default() })
}

/// A name that no other object's trigger has, of the letters that metrics have.
fn metric_name(draft: &Draft, index: usize) -> String {
    let namespace = draft.namespace.as_deref().unwrap_or("default");
    let text = format!("keda_{namespace}_{}_{index}", draft.name);
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
