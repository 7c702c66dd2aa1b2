//! Nodes that are not ready: their taints, their pods' readiness, and the eviction of pods that do not tolerate them.

use super::objects::{Key, condition_status, is_ready, node_of, set_condition};
use super::{Controllers, Work, after, garbage::ignore_missing};
use crate::store::resource::{NODES, PODS};
use crate::store::{ApiError, Object, Part, Propagation};
use api::taints;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Taint, Toleration};
use serde_json::{Value, json};
use std::time::Duration;

/// The taints that this controller alone puts on and takes off.
const OURS: [&str; 3] = [taints::NOT_READY, taints::UNREACHABLE, taints::UNSCHEDULABLE];

impl Controllers {
    /// Makes a node's taints follow its Ready condition and its cordon.
    pub(super) fn taint_node(&mut self, name: &str, now: Timestamp) -> Result<(), ApiError> {
        let Some(node) = self.store.find(NODES, "", name) else { return Ok(()) };
        let wanted = wanted_taints(&node, now);
        let same =
            |value: &Value, (key, effect): (&str, &str)| value["key"] == key && value["effect"] == effect;
        let done = self.store.modify(NODES, "", name, Part::Main, |value| {
            let list = &mut value["spec"]["taints"];
            if !list.is_array() {
                *list = json!([]);
            }
            let Some(list) = list.as_array_mut() else { return false };
            let before = list.clone();
            list.retain(|taint| {
                !OURS.iter().any(|key| taint["key"] == *key)
                    || wanted.iter().any(|w| same(taint, (&w.key, &w.effect)))
            });
            for taint in &wanted {
                if !list.iter().any(|known| same(known, (&taint.key, &taint.effect))) {
                    list.push(json!(taint));
                }
            }
            *list != before
        });
        ignore_missing(done)?;
        if condition_status(&node, "Ready") == Some("Unknown") {
            self.unready_pods_of(name, now)?;
        }
        let pods: Vec<Key> = self.index.pods_on(name).cloned().collect();
        // Also where no taint expels any more: what was due is then forgotten.
        self.work.extend(pods.into_iter().map(Work::Expel));
        Ok(())
    }

    fn unready_pods_of(&mut self, node: &str, now: Timestamp) -> Result<(), ApiError> {
        let pods: Vec<Key> = self.index.pods_on(node).cloned().collect();
        for (namespace, name) in pods {
            if !self.store.find(PODS, &namespace, &name).is_some_and(|pod| is_ready(&pod)) {
                continue;
            }
            let done = self.store.modify(PODS, &namespace, &name, Part::Status, |value| {
                set_condition(value, "Ready", "False", "NodeNotReady", "", now)
            });
            ignore_missing(done)?;
        }
        Ok(())
    }

    /// Deletes a pod that does not tolerate its node's NoExecute taints, now or when its patience ends.
    pub(super) fn expel(&mut self, key: &Key, now: Timestamp) -> Result<(), ApiError> {
        let work = Work::Expel(key.clone());
        let Some(pod) = self.store.find(PODS, &key.0, &key.1) else {
            self.due.clear(&work);
            return Ok(());
        };
        let node = node_of(&pod).and_then(|name| self.store.find(NODES, "", name));
        let Some(at) = node.and_then(|node| expelled_at(&pod, &node, self.options.not_ready_toleration, now))
        else {
            self.due.clear(&work);
            return Ok(());
        };
        if pod.is_terminating() {
            return Ok(());
        }
        if at > now {
            self.due.set(work, at);
            return Ok(());
        }
        let done = self.store.modify(PODS, &key.0, &key.1, Part::Status, |value| {
            let message = "Taint manager: deleting due to NoExecute taint";
            set_condition(value, "DisruptionTarget", "True", "DeletionByTaintManager", message, now)
        });
        ignore_missing(done)?;
        self.delete(&pod, Propagation::Background)
    }
}

fn wanted_taints(node: &Object, now: Timestamp) -> Vec<Taint> {
    let taint = |key: &str, effect: &str| Taint {
        key: key.to_owned(),
        value: None,
        effect: effect.to_owned(),
        time_added: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)),
    };
    let mut wanted = match condition_status(node, "Ready") {
        Some("True") => Vec::new(),
        Some("Unknown") => {
            vec![taint(taints::UNREACHABLE, "NoSchedule"), taint(taints::UNREACHABLE, "NoExecute")]
        }
        _ => vec![taint(taints::NOT_READY, "NoSchedule"), taint(taints::NOT_READY, "NoExecute")],
    };
    if node.at("spec.unschedulable").and_then(Value::as_bool) == Some(true) {
        wanted.push(taint(taints::UNSCHEDULABLE, "NoSchedule"));
    }
    wanted
}

/// Whether a node has taints that make pods leave.
pub(super) fn expels(node: &Object) -> bool {
    let taints = node.at("spec.taints").and_then(Value::as_array);
    taints.into_iter().flatten().any(|taint| taint["effect"] == "NoExecute")
}

/// When a pod has to leave its node; `None` where it may stay.
fn expelled_at(pod: &Object, node: &Object, patience: Duration, now: Timestamp) -> Option<Timestamp> {
    let read = |object: &Object, path: &str| object.at(path).cloned().unwrap_or(Value::Array(Vec::new()));
    let tolerations: Vec<Toleration> = serde_json::from_value(read(pod, "spec.tolerations")).ok()?;
    let taints: Vec<Taint> = serde_json::from_value(read(node, "spec.taints")).ok()?;
    taints
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .filter_map(|taint| {
            let since = taint.time_added.as_ref().map_or(now, |time| time.0);
            let matching: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
            if matching.is_empty() {
                // Admission gives each pod this patience with nodes that are not ready.
                let usual = [taints::NOT_READY, taints::UNREACHABLE].contains(&taint.key.as_str());
                return Some(after(since, if usual { patience } else { Duration::ZERO }));
            }
            let seconds = matching.iter().filter_map(|t| t.toleration_seconds).min()?;
            Some(after(since, Duration::from_secs(seconds.max(0).unsigned_abs())))
        })
        .min()
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let exists = toleration.operator.as_deref() == Some("Exists");
    toleration.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == taint.effect)
        && toleration.key.as_deref().is_none_or(|key| key.is_empty() || key == taint.key)
        && (exists || toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""))
}
