//! The scheduler's picture of the cluster: which pods are where, as a room of crate `packing`.
//!
//! Owns keeping the room up to date with nodes, bound pods and namespaces. A room knows only the label keys that
//! something asked for when it was made; it is made anew when a pod comes with a new one, when a namespace changes,
//! and when most of its spots are gone. Classes have new numbers then, which [`Picture::generation`] tells.

use crate::cluster::controllers::objects::Key;
use model::{Labels, Node, PodShape};
use packing::{ClassIx, ClusterVolumes, NodeView, Room, SpotIx, Vocabulary, named_nodes};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Spots of nodes that are gone, beyond as many as there are nodes, after which the room is made anew.
const GONE_SPOTS: usize = 64;

/// All that tells pods apart for the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) shape: Arc<PodShape>,
    pub(super) namespace: Arc<str>,
    pub(super) labels: Arc<Labels>,
    /// Asked to end: spread constraints do not count it.
    pub(super) terminating: bool,
}

struct Held {
    uid: String,
    node: String,
    kind: Kind,
    class: ClassIx,
}

#[derive(Default)]
pub(super) struct Picture {
    room: Room,
    vocabulary: Vocabulary,
    namespaces: BTreeMap<Arc<str>, Arc<Labels>>,
    volumes: ClusterVolumes,
    nodes: BTreeMap<String, (Arc<Node>, SpotIx)>,
    /// Pods that hold room, on nodes that are known or not (yet).
    pods: BTreeMap<Key, Held>,
    on_node: BTreeMap<String, BTreeSet<Key>>,
    /// A pod of each class; the others differ in nothing that anything asks for.
    samples: BTreeMap<ClassIx, Kind>,
    generation: u64,
}

impl Picture {
    /// Changes whenever classes get new numbers.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    pub(super) fn namespaces(&self) -> &BTreeMap<Arc<str>, Arc<Labels>> {
        &self.namespaces
    }

    pub(super) fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values().map(|(node, _)| node)
    }

    /// The volumes of the cluster that are open, as they are now.
    pub(super) fn set_volumes(&mut self, volumes: ClusterVolumes) {
        self.room.set_volumes(volumes.clone());
        self.volumes = volumes;
    }

    /// The spots of all nodes, by name.
    pub(super) fn spots(&self) -> impl Iterator<Item = (&str, SpotIx)> {
        self.nodes.iter().map(|(name, (_, spot))| (name.as_str(), *spot))
    }

    pub(super) fn spot(&self, node: &str) -> Option<SpotIx> {
        self.nodes.get(node).map(|(_, spot)| *spot)
    }

    pub(super) fn view(&self, node: &str) -> Option<NodeView> {
        self.spot(node).map(|spot| self.room.view(spot))
    }

    pub(super) fn fits(&mut self, class: ClassIx, spot: SpotIx) -> bool {
        self.room.capacity(class, spot, 1) > 0
    }

    /// The spots where a pod fits, by their nodes' names.
    pub(super) fn feasible(&mut self, kind: &Kind, class: ClassIx) -> Vec<SpotIx> {
        let Self { nodes, room, .. } = self;
        let mut spots: Vec<SpotIx> = match named_nodes(&kind.shape) {
            // A DaemonSet's pod names its node: no need to look at the others.
            Some(names) => names.iter().filter_map(|name| Some(nodes.get(*name)?.1)).collect(),
            None => nodes.values().map(|(_, spot)| *spot).collect(),
        };
        spots.retain(|spot| room.capacity(class, *spot, 1) > 0);
        spots
    }

    /// A pod like those of a class.
    pub(super) fn sample(&self, class: ClassIx) -> Option<&Kind> {
        self.samples.get(&class)
    }

    /// The class of a pod. May make the room anew.
    pub(super) fn class_of(&mut self, kind: &Kind) -> ClassIx {
        if !self.room.covers(&kind.shape) {
            self.vocabulary.add(&kind.shape);
            self.make_anew();
        }
        self.number(kind)
    }

    fn number(&mut self, kind: &Kind) -> ClassIx {
        let class = if kind.terminating {
            self.room.terminating_class(&kind.shape, &kind.namespace, &kind.labels)
        } else {
            self.room.class(&kind.shape, &kind.namespace, &kind.labels)
        };
        self.samples.entry(class).or_insert_with(|| kind.clone());
        class
    }

    /// A bound pod holds room; one that is known is counted as it is now. Tells whether that changed anything.
    pub(super) fn hold(&mut self, key: Key, uid: String, node: &str, kind: Kind) -> bool {
        if self.pods.get(&key).is_some_and(|held| held.uid == uid && held.node == node && held.kind == kind) {
            return false;
        }
        self.forget(&key);
        let class = self.class_of(&kind);
        if let Some(spot) = self.spot(node) {
            self.room.hold(class, spot, 1);
        }
        self.on_node.entry(node.to_owned()).or_default().insert(key.clone());
        self.pods.insert(key, Held { uid, node: node.to_owned(), kind, class });
        true
    }

    /// A pod is gone. Tells where it was, if it held room there.
    pub(super) fn release(&mut self, key: &Key, uid: &str) -> Option<SpotIx> {
        if self.pods.get(key).is_none_or(|held| held.uid != uid) {
            return None;
        }
        let node = self.forget(key)?;
        self.spot(&node)
    }

    fn forget(&mut self, key: &Key) -> Option<String> {
        let held = self.pods.remove(key)?;
        if let Some(spot) = self.spot(&held.node) {
            self.room.release(held.class, spot, 1);
        }
        if let Some(keys) = self.on_node.get_mut(&held.node) {
            keys.remove(key);
            if keys.is_empty() {
                self.on_node.remove(&held.node);
            }
        }
        Some(held.node)
    }

    pub(super) fn set_node(&mut self, name: &str, node: Arc<Node>) -> SpotIx {
        self.remove_node(name);
        let spot = self.room.add(Arc::clone(&node));
        self.nodes.insert(name.to_owned(), (node, spot));
        for key in self.on_node.get(name).into_iter().flatten() {
            if let Some(held) = self.pods.get(key) {
                self.room.hold(held.class, spot, 1);
            }
        }
        spot
    }

    /// A node is gone. Its pods are still known: it may come back.
    pub(super) fn remove_node(&mut self, name: &str) {
        let Some((_, spot)) = self.nodes.remove(name) else { return };
        self.room.close(spot);
        if self.room.len() > 2 * self.nodes.len() + GONE_SPOTS {
            self.make_anew();
        }
    }

    /// Sets or, with `None`, removes a namespace's labels. Tells whether that changed anything.
    pub(super) fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> bool {
        let known = self.namespaces.get(name).map(|labels| &**labels);
        if known == labels.as_ref() {
            return false;
        }
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.into(), Arc::new(labels))),
            None => drop(self.namespaces.remove(name)),
        }
        self.make_anew();
        true
    }

    fn make_anew(&mut self) {
        self.generation += 1;
        self.room = Room::new(self.vocabulary.clone(), &self.namespaces).with_volumes(self.volumes.clone());
        self.samples.clear();
        for (node, spot) in self.nodes.values_mut() {
            *spot = self.room.add(Arc::clone(node));
        }
        let mut pods = std::mem::take(&mut self.pods);
        for held in pods.values_mut() {
            held.class = self.number(&held.kind);
            if let Some(spot) = self.spot(&held.node) {
                self.room.hold(held.class, spot, 1);
            }
        }
        self.pods = pods;
    }
}
