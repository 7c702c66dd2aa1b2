//! `StatefulSet`s: numbered pods, one after the other or all at once.
//!
//! The claims that it makes are bound by others; they stay when pods go.

use super::objects::{
    Key, PodName, has_ended, int, is_active, is_ready, owner_reference, pod_from_template, template_hash,
};
use super::replica_set::report;
use super::{Controllers, garbage::ignore_missing};
use crate::store::resource::{PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use crate::store::{ApiError, Object, Part, Propagation};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const HASH: &str = "controller-revision-hash";

impl Controllers {
    pub(super) fn reconcile_stateful_set(&mut self, key: &Key, now: Timestamp) -> Result<(), ApiError> {
        let Some(set) = self.store.find(STATEFUL_SETS, &key.0, &key.1) else { return Ok(()) };
        let Some(template) = set.at("spec.template") else { return Ok(()) };
        let hash = format!("{}-{}", set.name(), template_hash(template));
        let pods: BTreeMap<i64, Arc<Object>> =
            self.pods_of(&set).into_iter().filter_map(|pod| Some((ordinal(&set, &pod)?, pod))).collect();
        if !set.is_terminating() {
            self.step(&set, template, &hash, &pods, now)?;
        }
        self.report_stateful_set(&set, &hash)
    }

    /// The next change that the order allows; in parallel management, all of them.
    fn step(
        &mut self,
        set: &Object,
        template: &Value,
        hash: &str,
        pods: &BTreeMap<i64, Arc<Object>>,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let parallel = set.text("spec.podManagementPolicy") == Some("Parallel");
        let start = int(set, "spec.ordinals.start").unwrap_or(0);
        let wanted = start..start + int(set, "spec.replicas").unwrap_or(1).max(0);
        for number in wanted.clone() {
            match pods.get(&number) {
                None => {
                    self.make_numbered(set, template, hash, number, now)?;
                    if !parallel {
                        return Ok(());
                    }
                }
                Some(pod) if has_ended(pod) && !pod.is_terminating() => {
                    self.delete(pod, Propagation::Background)?;
                    if !parallel {
                        return Ok(());
                    }
                }
                Some(pod) if !parallel && (!is_ready(pod) || pod.is_terminating()) => return Ok(()),
                Some(_) => {}
            }
        }
        let surplus: Vec<&Arc<Object>> =
            pods.iter().rev().filter(|(number, _)| !wanted.contains(number)).map(|(_, pod)| pod).collect();
        for pod in surplus {
            let going = pod.is_terminating();
            if !going {
                self.delete(pod, Propagation::Background)?;
                let message = format!("delete Pod {} in StatefulSet {} successful", pod.name(), set.name());
                self.events.normal(set, "StatefulSet", "SuccessfulDelete", &message, now);
            }
            if !parallel {
                return Ok(());
            }
        }
        self.update_one(set, hash, pods)
    }

    /// Rolling update: replaces the highest pod of an old template once all others are well.
    fn update_one(
        &mut self,
        set: &Object,
        hash: &str,
        pods: &BTreeMap<i64, Arc<Object>>,
    ) -> Result<(), ApiError> {
        if set.text("spec.updateStrategy.type") == Some("OnDelete") {
            return Ok(());
        }
        let partition = int(set, "spec.updateStrategy.rollingUpdate.partition").unwrap_or(0);
        for (_, pod) in pods.iter().rev().filter(|(number, _)| **number >= partition) {
            if pod.label(HASH) != Some(hash) {
                return if pod.is_terminating() { Ok(()) } else { self.delete(pod, Propagation::Background) };
            }
            if !is_ready(pod) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn make_numbered(
        &mut self,
        set: &Object,
        template: &Value,
        hash: &str,
        number: i64,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let name = format!("{}-{number}", set.name());
        let owner = owner_reference(set, "apps/v1", "StatefulSet");
        let mut pod = pod_from_template(template, &PodName::Fixed(&name), owner);
        let labels = &mut pod["metadata"]["labels"];
        labels[HASH] = hash.into();
        labels["statefulset.kubernetes.io/pod-name"] = name.as_str().into();
        labels["apps.kubernetes.io/pod-index"] = number.to_string().into();
        pod["spec"]["hostname"] = name.as_str().into();
        if let Some(service) = set.text("spec.serviceName") {
            pod["spec"]["subdomain"] = service.into();
        }
        self.claim(set, &name, &mut pod)?;
        match self.store.create(PODS, set.namespace(), pod) {
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                let message = format!("create Pod {name} in StatefulSet {} successful", set.name());
                self.events.normal(set, "StatefulSet", "SuccessfulCreate", &message, now);
                Ok(())
            }
        }
    }

    /// Makes the pod's claims and mounts them.
    fn claim(&mut self, set: &Object, pod_name: &str, pod: &mut Value) -> Result<(), ApiError> {
        let templates = set.at("spec.volumeClaimTemplates").and_then(Value::as_array);
        for template in templates.into_iter().flatten() {
            let volume = template["metadata"]["name"].as_str().unwrap_or("data");
            let name = format!("{volume}-{pod_name}");
            let mut claim = template.clone();
            claim["metadata"]["name"] = name.as_str().into();
            match self.store.create(PERSISTENT_VOLUME_CLAIMS, set.namespace(), claim) {
                Err(error) if !error.is_already_exists() => return Err(error),
                _ => {}
            }
            let mount = json!({"name": volume, "persistentVolumeClaim": {"claimName": name}});
            match pod["spec"]["volumes"].as_array_mut() {
                Some(volumes) => volumes.push(mount),
                None => pod["spec"]["volumes"] = json!([mount]),
            }
        }
        Ok(())
    }

    fn report_stateful_set(&mut self, set: &Object, hash: &str) -> Result<(), ApiError> {
        let mut pods = self.pods_of(set);
        pods.retain(|pod| is_active(pod));
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let updated = pods.iter().filter(|pod| pod.label(HASH) == Some(hash)).count();
        let done = self.store.modify(STATEFUL_SETS, set.namespace(), set.name(), Part::Status, |value| {
            let old = value["status"]["currentRevision"].as_str().unwrap_or(hash).to_owned();
            let current = if updated == pods.len() { hash.to_owned() } else { old };
            let always = [
                ("replicas", Value::from(pods.len())),
                ("availableReplicas", Value::from(ready)),
                ("collisionCount", Value::from(0)),
                ("observedGeneration", value["metadata"]["generation"].clone()),
                ("currentRevision", Value::from(current.as_str())),
                ("updateRevision", Value::from(hash)),
            ];
            let on_current = if current == hash { updated } else { pods.len() - updated };
            let numbers =
                [("readyReplicas", ready), ("updatedReplicas", updated), ("currentReplicas", on_current)];
            report(value, &always, &numbers)
        });
        ignore_missing(done)
    }
}

fn ordinal(set: &Object, pod: &Object) -> Option<i64> {
    pod.name().strip_prefix(set.name())?.strip_prefix('-')?.parse().ok()
}
