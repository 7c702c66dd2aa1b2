//! `DaemonSet`s: one pod on each node that their template fits, pinned to it by the node's name.
//!
//! Left out: surge during updates (a pod of an old template is replaced by deleting it, `maxUnavailable` at a time).

use super::objects::{
    Key, PodName, has_ended, is_active, is_ready, key_of, node_of, owner_reference, pod_from_template, share,
    template_hash,
};
use super::replica_set::report;
use super::{Controllers, Work, garbage::ignore_missing};
use crate::store::resource::{DAEMON_SETS, NODES, PODS};
use crate::store::{ApiError, Change, ChangeKind, Object, Part, Propagation};
use api::taints;
use jiff::Timestamp;
use model::PodShape;
use packing::{Ask, NodeView, first_lasting_rejection};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const HASH: &str = "controller-revision-hash";

/// What is known of one `DaemonSet`, so that a node or pod that changes costs a look at one node.
pub(super) struct Daemons {
    /// Of the version that was read last.
    generation: Option<Value>,
    hash: String,
    shape: Arc<PodShape>,
    nodes: BTreeMap<String, OnNode>,
}

/// A node that should hold a pod of the set, or does.
#[derive(Clone, Copy)]
struct OnNode {
    wanted: bool,
    live: bool,
    ready: bool,
    updated: bool,
}

impl Controllers {
    pub(super) fn daemon_set_changed(&mut self, change: &Change) {
        let key = key_of(&change.object);
        if change.kind == ChangeKind::Deleted {
            self.daemon_sets.remove(&key);
            return;
        }
        let known = self.daemon_sets.get(&key).and_then(|daemons| daemons.generation.as_ref());
        if known.is_none() || known != change.object.at("metadata.generation") {
            self.work.insert(Work::DaemonSet(key));
        }
    }

    /// Marks a node for every `DaemonSet`.
    pub(super) fn mark_daemons_on(&mut self, node: &str) {
        let works = self.daemon_sets.keys().map(|key| Work::DaemonOnNode(key.clone(), node.to_owned()));
        self.work.extend(works);
    }

    /// Reads a `DaemonSet` anew and marks every node for it.
    pub(super) fn reconcile_daemon_set(&mut self, key: &Key) -> Result<(), ApiError> {
        let Some(set) = self.store.find(DAEMON_SETS, &key.0, &key.1) else { return Ok(()) };
        let Some(template) = set.at("spec.template") else { return Ok(()) };
        let slim = set.typed::<intake::slim::DaemonSet>()?;
        let shape = match intake::daemon_set(&slim) {
            Ok(read) => read.shape,
            Err(error) => return Err(ApiError::BadRequest(error.to_string())),
        };
        let nodes = self.daemon_sets.remove(key).map(|daemons| daemons.nodes).unwrap_or_default();
        let all = self.scheduler.node_names().map(str::to_owned);
        let all = all.chain(nodes.keys().cloned()).chain(self.index.daemon_nodes(set.uid()).cloned());
        self.work.extend(all.map(|node| Work::DaemonOnNode(key.clone(), node)));
        let daemons = Daemons {
            generation: set.at("metadata.generation").cloned(),
            hash: template_hash(template),
            shape,
            nodes,
        };
        self.daemon_sets.insert(key.clone(), daemons);
        self.work.insert(Work::DaemonStatus(key.clone()));
        Ok(())
    }

    /// Sees to one node's pod.
    pub(super) fn reconcile_daemon(&mut self, key: &Key, node: &str, now: Timestamp) -> Result<(), ApiError> {
        let Some(set) = self.store.find(DAEMON_SETS, &key.0, &key.1) else { return Ok(()) };
        let Some(daemons) = self.daemon_sets.get(key) else { return Ok(()) };
        let (hash, shape) = (daemons.hash.clone(), Arc::clone(&daemons.shape));
        let fits = |view: NodeView| first_lasting_rejection(&Ask::of(&shape), &view).is_none();
        let wanted = self.scheduler.view(node).is_some_and(fits);
        let pods: Vec<Arc<Object>> = self
            .index
            .daemon_pods(set.uid(), node)
            .filter_map(|(namespace, name)| self.store.find(PODS, namespace, name))
            .collect();
        if wanted && !set.is_terminating() {
            if let Some(template) = set.at("spec.template") {
                self.keep_one(&set, template, &hash, node, &pods, now)?;
            }
        } else if !wanted && self.must_leave(node, &pods) {
            for pod in pods.iter().filter(|pod| !pod.is_terminating()) {
                self.delete(pod, Propagation::Background)?;
            }
        }
        let live = pods.iter().find(|pod| is_active(pod));
        let on_node = OnNode {
            wanted,
            live: live.is_some(),
            ready: live.is_some_and(|pod| is_ready(pod)),
            updated: live.is_some_and(|pod| pod.label(HASH) == Some(hash.as_str())),
        };
        if let Some(daemons) = self.daemon_sets.get_mut(key) {
            if wanted || !pods.is_empty() {
                daemons.nodes.insert(node.to_owned(), on_node);
            } else {
                daemons.nodes.remove(node);
            }
        }
        self.work.insert(Work::DaemonStatus(key.clone()));
        Ok(())
    }

    /// Exactly one live pod on a node; one that ended makes room for the next.
    fn keep_one(
        &mut self,
        set: &Object,
        template: &Value,
        hash: &str,
        node: &str,
        pods: &[Arc<Object>],
        now: Timestamp,
    ) -> Result<(), ApiError> {
        for pod in pods.iter().filter(|pod| has_ended(pod) && !pod.is_terminating()) {
            self.delete(pod, Propagation::Background)?;
        }
        if let Some((_, surplus)) = pods.iter().filter(|pod| is_active(pod)).collect::<Vec<_>>().split_first()
        {
            for pod in surplus {
                self.delete(pod, Propagation::Background)?;
            }
            return Ok(());
        }
        if !pods.is_empty() {
            // The old one has to be gone first: both would not fit.
            return Ok(());
        }
        let mut pod = pod_from_template(
            template,
            &PodName::Generated(set.name()),
            owner_reference(set, "apps/v1", "DaemonSet"),
        );
        pod["metadata"]["labels"][HASH] = hash.into();
        pin(&mut pod, node);
        tolerate(&mut pod);
        let made = self.store.create(PODS, set.namespace(), pod)?;
        let message = format!("Created pod: {}", made.name());
        self.events.normal(set, "DaemonSet", "SuccessfulCreate", &message, now);
        Ok(())
    }

    /// Rolling update: removes pods of an old template, as many at a time as may be missing.
    fn update_some(&mut self, set: &Object, key: &Key) -> Result<(), ApiError> {
        let Some(daemons) = self.daemon_sets.get(key) else { return Ok(()) };
        let old = |on: &&OnNode| on.wanted && on.live && !on.updated;
        if set.text("spec.updateStrategy.type") == Some("OnDelete")
            || !daemons.nodes.values().any(|n| old(&n))
        {
            return Ok(());
        }
        let one = json!(1);
        let wanted = daemons.nodes.values().filter(|on| on.wanted).count() as i64;
        let most = set.at("spec.updateStrategy.rollingUpdate.maxUnavailable").unwrap_or(&one);
        let most = share(Some(most), wanted, true).unwrap_or(1).max(1);
        let missing = daemons.nodes.values().filter(|on| on.wanted && !on.ready).count() as i64;
        let mut budget = (most - missing).max(0);
        let mut going = Vec::new();
        for (node, on) in daemons.nodes.iter().filter(|(_, on)| old(on)) {
            // What is not ready serves nobody and costs nothing to replace.
            if on.ready {
                if budget == 0 {
                    continue;
                }
                budget -= 1;
            }
            going.extend(self.index.daemon_pods(set.uid(), node).cloned());
        }
        for (namespace, name) in going {
            if let Some(pod) = self.store.find(PODS, &namespace, &name) {
                self.delete(&pod, Propagation::Background)?;
            }
        }
        Ok(())
    }

    /// A running pod stays under a new `NoSchedule` taint; anything else that no longer fits goes.
    fn must_leave(&self, node: &str, pods: &[Arc<Object>]) -> bool {
        let Some(view) = self.scheduler.view(node) else {
            // Never bound, and now it never will be.
            return self.store.find(NODES, "", node).is_none()
                && pods.iter().all(|pod| node_of(pod).is_none());
        };
        let mut calm = (**view.node()).clone();
        calm.taints.retain(|taint| taint.effect == model::Effect::NoExecute);
        calm.unschedulable = false;
        let calm = NodeView::new(Arc::new(calm));
        let stays = |pod: &Arc<Object>| {
            let slim = pod.typed::<intake::slim::Pod>().ok();
            let read = slim.and_then(|slim| intake::pod(&slim).ok());
            read.is_some_and(|pod| first_lasting_rejection(&Ask::of(&pod.shape), &calm).is_none())
        };
        !pods.iter().all(stays)
    }

    /// Moves a roll-out on and writes the numbers.
    pub(super) fn report_daemon_set(&mut self, key: &Key) -> Result<(), ApiError> {
        let Some(set) = self.store.find(DAEMON_SETS, &key.0, &key.1) else { return Ok(()) };
        if !set.is_terminating() {
            self.update_some(&set, key)?;
        }
        let Some(daemons) = self.daemon_sets.get(key) else { return Ok(()) };
        let count = |holds: fn(&OnNode) -> bool| daemons.nodes.values().filter(|on| holds(on)).count();
        let wanted = count(|on| on.wanted);
        let live = count(|on| on.wanted && on.live);
        let ready = count(|on| on.wanted && on.ready);
        let updated = count(|on| on.wanted && on.updated);
        let strangers = count(|on| !on.wanted && on.live);
        let done = self.store.modify(DAEMON_SETS, &key.0, &key.1, Part::Status, |value| {
            let always = [
                ("currentNumberScheduled", Value::from(live)),
                ("desiredNumberScheduled", Value::from(wanted)),
                ("numberMisscheduled", Value::from(strangers)),
                ("numberReady", Value::from(ready)),
                ("observedGeneration", value["metadata"]["generation"].clone()),
            ];
            let numbers = [
                ("numberAvailable", ready),
                ("numberUnavailable", wanted.saturating_sub(ready)),
                ("updatedNumberScheduled", updated),
            ];
            report(value, &always, &numbers)
        });
        ignore_missing(done)
    }
}

/// The node that an unbound pod of a `DaemonSet` is made for.
pub(super) fn pinned_to(pod: &Object) -> Option<&str> {
    let terms = pod
        .at("spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms")?;
    terms.get(0)?.get("matchFields")?.get(0)?.get("values")?.get(0)?.as_str()
}

/// Binds the pod's affinity to one node, beside what its template asks.
fn pin(pod: &mut Value, node: &str) {
    let field = json!([{"key": "metadata.name", "operator": "In", "values": [node]}]);
    let required =
        &mut pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array_mut() {
        Some(terms) if !terms.is_empty() => {
            // As the real controller does: the node was already matched against the template's own terms.
            for term in terms {
                *term = json!({"matchFields": field});
            }
        }
        _ => *required = json!({"nodeSelectorTerms": [{"matchFields": field}]}),
    }
}

/// What each pod of a `DaemonSet` puts up with.
fn tolerate(pod: &mut Value) {
    let list = &mut pod["spec"]["tolerations"];
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    let mut add = |key: &str, effect: &str| {
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        if !list.contains(&toleration) {
            list.push(toleration);
        }
    };
    for key in [taints::NOT_READY, taints::UNREACHABLE] {
        add(key, "NoExecute");
    }
    for key in [taints::DISK_PRESSURE, taints::MEMORY_PRESSURE, taints::PID_PRESSURE, taints::UNSCHEDULABLE] {
        add(key, "NoSchedule");
    }
    if pod["spec"]["hostNetwork"] == true
        && let Some(list) = pod["spec"]["tolerations"].as_array_mut()
    {
        list.push(json!({"key": taints::NETWORK_UNAVAILABLE, "operator": "Exists", "effect": "NoSchedule"}));
    }
}
