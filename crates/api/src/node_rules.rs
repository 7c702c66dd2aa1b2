//! `HorizontalNodeAutoscaler`: rules that size node pools by the clock and by how much of a pool is asked for.
//!
//! Group, kind and fields are those of the cloud add-on that the kind comes from, and its limits hold. Fields and
//! values of ours are marked so. Enumerations are read in any case. Owns the schema; `intake` reads the objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const GROUP: &str = "autoscaling.cce.io";
pub const PLURAL: &str = "horizontalnodeautoscalers";
pub const KIND: &str = "HorizontalNodeAutoscaler";

/// Condition types of the status.
pub mod conditions {
    /// The object is followed.
    pub const READY: &str = "Ready";
    /// Every target is a pool.
    pub const TARGETS_FOUND: &str = "TargetsFound";
    /// No threshold is so low that what a rule adds is removed again as under-used.
    pub const THRESHOLDS_SOUND: &str = "ThresholdsSound";
}

/// Rules for some node pools.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "autoscaling.cce.io",
    version = "v1alpha1",
    kind = "HorizontalNodeAutoscaler",
    plural = "horizontalnodeautoscalers",
    shortname = "hna",
    namespaced,
    status = "HorizontalNodeAutoscalerStatus",
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disable"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Last run", type_ = "date", json_path = ".status.lastRun"),
    printcolumn(name = "Next run", type_ = "string", json_path = ".status.nextRun"),
    printcolumn(name = "Dry run", type_ = "boolean", json_path = ".spec.dryRun", priority = 1),
    printcolumn(name = "Zone", type_ = "string", json_path = ".status.timeZone", priority = 1),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.summary", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.targetNodepoolIds) || has(self.targetNodePoolIds)").message("targetNodepoolIds is needed: the pools, by id or name"))]
#[x_kube(validation = Rule::new("!(has(self.targetNodepoolIds) && has(self.targetNodePoolIds))").message("targetNodepoolIds and targetNodePoolIds are one field; write one of them"))]
#[x_kube(validation = Rule::new("self.rules.filter(r, has(r.metricTrigger) && r.metricTrigger.metricName.lowerAscii() == 'cpu' && r.metricTrigger.metricOperation == '>').size() <= 1").message("at most 1 metric rule may watch the cpu rate"))]
#[x_kube(validation = Rule::new("self.rules.filter(r, has(r.metricTrigger) && r.metricTrigger.metricName.lowerAscii() == 'memory' && r.metricTrigger.metricOperation == '>').size() <= 1").message("at most 1 metric rule may watch the memory rate"))]
#[x_kube(validation = Rule::new("self.rules.filter(r, has(r.metricTrigger) && r.metricTrigger.metricName.lowerAscii() == 'cpu' && r.metricTrigger.metricOperation == '<').size() <= 1").message("at most 1 metric rule that removes may watch the cpu rate"))]
#[x_kube(validation = Rule::new("self.rules.filter(r, has(r.metricTrigger) && r.metricTrigger.metricName.lowerAscii() == 'memory' && r.metricTrigger.metricOperation == '<').size() <= 1").message("at most 1 metric rule that removes may watch the memory rate"))]
pub struct HorizontalNodeAutoscalerSpec {
    /// Switches every rule of the object off.
    #[serde(default)]
    pub disable: bool,
    /// What would be done is said in the status and not done. Ours.
    #[serde(default)]
    pub dry_run: bool,
    /// IANA name of the zone in which schedules are read; the controller's `--rules-time-zone` where absent. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
    #[schemars(length(max = 10))]
    pub rules: Vec<NodeRule>,
    /// Pools, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    pub target_nodepool_ids: Option<Vec<String>>,
    /// Another spelling of `targetNodepoolIds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    pub target_node_pool_ids: Option<Vec<String>>,
}

/// One rule: a trigger of its type, and what is done then.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type.lowerAscii() != 'cron' || (has(self.cronTrigger) && has(self.action))").message("type Cron needs cronTrigger and action"))]
#[x_kube(validation = Rule::new("self.type.lowerAscii() != 'metric' || has(self.metricTrigger)").message("type Metric needs metricTrigger"))]
#[x_kube(validation = Rule::new("self.type.lowerAscii() != 'floor' || has(self.floorTrigger)").message("type Floor needs floorTrigger"))]
#[x_kube(validation = Rule::new("self.type.lowerAscii() != 'alert' || (has(self.alertTrigger) && has(self.action) && has(self.action.value) && self.action.value >= 1)").message("type Alert needs alertTrigger, and action.value of at least 1"))]
#[x_kube(validation = Rule::new("self.type.lowerAscii() == 'alert' || !has(self.alertTrigger)").message("alertTrigger belongs to type Alert"))]
#[x_kube(validation = Rule::new("self.type.lowerAscii() == 'cron' || !has(self.cronTrigger)").message("cronTrigger belongs to type Cron"))]
#[x_kube(validation = Rule::new("self.type.lowerAscii() == 'metric' || !has(self.metricTrigger)").message("metricTrigger belongs to type Metric"))]
#[x_kube(validation = Rule::new("self.type.lowerAscii() == 'floor' || !has(self.floorTrigger)").message("floorTrigger belongs to type Floor"))]
#[x_kube(validation = Rule::new("self.type.lowerAscii() != 'cron' || (has(self.action) && has(self.action.value) && self.action.value >= 1)").message("a cron rule needs action.value of at least 1: there is nothing to compute it from"))]
#[x_kube(validation = Rule::new("!has(self.metricTrigger) || self.metricTrigger.metricOperation == '>' || (has(self.action) && has(self.action.value) && self.action.value >= 1)").message("a rule that removes needs action.value of at least 1"))]
#[x_kube(validation = Rule::new("!has(self.metricTrigger) || (self.metricTrigger.metricOperation == '>') == (!has(self.action) || self.action.type.lowerAscii() == 'scaleup')").message("metricOperation > goes with action.type ScaleUp, and < with ScaleDown"))]
pub struct NodeRule {
    #[schemars(length(min = 1, max = 63))]
    pub rule_name: String,
    /// Cron, Metric, or ours: Floor, Alert.
    #[serde(rename = "type")]
    #[schemars(length(max = 6), regex(pattern = "^(?i)(cron|metric|floor|alert)$"))]
    pub type_: String,
    #[serde(default)]
    pub disable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron_trigger: Option<CronTrigger>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_trigger: Option<MetricTrigger>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor_trigger: Option<FloorTrigger>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_trigger: Option<AlertTrigger>,
}

/// How many nodes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.value) || self.value != 0").message("value must be at least 1, or -1 to have it computed"))]
#[x_kube(validation = Rule::new("!has(self.unit) || self.unit.lowerAscii() == 'node' || (has(self.value) && self.value >= 1)").message("a percent step needs value of at least 1"))]
pub struct Action {
    /// `ScaleUp`, or ours: `ScaleDown`.
    #[serde(rename = "type")]
    #[schemars(length(max = 9), regex(pattern = "^(?i)(scaleup|scaledown)$"))]
    pub type_: String,
    /// Node, or ours: Percent of the pool's present nodes, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 7), regex(pattern = "^((?i)(node|percent)|%)$"))]
    pub unit: Option<String>,
    /// Absent or -1: as few as bring the rate under the threshold; for metric rules that add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 10_000))]
    pub value: Option<i32>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CronTrigger {
    /// Minute, hour, day of month, month, day of week.
    #[schemars(length(min = 9, max = 256), regex(pattern = r"^\s*\S+(\s+\S+){4}\s*$"))]
    pub schedule: String,
}

/// What part of a pool's cpu or memory its pods ask for.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricTrigger {
    #[schemars(length(max = 6), regex(pattern = "^(?i)(cpu|memory)$"))]
    pub metric_name: String,
    /// >, or ours, to remove: <.
    #[schemars(length(max = 1), regex(pattern = "^[<>]$"))]
    pub metric_operation: String,
    /// A whole number from 1 to 100, or -1 for the controller's `--rules-default-target`.
    #[schemars(length(max = 3), regex(pattern = "^(-1|[1-9][0-9]?|100)$"))]
    pub metric_value: String,
    /// Percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 7), regex(pattern = "^((?i)percent|%)$"))]
    pub unit: Option<String>,
}

/// At least so many nodes from the times of one schedule until those of another. Ours.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FloorTrigger {
    #[schemars(length(min = 9, max = 256), regex(pattern = r"^\s*\S+(\s+\S+){4}\s*$"))]
    pub start: String,
    #[schemars(length(min = 9, max = 256), regex(pattern = r"^\s*\S+(\s+\S+){4}\s*$"))]
    pub end: String,
    /// Within the window.
    #[schemars(range(min = 0, max = 100_000))]
    pub nodes: i32,
    /// Outside of it; the pool's own minimum holds in any case.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub otherwise: i32,
}

/// Alerts that are posted to the controller, each once. Ours.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertTrigger {
    /// Labels with their values that an alert must all have, such as alertname=NodeCpuHigh.
    #[serde(rename = "match")]
    #[schemars(
        length(min = 1, max = 20),
        inner(length(max = 512), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*=.+$"))
    )]
    pub matchers: Vec<String>,
    /// Least time between two runs of the rule; 300 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub interval_seconds: Option<i32>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HorizontalNodeAutoscalerStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The zone in which schedules are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// When a rule acted last, and when a schedule's next time is, in that zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run: Option<String>,
    /// The first thing that keeps a rule from acting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleStatus {
    pub rule_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Time>,
    /// How many nodes that was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_nodes: Option<i32>,
    /// The next times of its schedule, in the object's zone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next_runs: Vec<String>,
    /// Times that nobody could act on, and the newest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_missed: Option<Time>,
    /// Of the rule as a whole: what it does, or why it does nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<RulePoolStatus>,
}

/// The same of one pool.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RulePoolStatus {
    pub pool: String,
    pub reason: String,
    pub message: String,
}
