//! IntelligentHorizontalPodAutoscaler: a workload, its bounds, and where its replica counts come from.

use super::portrait::{MetricSpec, PortraitSpec};
use super::replica_profile::ReplicaProfileBehavior;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "autoscaling.kapacitystack.io",
    version = "v1alpha1",
    kind = "IntelligentHorizontalPodAutoscaler",
    plural = "intelligenthorizontalpodautoscalers",
    shortname = "ihpa",
    namespaced,
    status = "IhpaStatus",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.scaleTargetRef.kind"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.scaleTargetRef.name"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.minReplicas"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxReplicas"),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.currentReplicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.currentPortraitValue.provider"),
    printcolumn(name = "Gray%", type_ = "integer", json_path = ".status.gray.grayPercent"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextChange.time", priority = 1),
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.paused", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas must not be over maxReplicas"))]
pub struct IntelligentHorizontalPodAutoscalerSpec {
    /// The workload, in the same namespace; any kind with a scale subresource.
    pub scale_target_ref: CrossVersionObjectReference,
    /// Nothing is scaled while true.
    #[serde(default)]
    pub paused: bool,
    #[schemars(range(min = 0))]
    pub min_replicas: i32,
    #[schemars(range(min = 0))]
    pub max_replicas: i32,
    #[serde(default)]
    pub scale_mode: ScaleMode,
    /// Where replica counts come from; of those that have one now, the highest priority counts.
    #[schemars(length(max = 64))]
    pub portrait_providers: Vec<PortraitProvider>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<IhpaBehavior>,
    /// Metrics that are looked at while a change in steps is under way, and what becomes of it where one stands in the
    /// stated relation to its target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub stability_checkers: Vec<StabilityChecker>,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScaleMode {
    #[default]
    Auto,
    /// Values are computed and shown, nothing is scaled.
    Preview,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderType {
    #[default]
    Static,
    Cron,
    Dynamic,
}

#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'Static' || has(self.static)").message("type Static needs the field static"))]
#[x_kube(validation = Rule::new("self.type != 'Cron' || has(self.cron)").message("type Cron needs the field cron"))]
#[x_kube(validation = Rule::new("self.type != 'Dynamic' || has(self.dynamic)").message("type Dynamic needs the field dynamic"))]
pub struct PortraitProvider {
    #[serde(rename = "type")]
    pub type_: ProviderType,
    /// The highest that has a value wins; at equal priority the larger value.
    pub priority: i32,
    #[serde(rename = "static", default, skip_serializing_if = "Option::is_none")]
    pub static_: Option<StaticPortrait>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronPortrait>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<PortraitSpec>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticPortrait {
    #[schemars(range(min = 0))]
    pub replicas: i32,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronPortrait {
    #[schemars(length(min = 1, max = 1440))]
    pub crons: Vec<ReplicaCron>,
}

/// Replicas within a window of time.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaCron {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// IANA name of the zone in which the schedules are read.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Five-field schedule at which the window opens.
    #[schemars(length(max = 512))]
    pub start: String,
    /// Schedule at which it closes; that moment is no longer part of it.
    #[schemars(length(max = 512))]
    pub end: String,
    #[schemars(range(min = 0))]
    pub replicas: i32,
}

fn utc() -> String {
    "UTC".to_owned()
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IhpaBehavior {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScalingBehavior>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScalingBehavior>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_profile: Option<ReplicaProfileBehavior>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingBehavior {
    /// Never in this direction.
    #[serde(default)]
    pub disabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gray_strategy: Option<GrayStrategy>,
    /// Ours, as in autoscaling/v2: only what was asked for throughout this time is followed. None by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: Option<i32>,
    /// Ours, as in autoscaling/v2: how much may change in a period. No limit by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub policies: Vec<ScalingPolicy>,
    /// Ours, as in autoscaling/v2: which of several policies counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select_policy: Option<SelectPolicy>,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelectPolicy {
    /// The policy that allows the most.
    #[default]
    Max,
    /// The policy that allows the least.
    Min,
    Disabled,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicy {
    #[serde(rename = "type")]
    pub type_: PolicyType,
    #[schemars(range(min = 1))]
    pub value: i32,
    #[schemars(range(min = 1, max = 1800))]
    pub period_seconds: i32,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyType {
    Pods,
    Percent,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrayState {
    Online,
    Cutoff,
    Standby,
    Deleted,
}

/// A change in steps, with a state in between that can be taken back.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrayStrategy {
    /// What pods that are to go are in the meantime; only for scaleDown.
    pub gray_state: GrayState,
    #[schemars(range(min = 1))]
    pub change_interval_seconds: i32,
    /// Share of the whole change in one step.
    #[schemars(range(min = 1, max = 100))]
    pub change_percent: i32,
    /// Wait after the last step.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub observation_seconds: i32,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckerType {
    Metrics,
    External,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StabilizationAction {
    Pause,
    Rollback,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StabilityChecker {
    #[serde(rename = "type")]
    pub type_: CheckerType,
    pub stabilization_action: StabilizationAction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cool_down_seconds: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsChecker>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsChecker {
    #[schemars(length(min = 1, max = 64))]
    pub metrics: Vec<MetricSpec>,
}

/// Something outside, by name, with its settings.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IhpaStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_portrait_value: Option<PortraitValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_portrait_value: Option<PortraitValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gray: Option<GrayStatus>,
    /// Ours: replicas that serve now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_replicas: Option<i32>,
    /// Ours: replicas that should serve in the end, within the bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Ours: when the replica count is next expected to change, as far as it is known ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_change: Option<NextChange>,
    /// Ours: what it is expected to be, as far as portraits tell ahead of time: the plan that nodes are bought by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outlook: Vec<OutlookPoint>,
    /// Ours: generation that all of this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A replica count and where it comes from.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortraitValue {
    /// Static, Cron, or Dynamic- with the type of the portrait.
    pub provider: String,
    #[schemars(range(min = 0))]
    pub replicas: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Time>,
}

/// How far a change in steps is.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrayStatus {
    #[schemars(range(min = 0, max = 100))]
    pub gray_percent: i32,
    pub last_update_time: Time,
    /// Ours: online replicas at the start of the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i32>,
    /// Ours: online replicas at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i32>,
    /// Ours: pods that already were on their way out when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<i32>,
}

/// Replicas from a moment on, within the bounds.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlookPoint {
    pub time: Time,
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// Who says so.
    pub provider: String,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextChange {
    pub time: Time,
    /// Replicas from then on, within the bounds; absent where no provider will have a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}
