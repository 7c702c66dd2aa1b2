//! The built-in binder: claims get a volume that exists, or one that is made for them.
//!
//! Owns which volume a claim gets and where a new one is: in the zone of the node that the scheduler has chosen, or for
//! classes that bind at once in one of the zones that there are. When claims are looked at is the controllers' and
//! the scheduler's business. Left out: data, resizing, snapshots.

use super::controllers::objects::stamp;
use crate::store::resource::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES};
use crate::store::{ApiError, DeleteOptions, Object, Part, Store};
use intake::slim::storage as slim;
use jiff::Timestamp;
use model::{BindingMode, PersistentVolume, StorageClass, VolumeClaim};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// The class of claims that name none; it needs no object, and its volumes can be used everywhere.
const STANDARD: &str = "standard";
/// Volumes of this provisioner stay on their node.
const LOCAL_PATH: &str = "rancher.io/local-path";

/// Gives a claim its volume. `node` is where its pod will run, for classes that wait for that.
///
/// Returns whether the claim is bound now; one that stays without a volume waits, as in Kubernetes.
pub(crate) fn bind(
    store: &Store,
    claim: &Object,
    node: Option<&Object>,
    now: Timestamp,
) -> Result<bool, ApiError> {
    let Some(read) = read_claim(claim) else { return Ok(false) };
    if read.bound {
        return Ok(true);
    }
    let class = class_of(store, &read.class);
    let waits = class.as_ref().is_some_and(|class| class.binding == BindingMode::WaitForFirstConsumer);
    if waits && node.is_none() {
        return Ok(false);
    }
    let volume = match existing(store, &read, node) {
        Some(volume) => volume,
        None if read.volume.is_some() => return Ok(false),
        None => match provisioned(store, claim, &read, class.as_ref(), node)? {
            Some(volume) => volume,
            None => return Ok(false),
        },
    };
    join(store, claim, &volume, now)?;
    Ok(true)
}

/// What becomes of the volume of a claim that is gone.
pub(crate) fn release(store: &Store, claim_uid: &str) -> Result<(), ApiError> {
    for volume in store.list(PERSISTENT_VOLUMES) {
        if volume.text("spec.claimRef.uid") != Some(claim_uid) {
            continue;
        }
        let done = if volume.text("spec.persistentVolumeReclaimPolicy") == Some("Delete") {
            store.delete(PERSISTENT_VOLUMES, "", volume.name(), &DeleteOptions::default()).map(drop)
        } else {
            let released = |value: &mut Value| {
                value["status"]["phase"] = "Released".into();
                true
            };
            store.modify(PERSISTENT_VOLUMES, "", volume.name(), Part::Status, released).map(drop)
        };
        match done {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn read_claim(claim: &Object) -> Option<VolumeClaim> {
    let read = claim.typed::<slim::PersistentVolumeClaim>().map_err(|error| error.to_string());
    match read.and_then(|claim| intake::volume_claim(&claim).map_err(|error| error.to_string())) {
        Ok(claim) => Some(claim),
        Err(message) => {
            tracing::warn!(%message, "the simulated binder leaves a claim alone");
            None
        }
    }
}

fn class_of(store: &Store, name: &str) -> Option<StorageClass> {
    let object = store.find(STORAGE_CLASSES, "", name)?;
    intake::storage_class(&*object.typed::<slim::StorageClass>().ok()?).ok()
}

fn read_volume(volume: &Object) -> Option<PersistentVolume> {
    intake::persistent_volume(&*volume.typed::<slim::PersistentVolume>().ok()?).ok()
}

/// The volume that is kept for the claim, else the smallest one that suits it and the node.
fn existing(store: &Store, claim: &VolumeClaim, node: Option<&Object>) -> Option<Arc<Object>> {
    let labels = node.map(|node| -> model::Labels {
        let all = node.labels().into_iter().flatten();
        all.filter_map(|(key, value)| Some((Arc::from(key.as_str()), Arc::from(value.as_str()?)))).collect()
    });
    let mut best: Option<(model::Bytes, Arc<Object>)> = None;
    for object in store.list(PERSISTENT_VOLUMES) {
        let Some(volume) = read_volume(&object) else { continue };
        if let Some(named) = &claim.volume
            && *named == volume.name
        {
            let free = volume.claim.is_none() || volume.is_for(&claim.key, &claim.uid);
            return free.then_some(object);
        }
        let reachable = labels.as_ref().is_none_or(|labels| {
            volume
                .node_affinity
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches("", labels)))
        });
        let large = volume.capacity >= claim.request && volume.mode == claim.mode && !volume.deleting;
        if !large || !reachable || claim.volume.is_some() {
            continue;
        }
        if volume.is_for(&claim.key, &claim.uid) {
            return Some(object);
        }
        let suits = volume.available
            && volume.claim.is_none()
            && volume.class == claim.class
            && claim.selector.as_ref().is_none_or(|selector| selector.matches(&volume.labels))
            && claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode));
        if suits && best.as_ref().is_none_or(|(size, _)| volume.capacity < *size) {
            best = Some((volume.capacity, object));
        }
    }
    best.map(|(_, object)| object)
}

/// A new volume, where the class makes any.
fn provisioned(
    store: &Store,
    claim: &Object,
    read: &VolumeClaim,
    class: Option<&StorageClass>,
    node: Option<&Object>,
) -> Result<Option<Arc<Object>>, ApiError> {
    let provisioner = match class {
        Some(class) => class.provisioner.as_deref(),
        None => (*read.class == *STANDARD).then_some("tideline.dev/standard"),
    };
    let Some(provisioner) = provisioner else { return Ok(None) };
    let place = match class {
        None => None,
        Some(_) if provisioner == LOCAL_PATH => {
            node.and_then(|node| Some((HOSTNAME, node.label(HOSTNAME)?.to_owned())))
        }
        Some(class) => zone_for(store, claim, class, node).map(|zone| (ZONE, zone)),
    };
    let name = format!("pvc-{}", claim.uid());
    let reclaim = store
        .find(STORAGE_CLASSES, "", &read.class)
        .and_then(|class| class.text("reclaimPolicy").map(str::to_owned))
        .unwrap_or_else(|| "Delete".to_owned());
    let mut volume = json!({
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: provisioner}},
        "spec": {
            "storageClassName": &*read.class,
            "capacity": {"storage": claim.text("spec.resources.requests.storage").unwrap_or("0")},
            "accessModes": claim.at("spec.accessModes").cloned().unwrap_or_else(|| json!([])),
            "volumeMode": claim.text("spec.volumeMode").unwrap_or("Filesystem"),
            "persistentVolumeReclaimPolicy": reclaim,
            "csi": {"driver": provisioner, "volumeHandle": name},
        },
    });
    if let Some((key, value)) = place {
        let requirement = json!({"key": key, "operator": "In", "values": [value]});
        volume["spec"]["nodeAffinity"] =
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}});
        if key == ZONE {
            volume["metadata"]["labels"] = json!({ZONE: value});
        }
    }
    match store.create(PERSISTENT_VOLUMES, "", volume) {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if error.is_already_exists() => Ok(store.find(PERSISTENT_VOLUMES, "", &name)),
        Err(error) => Err(error),
    }
}

/// The zone of a new volume: the node's, or one of those allowed, taken in turn by the claim's number.
fn zone_for(store: &Store, claim: &Object, class: &StorageClass, node: Option<&Object>) -> Option<String> {
    if let Some(node) = node {
        return node.label(ZONE).map(str::to_owned);
    }
    let allowed = class.allowed_topologies.iter().flat_map(|term| &term.match_expressions);
    let mut zones: BTreeSet<String> = allowed
        .filter(|one| &*one.key == ZONE)
        .flat_map(|one| one.values.iter().map(ToString::to_string))
        .collect();
    if zones.is_empty() {
        zones = store.list(NODES).iter().filter_map(|node| node.label(ZONE).map(str::to_owned)).collect();
    }
    let number = claim.name().rsplit('-').next().and_then(|end| end.parse::<usize>().ok()).unwrap_or(0);
    let count = zones.len();
    zones.into_iter().nth(number.checked_rem(count)?)
}

/// Binds claim and volume to each other.
fn join(store: &Store, claim: &Object, volume: &Object, now: Timestamp) -> Result<(), ApiError> {
    let reference = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(),
        "name": claim.name(), "uid": claim.uid(),
    });
    let at = stamp(now);
    store.modify(PERSISTENT_VOLUMES, "", volume.name(), Part::Whole, |value| {
        value["spec"]["claimRef"] = reference;
        value["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
        value["status"]["phase"] = "Bound".into();
        value["status"]["lastPhaseTransitionTime"] = at.into();
        true
    })?;
    let capacity = volume.at("spec.capacity").cloned().unwrap_or_else(|| json!({}));
    let modes = volume.at("spec.accessModes").cloned().unwrap_or_else(|| json!([]));
    store.modify(PERSISTENT_VOLUME_CLAIMS, claim.namespace(), claim.name(), Part::Whole, |value| {
        value["spec"]["volumeName"] = volume.name().into();
        value["metadata"]["annotations"][BIND_COMPLETED] = "yes".into();
        value["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
        value["status"]["phase"] = "Bound".into();
        value["status"]["capacity"] = capacity;
        value["status"]["accessModes"] = modes;
        true
    })?;
    Ok(())
}
