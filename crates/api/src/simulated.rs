//! `SimulatedPool` and `SimulatedMachine`: a cloud that consists of Kubernetes objects only.
//!
//! The pool is what the planner resizes; the machines are made from it by the simulated cloud, wherever that runs
//! (sandbox, simulator, test bed, or beside the controller on a real cluster as kwok does).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A group of equal simulated machines that is resized by a number.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tideline.dev",
    version = "v1alpha1",
    kind = "SimulatedPool",
    shortname = "simpool",
    status = "SimulatedPoolStatus",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.min"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.max"),
    printcolumn(name = "Wanted", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Machines", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Price", type_ = "string", json_path = ".spec.pricePerHourUsd", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min must not be over max"))]
pub struct SimulatedPoolSpec {
    /// Machines that are always kept.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub min: i32,
    /// Machines that are never exceeded.
    #[schemars(range(min = 0, max = 100_000))]
    pub max: i32,
    /// Machines that are wanted now; the planner changes this.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub replicas: i32,
    /// Names of machines that go. Lowered `replicas` and a name added here are one order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub terminate: Vec<String>,
    /// What a node of this pool looks like.
    pub template: SimulatedTemplate,
    #[serde(default)]
    pub boot: BootTime,
    /// Higher is tried first.
    #[serde(default)]
    pub priority: i32,
    /// US dollars an hour for one machine, as a decimal such as "0.192".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{1,7}(\.[0-9]{1,6})?$"))]
    pub price_per_hour_usd: Option<String>,
    #[serde(default)]
    pub options: SimulatedPoolOptions,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulatedTemplate {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<TemplateTaint>,
    /// Resources that pods can use: cpu, memory, pods (110 where absent), extended ones.
    pub allocatable: BTreeMap<String, Quantity>,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateTaint {
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// NoSchedule, PreferNoSchedule or NoExecute.
    #[schemars(regex(pattern = "^(NoSchedule|PreferNoSchedule|NoExecute)$"))]
    pub effect: String,
}

/// How long a machine takes from order to a node that joins; drawn evenly for each machine.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BootTime {
    #[schemars(range(min = 0, max = 86_400))]
    pub min_seconds: i32,
    #[schemars(range(min = 0, max = 86_400))]
    pub max_seconds: i32,
}

impl Default for BootTime {
    fn default() -> Self {
        Self { min_seconds: 20, max_seconds: 40 }
    }
}

/// Settings that override the cluster's for this pool.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SimulatedPoolOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub utilization_threshold_percent: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub unneeded_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub unready_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_provision_seconds: Option<i64>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SimulatedPoolStatus {
    /// Machines ever made: the number in the next machine's name.
    pub created: i64,
    /// Machines that exist now.
    pub replicas: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One machine of a simulated pool.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tideline.dev",
    version = "v1alpha1",
    kind = "SimulatedMachine",
    shortname = "simmachine",
    status = "SimulatedMachineStatus",
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SimulatedMachineSpec {
    pub pool: String,
    /// `simulated://<pool>/<machine>`
    #[serde(rename = "providerID")]
    pub provider_id: String,
    /// Of a machine that was launched by itself and belongs to no pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<SimulatedLaunch>,
}

/// What a single machine is launched as.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulatedLaunch {
    /// The claim that it is for, by uid: it is launched once.
    pub claim: String,
    pub template: SimulatedTemplate,
    #[serde(default)]
    pub boot: BootTime,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachinePhase {
    #[default]
    Creating,
    Running,
    Deleting,
    Failed,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SimulatedMachineStatus {
    pub phase: MachinePhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The cloud's own error code, such as `OutOfStock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
}

/// The provider id of a simulated machine.
pub fn provider_id(pool: &str, machine: &str) -> String {
    format!("simulated://{pool}/{machine}")
}
