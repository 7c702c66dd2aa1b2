//! Claims, volumes, storage classes and attachments into the model, and the volumes that pods name.
//!
//! Owns the moves of in-tree disks to the CSI drivers that serve them now, as far as counting attachments needs them.

use crate::files::Object;
use crate::selector::{labels, node_selector};
use crate::slim::{self, storage};
use crate::{IntakeError, devices, label_selector, quantity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{
    AccessMode, BindingMode, Bytes, CsiDriver, CsiSource, DriverLimits, InlineDisk, NodeSelectorTerm,
    Operator, PersistentVolume, PodClaims, PodVolumeClaim, Requirement, StorageCapacity, StorageChange,
    StorageClass, Uid, VolumeAttachment, VolumeClaim, VolumeClaimKey, VolumeMode, VolumeName, VolumeNeeds,
};
use std::sync::Arc;

/// Older than `storageClassName`, and still stronger.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner of classes that make no volumes.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// In-tree provisioners and the CSI drivers that serve their volumes.
const MOVED_TO_CSI: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", AWS),
    ("kubernetes.io/gce-pd", GCE),
    ("kubernetes.io/azure-disk", AZURE),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", CINDER),
    ("kubernetes.io/vsphere-volume", VSPHERE),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
];
const AWS: &str = "ebs.csi.aws.com";
const GCE: &str = "pd.csi.storage.gke.io";
const AZURE: &str = "disk.csi.azure.com";
const CINDER: &str = "cinder.csi.openstack.org";
const VSPHERE: &str = "csi.vsphere.vmware.com";

/// Reads an object of one of the kinds of storage; `None` where it is of another kind, or says nothing that counts.
pub fn storage_change(object: &Object) -> Result<Option<StorageChange>, IntakeError> {
    let group = object.api_version().split_once('/').map_or("", |(group, _)| group);
    let change = match (group, object.kind()) {
        ("", "PersistentVolumeClaim") => {
            let claim = volume_claim(&object.decode()?)?;
            StorageChange::Claim(claim.key.clone(), Some(Arc::new(claim)))
        }
        ("", "PersistentVolume") => {
            let volume = persistent_volume(&object.decode()?)?;
            StorageChange::Volume(volume.name.clone(), Some(Arc::new(volume)))
        }
        ("storage.k8s.io", "StorageClass") => {
            let class = storage_class(&object.decode()?)?;
            StorageChange::Class(class.name.clone(), Some(Arc::new(class)))
        }
        ("storage.k8s.io", "CSIDriver") => {
            let driver = csi_driver(&object.decode()?);
            StorageChange::Driver(driver.name.clone(), Some(Arc::new(driver)))
        }
        ("storage.k8s.io", "CSINode") => {
            let node: storage::CsiNode = object.decode()?;
            let drivers = Some(Arc::new(node_drivers(&node)));
            StorageChange::NodeDrivers(name(&node.metadata).into(), drivers)
        }
        ("storage.k8s.io", "CSIStorageCapacity") => {
            let capacity: storage::CsiStorageCapacity = object.decode()?;
            let room = storage_capacity(&capacity)?;
            StorageChange::Capacity(claim_key(&capacity.metadata), Some(Arc::new(room)))
        }
        ("storage.k8s.io", "VolumeAttachment") => {
            let read: storage::VolumeAttachment = object.decode()?;
            let Some(counts) = attachment(&read) else { return Ok(None) };
            StorageChange::Attachment(name(&read.metadata).into(), Some(Arc::new(counts)))
        }
        ("resource.k8s.io", _) => return Ok(devices::device_change(object)?.map(StorageChange::Devices)),
        _ => return Ok(None),
    };
    Ok(Some(change))
}

/// The claims that a pod names; that of a generic ephemeral volume is named after both.
pub(crate) fn claims_of(pod: &str, spec: &slim::PodSpec, status: &slim::PodStatus) -> Option<Box<PodClaims>> {
    let devices = devices::claims_of(spec, status);
    let volumes: Vec<_> = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| {
            let (name, ephemeral) = match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(claim), _) => (Arc::from(claim.claim_name.as_str()), false),
                (None, Some(_)) => (Arc::from(format!("{pod}-{}", volume.name)), true),
                (None, None) => return None,
            };
            Some(PodVolumeClaim { name, ephemeral })
        })
        .collect();
    let any = !(volumes.is_empty() && devices.is_empty());
    any.then(|| Box::new(PodClaims { volumes, devices }))
}

/// What a pod's spec alone says of its volumes: the disks that it names itself.
pub(crate) fn needs_of(spec: &slim::PodSpec) -> Option<Arc<VolumeNeeds>> {
    let disks: Vec<_> = spec.volumes.iter().flatten().filter_map(inline_disk).collect();
    (!disks.is_empty()).then(|| Arc::new(VolumeNeeds { disks, ..VolumeNeeds::default() }))
}

fn inline_disk(volume: &slim::Volume) -> Option<InlineDisk> {
    if let Some(disk) = &volume.gce_persistent_disk {
        let read_only = disk.read_only == Some(true);
        return Some(InlineDisk::GcePersistentDisk { name: disk.pd_name.as_str().into(), read_only });
    }
    if let Some(disk) = &volume.aws_elastic_block_store {
        return Some(InlineDisk::AwsElasticBlockStore { volume: disk.volume_id.as_str().into() });
    }
    if let Some(disk) = &volume.iscsi {
        let read_only = disk.read_only == Some(true);
        return Some(InlineDisk::Iscsi { target: disk.iqn.as_str().into(), read_only });
    }
    volume.rbd.as_ref().map(|rbd| InlineDisk::Rbd {
        monitors: rbd.monitors.iter().map(|monitor| Arc::from(monitor.as_str())).collect(),
        pool: rbd.pool.as_deref().unwrap_or("rbd").into(),
        image: rbd.image.as_str().into(),
        read_only: rbd.read_only == Some(true),
    })
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn claim_key(meta: &ObjectMeta) -> VolumeClaimKey {
    VolumeClaimKey::new(meta.namespace.as_deref().unwrap_or("default"), name(meta))
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str)
}

fn class_of(meta: &ObjectMeta, named: Option<&String>) -> Arc<str> {
    Arc::from(annotation(meta, CLASS_ANNOTATION).or(named.map(String::as_str)).unwrap_or_default())
}

/// Reads a `PersistentVolumeClaim`.
pub fn volume_claim(claim: &storage::PersistentVolumeClaim) -> Result<VolumeClaim, IntakeError> {
    let (meta, spec) = (&claim.metadata, &claim.spec);
    let key = claim_key(meta);
    let of = |error: IntakeError| error.under("spec").of("PersistentVolumeClaim", &key.namespace, &key.name);
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let request = size(requests.and_then(|all| all.get("storage")))
        .map_err(|error| of(error.under("resources.requests.storage")))?;
    let selector = spec.selector.as_ref().map(label_selector).transpose();
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    Ok(VolumeClaim {
        uid: Uid::new(meta.uid.as_deref().unwrap_or_default()),
        class: class_of(meta, spec.storage_class_name.as_ref()),
        volume: spec.volume_name.as_deref().filter(|name| !name.is_empty()).map(VolumeName::from),
        bound: annotation(meta, BIND_COMPLETED).is_some(),
        access_modes: access_modes(spec.access_modes.as_ref()).map_err(of)?,
        request,
        mode: mode(spec.volume_mode.as_deref()).map_err(of)?,
        selector: selector.map_err(|error| of(error.under("selector")))?,
        attributes_class: spec.volume_attributes_class_name.as_deref().unwrap_or_default().into(),
        selected_node: annotation(meta, SELECTED_NODE).map(Into::into),
        lost: claim.status.phase.as_deref() == Some("Lost"),
        deleting: meta.deletion_timestamp.is_some(),
        owner_pod: owner.filter(|owner| owner.kind == "Pod").map(|owner| Uid::new(&owner.uid)),
        key: key.clone(),
    })
}

/// Reads a `PersistentVolume`.
pub fn persistent_volume(volume: &storage::PersistentVolume) -> Result<PersistentVolume, IntakeError> {
    let (meta, spec) = (&volume.metadata, &volume.spec);
    let of = |error: IntakeError| error.under("spec").of("PersistentVolume", "", name(meta));
    let capacity = size(spec.capacity.as_ref().and_then(|all| all.get("storage")))
        .map_err(|error| of(error.under("capacity.storage")))?;
    let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    let node_affinity = required.map(node_selector).transpose();
    let claim = spec.claim_ref.as_ref().map(|claim| {
        let key = VolumeClaimKey::new(
            claim.namespace.as_deref().unwrap_or_default(),
            claim.name.as_deref().unwrap_or_default(),
        );
        (key, claim.uid.as_deref().filter(|uid| !uid.is_empty()).map(Uid::new))
    });
    Ok(PersistentVolume {
        name: VolumeName::new(name(meta)),
        class: class_of(meta, spec.storage_class_name.as_ref()),
        claim,
        available: volume.status.phase.as_deref() == Some("Available"),
        deleting: meta.deletion_timestamp.is_some(),
        capacity,
        access_modes: access_modes(spec.access_modes.as_ref()).map_err(of)?,
        mode: mode(spec.volume_mode.as_deref()).map_err(of)?,
        attributes_class: spec.volume_attributes_class_name.as_deref().unwrap_or_default().into(),
        labels: labels(meta.labels.as_ref()),
        node_affinity: node_affinity.map_err(|error| of(error.under("nodeAffinity.required")))?,
        csi: csi_source(spec),
    })
}

fn csi_source(spec: &storage::VolumeSpec) -> Option<CsiSource> {
    let source =
        |driver: &str, handle: &str| Some(CsiSource { driver: driver.into(), handle: handle.into() });
    if let Some(csi) = &spec.csi {
        return source(&csi.driver, &csi.volume_handle);
    }
    if let Some(disk) = &spec.aws_elastic_block_store {
        return source(AWS, &disk.volume_id);
    }
    if let Some(disk) = &spec.gce_persistent_disk {
        return source(GCE, &disk.pd_name);
    }
    if let Some(disk) = &spec.azure_disk {
        return source(AZURE, &disk.disk_uri);
    }
    if let Some(disk) = &spec.cinder {
        return source(CINDER, &disk.volume_id);
    }
    spec.vsphere_volume.as_ref().and_then(|disk| source(VSPHERE, &disk.volume_path))
}

/// Reads a `StorageClass`.
pub fn storage_class(class: &storage::StorageClass) -> Result<StorageClass, IntakeError> {
    let binding = match class.volume_binding_mode.as_deref() {
        None | Some("Immediate") => BindingMode::Immediate,
        Some("WaitForFirstConsumer") => BindingMode::WaitForFirstConsumer,
        Some(other) => {
            return Err(IntakeError::field(
                "volumeBindingMode",
                format!("\"{other}\" is unknown"),
                "use Immediate or WaitForFirstConsumer",
            )
            .of("StorageClass", "", name(&class.metadata)));
        }
    };
    let provisioner =
        Some(class.provisioner.as_str()).filter(|name| !name.is_empty() && *name != NO_PROVISIONER);
    let moved = |name: &str| MOVED_TO_CSI.iter().find(|(old, _)| *old == name).map(|(_, new)| *new);
    let terms = class.allowed_topologies.iter().flatten().map(|term| NodeSelectorTerm {
        match_expressions: term
            .match_label_expressions
            .iter()
            .flatten()
            .map(|one| Requirement {
                key: one.key.as_str().into(),
                operator: Operator::In,
                values: one.values.iter().map(|value| Arc::from(value.as_str())).collect(),
            })
            .collect(),
        match_fields: Vec::new(),
    });
    Ok(StorageClass {
        name: name(&class.metadata).into(),
        provisioner: provisioner.map(Arc::from),
        driver: provisioner.map(|name| Arc::from(moved(name).unwrap_or(name))),
        binding,
        allowed_topologies: terms.collect(),
    })
}

/// Reads a `CSIDriver`.
pub fn csi_driver(driver: &storage::CsiDriver) -> CsiDriver {
    CsiDriver {
        name: name(&driver.metadata).into(),
        publishes_capacity: driver.spec.storage_capacity == Some(true),
        keeps_off_other_nodes: driver.spec.prevent_pod_scheduling_if_missing == Some(true),
    }
}

/// Reads a `CSINode`: the node's drivers with their limits.
pub fn node_drivers(node: &storage::CsiNode) -> DriverLimits {
    let limit = |driver: &storage::NodeDriver| {
        let count = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
        count.map(|count| u32::try_from(count).unwrap_or(0))
    };
    node.spec.drivers.iter().flatten().map(|driver| (driver.name.as_str().into(), limit(driver))).collect()
}

/// Reads a `CSIStorageCapacity`.
pub fn storage_capacity(capacity: &storage::CsiStorageCapacity) -> Result<StorageCapacity, IntakeError> {
    let key = claim_key(&capacity.metadata);
    let of = |error: IntakeError| error.of("CSIStorageCapacity", &key.namespace, &key.name);
    let largest = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref());
    let largest = largest.map(|size| quantity::whole(&size.0)).transpose();
    let nodes = capacity.node_topology.as_ref().map(label_selector).transpose();
    Ok(StorageCapacity {
        class: capacity.storage_class_name.as_str().into(),
        nodes: nodes.map_err(|error| of(error.under("nodeTopology")))?,
        largest: largest.map_err(|error| of(error.under("maximumVolumeSize")))?.map(Bytes),
    })
}

/// Reads a `VolumeAttachment`; `None` where it says nothing that counts.
pub fn attachment(attachment: &storage::VolumeAttachment) -> Option<VolumeAttachment> {
    let spec = &attachment.spec;
    let volume = spec.source.persistent_volume_name.as_deref()?;
    (!spec.attacher.is_empty()).then(|| VolumeAttachment {
        node: spec.node_name.as_str().into(),
        driver: spec.attacher.as_str().into(),
        volume: volume.into(),
    })
}

fn size(quantity: Option<&Quantity>) -> Result<Bytes, IntakeError> {
    quantity.map_or(Ok(Bytes(0)), |quantity| quantity::whole(&quantity.0).map(Bytes))
}

fn access_modes(list: Option<&Vec<String>>) -> Result<Vec<AccessMode>, IntakeError> {
    let one = |text: &String| match text.as_str() {
        "ReadWriteOnce" => Ok(AccessMode::ReadWriteOnce),
        "ReadOnlyMany" => Ok(AccessMode::ReadOnlyMany),
        "ReadWriteMany" => Ok(AccessMode::ReadWriteMany),
        "ReadWriteOncePod" => Ok(AccessMode::ReadWriteOncePod),
        other => Err(IntakeError::field(
            "accessModes",
            format!("\"{other}\" is unknown"),
            "use ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod",
        )),
    };
    list.into_iter().flatten().map(one).collect()
}

fn mode(text: Option<&str>) -> Result<VolumeMode, IntakeError> {
    match text {
        None | Some("" | "Filesystem") => Ok(VolumeMode::Filesystem),
        Some("Block") => Ok(VolumeMode::Block),
        Some(other) => Err(IntakeError::field(
            "volumeMode",
            format!("\"{other}\" is unknown"),
            "use Filesystem or Block",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_claim_is_bound_by_the_binders_annotation() {
        let claim = volume_claim(&read(
            r"
metadata:
  name: data
  namespace: d
  annotations: {pv.kubernetes.io/bind-completed: 'yes', volume.kubernetes.io/selected-node: n1}
spec: {storageClassName: fast, volumeName: v, accessModes: [ReadWriteOncePod], resources: {requests: {storage: 1Gi}}}
",
        ))
        .unwrap();
        assert!(claim.bound);
        assert_eq!(claim.selected_node, Some("n1".into()));
        assert_eq!((claim.request, claim.access_modes), (Bytes(1 << 30), vec![AccessMode::ReadWriteOncePod]));
        let bad = volume_claim(&read("metadata: {name: c}\nspec: {accessModes: [Sometimes]}")).unwrap_err();
        assert_eq!(
            bad.to_string(),
            "PersistentVolumeClaim default/c: spec.accessModes: \"Sometimes\" is unknown; \
             use ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod"
        );
    }

    #[test]
    fn in_tree_disks_count_for_their_csi_driver() {
        let volume: storage::PersistentVolume = read(
            "metadata: {name: v}\nspec: {awsElasticBlockStore: {volumeID: vol-1}, capacity: {storage: 1Gi}}",
        );
        let volume = persistent_volume(&volume).unwrap();
        assert_eq!(volume.csi, Some(CsiSource { driver: AWS.into(), handle: "vol-1".into() }));
        let class = storage_class(&read(
            "metadata: {name: c}\nprovisioner: kubernetes.io/aws-ebs\nvolumeBindingMode: WaitForFirstConsumer",
        ))
        .unwrap();
        assert_eq!((class.driver.as_deref(), class.binding), (Some(AWS), BindingMode::WaitForFirstConsumer));
        let none =
            storage_class(&read("metadata: {name: c}\nprovisioner: kubernetes.io/no-provisioner")).unwrap();
        assert_eq!(none.provisioner, None);
    }

    #[test]
    fn a_pods_claims_and_disks_are_found() {
        let pod: slim::Pod = read(
            r"
metadata: {name: web-0, namespace: d}
spec:
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: data-web-0}}
  - {name: scratch, ephemeral: {}}
  - {name: disk, gcePersistentDisk: {pdName: one, readOnly: true}}
",
        );
        let pod = crate::pod(&pod).unwrap();
        let names: Vec<_> = pod.claims.unwrap().volumes.into_iter().map(|v| (v.name, v.ephemeral)).collect();
        assert_eq!(names, [("data-web-0".into(), false), ("web-0-scratch".into(), true)]);
        let disk = InlineDisk::GcePersistentDisk { name: "one".into(), read_only: true };
        assert_eq!(pod.shape.volumes.as_ref().unwrap().disks, [disk]);
    }

    #[test]
    fn every_kind_of_storage_is_known_by_its_kind() {
        let kinds = [
            ("v1", "PersistentVolumeClaim"),
            ("v1", "PersistentVolume"),
            ("storage.k8s.io/v1", "StorageClass"),
            ("storage.k8s.io/v1", "CSIDriver"),
            ("storage.k8s.io/v1", "CSINode"),
            ("storage.k8s.io/v1", "CSIStorageCapacity"),
        ];
        let object = |version: &str, kind: &str| Object {
            origin: "f".into(),
            value: serde_json::json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}),
        };
        for (version, kind) in kinds {
            assert!(storage_change(&object(version, kind)).unwrap().is_some(), "{kind}");
        }
        assert_eq!(storage_change(&object("storage.k8s.io/v1", "VolumeAttachment")), Ok(None));
        assert_eq!(storage_change(&object("v1", "Pod")), Ok(None));
    }

    #[test]
    fn drivers_and_attachments_are_read() {
        let node: storage::CsiNode =
            read("metadata: {name: n}\nspec: {drivers: [{name: a, allocatable: {count: 25}}, {name: b}]}");
        assert_eq!(node_drivers(&node), [("a".into(), Some(25)), ("b".into(), None)].into());
        let without_volume: storage::VolumeAttachment =
            read("metadata: {name: x}\nspec: {attacher: a, nodeName: n}");
        assert_eq!(attachment(&without_volume), None);
        let capacity: storage::CsiStorageCapacity = read(
            "metadata: {name: x}\nstorageClassName: c\ncapacity: 10Gi\nmaximumVolumeSize: 1Gi\nnodeTopology: {matchLabels: {z: a}}",
        );
        assert_eq!(storage_capacity(&capacity).unwrap().largest, Some(Bytes(1 << 30)));
    }
}
