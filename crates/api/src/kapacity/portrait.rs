//! HorizontalPortrait: what a workload's replica count should be, as some algorithm sees it.

use super::ihpa::{CronPortrait, StaticPortrait};
use k8s_openapi::api::autoscaling::v2;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "autoscaling.kapacitystack.io",
    version = "v1alpha1",
    kind = "HorizontalPortrait",
    shortname = "hp",
    namespaced,
    status = "HorizontalPortraitStatus",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.scaleTargetRef.name"),
    printcolumn(name = "Portrait", type_ = "string", json_path = ".spec.portraitType"),
    printcolumn(name = "Algorithm", type_ = "string", json_path = ".spec.algorithm.type"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.portraitData.static.replicas"),
    printcolumn(
        name = "Generated",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"PortraitGenerated\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct HorizontalPortraitSpec {
    pub scale_target_ref: v2::CrossVersionObjectReference,
    #[serde(flatten)]
    pub portrait: PortraitSpec,
}

/// What a portrait is made from.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortraitSpec {
    /// Reactive, Predictive, or any other name that an outside generator serves.
    #[schemars(length(min = 1, max = 63))]
    pub portrait_type: String,
    /// An outside controller fills in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_generator_name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub metrics: Vec<MetricSpec>,
    pub algorithm: Algorithm,
}

/// A metric as in autoscaling/v2, with a name for algorithms and an operator for checks.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricSpec {
    #[serde(flatten)]
    pub metric: v2::MetricSpec,
    /// Name of the series, where an algorithm needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<Operator>,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    #[serde(rename = "==")]
    Equal,
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = ">=")]
    GreaterOrEqual,
    #[serde(rename = "<=")]
    LessOrEqual,
}

#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'ExternalJob' || has(self.externalJob)").message("type ExternalJob needs the field externalJob"))]
pub struct Algorithm {
    /// KubeHPA, ExternalJob, or what an outside generator knows.
    #[serde(rename = "type")]
    pub type_: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_job: Option<ExternalJob>,
    #[serde(rename = "kubeHPA", default, skip_serializing_if = "Option::is_none")]
    pub kube_hpa: Option<KubeHpa>,
    /// For outside generators: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub config: Option<Map<String, Value>>,
}

fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}

/// Settings of the algorithm of the Kubernetes HPA.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeHpa {
    /// A duration such as 15s.
    pub sync_period: String,
    /// How far the ratio of use to target may be from one, as a decimal.
    #[schemars(regex(pattern = r"^[0-9]{1,6}(\.[0-9]{1,9})?$"))]
    pub tolerance: String,
    pub cpu_initialization_period: String,
    pub initial_readiness_delay: String,
}

impl Default for KubeHpa {
    fn default() -> Self {
        Self {
            sync_period: "15s".to_owned(),
            tolerance: "0.1".to_owned(),
            cpu_initialization_period: "5m".to_owned(),
            initial_readiness_delay: "30s".to_owned(),
        }
    }
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalJob {
    pub job: AlgorithmJob,
    pub result_source: ResultSource,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobType {
    #[default]
    CronJob,
}

#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.cronJob)").message("type CronJob needs the field cronJob"))]
pub struct AlgorithmJob {
    #[serde(rename = "type")]
    pub type_: JobType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron_job: Option<CronJobSource>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CronJobSource {
    /// `metadata` and `spec` of a `CronJob` of batch/v1; labels and annotations are kept.
    #[schemars(schema_with = "cron_job_template")]
    pub template: Map<String, Value>,
}

fn cron_job_template(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["spec"],
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "spec": {
                "type": "object",
                "required": ["schedule", "jobTemplate"],
                "x-kubernetes-preserve-unknown-fields": true,
                "properties": {
                    "schedule": {"type": "string", "maxLength": 512},
                    "jobTemplate": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
                }
            }
        }
    })
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResultSourceType {
    #[default]
    ConfigMap,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultSource {
    #[serde(rename = "type")]
    pub type_: ResultSourceType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,
}

/// The ConfigMap's name follows from the portrait's.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMapSource {}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HorizontalPortraitStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portrait_data: Option<PortraitData>,
    /// What the forecast behind the data rests on, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<PortraitForecast>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A forecast of traffic, and what it is worth.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortraitForecast {
    /// What each traffic metric's forecast rests on, such as `qps: ridge+trees/week`.
    pub model: String,
    /// Whether it is trusted, and why not.
    pub trust: String,
    /// Traffic that is expected at the first time of the data, as a decimal.
    pub expected: String,
    /// Traffic that replicas are planned for: a quantile, as a decimal.
    pub upper: String,
    /// Mean error of forecasts an hour ahead over the last days, in percent of the level.
    pub error_percent: i32,
    /// How pods' use follows traffic, on history that was kept back: correlation and mean error in percent.
    pub fit_correlation_percent: i32,
    pub fit_error_percent: i32,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_at: Option<Time>,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataType {
    #[default]
    Static,
    Cron,
    TimeSeries,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortraitData {
    #[serde(rename = "type")]
    pub type_: DataType,
    #[serde(rename = "static", default, skip_serializing_if = "Option::is_none")]
    pub static_: Option<StaticPortrait>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronPortrait>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_series: Option<TimeSeries>,
    /// From then on it counts as nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Time>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeSeries {
    /// Ordered by time; each holds until the next.
    #[schemars(length(min = 1, max = 10_000))]
    pub time_series: Vec<TimePoint>,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimePoint {
    /// Seconds since 1970.
    #[schemars(range(min = 0))]
    pub timestamp: i64,
    #[schemars(range(min = 0))]
    pub replicas: i32,
}
