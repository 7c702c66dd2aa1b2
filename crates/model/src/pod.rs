//! Pods, and the shape that pods with equal scheduling needs share.

use crate::{
    Labels, NodeName, NodeSelectorTerm, Owner, PodDeviceClaim, PodKey, PodTerm, PodVolumeClaim, Preferences,
    Resources, SpreadConstraint, Toleration, Uid, VolumeNeeds,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A port of the node that a pod wants for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Arc<str>,
    /// Empty or `0.0.0.0` for every address.
    #[serde(default)]
    pub address: Arc<str>,
}

impl HostPort {
    /// Whether both cannot be open on one node.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let any = |address: &str| address.is_empty() || address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.address) || any(&other.address) || self.address == other.address)
    }
}

/// A required scheduling rule that the packing engine does not model yet.
///
/// Such a pod is never guessed about: it is left alone with this as its reason, and a node that holds one is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UnmodelledRule {
    Volumes,
    /// Claims or volumes cannot be read, so what the pod's claims ask for is unknown.
    VolumesUnseen,
    /// What nodes attach, and how much they can, cannot be read.
    AttachmentsUnseen,
    /// Claims of devices of which nothing is known here.
    ResourceClaims,
    /// A claim, its template or its class is not there.
    ClaimMissing,
    /// A claim asks for more than a number of devices: all of them, the first of several, constraints, a share.
    DeviceRequest,
    /// A selector does more than compare driver and attributes.
    DeviceSelector,
    /// Devices that are not of one node, or are not given whole.
    DevicesElsewhere,
    /// Requests that accept some devices in common, and others not.
    DeviceOverlap,
    /// Several pods name a claim that has not been given devices yet.
    SharedClaim,
}

impl UnmodelledRule {
    /// Whether it is about claims of devices.
    pub(crate) fn is_of_devices(self) -> bool {
        !matches!(self, Self::Volumes | Self::VolumesUnseen | Self::AttachmentsUnseen)
    }
}

impl fmt::Display for UnmodelledRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Volumes => "a persistent volume claim",
            Self::VolumesUnseen => "a persistent volume claim (claims and volumes cannot be read now)",
            Self::AttachmentsUnseen => "a CSI volume (attachments and their limits cannot be read now)",
            Self::ResourceClaims => "resource claims",
            Self::ClaimMissing => "a resource claim (it, its template or its device class is not there)",
            Self::DeviceRequest => "a resource claim that asks for more than a number of devices",
            Self::DeviceSelector => {
                "a resource claim whose selectors do more than compare driver and attributes"
            }
            Self::DevicesElsewhere => {
                "a resource claim for devices that are not one node's, or not given whole"
            }
            Self::DeviceOverlap => "a resource claim for devices that other requests accept in part",
            Self::SharedClaim => "a resource claim that several pods share and that has no devices yet",
        })
    }
}

/// All that decides where a pod may run and that its own spec says; its labels and namespace, by which other pods'
/// terms find it, are the pod's.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodShape {
    /// Effective requests: the larger of the containers' sum and each init container's, sidecars and overhead
    /// included; `pods` is 1.
    pub requests: Resources,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub node_selector: Labels,
    /// Required node affinity: alternatives. `None` where the pod has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<Vec<NodeSelectorTerm>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
    /// `DoNotSchedule`; the other constraints are preferences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<SpreadConstraint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_affinity: Vec<PodTerm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_anti_affinity: Vec<PodTerm>,
    #[serde(default, skip_serializing_if = "Preferences::is_empty")]
    pub preferences: Preferences,
    #[serde(default)]
    pub priority: i32,
    /// What its volumes ask for. Of claims only the cluster knows it: it is worked out there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Arc<VolumeNeeds>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmodelled: Vec<UnmodelledRule>,
}

impl PodShape {
    /// Whether it names labels, of nodes or of pods, required or preferred.
    pub fn names_labels(&self) -> bool {
        self.depends_on_pods()
            || !self.node_selector.is_empty()
            || self.node_affinity.is_some()
            || !self.preferences.is_empty()
    }

    /// Whether other pods decide where this one may run.
    pub fn depends_on_pods(&self) -> bool {
        !(self.spread.is_empty() && self.pod_affinity.is_empty() && self.pod_anti_affinity.is_empty())
    }
}

/// The claims that a pod names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodClaims {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<PodVolumeClaim>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<PodDeviceClaim>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PodPhase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// What the pod's own annotations say of evicting it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SafeToEvict {
    #[default]
    Unset,
    Yes,
    /// `safe-to-evict: "false"`, or `karpenter.sh/do-not-disrupt: "true"`.
    No,
    OnCompletion,
}

/// A volume that dies with its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalVolume {
    pub name: Arc<str>,
    /// True where the pod's `safe-to-evict-local-volumes` annotation lists it.
    #[serde(default)]
    pub exempt: bool,
}

/// One pod as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    pub key: PodKey,
    pub uid: Uid,
    pub shape: Arc<PodShape>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub phase: PodPhase,
    /// Ready condition; a pod that is not ready may be evicted under `AlwaysAllow` budgets.
    #[serde(default)]
    pub ready: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// `status.nominatedNodeName`: the scheduler is making room there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nominated: Option<NodeName>,
    /// Since when `PodScheduled` is False with reason `Unschedulable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unschedulable_since: Option<Timestamp>,
    /// Held back by scheduling gates.
    #[serde(default)]
    pub gated: bool,
    /// `deletionTimestamp`: when it will be gone at the latest, grace period included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_at: Option<Timestamp>,
    /// `spec.terminationGracePeriodSeconds`, 30 where unset.
    #[serde(default)]
    pub grace_seconds: u32,
    #[serde(default)]
    pub safe_to_evict: SafeToEvict,
    /// Static pod of a kubelet.
    #[serde(default)]
    pub mirror: bool,
    /// Owned by a `DaemonSet`, or annotated as such.
    #[serde(default)]
    pub daemon: bool,
    /// Ended for good by its restart policy: it can be removed with its node without loss.
    #[serde(default)]
    pub terminal: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_volumes: Vec<LocalVolume>,
    /// Few pods have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Box<PodClaims>>,
    /// Pod annotation that lengthens the wait before it may cause a scale-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_up_delay_seconds: Option<u32>,
    /// Pod annotation: the `ProvisioningRequest` of its namespace whose room it uses. It is not bought for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumes: Option<Arc<str>>,
    /// Pod annotation of a DaemonSet's pod: whether it is evicted from a node that is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_daemon: Option<bool>,
}

impl Pod {
    /// Whether the pod holds room on its node: bound and not ended.
    pub fn occupies(&self) -> bool {
        self.node.is_some() && !matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// Whether the pod waits for a node and the scheduler has said that it finds none.
    pub fn is_unschedulable(&self) -> bool {
        self.node.is_none()
            && self.unschedulable_since.is_some()
            && self.deletion_at.is_none()
            && !self.gated
            && !matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
}
