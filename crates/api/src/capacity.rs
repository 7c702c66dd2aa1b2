//! `CapacityBuffer` and `ProvisioningRequest`: room that is asked for before the pods for it exist.
//!
//! Group, kinds, fields, conditions and their reasons are Cluster Autoscaler's. Owns the schemas; `intake` reads the
//! objects.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, CustomResourceExt as _, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const GROUP: &str = "autoscaling.x-k8s.io";

/// Of `CapacityBuffer`s.
pub mod buffers {
    pub const KIND: &str = "CapacityBuffer";
    pub const PLURAL: &str = "capacitybuffers";
    /// Room is kept by nodes that run.
    pub const ACTIVE_CAPACITY: &str = "buffer.x-k8s.io/active-capacity";
    /// Condition: what is asked for is understood.
    pub const READY_FOR_PROVISIONING: &str = "ReadyForProvisioning";
    /// Condition: room is kept, and bought where it is short.
    pub const PROVISIONING: &str = "Provisioning";
    /// Condition, ours: every pod of the buffer has room on a node that is ready.
    pub const ROOM_READY: &str = "RoomReady";
}

/// Room for pods that a workload may need soon.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "autoscaling.x-k8s.io",
    version = "v1beta1",
    kind = "CapacityBuffer",
    plural = "capacitybuffers",
    shortname = "cb",
    namespaced,
    status = "CapacityBufferStatus",
    printcolumn(name = "Strategy", type_ = "string", json_path = ".spec.provisioningStrategy"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"RoomReady\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.podTemplateRef) || has(self.replicas) || has(self.limits)").message("podTemplateRef needs replicas or limits beside it"))]
#[x_kube(validation = Rule::new("!(has(self.podTemplateRef) && has(self.scalableRef))").message("podTemplateRef and scalableRef exclude each other"))]
pub struct CapacityBufferSpec {
    /// How room is kept; buffer.x-k8s.io/active-capacity is the one that is known.
    #[serde(default = "active_capacity", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub provisioning_strategy: Option<String>,
    /// A `PodTemplate` of the same namespace: what one pod of the buffer asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template_ref: Option<LocalObjectRef>,
    /// A workload whose pods the buffer is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalable_ref: Option<ScalableRef>,
    /// Pods that there is to be room for. Of replicas, percentage and limits the least counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// The same as a part of scalableRef's replicas, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub percentage: Option<i32>,
    /// The most that all pods of the buffer may ask for together, by resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<BTreeMap<String, Quantity>>,
}

#[expect(clippy::unnecessary_wraps, reason = "the field's type")]
fn active_capacity() -> Option<String> {
    Some(buffers::ACTIVE_CAPACITY.to_owned())
}

/// An object of the same namespace.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalObjectRef {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A workload of the same namespace.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalableRef {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub api_group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CapacityBufferStatus {
    /// The `PodTemplate` that is followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template_ref: Option<LocalObjectRef>,
    /// Pods that there is to be room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template_generation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioning_strategy: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Of `ProvisioningRequest`s.
pub mod requests {
    pub const KIND: &str = "ProvisioningRequest";
    /// Class: whether there is room now, and if so it is promised.
    pub const CHECK_CAPACITY: &str = "check-capacity.autoscaling.x-k8s.io";
    /// Class: room for all pods is bought, or none.
    pub const ATOMIC_SCALE_UP: &str = "best-effort-atomic-scale-up.autoscaling.x-k8s.io";
    /// Parameter: how long the request is tried, in seconds from its creation.
    pub const VALID_UNTIL_SECONDS: &str = "ValidUntilSeconds";
    /// Parameter of a check: `"true"` makes the first answer the last.
    pub const NO_RETRY: &str = "noRetry";
    /// Parameter of a check: which autoscaler is to answer, where several do.
    pub const PROCESSOR_INSTANCE: &str = "processorInstance";
    /// Condition: the request is worked on.
    pub const ACCEPTED: &str = "Accepted";
    /// Condition: there is room for all of it.
    pub const PROVISIONED: &str = "Provisioned";
    /// Condition: it will not be tried any more.
    pub const FAILED: &str = "Failed";
    /// Condition: the room is not kept any more.
    pub const BOOKING_EXPIRED: &str = "BookingExpired";
    /// Condition: the room that was promised is lost.
    pub const CAPACITY_REVOKED: &str = "CapacityRevoked";
}

/// Room for a set of pods, all of them or none.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "autoscaling.x-k8s.io",
    version = "v1",
    kind = "ProvisioningRequest",
    plural = "provisioningrequests",
    shortname = "provreq",
    shortname = "provreqs",
    namespaced,
    status = "ProvisioningRequestStatus",
    printcolumn(
        name = "Provisioned",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Provisioned\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ProvisioningRequestSpec {
    /// The pods, in groups that are alike.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("Value is immutable"))]
    pub pod_sets: Vec<PodSet>,
    /// check-capacity.autoscaling.x-k8s.io or best-effort-atomic-scale-up.autoscaling.x-k8s.io; requests of other
    /// classes are left to whoever knows them.
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("Value is immutable"))]
    pub provisioning_class_name: String,
    /// Of both classes `ValidUntilSeconds`; of checks noRetry and processorInstance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 100))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("Value is immutable"))]
    pub parameters: Option<BTreeMap<String, Parameter>>,
}

/// The value of a parameter.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub struct Parameter(#[schemars(length(max = 255))] pub String);

/// Pods that are alike.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSet {
    /// A `PodTemplate` of the same namespace.
    pub pod_template_ref: LocalObjectRef,
    #[schemars(range(min = 1))]
    pub count: i32,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProvisioningRequestStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What other classes say of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub provisioning_class_details: Option<BTreeMap<String, String>>,
}

/// The CRDs of this group, each with every version that Cluster Autoscaler serves.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![with_older(CapacityBuffer::crd(), "v1alpha1"), with_older(ProvisioningRequest::crd(), "v1beta1")]
}

/// The same fields under an older version's name.
fn with_older(mut crd: CustomResourceDefinition, name: &str) -> CustomResourceDefinition {
    let mut older = crd.spec.versions.clone();
    for version in &mut older {
        name.clone_into(&mut version.name);
        version.storage = false;
        version.deprecated = Some(true);
    }
    older.append(&mut crd.spec.versions);
    crd.spec.versions = older;
    crd
}
