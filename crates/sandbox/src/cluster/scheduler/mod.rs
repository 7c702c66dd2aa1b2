//! The default scheduler of the embedded cluster: puts waiting pods on nodes by the rules of crate `packing`.
//!
//! Owns the order of pods, binding, and saying why a pod cannot be placed. A class of pods that fits nowhere waits as
//! one until something changes for it, so thousands of equal pods cost one look. The picture of free room is
//! `picture`'s, what claims of volumes ask for `claims`'s, the choice among nodes that fit `score`'s. Left out: preemption.

mod claims;
mod picture;
mod queue;
mod score;
mod verdict;

use super::controllers::objects::{Key, has_ended, key_of, node_of, set_condition};
use crate::cluster::volumes::{self, SELECTED_NODE};
use crate::store::resource::{NODES, PERSISTENT_VOLUME_CLAIMS, PODS};
use crate::store::{ApiError, Change, ChangeKind, Object, Part, Store};
use claims::Claims;
use jiff::Timestamp;
use packing::{ClassIx, NodeView, SpotIx};
use picture::{Kind, Picture};
use queue::{Queue, Ticket};
use std::cmp::Reverse;
use std::sync::Arc;

/// The name that pods without another get.
const NAME: &str = "default-scheduler";

/// The scheduler's state, fed with the store's changes.
pub(crate) struct Scheduler {
    store: Store,
    events: bool,
    picture: Picture,
    queue: Queue,
    claims: Claims,
    /// The picture's generation that the queue's classes are of.
    generation: u64,
    /// Pods came, went or changed since parked classes that heed other pods were brought back.
    pods_moved: bool,
}

impl Scheduler {
    pub(crate) fn new(store: Store, events: bool) -> Self {
        let (picture, queue, claims) = (Picture::default(), Queue::default(), Claims::default());
        Self { store, events, picture, queue, claims, generation: 0, pods_moved: false }
    }

    pub(crate) fn has_work(&self) -> bool {
        self.queue.has_ready() || self.pods_moved || self.claims.have_changed()
    }

    /// The nodes' names.
    pub(crate) fn node_names(&self) -> impl Iterator<Item = &str> {
        self.picture.node_names()
    }

    /// A node as the filters see it, for the DaemonSet controller.
    pub(crate) fn view(&self, node: &str) -> Option<NodeView> {
        self.picture.view(node)
    }

    pub(crate) fn pod_changed(&mut self, change: &Change) {
        let pod = &change.object;
        let key = key_of(pod);
        let gone = change.kind == ChangeKind::Deleted || has_ended(pod);
        if gone {
            self.claims.forget(&key);
        }
        let same = |path: &str| change.previous.as_ref().is_some_and(|old| old.at(path) == pod.at(path));
        let same_pod = change.previous.as_ref().is_some_and(|old| old.uid() == pod.uid());
        let same_kind = same_pod && same("spec") && same("metadata.labels");
        if let Some(node) = node_of(pod) {
            self.queue.remove(&key);
            if gone {
                self.release(&key, pod.uid());
            } else if !(same_kind && same("metadata.deletionTimestamp")) {
                self.note_bound(node, key, pod);
            }
            return;
        }
        if gone || pod.is_terminating() || !is_ours(pod) {
            self.queue.remove(&key);
        } else if !same_kind {
            self.enqueue(key, pod);
        }
    }

    fn enqueue(&mut self, key: Key, pod: &Object) {
        self.queue.remove(&key);
        match read(pod) {
            Ok(model) if model.gated => self.queue.put_gated(key),
            Ok(model) => {
                let ticket = Ticket { priority: model.shape.priority, created_at: model.created_at, key };
                let kind = kind_of(self.claims.resolved(model));
                let class = self.picture.class_of(&kind);
                self.queue.put(ticket, kind, class);
                self.keep_classes();
            }
            Err(message) => tracing::warn!(%message, "the simulated scheduler leaves a pod alone"),
        }
    }

    fn note_bound(&mut self, node: &str, key: Key, pod: &Object) {
        match read(pod) {
            Ok(model) => {
                let kind = kind_of(self.claims.resolved(model));
                self.hold(node, key, pod.uid().to_owned(), kind);
            }
            Err(message) => tracing::warn!(%message, "a bound pod's room is not counted"),
        }
    }

    fn hold(&mut self, node: &str, key: Key, uid: String, kind: Kind) {
        self.pods_moved |= self.picture.hold(key, uid, node, kind);
        self.keep_classes();
    }

    fn release(&mut self, key: &Key, uid: &str) {
        if let Some(spot) = self.picture.release(key, uid) {
            self.pods_moved = true;
            self.improved(spot);
        }
    }

    pub(crate) fn namespace_changed(&mut self, change: &Change) {
        let labels = (change.kind != ChangeKind::Deleted)
            .then(|| change.object.typed::<intake::slim::Namespace>().ok())
            .flatten()
            .map(|namespace| intake::namespace(&namespace).1);
        if self.picture.set_namespace(change.object.name(), labels) {
            self.keep_classes();
        }
    }

    pub(crate) fn node_changed(&mut self, change: &Change) {
        let name = change.object.name();
        if change.kind == ChangeKind::Deleted {
            self.picture.remove_node(name);
            self.pods_moved = true;
            self.keep_classes();
            return;
        }
        let same =
            |path: &str| change.previous.as_ref().is_some_and(|old| old.at(path) == change.object.at(path));
        if self.picture.spot(name).is_some()
            && same("spec")
            && same("metadata.labels")
            && same("status.allocatable")
        {
            return;
        }
        let model = change
            .object
            .typed::<intake::slim::Node>()
            .map_err(|error| error.to_string())
            .and_then(|slim| intake::node(&slim).map_err(|error| error.to_string()));
        match model {
            Ok(model) => {
                let node = self.claims.fitted(&Arc::new(model));
                let spot = self.picture.set_node(name, node);
                self.pods_moved = true;
                self.keep_classes();
                // The room may have been made anew on the way.
                let spot = self.picture.spot(name).unwrap_or(spot);
                self.improved(spot);
            }
            Err(message) => tracing::warn!(%message, "the simulated scheduler leaves a node alone"),
        }
    }

    /// Storage is not what it was: nodes are fitted anew, and pods that wait with claims are looked at again.
    pub(crate) fn storage_changed(&mut self, change: &Change) {
        for key in self.claims.changed(change) {
            if let Some(pod) = self.store.find(PODS, &key.0, &key.1).filter(|pod| node_of(pod).is_none()) {
                self.enqueue(key, &pod);
            }
        }
        if claims::concerns_nodes(&change.object) {
            self.fit_nodes();
        }
    }

    fn fit_nodes(&mut self) {
        let nodes: Vec<_> = self.picture.nodes().cloned().collect();
        for node in nodes {
            let fitted = self.claims.fitted(&node);
            if !Arc::ptr_eq(&fitted, &node) {
                let name = node.name.to_string();
                let spot = self.picture.set_node(&name, fitted);
                self.keep_classes();
                let spot = self.picture.spot(&name).unwrap_or(spot);
                self.improved(spot);
            }
        }
    }

    /// Brings back parked classes that fit on a spot now.
    fn improved(&mut self, spot: SpotIx) {
        let Self { picture, queue, .. } = self;
        queue.bring_back(|class| picture.fits(class, spot));
    }

    /// Sorts the queue in again where classes have got new numbers.
    fn keep_classes(&mut self) {
        let Self { picture, queue, generation, .. } = self;
        if *generation != picture.generation() {
            queue.renumber(|kind| picture.class_of(kind));
            *generation = picture.generation();
        }
    }

    /// Places what can be placed, by priority and age, and says of the rest why not.
    pub(crate) fn work(&mut self, now: Timestamp) -> Result<(), ApiError> {
        for key in self.queue.take_gated() {
            self.report_gated(&key, now)?;
        }
        if let Some(volumes) = self.claims.take_changed() {
            self.picture.set_volumes(volumes);
            let Self { picture, queue, .. } = self;
            queue.bring_back(|class| picture.room().shape_of(class).volumes.is_some());
        }
        loop {
            if std::mem::take(&mut self.pods_moved) {
                let Self { picture, queue, .. } = self;
                queue.bring_back(|class| picture.room().heeds_pods(class));
            }
            while let Some((ticket, kind, class)) = self.queue.next() {
                self.place(&ticket, kind, class, now)?;
            }
            if !self.pods_moved {
                return Ok(());
            }
        }
    }

    fn place(&mut self, ticket: &Ticket, kind: Kind, class: ClassIx, now: Timestamp) -> Result<(), ApiError> {
        let Some(node) = self.choose(&kind, class) else {
            let message = verdict::message(&self.picture, class, &kind.shape);
            for ticket in self.queue.park(ticket, class) {
                self.report_unschedulable(&ticket.key, &message, now)?;
            }
            return Ok(());
        };
        self.queue.remove(&ticket.key);
        if let Some(uid) = self.bind(&ticket.key, &node, now)? {
            self.hold(&node, ticket.key.clone(), uid, kind);
        }
        Ok(())
    }

    /// The best node that fits, the first by name of equals.
    fn choose(&mut self, kind: &Kind, class: ClassIx) -> Option<String> {
        let feasible = self.picture.feasible(kind, class);
        let best = match &feasible[..] {
            [] => None,
            [only] => Some(*only),
            _ => {
                let scores = score::scores(&self.picture, kind, &feasible).into_iter().zip(&feasible);
                // They come by name, and the first of the highest is taken.
                scores.min_by_key(|(score, _)| Reverse(*score)).map(|(_, spot)| *spot)
            }
        };
        best.map(|spot| self.picture.room().node(spot).name.as_str().to_owned())
    }

    /// Binds a pod; its uid, or nothing where it no longer waits.
    fn bind(&mut self, key: &Key, node: &str, now: Timestamp) -> Result<Option<String>, ApiError> {
        let waits = |pod: &Object| node_of(pod).is_none() && !pod.is_terminating();
        let Some(pod) = self.store.find(PODS, &key.0, &key.1).filter(|pod| waits(pod)) else {
            return Ok(None);
        };
        if !self.bind_claims(key, node, now)? {
            // Storage has changed meanwhile; its next change brings the pod back.
            self.report_unschedulable(key, "a volume could not be bound", now)?;
            return Ok(None);
        }
        let bound = self.store.modify(PODS, &key.0, &key.1, Part::Whole, |value| {
            value["spec"]["nodeName"] = node.into();
            set_condition(value, "PodScheduled", "True", "", "", now);
            true
        });
        match bound {
            Ok(bound) => {
                let message =
                    format!("Successfully assigned {}/{} to {node}", bound.namespace(), bound.name());
                self.event(&pod, false, "Scheduled", &message, now);
                Ok(Some(bound.uid().to_owned()))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the pod's open claims their volumes, now that it has a node; true where all are bound.
    fn bind_claims(&self, key: &Key, node: &str, now: Timestamp) -> Result<bool, ApiError> {
        let mut all = true;
        for (namespace, name) in self.claims.unbound(key) {
            let Some(claim) = self.store.find(PERSISTENT_VOLUME_CLAIMS, &namespace, &name) else {
                return Ok(false);
            };
            if claim.text("status.phase") == Some("Bound") {
                continue;
            }
            self.store.modify(PERSISTENT_VOLUME_CLAIMS, &namespace, &name, Part::Main, |value| {
                value["metadata"]["annotations"][SELECTED_NODE] = node.into();
                true
            })?;
            let node = self.store.find(NODES, "", node);
            all &= volumes::bind(&self.store, &claim, node.as_deref(), now)?;
        }
        Ok(all)
    }

    fn report_unschedulable(&mut self, key: &Key, message: &str, now: Timestamp) -> Result<(), ApiError> {
        let mut news = false;
        let done = self.store.modify(PODS, &key.0, &key.1, Part::Status, |value| {
            news = set_condition(value, "PodScheduled", "False", "Unschedulable", message, now);
            news
        });
        match done {
            // Another look with the same outcome is not told again.
            Ok(_) if !news => Ok(()),
            Ok(pod) => {
                self.event(&pod, true, "FailedScheduling", message, now);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn report_gated(&mut self, key: &Key, now: Timestamp) -> Result<(), ApiError> {
        let message = "Scheduling is blocked due to non-empty scheduling gates";
        let done = self.store.modify(PODS, &key.0, &key.1, Part::Status, |value| {
            set_condition(value, "PodScheduled", "False", "SchedulingGated", message, now)
        });
        match done {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn event(&self, pod: &Object, warning: bool, reason: &str, message: &str, now: Timestamp) {
        if self.events {
            let event = super::controllers::Event {
                about: pod,
                kind: "Pod",
                warning,
                reason,
                message,
                component: NAME,
            };
            super::controllers::write_event(&self.store, &event, now);
        }
    }
}

fn is_ours(pod: &Object) -> bool {
    pod.text("spec.schedulerName").is_none_or(|name| name.is_empty() || name == NAME)
}

fn read(pod: &Object) -> Result<model::Pod, String> {
    let slim = pod.typed::<intake::slim::Pod>().map_err(|error| error.to_string())?;
    intake::pod(&slim).map_err(|error| error.to_string())
}

fn kind_of(pod: model::Pod) -> Kind {
    Kind {
        terminating: pod.deletion_at.is_some(),
        shape: pod.shape,
        namespace: pod.key.namespace,
        labels: Arc::new(pod.labels),
    }
}
