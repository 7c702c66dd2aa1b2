//! ReplicaProfile: how many pods of a workload are online, cut off from traffic, and on standby.

use super::ihpa::External;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "autoscaling.kapacitystack.io",
    version = "v1alpha1",
    kind = "ReplicaProfile",
    shortname = "rp",
    namespaced,
    status = "ReplicaProfileStatus",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.scaleTargetRef.name"),
    printcolumn(name = "Online", type_ = "integer", json_path = ".spec.onlineReplicas"),
    printcolumn(name = "Cutoff", type_ = "integer", json_path = ".spec.cutoffReplicas"),
    printcolumn(name = "Standby", type_ = "integer", json_path = ".spec.standbyReplicas"),
    printcolumn(
        name = "Ensured",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ensured\")].status"
    ),
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.paused", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaProfileSpec {
    pub scale_target_ref: CrossVersionObjectReference,
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub online_replicas: i32,
    /// Warm, but out of every Service.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub cutoff_replicas: i32,
    /// Out of every Service; may be put to sleep by an agent.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub standby_replicas: i32,
    #[serde(default)]
    pub paused: bool,
    /// Of online replicas.
    #[serde(default)]
    pub allowed_scaling_direction: ScalingDirection,
    #[serde(default)]
    pub behavior: ReplicaProfileBehavior,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScalingDirection {
    #[default]
    Both,
    Neither,
    Up,
    Down,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaProfileBehavior {
    pub pod_sorter: PodSorter,
    pub pod_traffic_controller: PodTrafficController,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodSorterType {
    #[default]
    WorkloadDefault,
    External,
}

/// Which pods go first.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSorter {
    #[serde(rename = "type")]
    pub type_: PodSorterType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrafficControllerType {
    #[default]
    ReadinessGate,
    External,
}

/// How a pod is taken out of Services.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodTrafficController {
    #[serde(rename = "type")]
    pub type_: TrafficControllerType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaProfileStatus {
    pub online_replicas: i32,
    pub cutoff_replicas: i32,
    pub standby_replicas: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
