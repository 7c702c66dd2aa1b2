//! The kinds of storage: claims, volumes, classes, CSI drivers, and what is attached where.

use super::Present;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

slim!(PersistentVolumeClaim of k8s_openapi::api::core::v1::PersistentVolumeClaim {
    spec: ClaimSpec,
    status: Phase,
});
slim!(PersistentVolume of k8s_openapi::api::core::v1::PersistentVolume { spec: VolumeSpec, status: Phase });
slim!(StorageClass of k8s_openapi::api::storage::v1::StorageClass {
    provisioner: String,
    volume_binding_mode: Option<String>,
    allowed_topologies: Option<Vec<TopologyTerm>>,
});
slim!(CsiDriver of k8s_openapi::api::storage::v1::CSIDriver { spec: DriverSpec });
slim!(CsiNode of k8s_openapi::api::storage::v1::CSINode { spec: CsiNodeSpec });
slim!(CsiStorageCapacity of k8s_openapi::api::storage::v1::CSIStorageCapacity {
    storage_class_name: String,
    node_topology: Option<LabelSelector>,
    capacity: Option<Quantity>,
    maximum_volume_size: Option<Quantity>,
});
slim!(VolumeAttachment of k8s_openapi::api::storage::v1::VolumeAttachment { spec: AttachmentSpec });

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Phase {
    pub phase: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSpec {
    pub storage_class_name: Option<String>,
    pub volume_name: Option<String>,
    pub access_modes: Option<Vec<String>>,
    pub resources: Option<super::Requests>,
    pub volume_mode: Option<String>,
    pub selector: Option<LabelSelector>,
    pub volume_attributes_class_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSpec {
    pub storage_class_name: Option<String>,
    pub claim_ref: Option<ClaimRef>,
    pub capacity: Option<BTreeMap<String, Quantity>>,
    pub access_modes: Option<Vec<String>>,
    pub volume_mode: Option<String>,
    pub volume_attributes_class_name: Option<String>,
    pub node_affinity: Option<VolumeNodeAffinity>,
    pub csi: Option<CsiSource>,
    pub aws_elastic_block_store: Option<super::DiskById>,
    pub gce_persistent_disk: Option<super::GceDisk>,
    pub azure_disk: Option<AzureDisk>,
    pub cinder: Option<super::DiskById>,
    pub vsphere_volume: Option<VsphereDisk>,
    pub local: Option<Present>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimRef {
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub uid: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeNodeAffinity {
    pub required: Option<core::NodeSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsiSource {
    pub driver: String,
    pub volume_handle: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AzureDisk {
    #[serde(rename = "diskURI")]
    pub disk_uri: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VsphereDisk {
    pub volume_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopologyTerm {
    pub match_label_expressions: Option<Vec<TopologyRequirement>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopologyRequirement {
    pub key: String,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DriverSpec {
    pub storage_capacity: Option<bool>,
    pub prevent_pod_scheduling_if_missing: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CsiNodeSpec {
    pub drivers: Option<Vec<NodeDriver>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDriver {
    pub name: String,
    pub allocatable: Option<NodeDriverLimit>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDriverLimit {
    pub count: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentSpec {
    pub attacher: String,
    pub node_name: String,
    pub source: AttachmentSource,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentSource {
    pub persistent_volume_name: Option<String>,
}
