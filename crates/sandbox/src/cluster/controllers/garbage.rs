//! Collection of dependants without owners, and of pods without nodes.

use super::objects::{Reference, has_ended, owner_uids, set_condition};
use super::{Controllers, Work};
use crate::store::resource::{NODES, PODS};
use crate::store::{ApiError, DeleteOptions, Object, Part, Propagation};
use jiff::Timestamp;
use serde_json::Value;

/// Pods that ended and are kept for reading, as kube-controller-manager's `--terminated-pod-gc-threshold`.
const ENDED_KEPT: usize = 12_500;

impl Controllers {
    /// Whether more pods ended than are kept.
    pub(super) fn too_many_ended(&self) -> bool {
        self.index.ended_beyond(ENDED_KEPT).next().is_some()
    }

    pub(super) fn trim_ended(&mut self) -> Result<(), ApiError> {
        let surplus: Vec<super::Key> = self.index.ended_beyond(ENDED_KEPT).cloned().collect();
        for (namespace, name) in surplus {
            let Some(pod) = self.store.find(PODS, &namespace, &name) else { continue };
            if !pod.is_terminating() {
                self.delete(&pod, Propagation::Background)?;
            }
        }
        Ok(())
    }

    /// An owner is gone, or is being deleted in the foreground or leaving its dependants behind.
    pub(super) fn collect_dependants(&mut self, uid: &str) -> Result<(), ApiError> {
        if self.index.exists(uid) && !self.going.contains_key(uid) {
            return Ok(());
        }
        let dependants: Vec<Reference> = self.index.dependants(uid).cloned().collect();
        if !self.index.exists(uid) {
            self.going.remove(uid);
            for dependant in dependants {
                self.collect_orphan(&dependant)?;
            }
            return Ok(());
        }
        let Some(reference) = self.going.get(uid).cloned() else { return Ok(()) };
        let Some(owner) = self.store.find(reference.resource, &reference.namespace, &reference.name) else {
            return Ok(());
        };
        if owner.finalizers().any(|f| f == "orphan") {
            for dependant in &dependants {
                self.disown(dependant, uid)?;
            }
            return self.drop_finalizer(&owner, "orphan");
        }
        let mut waits = false;
        for dependant in dependants {
            let Some(object) = self.store.find(dependant.resource, &dependant.namespace, &dependant.name)
            else {
                continue;
            };
            waits |= blocks(&object, uid);
            if !object.is_terminating() {
                self.delete(&object, Propagation::Background)?;
            }
        }
        if waits {
            return Ok(());
        }
        self.drop_finalizer(&owner, "foregroundDeletion")
    }

    /// Deletes an object none of whose owners exists.
    pub(super) fn collect_orphan(&mut self, reference: &Reference) -> Result<(), ApiError> {
        let Some(object) = self.store.find(reference.resource, &reference.namespace, &reference.name) else {
            return Ok(());
        };
        let mut owners = owner_uids(&object).peekable();
        if owners.peek().is_none() || owners.any(|uid| self.index.exists(uid)) {
            return Ok(());
        }
        self.delete(&object, Propagation::Background)?;
        // No Job is left to count this pod's end.
        self.drop_finalizer(&object, super::job::TRACKING)
    }

    pub(super) fn delete(&mut self, object: &Object, propagation: Propagation) -> Result<(), ApiError> {
        let options = DeleteOptions {
            uid: Some(object.uid().to_owned()),
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        match self.store.delete(object.resource(), object.namespace(), object.name(), &options) {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    fn disown(&mut self, dependant: &Reference, uid: &str) -> Result<(), ApiError> {
        let Reference { resource, namespace, name } = dependant;
        let done = self.store.modify(*resource, namespace, name, Part::Main, |value| {
            let Some(owners) = value["metadata"]["ownerReferences"].as_array_mut() else { return false };
            let before = owners.len();
            owners.retain(|owner| owner.get("uid").and_then(Value::as_str) != Some(uid));
            owners.len() != before
        });
        ignore_missing(done)
    }

    pub(super) fn drop_finalizer(&mut self, object: &Object, finalizer: &str) -> Result<(), ApiError> {
        if !object.finalizers().any(|found| found == finalizer) {
            return Ok(());
        }
        let done =
            self.store.modify(object.resource(), object.namespace(), object.name(), Part::Main, |value| {
                let Some(finalizers) = value["metadata"]["finalizers"].as_array_mut() else { return false };
                let before = finalizers.len();
                finalizers.retain(|found| found.as_str() != Some(finalizer));
                finalizers.len() != before
            });
        ignore_missing(done)
    }

    /// Ends and removes the pods of a node that does not exist.
    pub(super) fn collect_pods_of(&mut self, node: &str, now: Timestamp) -> Result<(), ApiError> {
        if self.store.find(NODES, "", node).is_some() {
            return Ok(());
        }
        let pods: Vec<_> = self.index.pods_on(node).cloned().collect();
        for (namespace, name) in pods {
            let Some(pod) = self.store.find(PODS, &namespace, &name) else { continue };
            if !has_ended(&pod) {
                let done = self.store.modify(PODS, &namespace, &name, Part::Status, |value| {
                    value["status"]["phase"] = "Failed".into();
                    let message = "PodGC: node no longer exists";
                    set_condition(value, "DisruptionTarget", "True", "DeletionByPodGC", message, now);
                    true
                });
                ignore_missing(done)?;
            }
            let options = DeleteOptions {
                grace_period_seconds: Some(0),
                uid: Some(pod.uid().to_owned()),
                ..DeleteOptions::default()
            };
            match self.store.delete(PODS, &namespace, &name, &options) {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// A pod was bound: to a node that exists, one hopes.
    pub(super) fn pod_bound(&mut self, pod: &super::Key, node: &str) {
        match self.store.find(NODES, "", node) {
            None => {
                let at = super::after(self.clock.now(), self.options.orphan_grace);
                self.due.set_earliest(Work::LostNode(node.to_owned()), at);
            }
            Some(found) if super::node_lifecycle::expels(&found) => {
                self.work.insert(Work::Expel(pod.clone()));
            }
            Some(_) => {}
        }
    }
}

fn blocks(dependant: &Object, uid: &str) -> bool {
    let owners = dependant.metadata().and_then(|m| m.get("ownerReferences")).and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| {
        owner.get("uid").and_then(Value::as_str) == Some(uid)
            && owner.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true)
    })
}

pub(super) fn ignore_missing<T>(result: Result<T, ApiError>) -> Result<(), ApiError> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
