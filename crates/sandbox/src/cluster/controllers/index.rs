//! Relations between objects that the store does not keep: owners to dependants, nodes to pods.
//!
//! Owns only what follows from the change log.

use super::daemon_set::pinned_to;
use super::objects::{
    Key, Reference, controller_of, has_ended, is_active, is_ready, key_of, node_of, owner_uids,
};
use crate::store::resource::PODS;
use crate::store::{Change, ChangeKind, Object};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Index {
    /// Uids of all objects that exist.
    uids: BTreeSet<String>,
    dependants: BTreeMap<String, BTreeSet<Reference>>,
    pods_on: BTreeMap<String, BTreeSet<Key>>,
    /// Pods by the uid of the owner that controls them.
    tallies: BTreeMap<String, Tally>,
    /// Pods of `DaemonSet`s, by its uid and the node that they are for.
    daemons: BTreeMap<String, BTreeMap<String, BTreeSet<Key>>>,
    /// Pods that ended, oldest first.
    ended: BTreeSet<(String, Key)>,
}

/// What a replica count goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Neither ended nor on their way out.
    pub(super) active: usize,
    /// Of these, ready.
    pub(super) ready: usize,
}

impl Index {
    pub(super) fn apply(&mut self, change: &Change) {
        let object = &change.object;
        if object.resource() == PODS {
            if let Some(previous) = &change.previous {
                self.tally(previous, false);
                self.ended.remove(&ended_entry(previous));
            }
            if change.kind != ChangeKind::Deleted {
                self.tally(object, true);
                if has_ended(object) {
                    self.ended.insert(ended_entry(object));
                }
            }
        }
        if let Some(previous) = &change.previous
            && (change.kind == ChangeKind::Deleted || relations_differ(previous, object))
        {
            self.forget(previous);
        }
        if change.kind == ChangeKind::Deleted {
            self.forget(object);
            self.uids.remove(object.uid());
        } else if change.previous.as_ref().is_none_or(|previous| relations_differ(previous, object)) {
            self.learn(object);
        }
    }

    fn tally(&mut self, pod: &Object, more: bool) {
        let Some((_, _, uid)) = controller_of(pod) else { return };
        if !is_active(pod) {
            return;
        }
        let ready = usize::from(is_ready(pod));
        if more {
            let tally = self.tallies.entry(uid.to_owned()).or_default();
            tally.active += 1;
            tally.ready += ready;
        } else if let Some(tally) = self.tallies.get_mut(uid) {
            tally.active = tally.active.saturating_sub(1);
            tally.ready = tally.ready.saturating_sub(ready);
            if tally.active == 0 {
                self.tallies.remove(uid);
            }
        }
    }

    pub(super) fn tally_of(&self, owner: &Object) -> Tally {
        self.tallies.get(owner.uid()).copied().unwrap_or_default()
    }

    fn learn(&mut self, object: &Object) {
        self.uids.insert(object.uid().to_owned());
        for uid in owner_uids(object) {
            self.dependants.entry(uid.to_owned()).or_default().insert(Reference::to(object));
        }
        if object.resource() == PODS
            && let Some(node) = node_of(object)
        {
            self.pods_on.entry(node.to_owned()).or_default().insert(key_of(object));
        }
        if let Some((uid, node)) = daemon_place(object) {
            let nodes = self.daemons.entry(uid.to_owned()).or_default();
            nodes.entry(node.to_owned()).or_default().insert(key_of(object));
        }
    }

    fn forget(&mut self, object: &Object) {
        for uid in owner_uids(object) {
            remove(&mut self.dependants, uid, &Reference::to(object));
        }
        if object.resource() == PODS
            && let Some(node) = node_of(object)
        {
            remove(&mut self.pods_on, node, &key_of(object));
        }
        if let Some((uid, node)) = daemon_place(object)
            && let Some(nodes) = self.daemons.get_mut(uid)
        {
            remove(nodes, node, &key_of(object));
            if nodes.is_empty() {
                self.daemons.remove(uid);
            }
        }
    }

    /// The oldest pods that ended, beyond the number that is kept.
    pub(super) fn ended_beyond(&self, kept: usize) -> impl Iterator<Item = &Key> {
        self.ended.iter().take(self.ended.len().saturating_sub(kept)).map(|(_, key)| key)
    }

    pub(super) fn daemon_pods(&self, uid: &str, node: &str) -> impl Iterator<Item = &Key> {
        self.daemons.get(uid).and_then(|nodes| nodes.get(node)).into_iter().flatten()
    }

    /// The nodes that pods of a `DaemonSet` are for.
    pub(super) fn daemon_nodes(&self, uid: &str) -> impl Iterator<Item = &String> {
        self.daemons.get(uid).into_iter().flat_map(BTreeMap::keys)
    }

    pub(super) fn exists(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    pub(super) fn dependants(&self, uid: &str) -> impl Iterator<Item = &Reference> {
        self.dependants.get(uid).into_iter().flatten()
    }

    pub(super) fn pods_on(&self, node: &str) -> impl Iterator<Item = &Key> {
        self.pods_on.get(node).into_iter().flatten()
    }
}

/// The `DaemonSet` of a pod, by uid, and the node that the pod is for.
fn daemon_place(pod: &Object) -> Option<(&str, &str)> {
    if pod.resource() != PODS {
        return None;
    }
    let ("DaemonSet", _, uid) = controller_of(pod)? else { return None };
    Some((uid, node_of(pod).or_else(|| pinned_to(pod))?))
}

fn ended_entry(pod: &Object) -> (String, Key) {
    (pod.text("metadata.creationTimestamp").unwrap_or("").to_owned(), key_of(pod))
}

fn relations_differ(a: &Object, b: &Object) -> bool {
    a.uid() != b.uid() || node_of(a) != node_of(b) || !owner_uids(a).eq(owner_uids(b))
}

fn remove<T: Ord>(map: &mut BTreeMap<String, BTreeSet<T>>, key: &str, item: &T) {
    if let Some(set) = map.get_mut(key) {
        set.remove(item);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
