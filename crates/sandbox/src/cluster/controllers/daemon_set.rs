//! `DaemonSet`s: one pod on each node that their template fits, pinned to it by the node's name.
//!
//! Left out: surge during updates (a pod of an old template is replaced by deleting it, `maxUnavailable` at a time).

use super::objects::{
    Key, PodName, has_ended, is_active, is_ready, node_of, owner_reference, pod_from_template, share,
    template_hash,
};
use super::replica_set::report;
use super::{Controllers, garbage::ignore_missing};
use crate::store::resource::{DAEMON_SETS, NODES, PODS};
use crate::store::{ApiError, Object, Part, Propagation};
use api::taints;
use jiff::Timestamp;
use packing::{Ask, NodeView, first_lasting_rejection};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const HASH: &str = "controller-revision-hash";

impl Controllers {
    pub(super) fn reconcile_daemon_set(&mut self, key: &Key, now: Timestamp) -> Result<(), ApiError> {
        let Some(set) = self.store.find(DAEMON_SETS, &key.0, &key.1) else { return Ok(()) };
        let Some(template) = set.at("spec.template") else { return Ok(()) };
        let slim = set.typed::<intake::slim::DaemonSet>()?;
        let shape = match intake::daemon_set(&slim) {
            Ok(read) => read.shape,
            Err(error) => return Err(ApiError::BadRequest(error.to_string())),
        };
        let mut by_node: BTreeMap<String, Vec<Arc<Object>>> = BTreeMap::new();
        for pod in self.pods_of(&set) {
            if let Some(node) = node_of(&pod).or_else(|| pinned_to(&pod)) {
                by_node.entry(node.to_owned()).or_default().push(pod);
            }
        }
        let wanted: Vec<String> = self
            .scheduler
            .views()
            .filter(|(_, view)| first_lasting_rejection(&Ask::of(&shape), view).is_none())
            .map(|(name, _)| name.to_owned())
            .collect();
        let hash = template_hash(template);
        if !set.is_terminating() {
            for node in &wanted {
                let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
                self.keep_one(&set, template, &hash, node, pods, now)?;
            }
            self.update_some(&set, &hash, &wanted, &by_node)?;
        }
        self.leave_others(&wanted, &by_node)?;
        self.report_daemon_set(&set, &hash, &wanted, &by_node)
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
    fn update_some(
        &mut self,
        set: &Object,
        hash: &str,
        wanted: &[String],
        by_node: &BTreeMap<String, Vec<Arc<Object>>>,
    ) -> Result<(), ApiError> {
        if set.text("spec.updateStrategy.type") == Some("OnDelete") {
            return Ok(());
        }
        let one = json!(1);
        let most = set.at("spec.updateStrategy.rollingUpdate.maxUnavailable").unwrap_or(&one);
        let most = share(Some(most), wanted.len() as i64, true).unwrap_or(1).max(1);
        let live = |node: &String| by_node.get(node).and_then(|pods| pods.iter().find(|pod| is_active(pod)));
        let missing =
            wanted.iter().filter(|node| !live(node).is_some_and(|pod| is_ready(pod))).count() as i64;
        let mut budget = (most - missing).max(0);
        for pod in wanted.iter().filter_map(live) {
            if pod.label(HASH) == Some(hash) {
                continue;
            }
            // What is not ready serves nobody and costs nothing to replace.
            if is_ready(pod) {
                if budget == 0 {
                    continue;
                }
                budget -= 1;
            }
            self.delete(pod, Propagation::Background)?;
        }
        Ok(())
    }

    /// Pods on nodes that the template no longer fits; those of vanished nodes are the garbage collector's.
    fn leave_others(
        &mut self,
        wanted: &[String],
        by_node: &BTreeMap<String, Vec<Arc<Object>>>,
    ) -> Result<(), ApiError> {
        for (node, pods) in by_node {
            if wanted.binary_search(node).is_ok() || !self.must_leave(node, pods) {
                continue;
            }
            for pod in pods.iter().filter(|pod| !pod.is_terminating()) {
                self.delete(pod, Propagation::Background)?;
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

    fn report_daemon_set(
        &mut self,
        set: &Object,
        hash: &str,
        wanted: &[String],
        by_node: &BTreeMap<String, Vec<Arc<Object>>>,
    ) -> Result<(), ApiError> {
        let live = |node: &String| by_node.get(node).and_then(|pods| pods.iter().find(|pod| is_active(pod)));
        let pods: Vec<&Arc<Object>> = wanted.iter().filter_map(live).collect();
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let updated = pods.iter().filter(|pod| pod.label(HASH) == Some(hash)).count();
        let strangers = by_node
            .iter()
            .filter(|(node, pods)| {
                wanted.binary_search(node).is_err() && pods.iter().any(|pod| is_active(pod))
            })
            .count();
        let done = self.store.modify(DAEMON_SETS, set.namespace(), set.name(), Part::Status, |value| {
            let always = [
                ("currentNumberScheduled", Value::from(pods.len())),
                ("desiredNumberScheduled", Value::from(wanted.len())),
                ("numberMisscheduled", Value::from(strangers)),
                ("numberReady", Value::from(ready)),
                ("observedGeneration", value["metadata"]["generation"].clone()),
            ];
            let numbers = [
                ("numberAvailable", ready),
                ("numberUnavailable", wanted.len().saturating_sub(ready)),
                ("updatedNumberScheduled", updated),
            ];
            report(value, &always, &numbers)
        });
        ignore_missing(done)
    }
}

/// The node that an unbound pod of a `DaemonSet` is made for.
fn pinned_to(pod: &Object) -> Option<&str> {
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
