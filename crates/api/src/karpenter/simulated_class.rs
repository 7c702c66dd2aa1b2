//! SimulatedNodeClass: machines of NodePools that are Kubernetes objects and nothing else.

use crate::simulated::BootTime;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tideline.dev",
    version = "v1alpha1",
    kind = "SimulatedNodeClass",
    category = "karpenter",
    plural = "simulatednodeclasses",
    shortname = "simclass",
    status = "SimulatedNodeClassStatus",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SimulatedNodeClassSpec {
    /// Types that are sold; a built-in list where none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000))]
    pub instance_types: Vec<SimulatedInstanceType>,
    /// Zones of the built-in list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub zones: Vec<String>,
    /// How long a machine takes from launch to a node that joins.
    #[serde(default)]
    pub boot: BootTime,
    /// The image that nodes run; nodes of another one have drifted.
    #[serde(default = "first_image")]
    #[schemars(length(max = 253))]
    pub image: String,
}

fn first_image() -> String {
    "simulated-1".to_owned()
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulatedInstanceType {
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// cpu, memory, pods (110 where absent), extended resources.
    pub capacity: BTreeMap<String, Quantity>,
    /// What pods can use of it; all where it is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: BTreeMap<String, Quantity>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[schemars(length(min = 1, max = 64))]
    pub offerings: Vec<SimulatedOffering>,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulatedOffering {
    pub zone: String,
    #[schemars(regex(pattern = "^(on-demand|spot|reserved)$"))]
    pub capacity_type: String,
    /// US dollars an hour for one machine, as a decimal such as "0.192".
    #[schemars(regex(pattern = r"^[0-9]{1,7}(\.[0-9]{1,6})?$"))]
    pub price_per_hour_usd: String,
    /// False: known to be sold out.
    #[serde(default = "yes")]
    pub available: bool,
    /// Launches of it fail as sold out, which the planner is not told before.
    #[serde(default)]
    pub sold_out: bool,
}

fn yes() -> bool {
    true
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SimulatedNodeClassStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
