//! Kubernetes objects with only the fields that are used here, so that a watch decodes little and keeps less.
//!
//! Pods are intake's: they are read once for nodes and for workloads.

use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize};

/// The three workloads that are watched share what is used of them.
macro_rules! workload {
    ($name:ident of $full:path) => {
        #[derive(Resource, Clone, Debug, Default, Serialize, Deserialize)]
        #[resource(inherit = $full)]
        #[serde(default)]
        pub(crate) struct $name {
            pub(crate) metadata: ObjectMeta,
            pub(crate) spec: WorkloadSpec,
            pub(crate) status: WorkloadStatus,
        }
    };
}

workload!(Deployment of k8s_openapi::api::apps::v1::Deployment);
workload!(ReplicaSet of k8s_openapi::api::apps::v1::ReplicaSet);
workload!(StatefulSet of k8s_openapi::api::apps::v1::StatefulSet);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WorkloadSpec {
    /// One where it is absent.
    pub(crate) replicas: Option<i32>,
    /// Of Deployments.
    pub(crate) paused: bool,
    /// Of StatefulSets.
    pub(crate) update_strategy: UpdateStrategy,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct UpdateStrategy {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RollingUpdate {
    pub(crate) partition: Option<i32>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WorkloadStatus {
    pub(crate) replicas: i32,
    pub(crate) updated_replicas: i32,
    pub(crate) observed_generation: Option<i64>,
    pub(crate) current_revision: Option<String>,
    pub(crate) update_revision: Option<String>,
}

/// An HPA of the user's: only whom it scales matters.
#[derive(Resource, Clone, Debug, Default, Serialize, Deserialize)]
#[resource(inherit = k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler)]
#[serde(default)]
pub(crate) struct HorizontalPodAutoscaler {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: HpaSpec,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HpaSpec {
    pub(crate) scale_target_ref: CrossVersionObjectReference,
}
