//! MachineDeployment and Machine, as far as the imitation reads and writes them.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta1",
    kind = "MachineDeployment",
    namespaced,
    status = "MachineDeploymentStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MachineDeploymentSpec {
    pub(super) cluster_name: String,
    pub(super) replicas: Option<i32>,
    pub(super) template: MachineTemplate,
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct MachineTemplate {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MachineDeploymentStatus {
    pub(super) observed_generation: i64,
    pub(super) selector: String,
    pub(super) replicas: i32,
    pub(super) updated_replicas: i32,
    pub(super) ready_replicas: i32,
    pub(super) available_replicas: i32,
    pub(super) unavailable_replicas: i32,
    pub(super) phase: String,
}

#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta1",
    kind = "Machine",
    namespaced,
    status = "MachineStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MachineSpec {
    pub(super) cluster_name: String,
    #[serde(rename = "providerID", skip_serializing_if = "Option::is_none")]
    pub(super) provider_id: Option<String>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MachineStatus {
    pub(super) phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure_message: Option<String>,
}
