//! Kubernetes objects with only the fields that are used, so that a watch decodes little and keeps less.
//!
//! Each type is a kube `Resource` of the full type's kind; unknown fields are skipped while decoding.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

macro_rules! slim {
    ($(#[$doc:meta])* $name:ident of $full:path { $($(#[$fdoc:meta])* $field:ident: $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Resource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[resource(inherit = $full)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            #[serde(deserialize_with = "crate::slim::metadata::without_history")]
            pub metadata: ObjectMeta,
            $($(#[$fdoc])* pub $field: $ty),*
        }
    };
}

pub mod devices;
mod metadata;
pub mod storage;

slim!(Pod of k8s_openapi::api::core::v1::Pod { spec: PodSpec, status: PodStatus });
slim!(Node of k8s_openapi::api::core::v1::Node { spec: NodeSpec, status: NodeStatus });
slim!(ReplicationController of k8s_openapi::api::core::v1::ReplicationController {
    spec: ReplicasSpec,
    status: ConditionsStatus,
});
slim!(ReplicaSet of k8s_openapi::api::apps::v1::ReplicaSet { spec: ReplicasSpec, status: ConditionsStatus });
slim!(StatefulSet of k8s_openapi::api::apps::v1::StatefulSet { spec: ReplicasSpec, status: ConditionsStatus });
slim!(Job of k8s_openapi::api::batch::v1::Job { spec: JobSpec, status: JobStatus });
slim!(CronJob of k8s_openapi::api::batch::v1::CronJob { spec: CronJobSpec, status: CronJobStatus });
slim!(HorizontalPodAutoscaler of k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler {
    spec: HorizontalPodAutoscalerSpec,
    status: HorizontalPodAutoscalerStatus,
});
slim!(IntelligentHorizontalPodAutoscaler of api::kapacity::IntelligentHorizontalPodAutoscaler {
    spec: IhpaSpec,
    status: IhpaStatus,
});
slim!(DaemonSet of k8s_openapi::api::apps::v1::DaemonSet { spec: DaemonSetSpec });
slim!(Namespace of k8s_openapi::api::core::v1::Namespace {});
slim!(PodDisruptionBudget of k8s_openapi::api::policy::v1::PodDisruptionBudget {
    spec: PdbSpec,
    status: PdbStatus,
});

slim!(PodTemplateObject of k8s_openapi::api::core::v1::PodTemplate { template: PodTemplate });
slim!(
    /// Its wishes as they are: they are read in any casing, and one wrong field must not hide the other objects.
    HorizontalNodeAutoscaler of api::node_rules::HorizontalNodeAutoscaler {
        spec: serde_json::Value,
        status: serde_json::Value,
    }
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub node_name: Option<String>,
    pub node_selector: Option<BTreeMap<String, String>>,
    pub affinity: Option<Affinity>,
    pub tolerations: Option<Vec<core::Toleration>>,
    pub topology_spread_constraints: Option<Vec<TopologySpread>>,
    pub containers: Vec<Container>,
    pub init_containers: Option<Vec<Container>>,
    pub overhead: Option<BTreeMap<String, Quantity>>,
    /// Pod-level requests.
    pub resources: Option<Requests>,
    pub resource_claims: Option<Vec<PodResourceClaim>>,
    pub volumes: Option<Vec<Volume>>,
    pub host_network: Option<bool>,
    pub priority: Option<i32>,
    pub restart_policy: Option<String>,
    pub scheduling_gates: Option<Vec<Named>>,
    pub readiness_gates: Option<Vec<ReadinessGate>>,
    pub termination_grace_period_seconds: Option<i64>,
    pub scheduler_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodResourceClaim {
    pub name: String,
    pub resource_claim_name: Option<String>,
    pub resource_claim_template_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    pub node_affinity: Option<NodeAffinity>,
    pub pod_affinity: Option<PodTerms>,
    pub pod_anti_affinity: Option<PodTerms>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAffinity {
    pub required_during_scheduling_ignored_during_execution: Option<core::NodeSelector>,
    pub preferred_during_scheduling_ignored_during_execution: Option<Vec<core::PreferredSchedulingTerm>>,
}

/// The terms of pod affinity, or of pod anti-affinity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTerms {
    pub required_during_scheduling_ignored_during_execution: Option<Vec<core::PodAffinityTerm>>,
    pub preferred_during_scheduling_ignored_during_execution: Option<Vec<core::WeightedPodAffinityTerm>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopologySpread {
    pub topology_key: String,
    pub max_skew: i32,
    pub when_unsatisfiable: String,
    pub label_selector: Option<LabelSelector>,
    pub match_label_keys: Option<Vec<String>>,
    pub min_domains: Option<i32>,
    pub node_affinity_policy: Option<String>,
    pub node_taints_policy: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    pub resources: Option<Requests>,
    pub ports: Option<Vec<Port>>,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Requests {
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// Where a request is absent the API server has copied the limit; manifests from files have not been there.
    pub limits: Option<BTreeMap<String, Quantity>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    pub container_port: i32,
    pub host_port: Option<i32>,
    #[serde(rename = "hostIP")]
    pub host_ip: Option<String>,
    pub protocol: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Named {
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessGate {
    pub condition_type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    pub name: String,
    pub host_path: Option<Present>,
    pub empty_dir: Option<EmptyDir>,
    pub persistent_volume_claim: Option<ClaimSource>,
    pub ephemeral: Option<Present>,
    pub gce_persistent_disk: Option<GceDisk>,
    pub aws_elastic_block_store: Option<DiskById>,
    pub iscsi: Option<IscsiDisk>,
    pub rbd: Option<RbdImage>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    pub claim_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GceDisk {
    pub pd_name: String,
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskById {
    #[serde(rename = "volumeID")]
    pub volume_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IscsiDisk {
    pub iqn: String,
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RbdImage {
    pub monitors: Vec<String>,
    pub pool: Option<String>,
    pub image: String,
    pub read_only: Option<bool>,
}

/// A part of which only the presence matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Present {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EmptyDir {
    pub medium: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: Option<String>,
    pub reason: Option<String>,
    pub nominated_node_name: Option<String>,
    pub start_time: Option<Time>,
    pub conditions: Option<Vec<Condition>>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    /// Pod-level, as the kubelet has configured and admitted it.
    pub resources: Option<Requests>,
    pub allocated_resources: Option<BTreeMap<String, Quantity>>,
    /// The claims that were made for it from templates.
    pub resource_claim_statuses: Option<Vec<PodResourceClaim>>,
}

/// What the kubelet has given to a container, while its spec may already ask for another amount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: String,
    pub restart_count: i32,
    pub resources: Option<Requests>,
    pub allocated_resources: Option<BTreeMap<String, Quantity>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    pub reason: Option<String>,
    pub last_transition_time: Option<Time>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    #[serde(rename = "providerID")]
    pub provider_id: Option<String>,
    pub taints: Option<Vec<core::Taint>>,
    pub unschedulable: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    pub addresses: Option<Vec<core::NodeAddress>>,
    pub allocatable: Option<BTreeMap<String, Quantity>>,
    pub capacity: Option<BTreeMap<String, Quantity>>,
    pub conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicasSpec {
    pub replicas: Option<i32>,
    /// StatefulSets only: `OrderedReady` creates one pod at a time.
    pub pod_management_policy: Option<String>,
}

/// The pods of a workload: how many, and what each is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TemplatedSpec {
    pub replicas: Option<i32>,
    pub template: PodTemplate,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConditionsStatus {
    pub conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSpec {
    pub parallelism: Option<i32>,
    pub completions: Option<i32>,
    pub suspend: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    pub succeeded: Option<i32>,
    pub conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DaemonSetSpec {
    pub template: PodTemplate,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodTemplate {
    pub metadata: ObjectMeta,
    pub spec: PodSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PdbSpec {
    pub selector: Option<LabelSelector>,
    pub min_available: Option<IntOrString>,
    pub max_unavailable: Option<IntOrString>,
    pub unhealthy_pod_eviction_policy: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PdbStatus {
    pub disruptions_allowed: i32,
    pub observed_generation: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronJobSpec {
    pub schedule: String,
    pub time_zone: Option<String>,
    pub suspend: Option<bool>,
    pub concurrency_policy: Option<String>,
    pub job_template: JobTemplate,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobTemplate {
    pub spec: JobTemplateSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobTemplateSpec {
    pub parallelism: Option<i32>,
    pub completions: Option<i32>,
    pub suspend: Option<bool>,
    pub template: PodTemplate,
}

/// Of the jobs that run only their number is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CronJobStatus {
    pub active: Option<Vec<serde_json::Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScaleTarget {
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HorizontalPodAutoscalerSpec {
    pub scale_target_ref: ScaleTarget,
    pub max_replicas: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HorizontalPodAutoscalerStatus {
    pub desired_replicas: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IhpaSpec {
    pub scale_target_ref: ScaleTarget,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IhpaStatus {
    pub outlook: Vec<api::kapacity::OutlookPoint>,
}
