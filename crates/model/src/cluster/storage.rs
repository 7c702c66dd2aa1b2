//! Claims, volumes and what they mean for pods and nodes, kept current with every change.
//!
//! Owns the joins: a pod's claims with their volumes and classes into its [`VolumeNeeds`], a node with its CSI
//! drivers and attachments into its [`Fittings`]. [`super::Cluster`] applies what they say, so that everyone who reads
//! a pod or a node finds it resolved.

use super::devices::Devices;
use crate::{
    BindingMode, CsiDriver, CsiSource, DeviceChange, DriverLimits, Fittings, Input, Node, NodeName,
    PersistentVolume, Pod, PodKey, PodPhase, PodShape, Resources, StorageCapacity, StorageClass,
    UnboundVolume, UnmodelledRule, VolumeAttachment, VolumeClaim, VolumeClaimKey, VolumeName, VolumeNeeds,
    VolumeRefusal, VolumeZone,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Labels of volumes that nodes must agree with, in kube-scheduler's order.
const ZONE_LABELS: [&str; 4] = [
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

/// One observed change of storage. `None` means that the object is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StorageChange {
    Claim(VolumeClaimKey, Option<Arc<VolumeClaim>>),
    Volume(VolumeName, Option<Arc<PersistentVolume>>),
    Class(Arc<str>, Option<Arc<StorageClass>>),
    Driver(Arc<str>, Option<Arc<CsiDriver>>),
    /// The CSI drivers of a node with their attach limits.
    NodeDrivers(NodeName, Option<Arc<DriverLimits>>),
    Attachment(Arc<str>, Option<Arc<VolumeAttachment>>),
    /// By namespace and name.
    Capacity(VolumeClaimKey, Option<Arc<StorageCapacity>>),
    Devices(DeviceChange),
}

/// All that is known of storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Storage {
    claims: BTreeMap<VolumeClaimKey, Arc<VolumeClaim>>,
    volumes: BTreeMap<VolumeName, Arc<PersistentVolume>>,
    classes: BTreeMap<Arc<str>, Arc<StorageClass>>,
    drivers: BTreeMap<Arc<str>, Arc<CsiDriver>>,
    node_drivers: BTreeMap<NodeName, Arc<DriverLimits>>,
    attachments: BTreeMap<Arc<str>, Arc<VolumeAttachment>>,
    capacities: BTreeMap<VolumeClaimKey, Arc<StorageCapacity>>,
    #[serde(skip_serializing_if = "Devices::is_empty")]
    devices: Devices,

    /// Pods that have not ended, by the claims that they name.
    #[serde(skip)]
    users: BTreeMap<VolumeClaimKey, BTreeSet<PodKey>>,
    #[serde(skip)]
    claims_of: BTreeMap<VolumeName, BTreeSet<VolumeClaimKey>>,
    #[serde(skip)]
    attached_on: BTreeMap<NodeName, BTreeSet<Arc<str>>>,
}

/// What has to be resolved again after a change.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub pods: BTreeSet<PodKey>,
    pub nodes: BTreeSet<NodeName>,
}

impl Touched {
    pub(super) fn add(&mut self, more: Self) {
        self.pods.extend(more.pods);
        self.nodes.extend(more.nodes);
    }
}

/// What is known of the inputs that storage comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub volumes: bool,
    pub attachments: bool,
    pub devices: bool,
}

impl Seen {
    pub(super) fn of(fresh: impl Fn(&Input) -> bool) -> Self {
        Self {
            volumes: fresh(&Input::Volumes),
            attachments: fresh(&Input::Attachments),
            devices: fresh(&Input::Devices),
        }
    }
}

impl Storage {
    pub fn claims(&self) -> &BTreeMap<VolumeClaimKey, Arc<VolumeClaim>> {
        &self.claims
    }

    pub fn volumes(&self) -> &BTreeMap<VolumeName, Arc<PersistentVolume>> {
        &self.volumes
    }

    pub fn classes(&self) -> &BTreeMap<Arc<str>, Arc<StorageClass>> {
        &self.classes
    }

    /// Volumes that a claim of a class may still be bound to, in name order.
    pub fn open_volumes<'a>(&'a self, class: &'a str) -> impl Iterator<Item = &'a Arc<PersistentVolume>> {
        self.volumes.values().filter(move |volume| *volume.class == *class && !volume.deleting)
    }

    /// Pods that have not ended and name a claim.
    pub fn users_of(&self, claim: &VolumeClaimKey) -> impl Iterator<Item = &PodKey> {
        self.users.get(claim).into_iter().flatten()
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a change says what is known already.
    pub fn knows(&self, change: &StorageChange) -> bool {
        match change {
            StorageChange::Claim(key, claim) => self.claims.get(key) == claim.as_ref(),
            StorageChange::Volume(name, volume) => self.volumes.get(name) == volume.as_ref(),
            StorageChange::Class(name, class) => self.classes.get(name) == class.as_ref(),
            StorageChange::Driver(name, driver) => self.drivers.get(name) == driver.as_ref(),
            StorageChange::NodeDrivers(node, drivers) => self.node_drivers.get(node) == drivers.as_ref(),
            StorageChange::Attachment(name, at) => self.attachments.get(name) == at.as_ref(),
            StorageChange::Capacity(key, capacity) => self.capacities.get(key) == capacity.as_ref(),
            StorageChange::Devices(change) => self.devices.knows(change),
        }
    }

    /// Whether any pod that has not ended has claims.
    pub fn is_used(&self) -> bool {
        !self.users.is_empty()
    }

    pub(super) fn all_users(&self) -> BTreeSet<PodKey> {
        self.users.values().flatten().cloned().chain(self.devices.all_pods()).collect()
    }

    /// What a node offers with the devices that it has for claims; `None` where it has none.
    pub(super) fn allocatable(&self, node: &Node) -> Option<Resources> {
        let mut allocatable = node.allocatable.clone();
        self.devices.fit(&node.name, &mut allocatable);
        (allocatable != node.allocatable).then_some(allocatable)
    }

    pub(super) fn apply(&mut self, change: StorageChange) -> Touched {
        fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        let mut touched = Touched::default();
        match change {
            StorageChange::Claim(key, claim) => {
                touched.pods.extend(self.users_of(&key).cloned());
                self.put_claim(key, claim);
            }
            StorageChange::Volume(name, volume) => {
                touched.pods = self.users_of_volume(&name);
                let on = |at: &&Arc<VolumeAttachment>| at.volume == name;
                touched.nodes = self.attachments.values().filter(on).map(|at| at.node.clone()).collect();
                put(&mut self.volumes, name, volume);
            }
            StorageChange::Class(name, class) => {
                touched.pods = self.users_of_class(&name);
                put(&mut self.classes, name, class);
            }
            StorageChange::Driver(name, driver) => {
                touched.pods = self.all_users();
                put(&mut self.drivers, name, driver);
            }
            StorageChange::NodeDrivers(node, drivers) => {
                touched.nodes.insert(node.clone());
                put(&mut self.node_drivers, node, drivers);
            }
            StorageChange::Attachment(name, attachment) => {
                for at in self.attachments.get(&name).into_iter().chain(&attachment) {
                    touched.nodes.insert(at.node.clone());
                }
                self.put_attachment(name, attachment);
            }
            StorageChange::Capacity(key, capacity) => {
                for known in self.capacities.get(&key).into_iter().chain(&capacity) {
                    touched.pods.extend(self.users_of_class(&known.class));
                }
                put(&mut self.capacities, key, capacity);
            }
            StorageChange::Devices(change) => touched = self.devices.apply(change),
        }
        touched
    }

    fn put_claim(&mut self, key: VolumeClaimKey, claim: Option<Arc<VolumeClaim>>) {
        if let Some(volume) = self.claims.remove(&key).and_then(|old| old.volume.clone()) {
            remove_from(&mut self.claims_of, &volume, &key);
        }
        if let Some(claim) = claim {
            if let Some(volume) = &claim.volume {
                self.claims_of.entry(volume.clone()).or_default().insert(key.clone());
            }
            self.claims.insert(key, claim);
        }
    }

    fn put_attachment(&mut self, name: Arc<str>, attachment: Option<Arc<VolumeAttachment>>) {
        if let Some(old) = self.attachments.remove(&name) {
            remove_from(&mut self.attached_on, &old.node, &name);
        }
        if let Some(attachment) = attachment {
            self.attached_on.entry(attachment.node.clone()).or_default().insert(name.clone());
            self.attachments.insert(name, attachment);
        }
    }

    /// Builds the indexes over objects that were read from a checkpoint; pods are noted by the cluster.
    pub(super) fn reindex(&mut self) {
        self.users.clear();
        self.claims_of.clear();
        self.attached_on.clear();
        for (key, claim) in std::mem::take(&mut self.claims) {
            self.put_claim(key, Some(claim));
        }
        for (name, attachment) in std::mem::take(&mut self.attachments) {
            self.put_attachment(name, Some(attachment));
        }
        self.devices.reindex();
    }

    /// Notes that a pod uses its claims; returns whom that concerns besides itself.
    pub(super) fn note(&mut self, pod: &Pod) -> Touched {
        let mut touched = self.devices.note(pod);
        if !is_live(pod) {
            return touched;
        }
        for claim in claims_of(pod) {
            let users = self.users.entry(claim).or_default();
            // One user more makes the first one's volume a shared one.
            if users.len() == 1 {
                touched.pods.extend(users.iter().cloned());
            }
            users.insert(pod.key.clone());
        }
        self.touch_node(pod, &mut touched);
        touched
    }

    /// Notes that a pod no longer uses its claims.
    pub(super) fn forget(&mut self, pod: &Pod) -> Touched {
        let mut touched = self.devices.forget(pod);
        if pod.claims.is_none() || !is_live(pod) {
            return touched;
        }
        for claim in claims_of(pod) {
            remove_from(&mut self.users, &claim, &pod.key);
            let left = self.users.get(&claim);
            if let Some(left) = left.filter(|left| left.len() == 1) {
                touched.pods.extend(left.iter().cloned());
            }
        }
        self.touch_node(pod, &mut touched);
        touched
    }

    fn touch_node(&self, pod: &Pod, touched: &mut Touched) {
        if pod.claims.is_some() {
            touched
                .nodes
                .extend(pod.node.iter().filter(|node| self.attached_on.contains_key(*node)).cloned());
        }
    }

    fn users_of_volume(&self, volume: &VolumeName) -> BTreeSet<PodKey> {
        let claims = self.claims_of.get(volume).into_iter().flatten();
        claims.flat_map(|claim| self.users_of(claim)).cloned().collect()
    }

    fn users_of_class(&self, class: &str) -> BTreeSet<PodKey> {
        let uses = |key: &VolumeClaimKey| self.claims.get(key).is_some_and(|claim| *claim.class == *class);
        self.users.iter().filter(|(key, _)| uses(key)).flat_map(|(_, pods)| pods).cloned().collect()
    }

    /// What a node is fitted with, by its drivers and by what is attached without a user.
    pub(super) fn fittings(
        &self,
        node: &NodeName,
        pods: &BTreeMap<PodKey, Arc<Pod>>,
    ) -> Option<Arc<Fittings>> {
        let mut fittings = Fittings::default();
        if let Some(drivers) = self.node_drivers.get(node) {
            fittings.drivers = BTreeMap::clone(drivers);
        }
        let mut seen = BTreeSet::new();
        for name in self.attached_on.get(node).into_iter().flatten() {
            let Some(attachment) = self.attachments.get(name) else { continue };
            let source = self.volumes.get(&attachment.volume).and_then(|volume| volume.csi.as_ref());
            let used = self
                .users_of_volume(&attachment.volume)
                .iter()
                .any(|key| pods.get(key).is_some_and(|pod| pod.node.as_ref() == Some(node) && is_live(pod)));
            if let Some(source) = source.filter(|_| !used)
                && seen.insert((&attachment.driver, &source.handle))
            {
                *fittings.left_attached.entry(attachment.driver.clone()).or_default() += 1;
            }
        }
        (!fittings.is_empty()).then(|| Arc::new(fittings))
    }

    /// A pod's shape with what its claims ask for; `None` where nothing changes.
    pub(super) fn resolved(&self, pod: &Pod, seen: Seen) -> Option<Arc<PodShape>> {
        let claims = pod.claims.as_ref()?;
        let mut shape = PodShape::clone(&pod.shape);
        if !claims.volumes.is_empty() {
            self.resolve_volumes(pod, seen, &mut shape);
        }
        if !claims.devices.is_empty() {
            self.devices.resolve(pod, seen.devices, &mut shape);
        }
        (shape != *pod.shape).then(|| Arc::new(shape))
    }

    fn resolve_volumes(&self, pod: &Pod, seen: Seen, shape: &mut PodShape) {
        let mut needs = VolumeNeeds {
            disks: pod.shape.volumes.as_ref().map(|needs| needs.disks.clone()).unwrap_or_default(),
            ..VolumeNeeds::default()
        };
        let rule = if seen.volumes {
            self.work_out(pod, &mut needs);
            let attaches = !(needs.attaches.is_empty() && needs.shared.is_empty());
            (attaches && !seen.attachments).then_some(UnmodelledRule::AttachmentsUnseen)
        } else {
            Some(UnmodelledRule::VolumesUnseen)
        };
        shape.unmodelled.retain(|rule| {
            !matches!(
                rule,
                UnmodelledRule::Volumes | UnmodelledRule::VolumesUnseen | UnmodelledRule::AttachmentsUnseen
            )
        });
        shape.unmodelled.extend(rule);
        shape.volumes = (!needs.is_empty()).then(|| Arc::new(needs));
    }

    fn work_out(&self, pod: &Pod, needs: &mut VolumeNeeds) {
        for volume in pod.claims.iter().flat_map(|claims| &claims.volumes) {
            let key = VolumeClaimKey::new(&pod.key.namespace, &volume.name);
            let claim = match self.usable_claim(pod, &key, volume.ephemeral) {
                Ok(claim) => claim,
                Err(refusal) => {
                    refuse(needs, refusal);
                    continue;
                }
            };
            let alone = self.users.get(&key).is_none_or(|users| users.len() <= 1);
            if claim.access_modes.contains(&crate::AccessMode::ReadWriteOncePod) && !alone {
                needs.exclusive.insert(key.clone());
            }
            self.count_attachment(claim, alone, needs);
            match &claim.volume {
                Some(volume) if claim.bound => match self.volumes.get(volume) {
                    Some(volume) => bound_to(volume, needs),
                    None => needs.volume_missing = true,
                },
                None => match self.classes.get(&claim.class) {
                    Some(class) if class.binding == BindingMode::WaitForFirstConsumer => {
                        needs.unbound.push(self.unbound(claim, class));
                    }
                    _ => refuse(needs, VolumeRefusal::UnboundImmediate),
                },
                Some(_) => refuse(needs, VolumeRefusal::UnboundImmediate),
            }
        }
        needs.bound.sort();
        needs.bound.dedup();
        needs.zones.sort();
        needs.zones.dedup();
        needs.unbound.sort_by(|a, b| (a.request, a).cmp(&(b.request, b)));
    }

    fn usable_claim(
        &self,
        pod: &Pod,
        key: &VolumeClaimKey,
        ephemeral: bool,
    ) -> Result<&VolumeClaim, VolumeRefusal> {
        let name = &key.name;
        let Some(claim) = self.claims.get(key) else {
            return Err(if ephemeral {
                VolumeRefusal::EphemeralClaimNotMade { claim: name.clone() }
            } else {
                VolumeRefusal::ClaimNotFound { claim: name.clone() }
            });
        };
        if claim.lost {
            let volume = claim.volume.as_ref().map_or("", VolumeName::as_str);
            return Err(VolumeRefusal::ClaimLost { claim: name.clone(), volume: volume.into() });
        }
        if claim.deleting {
            return Err(VolumeRefusal::ClaimDeleting { claim: name.clone() });
        }
        if ephemeral && claim.owner_pod.as_ref() != Some(&pod.uid) {
            return Err(VolumeRefusal::ClaimOfAnother { claim: key.clone(), pod: pod.key.name.clone() });
        }
        Ok(claim)
    }

    fn count_attachment(&self, claim: &VolumeClaim, alone: bool, needs: &mut VolumeNeeds) {
        let Some(source) = self.source_of(claim) else { return };
        if self.drivers.get(&source.driver).is_some_and(|driver| driver.keeps_off_other_nodes) {
            needs.drivers.insert(source.driver.clone());
        }
        if alone {
            *needs.attaches.entry(source.driver).or_default() += 1;
        } else {
            needs.shared.insert(source);
        }
    }

    /// What attaching a claim's volume counts against: its volume's driver, or its class's where it has none yet.
    fn source_of(&self, claim: &VolumeClaim) -> Option<CsiSource> {
        if let Some(volume) = claim.volume.as_ref().and_then(|name| self.volumes.get(name)) {
            return volume.csi.clone();
        }
        let driver = self.classes.get(&claim.class)?.driver.clone()?;
        Some(CsiSource { driver, handle: Arc::from(format!("claim {}", claim.key)) })
    }

    fn unbound(&self, claim: &VolumeClaim, class: &StorageClass) -> UnboundVolume {
        let kept = self.open_volumes(&claim.class).find(|volume| volume.is_for(&claim.key, &claim.uid));
        let publishes = class
            .provisioner
            .as_ref()
            .is_some_and(|name| self.drivers.get(name).is_some_and(|driver| driver.publishes_capacity));
        let room_on = publishes.then(|| {
            let enough = |room: &&Arc<StorageCapacity>| {
                room.class == class.name && room.largest.is_some_and(|largest| largest >= claim.request)
            };
            let mut nodes: Vec<_> =
                self.capacities.values().filter(enough).filter_map(|room| room.nodes.clone()).collect();
            nodes.sort();
            nodes.dedup();
            nodes
        });
        let mut access_modes = claim.access_modes.clone();
        access_modes.sort();
        UnboundVolume {
            class: claim.class.clone(),
            request: claim.request,
            access_modes,
            mode: claim.mode,
            attributes_class: claim.attributes_class.clone(),
            selector: claim.selector.clone(),
            kept: kept.map(|volume| volume.name.clone()),
            selected_node: claim.selected_node.clone(),
            provisionable: class.provisioner.is_some(),
            allowed_topologies: class.allowed_topologies.clone(),
            room_on: room_on.filter(|_| claim.request.0 > 0),
        }
    }
}

/// Keeps the refusal that the scheduler reports: missing claims first, then what is wrong with a claim, in the order of
/// the pod's volumes, then claims that should be bound and are not.
fn refuse(needs: &mut VolumeNeeds, refusal: VolumeRefusal) {
    let rank = |refusal: &VolumeRefusal| match refusal {
        VolumeRefusal::ClaimNotFound { .. } => 0,
        VolumeRefusal::UnboundImmediate => 2,
        _ => 1,
    };
    if needs.refused.as_ref().is_none_or(|known| rank(&refusal) < rank(known)) {
        needs.refused = Some(refusal);
    }
}

fn bound_to(volume: &PersistentVolume, needs: &mut VolumeNeeds) {
    needs.bound.extend(volume.node_affinity.clone());
    for key in ZONE_LABELS {
        if let Some(text) = volume.labels.get(key) {
            // A volume that is in several zones names them all; a name that is empty voids the label.
            let values: BTreeSet<Arc<str>> = text.split("__").map(|part| Arc::from(part.trim())).collect();
            if values.iter().all(|value| !value.is_empty()) {
                needs.zones.push(VolumeZone { key: Arc::from(key), values });
            }
        }
    }
}

fn claims_of(pod: &Pod) -> BTreeSet<VolumeClaimKey> {
    let volumes = pod.claims.iter().flat_map(|claims| &claims.volumes);
    volumes.map(|volume| VolumeClaimKey::new(&pod.key.namespace, &volume.name)).collect()
}

pub(super) fn is_live(pod: &Pod) -> bool {
    !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed)
}

pub(super) fn remove_from<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
