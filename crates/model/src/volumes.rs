//! Storage as scheduling sees it: claims, volumes, classes, what is attached where, and what follows for a pod.
//!
//! Owns the nouns. What a pod's claims ask of a node ([`VolumeNeeds`]) is worked out by [`crate::Storage`] from them;
//! whether a node meets it is `packing`'s.

use crate::{Bytes, LabelSelector, Labels, NodeName, NodeSelectorTerm, Uid, VolumeClaimKey, VolumeName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many pods and nodes may use a volume at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AccessMode {
    ReadWriteOnce,
    ReadOnlyMany,
    ReadWriteMany,
    ReadWriteOncePod,
}

/// What a volume looks like from inside a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VolumeMode {
    #[default]
    Filesystem,
    Block,
}

/// A pod's volume that is a claim, by the claim's name in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodVolumeClaim {
    pub name: Arc<str>,
    /// A generic ephemeral volume: the claim is made for this pod and must be owned by it.
    #[serde(default)]
    pub ephemeral: bool,
}

/// A disk that a pod names itself, without a claim; some may be used only once on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum InlineDisk {
    GcePersistentDisk { name: Arc<str>, read_only: bool },
    AwsElasticBlockStore { volume: Arc<str> },
    Iscsi { target: Arc<str>, read_only: bool },
    Rbd { monitors: Vec<Arc<str>>, pool: Arc<str>, image: Arc<str>, read_only: bool },
}

impl InlineDisk {
    /// Whether two pods with these disks cannot share a node, by kube-scheduler's rules.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::GcePersistentDisk { name: a, read_only: a_ro },
                Self::GcePersistentDisk { name: b, read_only: b_ro },
            )
            | (Self::Iscsi { target: a, read_only: a_ro }, Self::Iscsi { target: b, read_only: b_ro }) => {
                a == b && !(*a_ro && *b_ro)
            }
            (Self::AwsElasticBlockStore { volume: a }, Self::AwsElasticBlockStore { volume: b }) => a == b,
            (
                Self::Rbd { monitors: m, pool: p, image: i, read_only: r },
                Self::Rbd { monitors: om, pool: op, image: oi, read_only: or },
            ) => p == op && i == oi && !(*r && *or) && m.iter().any(|monitor| om.contains(monitor)),
            _ => false,
        }
    }
}

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaim {
    pub key: VolumeClaimKey,
    pub uid: Uid,
    /// Empty where it names no class.
    #[serde(default)]
    pub class: Arc<str>,
    /// `spec.volumeName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeName>,
    /// The binding is complete, by the binder's annotation: a volume name alone is not enough.
    #[serde(default)]
    pub bound: bool,
    #[serde(default)]
    pub access_modes: Vec<AccessMode>,
    #[serde(default)]
    pub request: Bytes,
    #[serde(default)]
    pub mode: VolumeMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// `VolumeAttributesClass`; empty where none is named.
    #[serde(default)]
    pub attributes_class: Arc<str>,
    /// The node that the scheduler has chosen for provisioning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_node: Option<NodeName>,
    /// The volume that it was bound to is gone.
    #[serde(default)]
    pub lost: bool,
    #[serde(default)]
    pub deleting: bool,
    /// The pod that it was made for, where it belongs to a generic ephemeral volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_pod: Option<Uid>,
}

/// A volume as its CSI driver knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CsiSource {
    pub driver: Arc<str>,
    pub handle: Arc<str>,
}

/// A `PersistentVolume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolume {
    pub name: VolumeName,
    #[serde(default)]
    pub class: Arc<str>,
    /// The claim that it is bound to or kept for, with the claim's UID where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<(VolumeClaimKey, Option<Uid>)>,
    /// In phase `Available`.
    #[serde(default)]
    pub available: bool,
    #[serde(default)]
    pub deleting: bool,
    #[serde(default)]
    pub capacity: Bytes,
    #[serde(default)]
    pub access_modes: Vec<AccessMode>,
    #[serde(default)]
    pub mode: VolumeMode,
    #[serde(default)]
    pub attributes_class: Arc<str>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Required node affinity: alternatives. `None` where it can be used everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<Vec<NodeSelectorTerm>>,
    /// What attaching it counts against; in-tree disks under the driver that they have been moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csi: Option<CsiSource>,
}

impl PersistentVolume {
    /// Whether it is kept for this claim.
    pub fn is_for(&self, claim: &VolumeClaimKey, uid: &Uid) -> bool {
        self.claim.as_ref().is_some_and(|(key, of)| key == claim && of.as_ref().is_none_or(|of| of == uid))
    }
}

/// When claims of a class get their volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BindingMode {
    #[default]
    Immediate,
    WaitForFirstConsumer,
}

/// A `StorageClass`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageClass {
    pub name: Arc<str>,
    /// `None` where the class makes no volumes (`kubernetes.io/no-provisioner`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioner: Option<Arc<str>>,
    /// The CSI driver behind the provisioner; differs from it for in-tree provisioners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Arc<str>>,
    #[serde(default)]
    pub binding: BindingMode,
    /// Where volumes can be made: alternatives; empty is everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_topologies: Vec<NodeSelectorTerm>,
}

/// A `CSIDriver`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CsiDriver {
    pub name: Arc<str>,
    /// It publishes how much room it has, and the scheduler goes by that.
    #[serde(default)]
    pub publishes_capacity: bool,
    /// Pods are kept off nodes on which it does not run.
    #[serde(default)]
    pub keeps_off_other_nodes: bool,
}

/// A `CSIStorageCapacity`: how large a volume can be made where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageCapacity {
    pub class: Arc<str>,
    /// `None` is nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<Bytes>,
}

/// A `VolumeAttachment`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeAttachment {
    pub node: NodeName,
    pub driver: Arc<str>,
    pub volume: VolumeName,
}

/// The most volumes that each CSI driver attaches to a node; `None` is no limit.
pub type DriverLimits = BTreeMap<Arc<str>, Option<u32>>;

/// What is fitted to a node for claims to use: CSI drivers and devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fittings {
    /// CSI drivers that run here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub drivers: DriverLimits,
    /// Volumes attached that no pod on the node uses (any more), for each driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_attached: BTreeMap<Arc<str>, u32>,
}

impl Fittings {
    /// The same drivers with nothing attached.
    #[must_use]
    pub fn of_a_new_node(&self) -> Self {
        Self { drivers: self.drivers.clone(), left_attached: BTreeMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a pod's volumes keep it off every node, in kube-scheduler's cases.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum VolumeRefusal {
    ClaimNotFound {
        claim: Arc<str>,
    },
    /// The claim of a generic ephemeral volume has not been made yet.
    EphemeralClaimNotMade {
        claim: Arc<str>,
    },
    /// A claim by the name of an ephemeral volume's belongs to something else.
    ClaimOfAnother {
        claim: VolumeClaimKey,
        pod: Arc<str>,
    },
    ClaimLost {
        claim: Arc<str>,
        volume: Arc<str>,
    },
    ClaimDeleting {
        claim: Arc<str>,
    },
    UnboundImmediate,
}

/// A volume that will be bound once the pod has a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnboundVolume {
    pub class: Arc<str>,
    pub request: Bytes,
    #[serde(default)]
    pub access_modes: Vec<AccessMode>,
    #[serde(default)]
    pub mode: VolumeMode,
    #[serde(default)]
    pub attributes_class: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// A volume that is kept for this very claim: if a node can use it, it is the one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<VolumeName>,
    /// Already promised to this node; nowhere else will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_node: Option<NodeName>,
    /// Whether a new volume can be made where no existing one fits.
    pub provisionable: bool,
    /// Where it can be made: alternatives; empty is everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_topologies: Vec<NodeSelectorTerm>,
    /// The driver publishes how much it can make where; only nodes in one of these selections have room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_on: Option<Vec<LabelSelector>>,
}

/// A label of a bound volume that the node's label must agree with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeZone {
    pub key: Arc<str>,
    pub values: BTreeSet<Arc<str>>,
}

/// What a pod's volumes ask of its node. Pods whose claims ask for the same have equal needs, whatever the claims'
/// names: only what is shared with other pods is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeNeeds {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<VolumeRefusal>,
    /// Required node affinities of bound volumes: each must hold, each is a list of alternatives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bound: Vec<Vec<NodeSelectorTerm>>,
    /// A claim is bound to a volume that does not exist.
    pub volume_missing: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<VolumeZone>,
    /// Smallest first, as they are matched with existing volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unbound: Vec<UnboundVolume>,
    /// Volumes of this pod alone that count against the node's limit, for each driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attaches: BTreeMap<Arc<str>, u32>,
    /// Volumes that other pods use too: each counts once on a node.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub shared: BTreeSet<CsiSource>,
    /// Drivers that must run on the node.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub drivers: BTreeSet<Arc<str>>,
    /// Claims that one pod at a time may use, and another pod names too.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub exclusive: BTreeSet<VolumeClaimKey>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<InlineDisk>,
}

impl VolumeNeeds {
    /// Whether other pods may have taken what they ask for, wherever those run.
    pub fn are_scarce(&self) -> bool {
        !self.exclusive.is_empty() || self.unbound.iter().any(|volume| !volume.provisionable)
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Labels by which CSI drivers know zones. They come onto a node with the driver, after it has joined.
const ZONE_ALIASES: [&str; 5] = [
    "topology.ebs.csi.aws.com/zone",
    "topology.gke.io/zone",
    "topology.disk.csi.azure.com/zone",
    "topology.cinder.csi.openstack.org/zone",
    "topology.diskplugin.csi.alibabacloud.com/zone",
];

/// Old names of labels that nodes still carry, each with the name of today.
const OLD_NAMES: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

/// The name of a label as it is used today.
pub fn today_name(key: &Arc<str>) -> Arc<str> {
    let known = OLD_NAMES.iter().find(|(old, _)| **key == **old);
    known.map_or_else(|| Arc::clone(key), |(_, today)| Arc::from(*today))
}

/// What a node that is promised will be labelled with besides: its labels by their old names, which kubelet and cloud
/// controllers still write, and its zone by the names of the CSI drivers that will run on it.
pub fn add_zone_aliases(labels: &mut Labels) {
    for (old, today) in OLD_NAMES {
        if let Some(value) = labels.get(today).cloned() {
            labels.entry(Arc::from(old)).or_insert(value);
        }
    }
    let Some(zone) = labels.get("topology.kubernetes.io/zone").cloned() else { return };
    for alias in ZONE_ALIASES {
        labels.entry(Arc::from(alias)).or_insert_with(|| Arc::clone(&zone));
    }
}
