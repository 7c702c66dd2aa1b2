//! From a change to the work that it causes.

use super::daemon_set::pinned_to;
use super::objects::{
    self, Key, Reference, condition_status, controller_of, has_ended, key_of, node_of, owner_uids,
};
use super::volume_claims::{ephemeral_volumes, is_storage};
use super::{Controllers, Work};
use crate::store::resource::{
    CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, EVENTS, JOBS, NAMESPACES, NODES, POD_DISRUPTION_BUDGETS, PODS,
    REPLICA_SETS, REPLICATION_CONTROLLERS, SERVICES, STATEFUL_SETS,
};
use crate::store::{Change, ChangeKind, Object};
use std::sync::Arc;

impl Controllers {
    pub(super) fn route(&mut self, change: &Change) {
        let object = &change.object;
        let resource = object.resource();
        if resource == EVENTS {
            self.events.seen(change, &mut self.due);
            return;
        }
        self.index.apply(change);
        self.route_ownership(change);
        if resource == PODS {
            self.route_pod(change);
        } else if resource == NODES {
            self.route_node(change);
        } else if resource == NAMESPACES {
            self.scheduler.namespace_changed(change);
        } else if resource == DEPLOYMENTS {
            self.work.insert(Work::Deployment(key_of(object)));
        } else if resource == REPLICA_SETS || resource == REPLICATION_CONTROLLERS {
            self.work.insert(Work::ReplicaSet(resource, key_of(object)));
            if let Some(("Deployment", name, _)) = controller_of(object) {
                self.work.insert(Work::Deployment((object.namespace().to_owned(), name.to_owned())));
            }
        } else if resource == STATEFUL_SETS {
            self.work.insert(Work::StatefulSet(key_of(object)));
        } else if resource == DAEMON_SETS {
            self.daemon_set_changed(change);
        } else if resource == JOBS {
            self.work.insert(Work::Job(key_of(object)));
            if let Some(("CronJob", name, _)) = controller_of(object) {
                self.work.insert(Work::CronJob((object.namespace().to_owned(), name.to_owned())));
            }
        } else if resource == CRON_JOBS {
            self.work.insert(Work::CronJob(key_of(object)));
        } else if resource == POD_DISRUPTION_BUDGETS {
            self.budget_changed(change);
        } else if resource == SERVICES {
            self.service_changed(change);
        } else if is_storage(resource) {
            self.storage_changed(change);
        }
        if self.scheduler.has_work() {
            self.work.insert(Work::Schedule);
        }
    }

    fn route_ownership(&mut self, change: &Change) {
        let object = &change.object;
        match change.kind {
            ChangeKind::Deleted => {
                if self.index.dependants(object.uid()).next().is_some() {
                    self.work.insert(Work::Owned(object.uid().to_owned()));
                }
                // An owner that waits for its dependants may now go.
                let waiting = owner_uids(object).filter(|uid| self.going.contains_key(*uid));
                self.work.extend(waiting.map(|uid| Work::Owned(uid.to_owned())));
            }
            ChangeKind::Added => {
                if owner_uids(object).any(|uid| !self.index.exists(uid)) {
                    self.work.insert(Work::Orphan(Reference::to(object)));
                }
            }
            ChangeKind::Modified => {}
        }
        if object.is_terminating() && object.finalizers().any(|f| f == "foregroundDeletion" || f == "orphan")
        {
            self.going.insert(object.uid().to_owned(), Reference::to(object));
            self.work.insert(Work::Owned(object.uid().to_owned()));
        }
    }

    fn route_pod(&mut self, change: &Change) {
        let (pod, previous) = (&change.object, change.previous.as_ref());
        self.scheduler.pod_changed(change);
        if change.kind == ChangeKind::Added && ephemeral_volumes(pod).next().is_some() {
            self.work.insert(Work::EphemeralClaims(key_of(pod)));
        }
        if self.too_many_ended() {
            self.work.insert(Work::EndedPods);
        }
        let deleted = change.kind == ChangeKind::Deleted;
        if let Some(node) = node_of(pod)
            && !deleted
            && previous.is_none_or(|previous| node_of(previous) != Some(node))
        {
            self.pod_bound(&key_of(pod), node);
        }
        if !deleted && previous.is_some_and(|previous| !counts_differ(previous, pod)) {
            return;
        }
        for version in previous.into_iter().chain([pod]) {
            self.mark_owner(version);
        }
        let key = |name| (pod.namespace().to_owned(), name);
        let budgets = self.budgets.pod_changed(change);
        self.work.extend(budgets.into_iter().map(|name| Work::Budget(key(name))));
        let services = self.services.pod_changed(change);
        self.work.extend(services.into_iter().map(|name| Work::Endpoints(key(name))));
    }

    /// Marks the controller of a pod.
    fn mark_owner(&mut self, pod: &Object) {
        let Some((kind, name, _)) = controller_of(pod) else { return };
        let key: Key = (pod.namespace().to_owned(), name.to_owned());
        let work = match kind {
            "ReplicaSet" => Work::ReplicaSet(REPLICA_SETS, key),
            "ReplicationController" => Work::ReplicaSet(REPLICATION_CONTROLLERS, key),
            "StatefulSet" => Work::StatefulSet(key),
            "DaemonSet" => match node_of(pod).or_else(|| pinned_to(pod)) {
                Some(node) => Work::DaemonOnNode(key, node.to_owned()),
                None => return,
            },
            "Job" => Work::Job(key),
            _ => return,
        };
        self.work.insert(work);
    }

    fn route_node(&mut self, change: &Change) {
        let node: &Arc<Object> = &change.object;
        self.scheduler.node_changed(change);
        if change.kind == ChangeKind::Deleted {
            let at = super::after(self.clock.now(), self.options.orphan_grace);
            self.due.set(Work::LostNode(node.name().to_owned()), at);
            self.mark_daemons_on(node.name());
            return;
        }
        let differs = |path: &str| change.previous.as_ref().is_none_or(|old| old.at(path) != node.at(path));
        let ready = |object: &Object| condition_status(object, "Ready").map(str::to_owned);
        if differs("spec.taints")
            || differs("spec.unschedulable")
            || change.previous.as_ref().is_none_or(|old| ready(old) != ready(node))
        {
            self.work.insert(Work::NodeTaints(node.name().to_owned()));
        }
        if differs("spec.taints") || differs("spec.unschedulable") || differs("metadata.labels") {
            self.mark_daemons_on(node.name());
        }
    }
}

/// Whether two versions of a pod differ in anything that a workload, a budget or a service counts.
fn counts_differ(old: &Object, new: &Object) -> bool {
    old.uid() != new.uid()
        || has_ended(old) != has_ended(new)
        || old.text("status.phase") != new.text("status.phase")
        || objects::is_ready(old) != objects::is_ready(new)
        || old.is_terminating() != new.is_terminating()
        || old.labels() != new.labels()
        || !owner_uids(old).eq(owner_uids(new))
        || node_of(old) != node_of(new)
        || old.text("status.podIP") != new.text("status.podIP")
}
