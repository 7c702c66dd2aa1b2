//! What pods' volumes use up: disks and attachments on a node, claims and open volumes in the whole cluster.
//!
//! Owns the bookkeeping, and the matching of unbound claims with volumes that exist. The rules that read it are the
//! volume filters, one file each.

use model::{
    Cluster, CsiSource, Fittings, InlineDisk, Labels, Node, PersistentVolume, UnboundVolume, VolumeClaimKey,
    VolumeConflict, VolumeName, VolumeNeeds,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the volumes of a node's pods use of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeVolumes {
    attached: BTreeMap<Arc<str>, u32>,
    /// Volumes of several pods, with how many of them are here.
    shared: BTreeMap<CsiSource, u32>,
    disks: BTreeMap<InlineDisk, u32>,
}

impl NodeVolumes {
    /// Counts `pods` pods in.
    pub fn add(&mut self, needs: &VolumeNeeds, pods: u32) {
        for (driver, count) in &needs.attaches {
            *self.attached.entry(Arc::clone(driver)).or_default() += count * pods;
        }
        for source in &needs.shared {
            *self.shared.entry(source.clone()).or_default() += pods;
        }
        for disk in &needs.disks {
            *self.disks.entry(disk.clone()).or_default() += pods;
        }
    }

    /// Counts `pods` pods out again.
    pub fn remove(&mut self, needs: &VolumeNeeds, pods: u32) {
        for (driver, count) in &needs.attaches {
            less(&mut self.attached, driver, count * pods);
        }
        for source in &needs.shared {
            less(&mut self.shared, source, pods);
        }
        for disk in &needs.disks {
            less(&mut self.disks, disk, pods);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many pods with these needs can have their disks here: one where the disk is not to be shared.
    pub(crate) fn disk_capacity(&self, needs: &VolumeNeeds) -> u32 {
        let shy = |disk: &InlineDisk| disk.conflicts_with(disk);
        match needs.disks.iter().any(shy) {
            _ if self.has_conflicting_disk(needs) => 0,
            true => 1,
            false => u32::MAX,
        }
    }

    pub(crate) fn has_conflicting_disk(&self, needs: &VolumeNeeds) -> bool {
        needs.disks.iter().any(|disk| self.disks.keys().any(|other| disk.conflicts_with(other)))
    }

    /// How many more pods with these needs the limits of a node allow.
    pub(crate) fn capacity(&self, needs: &VolumeNeeds, fittings: &Fittings) -> u32 {
        let mut pods = u32::MAX;
        for (driver, limit) in &fittings.drivers {
            let Some(limit) = limit else { continue };
            let own = needs.attaches.get(driver).copied().unwrap_or(0);
            // Volumes that are shared attach with the first pod and cost the others nothing.
            let shared = self.would_share(driver, needs);
            if own + shared == 0 {
                continue;
            }
            let left_attached = fittings.left_attached.get(driver).copied().unwrap_or(0);
            let used = self.attached(driver).saturating_add(left_attached).saturating_add(shared);
            if used.saturating_add(own) > *limit {
                return 0;
            }
            pods = pods.min((limit - used).checked_div(own).unwrap_or(u32::MAX));
        }
        pods
    }

    /// How many volumes of a driver the pods here attach.
    fn attached(&self, driver: &str) -> u32 {
        let shared = self.shared.keys().filter(|source| *source.driver == *driver).count();
        self.attached.get(driver).copied().unwrap_or(0).saturating_add(shared as u32)
    }

    /// Shared volumes of a driver that a pod with these needs would be the first here to attach.
    fn would_share(&self, driver: &str, needs: &VolumeNeeds) -> u32 {
        let new = |source: &&CsiSource| *source.driver == *driver && !self.shared.contains_key(*source);
        needs.shared.iter().filter(new).count() as u32
    }
}

fn less<K: Ord>(map: &mut BTreeMap<K, u32>, key: &K, by: u32) {
    if let Some(count) = map.get_mut(key) {
        *count = count.saturating_sub(by);
        if *count == 0 {
            map.remove(key);
        }
    }
}

/// Volumes that are still open, and claims that are in use by the one pod that may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterVolumes {
    open: BTreeMap<Arc<str>, Vec<Arc<PersistentVolume>>>,
    taken: BTreeSet<VolumeName>,
    in_use: BTreeMap<VolumeClaimKey, u32>,
}

impl ClusterVolumes {
    /// The volumes of a cluster that may still be bound; claims in use come with the pods that are counted in.
    pub fn of(cluster: &Cluster) -> Self {
        let mut all = Self::default();
        let storage = cluster.storage();
        let waits = |key: &VolumeClaimKey| storage.claims().get(key).is_some_and(|claim| !claim.bound);
        for volume in storage.volumes().values() {
            let open = volume.claim.as_ref().map_or(volume.available, |(claim, _)| waits(claim));
            if open && !volume.deleting {
                all.open.entry(Arc::clone(&volume.class)).or_default().push(Arc::clone(volume));
            }
        }
        all
    }

    /// Other volumes are open now; the claims in use stay.
    pub(crate) fn renew(&mut self, open: Self) {
        self.open = open.open;
        self.taken = BTreeSet::new();
    }

    pub(crate) fn are_in_use(&self, needs: &VolumeNeeds) -> bool {
        needs.exclusive.iter().any(|claim| self.in_use.contains_key(claim))
    }

    /// Counts pods in by the claims that only one pod may use.
    pub fn use_claims(&mut self, needs: &VolumeNeeds, pods: u32) {
        for claim in &needs.exclusive {
            *self.in_use.entry(claim.clone()).or_default() += pods;
        }
    }

    /// Counts pods out again.
    pub fn free_claims(&mut self, needs: &VolumeNeeds, pods: u32) {
        for claim in &needs.exclusive {
            less(&mut self.in_use, claim, pods);
        }
    }

    /// Takes the open volumes that a pod would be given on a node, for [`Self::give_back`].
    pub fn take(&mut self, needs: &VolumeNeeds, node: &Node) -> Vec<VolumeName> {
        let taken = self.matched(needs, node).0;
        self.taken.extend(taken.iter().cloned());
        taken
    }

    pub fn give_back(&mut self, volumes: &[VolumeName]) {
        for name in volumes {
            self.taken.remove(name);
        }
    }

    /// What keeps the unbound claims of a pod from a node.
    pub(crate) fn conflict(&self, needs: &VolumeNeeds, node: &Node) -> Option<VolumeConflict> {
        let elsewhere =
            |volume: &UnboundVolume| volume.selected_node.as_ref().is_some_and(|n| *n != node.name);
        if needs.unbound.iter().any(elsewhere) {
            return Some(VolumeConflict::NoneToBind);
        }
        let (_, unmatched) = self.matched(needs, node);
        unmatched.into_iter().find_map(|volume| cannot_make(volume, node))
    }

    /// How many pods with these needs, up to `most`, find a volume for each claim on a node.
    pub(crate) fn capacity(&self, needs: &VolumeNeeds, node: &Node, most: u32) -> u32 {
        let most = if needs.exclusive.is_empty() { most } else { most.min(1) };
        if self.conflict(needs, node).is_some() {
            return 0;
        }
        // Where everything can be made on the spot, existing volumes only save making.
        let endless = needs.unbound.iter().all(|volume| cannot_make(volume, node).is_none());
        if endless {
            return most;
        }
        let mut trial = self.clone();
        (0..most)
            .find(|_| {
                let short = trial.conflict(needs, node).is_some();
                trial.take(needs, node);
                short
            })
            .unwrap_or(most)
    }

    /// Which open volumes the claims would get, smallest claim first, and the claims that get none.
    fn matched<'n>(&self, needs: &'n VolumeNeeds, node: &Node) -> (Vec<VolumeName>, Vec<&'n UnboundVolume>) {
        let mut chosen: Vec<VolumeName> = Vec::new();
        let (mut unmatched, wanting): (Vec<_>, Vec<_>) =
            needs.unbound.iter().partition(|volume| volume.selected_node.is_some());
        for claim in wanting {
            let open = self.open.get(&claim.class).into_iter().flatten();
            let free = open.filter(|v| !self.taken.contains(&v.name) && !chosen.contains(&v.name));
            match find_match(claim, free, &node.labels) {
                Some(volume) => chosen.push(volume.name.clone()),
                None => unmatched.push(claim),
            }
        }
        (chosen, unmatched)
    }
}

/// The volume that is kept for the claim if there is one, else the smallest that fits.
fn find_match<'v>(
    claim: &UnboundVolume,
    open: impl Iterator<Item = &'v Arc<PersistentVolume>>,
    labels: &Labels,
) -> Option<&'v Arc<PersistentVolume>> {
    let usable = |volume: &PersistentVolume| {
        let terms = volume.node_affinity.as_ref();
        terms.is_none_or(|terms| terms.iter().any(|term| term.matches("", labels)))
    };
    let mut smallest: Option<&Arc<PersistentVolume>> = None;
    for volume in open {
        let same = volume.mode == claim.mode && volume.attributes_class == claim.attributes_class;
        if !same || volume.capacity < claim.request {
            continue;
        }
        if claim.kept.as_ref() == Some(&volume.name) {
            return Some(volume).filter(|volume| usable(volume));
        }
        let fits = volume.available
            && volume.claim.is_none()
            && claim.selector.as_ref().is_none_or(|selector| selector.matches(&volume.labels))
            && claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode));
        if fits && smallest.is_none_or(|known| volume.capacity < known.capacity) && usable(volume) {
            smallest = Some(volume);
        }
    }
    smallest
}

/// Why no volume can be made for a claim on a node.
fn cannot_make(claim: &UnboundVolume, node: &Node) -> Option<VolumeConflict> {
    let allowed = &claim.allowed_topologies;
    let reachable = allowed.is_empty() || allowed.iter().any(|term| term.matches("", &node.labels));
    if !claim.provisionable || !reachable {
        return Some(VolumeConflict::NoneToBind);
    }
    let spacious = |room: &Vec<model::LabelSelector>| room.iter().any(|nodes| nodes.matches(&node.labels));
    claim.room_on.as_ref().is_some_and(|room| !spacious(room)).then_some(VolumeConflict::NotEnoughSpace)
}
