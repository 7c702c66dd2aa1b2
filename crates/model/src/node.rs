//! Nodes as the planner sees them.

use crate::{Fittings, Labels, MachineId, NodeName, NodeTemplate, Resources, Taint, Uid};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whether a node can run pods, and since when not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Readiness {
    Ready { since: Timestamp },
    NotReady { since: Timestamp },
}

/// A condition that keeps a node from counting as ready although its kubelet answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeCondition {
    DiskPressure,
    NetworkUnavailable,
    /// Carries a start-up taint: it will take pods later.
    StartupTaint,
    /// Announces a resource in its template that its device plug-in has not published yet.
    ResourceNotReady,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: NodeName,
    pub uid: Uid,
    /// From `spec.providerID`; the pool is that of the machine, see [`crate::Cluster::pool_of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    /// Internal addresses and host name, in small letters, where it has no `spec.providerID`: they lead to the
    /// machine instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Arc<str>>,
    #[serde(default)]
    pub labels: Labels,
    /// Only annotations that Tideline reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`: cordoned.
    #[serde(default)]
    pub unschedulable: bool,
    pub allocatable: Resources,
    /// CSI drivers and what they attach; told by other objects than the node, and joined by the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fittings: Option<Arc<Fittings>>,
    pub readiness: Readiness,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<NodeCondition>,
    pub created_at: Timestamp,
    /// Has a deletionTimestamp.
    #[serde(default)]
    pub deleting: bool,
}

impl Node {
    /// An empty node as a template describes it, which counts as ready.
    pub fn promised(name: &str, template: &NodeTemplate) -> Self {
        let mut labels = template.labels.clone();
        crate::add_zone_aliases(&mut labels);
        Self {
            name: NodeName::from(name),
            uid: Uid::from(name),
            machine: None,
            addresses: Vec::new(),
            labels,
            annotations: BTreeMap::new(),
            taints: template.taints.clone(),
            unschedulable: false,
            allocatable: template.allocatable.clone(),
            readiness: Readiness::Ready { since: Timestamp::UNIX_EPOCH },
            conditions: Vec::new(),
            fittings: template.fittings.clone(),
            created_at: Timestamp::UNIX_EPOCH,
            deleting: false,
        }
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.readiness, Readiness::Ready { .. }) && self.conditions.is_empty()
    }

    pub fn has_taint(&self, key: &str) -> bool {
        self.taints.iter().any(|taint| &*taint.key == key)
    }
}
