//! Who owns pods and what protects them: owners, replicated workloads, DaemonSets and disruption budgets.

use crate::{DaemonSetKey, LabelSelector, Labels, PdbKey, PodShape, Uid, WorkloadKey};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The controller of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub kind: Arc<str>,
    pub name: Arc<str>,
    pub uid: Uid,
}

/// A workload that keeps a number of equal pods alive (ReplicaSet, StatefulSet, Job, ReplicationController).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    pub key: WorkloadKey,
    pub uid: Uid,
    /// Pods that the workload wants to exist at once.
    pub desired: u32,
    /// The workload that it is a part of: the Deployment of a ReplicaSet, the CronJob of a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<WorkloadKey>,
    /// True where the workload itself says that it cannot create more (quota, admission).
    #[serde(default)]
    pub blocked: bool,
}

/// A `DaemonSet`, as overhead on every node that it matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonSet {
    pub key: DaemonSetKey,
    pub uid: Uid,
    pub shape: Arc<PodShape>,
    /// The labels of its pods.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnhealthyPodEviction {
    #[default]
    IfHealthyBudget,
    AlwaysAllow,
}

/// A `PodDisruptionBudget` with what its controller last computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pdb {
    pub key: PdbKey,
    /// `None` where the budget has no selector: it then matches no pod.
    pub selector: Option<LabelSelector>,
    pub disruptions_allowed: u32,
    /// False while status is older than the spec: then nothing is allowed, as in the eviction API.
    pub status_is_current: bool,
    #[serde(default)]
    pub unhealthy_pod_eviction: UnhealthyPodEviction,
}
