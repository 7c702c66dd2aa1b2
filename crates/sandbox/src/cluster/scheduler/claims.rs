//! The claims of pods as the scheduler sees them: what they ask of nodes, and volumes that are still open.
//!
//! Owns a small picture of storage and of the pods that use it; crate `model` works out what follows.

use super::super::controllers::objects::Key;
use crate::store::{Change, ChangeKind, Object};
use intake::files;
use model::{Cluster, Input, InputState, Pod, PodKey, PodShape, StorageChange, VolumeClaimKey};
use packing::ClusterVolumes;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Claims {
    /// Storage, and only the pods that have claims.
    cluster: Cluster,
    /// Pods with claims that wait for a node, as they were last seen.
    waiting: BTreeMap<Key, Arc<PodShape>>,
    changed: bool,
}

impl Default for Claims {
    fn default() -> Self {
        let mut cluster = Cluster::default();
        for input in [Input::Volumes, Input::Attachments] {
            cluster.apply(model::Change::Input(input, InputState::Fresh));
        }
        Self { cluster, waiting: BTreeMap::new(), changed: false }
    }
}

impl Claims {
    /// Takes in a change; returns the waiting pods that now ask for something else.
    pub(super) fn changed(&mut self, change: &Change) -> Vec<Key> {
        let object = &change.object;
        let read = files::Object { origin: "the sandbox".to_owned(), value: object.value().clone() };
        let known = match intake::storage_change(&read) {
            Ok(Some(known)) => known,
            Ok(None) => return Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "the simulated scheduler leaves an object of storage out");
                return Vec::new();
            }
        };
        let known = if change.kind == ChangeKind::Deleted { gone(known) } else { known };
        self.cluster.apply(model::Change::Storage(known));
        self.changed = true;
        let pods = self.cluster.pods();
        let differs = |(key, shape): &(&Key, &Arc<PodShape>)| {
            pods.get(&PodKey::new(&key.0, &key.1)).is_some_and(|pod| pod.shape != **shape)
        };
        self.waiting.iter().filter(differs).map(|(key, _)| key.clone()).collect()
    }

    /// The open volumes, where they may be others than when they were last asked for.
    pub(super) fn take_changed(&mut self) -> Option<ClusterVolumes> {
        std::mem::take(&mut self.changed).then(|| ClusterVolumes::of(&self.cluster))
    }

    pub(super) fn have_changed(&self) -> bool {
        self.changed && !self.waiting.is_empty()
    }

    /// A pod with what its claims ask for.
    pub(super) fn resolved(&mut self, mut pod: Pod) -> Pod {
        if pod.claims.is_none() {
            return pod;
        }
        let place = (pod.key.namespace.to_string(), pod.key.name.to_string());
        self.cluster.apply(model::Change::Pod(pod.key.clone(), Some(Arc::new(pod.clone()))));
        if let Some(known) = self.cluster.pods().get(&pod.key) {
            pod.shape = Arc::clone(&known.shape);
        }
        if pod.node.is_none() {
            self.waiting.insert(place, Arc::clone(&pod.shape));
        } else {
            self.waiting.remove(&place);
        }
        pod
    }

    pub(super) fn forget(&mut self, key: &Key) {
        let pod = PodKey::new(&key.0, &key.1);
        if self.cluster.pods().contains_key(&pod) {
            self.waiting.remove(key);
            self.cluster.apply(model::Change::Pod(pod, None));
        }
    }

    /// A node with its CSI drivers and what is left attached to it.
    pub(super) fn fitted(&self, node: &Arc<model::Node>) -> Arc<model::Node> {
        self.cluster.joined_node(node)
    }

    /// The claims of a pod that will be bound once it has a node.
    pub(super) fn unbound(&self, key: &Key) -> Vec<Key> {
        let storage = self.cluster.storage();
        let pod = self.cluster.pods().get(&PodKey::new(&key.0, &key.1));
        let claims = pod.and_then(|pod| pod.claims.as_ref()).into_iter().flat_map(|claims| &claims.volumes);
        claims
            .map(|claim| VolumeClaimKey::new(&key.0, &claim.name))
            .filter(|claim| storage.claims().get(claim).is_some_and(|claim| !claim.bound))
            .map(|claim| (claim.namespace.to_string(), claim.name.to_string()))
            .collect()
    }
}

/// The same object, gone.
fn gone(change: StorageChange) -> StorageChange {
    match change {
        StorageChange::Claim(key, _) => StorageChange::Claim(key, None),
        StorageChange::Volume(key, _) => StorageChange::Volume(key, None),
        StorageChange::Class(key, _) => StorageChange::Class(key, None),
        StorageChange::Driver(key, _) => StorageChange::Driver(key, None),
        StorageChange::NodeDrivers(key, _) => StorageChange::NodeDrivers(key, None),
        StorageChange::Attachment(key, _) => StorageChange::Attachment(key, None),
        StorageChange::Capacity(key, _) => StorageChange::Capacity(key, None),
        StorageChange::Devices(change) => StorageChange::Devices(change.gone()),
    }
}

/// Whether a node can be told apart from others by what storage says of it.
pub(super) fn concerns_nodes(object: &Object) -> bool {
    matches!(object.resource().plural(), "csinodes" | "volumeattachments")
}
