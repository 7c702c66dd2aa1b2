//! The cluster as a whole, on paused time.

mod load;
mod machines;
mod others;
mod scheduling;
mod storage;
mod workloads;

use crate::store::resource::{NODES, PODS};
use crate::store::{Object, ResourceName, Store};
use crate::{Options, Sandbox};
use clock::Clock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn sandbox() -> Sandbox {
    sandbox_with(|_| {})
}

pub(super) fn sandbox_with(change: impl FnOnce(&mut Options)) -> Sandbox {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let mut options = Options::new(clock, 1);
    change(&mut options);
    Sandbox::start(options).unwrap()
}

/// Waits in virtual time until `holds`; fails after `limit` seconds with the state of pods and nodes.
pub(super) async fn until(store: &Store, limit: u64, what: &str, holds: impl Fn(&Store) -> bool) {
    let mut changes = store.subscribe();
    let waiting = async {
        while !holds(store) {
            changes.next().await.unwrap();
        }
    };
    if tokio::time::timeout(Duration::from_secs(limit), waiting).await.is_err() && !holds(store) {
        for object in store.list(PODS).iter().chain(&store.list(NODES)) {
            eprintln!("{object:?} {:?} {:?}", object.text("spec.nodeName"), object.at("status.conditions"));
        }
        panic!("not within {limit} s: {what}");
    }
}

pub(super) fn add_node(store: &Store, name: &str, cpu: &str) {
    let resources = json!({"cpu": cpu, "memory": "64Gi", "pods": "110"});
    let node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": resources, "capacity": resources},
    });
    store.create(NODES, "", node).unwrap();
}

pub(super) fn template(app: &str, cpu: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

pub(super) fn workload(name: &str, replicas: u32, cpu: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, cpu),
        },
    })
}

pub(super) fn pods(store: &Store) -> Vec<Arc<Object>> {
    store.list(PODS)
}

pub(super) fn ready_pods(store: &Store) -> usize {
    use super::controllers::objects::{is_active, is_ready};
    pods(store).iter().filter(|pod| is_ready(pod) && is_active(pod)).count()
}

pub(super) fn set(store: &Store, resource: ResourceName, name: &str, path: &str, to: Value) {
    let namespace = if resource == NODES { "" } else { "default" };
    store
        .modify(resource, namespace, name, crate::store::Part::Main, |value| {
            *value.pointer_mut(path).unwrap() = to;
            true
        })
        .unwrap();
}
