//! The default scheduler of the embedded cluster: puts waiting pods on nodes by the filters of crate `packing`.
//!
//! Owns the queue, the picture of free room, binding, and saying why a pod cannot be placed. A shape of pod that
//! fits nowhere waits as one until a node changes so that it fits, so thousands of equal pods cost one look.
//! Left out: preemption, and the rules that `packing` does not model yet (topology spread, pod affinity, volumes),
//! which are treated as absent.

mod queue;
mod verdict;

use super::controllers::objects::{Key, has_ended, key_of, node_of, set_condition};
use crate::store::resource::PODS;
use crate::store::{ApiError, Change, ChangeKind, Object, Part, Store};
use jiff::Timestamp;
use model::{Effect, PodShape};
use packing::{Ask, NodeView, first_rejection, named_nodes};
use queue::{Queue, Ticket};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name that pods without another get.
const NAME: &str = "default-scheduler";

struct SchedulerNode {
    view: NodeView,
    /// Pods that hold room here.
    pods: BTreeMap<Key, (String, Arc<PodShape>)>,
}

impl SchedulerNode {
    fn recount(&mut self) {
        let shapes = self.pods.values().map(|(_, shape)| &**shape);
        self.view = NodeView::holding(Arc::clone(self.view.node()), shapes);
    }
}

/// The scheduler's state, fed with the store's changes.
pub(crate) struct Scheduler {
    store: Store,
    events: bool,
    nodes: BTreeMap<String, SchedulerNode>,
    /// Bound pods whose node is not known (yet).
    strays: BTreeMap<String, BTreeMap<Key, (String, Arc<PodShape>)>>,
    queue: Queue,
}

impl Scheduler {
    pub(crate) fn new(store: Store, events: bool) -> Self {
        Self { store, events, nodes: BTreeMap::new(), strays: BTreeMap::new(), queue: Queue::default() }
    }

    pub(crate) fn has_work(&self) -> bool {
        self.queue.has_ready()
    }

    /// The nodes as the filters see them, for the DaemonSet controller.
    pub(crate) fn views(&self) -> impl Iterator<Item = (&str, &NodeView)> {
        self.nodes.iter().map(|(name, node)| (name.as_str(), &node.view))
    }

    pub(crate) fn view(&self, node: &str) -> Option<&NodeView> {
        self.nodes.get(node).map(|node| &node.view)
    }

    pub(crate) fn pod_changed(&mut self, change: &Change) {
        let pod = &change.object;
        let key = key_of(pod);
        let gone = change.kind == ChangeKind::Deleted || has_ended(pod);
        if let Some(node) = node_of(pod) {
            self.queue.remove(&key);
            if gone {
                self.release(node, &key, pod.uid());
            } else if let Some(shape) = self.shape_if_new(node, &key, pod) {
                self.hold(node, key, pod.uid().to_owned(), shape);
            }
            return;
        }
        if gone || pod.is_terminating() || !is_ours(pod) {
            self.queue.remove(&key);
            return;
        }
        let relevant = change.previous.as_ref().is_none_or(|old| {
            old.uid() != pod.uid() || old.at("spec") != pod.at("spec") || node_of(old).is_some()
        });
        if relevant {
            self.enqueue(key, pod);
        }
    }

    fn enqueue(&mut self, key: Key, pod: &Object) {
        self.queue.remove(&key);
        match read(pod) {
            Ok(model) => {
                let ticket = Ticket { priority: model.shape.priority, created_at: model.created_at, key };
                self.queue.put(ticket, &model.shape, model.gated);
            }
            Err(message) => tracing::warn!(%message, "the simulated scheduler leaves a pod alone"),
        }
    }

    fn shape_if_new(&self, node: &str, key: &Key, pod: &Object) -> Option<Arc<PodShape>> {
        let held = match self.nodes.get(node) {
            Some(known) => known.pods.get(key),
            None => self.strays.get(node).and_then(|pods| pods.get(key)),
        };
        if held.is_some_and(|(uid, _)| uid == pod.uid()) {
            return None;
        }
        match read(pod) {
            Ok(model) => Some(model.shape),
            Err(message) => {
                tracing::warn!(%message, "a bound pod's room is not counted");
                None
            }
        }
    }

    fn hold(&mut self, node: &str, key: Key, uid: String, shape: Arc<PodShape>) {
        let Some(known) = self.nodes.get_mut(node) else {
            self.strays.entry(node.to_owned()).or_default().insert(key, (uid, shape));
            return;
        };
        known.view.take(&shape);
        if known.pods.insert(key, (uid, shape)).is_some() {
            known.recount();
        }
    }

    fn release(&mut self, node: &str, key: &Key, uid: &str) {
        if let Some(pods) = self.strays.get_mut(node) {
            pods.remove(key);
            if pods.is_empty() {
                self.strays.remove(node);
            }
        }
        let Some(known) = self.nodes.get_mut(node) else { return };
        if known.pods.get(key).is_some_and(|(held, _)| held == uid) {
            known.pods.remove(key);
            known.recount();
            self.queue.node_improved(&known.view);
        }
    }

    pub(crate) fn node_changed(&mut self, change: &Change) {
        let name = change.object.name();
        if change.kind == ChangeKind::Deleted {
            if let Some(lost) = self.nodes.remove(name)
                && !lost.pods.is_empty()
            {
                self.strays.insert(name.to_owned(), lost.pods);
            }
            return;
        }
        let same =
            |path: &str| change.previous.as_ref().is_some_and(|old| old.at(path) == change.object.at(path));
        if self.nodes.contains_key(name)
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
        let model = match model {
            Ok(model) => Arc::new(model),
            Err(message) => {
                tracing::warn!(%message, "the simulated scheduler leaves a node alone");
                return;
            }
        };
        let pods = match self.nodes.remove(name) {
            Some(known) => known.pods,
            None => self.strays.remove(name).unwrap_or_default(),
        };
        let mut node = SchedulerNode { view: NodeView::new(model), pods };
        node.recount();
        self.queue.node_improved(&node.view);
        self.nodes.insert(name.to_owned(), node);
    }

    /// Places what can be placed, by priority and age, and says of the rest why not.
    pub(crate) fn work(&mut self, now: Timestamp) -> Result<(), ApiError> {
        for key in self.queue.take_gated() {
            self.report_gated(&key, now)?;
        }
        while let Some((ticket, shape)) = self.queue.next() {
            let Some(node) = self.choose(&shape) else {
                let message = verdict::message(&shape, self.nodes.values().map(|node| &node.view));
                for ticket in self.queue.park(&ticket, &shape) {
                    self.report_unschedulable(&ticket.key, &message, now)?;
                }
                continue;
            };
            self.queue.remove(&ticket.key);
            if let Some(uid) = self.bind(&ticket.key, &node, now)? {
                self.hold(&node, ticket.key, uid, shape);
            }
        }
        Ok(())
    }

    /// The node that fits and has the most room left, least unwanted taints first.
    fn choose(&self, shape: &PodShape) -> Option<String> {
        let ask = Ask::of(shape);
        let rank = |node: &SchedulerNode| {
            let fits = first_rejection(&ask, &node.view).is_none();
            fits.then(|| {
                (unwanted_taints(shape, &node.view), std::cmp::Reverse(least_allocated(shape, &node.view)))
            })
        };
        let best = match named_nodes(shape) {
            // A DaemonSet's pod names its node: no need to look at the others.
            Some(names) => {
                names.into_iter().filter_map(|name| Some((rank(self.nodes.get(name)?)?, name))).min()
            }
            None => self.nodes.iter().filter_map(|(name, node)| Some((rank(node)?, name.as_str()))).min(),
        };
        best.map(|(_, name)| name.to_owned())
    }

    /// Binds a pod; its uid, or nothing where it no longer waits.
    fn bind(&mut self, key: &Key, node: &str, now: Timestamp) -> Result<Option<String>, ApiError> {
        let waits = |pod: &Object| node_of(pod).is_none() && !pod.is_terminating();
        let Some(pod) = self.store.find(PODS, &key.0, &key.1).filter(|pod| waits(pod)) else {
            return Ok(None);
        };
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

    fn report_unschedulable(&mut self, key: &Key, message: &str, now: Timestamp) -> Result<(), ApiError> {
        let done = self.store.modify(PODS, &key.0, &key.1, Part::Status, |value| {
            set_condition(value, "PodScheduled", "False", "Unschedulable", message, now)
        });
        match done {
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

fn unwanted_taints(shape: &PodShape, node: &NodeView) -> usize {
    node.taints()
        .iter()
        .filter(|taint| taint.effect == Effect::PreferNoSchedule)
        .filter(|taint| !shape.tolerations.iter().any(|t| t.tolerates(taint)))
        .count()
}

/// kube-scheduler's `LeastAllocated` score, 0 to 100: the mean of the shares of CPU and memory that stay free.
fn least_allocated(shape: &PodShape, node: &NodeView) -> u64 {
    let share = |asked: u64, free: u64, all: u64| {
        let left = u128::from(free.saturating_sub(asked));
        (left * 100).checked_div(u128::from(all)).unwrap_or(0) as u64
    };
    let (free, all) = (node.free(), node.allocatable());
    let cpu = share(shape.requests.cpu.0, free.cpu.0, all.cpu.0);
    let memory = share(shape.requests.memory.0, free.memory.0, all.memory.0);
    u64::midpoint(cpu, memory)
}
