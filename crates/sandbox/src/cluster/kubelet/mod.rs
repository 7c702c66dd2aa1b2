//! The kubelets of all simulated nodes, in one task.
//!
//! Owns node readiness, and the life of pods that are bound to a live node: start, readiness by gates, end of pods
//! that run for a given time, graceful stop. Works through the Kubernetes API only. Pods of nodes that are silent or
//! gone are left to the control plane, as in reality. Heartbeats are implied; on a real control plane, which would
//! call a node lost without them, Leases are renewed on demand.

mod node;
mod pod;

use super::deadlines::{Deadlines, after, sleep_until};
use super::delays::Delays;
use super::mirror::{Feed, Key, Mirror, Put, feed, key_of};
use api::annotations::{RUN_SECONDS, START_SECONDS, STOP_SECONDS};
use clock::Clock;
use futures::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt};
use node::{Health, Node};
use pod::Pod;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// On a pod that ends by itself: the exit code of its containers, 0 where absent.
pub const EXIT_CODE: &str = "tideline.dev/exit-code";

/// What the simulated kubelets are started with.
#[derive(Clone, Debug)]
pub struct KubeletOptions {
    pub clock: Clock,
    pub delays: Delays,
    /// On a real control plane: how often each node's Lease is renewed. `None` where heartbeats are implied.
    pub renew_leases: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Node(String),
    Lease(String),
    Pod(Key),
}

struct Kubelets {
    options: KubeletOptions,
    client: Client,
    nodes: Mirror<Node>,
    pods: Mirror<Pod>,
    pods_on: BTreeMap<String, BTreeSet<Key>>,
    due: Deadlines<Task>,
    /// Addresses given to pods so far.
    addresses: u32,
    /// Nodes whose pods are to be looked at again because the node came, went, or changed its health.
    health: BTreeMap<String, Health>,
    /// Since when a kubelet that a user declared dead is silent.
    silent_since: BTreeMap<String, Timestamp>,
    /// When pods were first seen bound: with sub-second precision, which their status does not keep.
    bound_at: BTreeMap<Key, Timestamp>,
}

/// Runs the kubelets until their task is dropped.
pub async fn run(client: Client, options: KubeletOptions) {
    let (clock, retry) = (options.clock, options.delays.retry);
    let mut nodes: Feed<Node> = feed(Api::all(client.clone()), retry);
    let mut pods: Feed<Pod> = feed(Api::all(client.clone()), retry);
    let mut kubelets = Kubelets {
        options,
        client,
        nodes: Mirror::new(),
        pods: Mirror::new(),
        pods_on: BTreeMap::new(),
        due: Deadlines::new(),
        addresses: 0,
        health: BTreeMap::new(),
        silent_since: BTreeMap::new(),
        bound_at: BTreeMap::new(),
    };
    loop {
        tokio::select! {
            biased;
            Some(event) = nodes.next() => kubelets.on_node(event),
            Some(event) = pods.next() => kubelets.on_pod(event),
            () = sleep_until(clock, kubelets.due.next()) => {}
            else => return,
        }
        while let Some(Some(event)) = nodes.next().now_or_never() {
            kubelets.on_node(event);
        }
        while let Some(Some(event)) = pods.next().now_or_never() {
            kubelets.on_pod(event);
        }
        kubelets.work().await;
    }
}

impl Kubelets {
    fn on_node(&mut self, event: Event<Node>) {
        let mut changed = Vec::new();
        self.nodes.apply(event, |(_, name), _| changed.push(name.clone()));
        for name in changed {
            self.due.set(Task::Node(name), self.options.clock.now());
        }
    }

    fn on_pod(&mut self, event: Event<Pod>) {
        let mut changed = Vec::new();
        self.pods.apply(event, |key, old| changed.push((key.clone(), old)));
        for (key, old) in changed {
            self.pod_changed(&key, old.as_ref());
        }
    }

    fn pod_changed(&mut self, key: &Key, old: Option<&Pod>) {
        let old_node = old.and_then(|pod| pod.spec.node_name.clone());
        let now = self.options.clock.now();
        let node = self.pods.get(key).and_then(|pod| pod.spec.node_name.clone());
        let replaced = old.is_some_and(|old| self.pods.get(key).is_none_or(|new| new.uid() != old.uid()));
        if let Some(old_node) = old_node.filter(|old| replaced || node.as_ref() != Some(old)) {
            if let Some(pods) = self.pods_on.get_mut(&old_node) {
                pods.remove(key);
            }
            self.bound_at.remove(key);
        }
        match node {
            Some(node) => {
                self.pods_on.entry(node).or_default().insert(key.clone());
                self.bound_at.entry(key.clone()).or_insert(now);
                self.due.set(Task::Pod(key.clone()), now);
            }
            None => self.due.clear(&Task::Pod(key.clone())),
        }
    }

    async fn work(&mut self) {
        let now = self.options.clock.now();
        while let Some(task) = self.due.pop_due(now) {
            let done = match &task {
                Task::Node(name) => self.reconcile_node(name, now).await,
                Task::Lease(name) => self.renew_lease(name, now).await,
                Task::Pod(key) => self.reconcile_pod(key, now).await,
            };
            if let Err(error) = done {
                tracing::debug!(?task, %error, "simulated kubelet: a call failed; trying again");
                self.due.set_earliest(task, after(now, self.options.delays.retry));
            }
        }
    }

    async fn reconcile_node(&mut self, name: &str, now: Timestamp) -> Result<(), kube::Error> {
        let health = match self.nodes.get(&(String::new(), name.to_owned())) {
            Some(node) => {
                let silent_since = if node.is_declared_dead() {
                    Some(*self.silent_since.entry(name.to_owned()).or_insert(now))
                } else {
                    self.silent_since.remove(name);
                    None
                };
                node.health(silent_since, now, &self.options.delays)
            }
            None => Health { state: node::State::Gone, until: None },
        };
        if let Some(at) = health.until {
            self.due.set(Task::Node(name.to_owned()), at);
        }
        let leases = self.options.renew_leases;
        let wanted = self
            .nodes
            .get(&(String::new(), name.to_owned()))
            .and_then(|node| node.status_for(health.state, leases.is_some(), now));
        if let Some(patch) = wanted {
            let api: Api<Node> = Api::all(self.client.clone());
            let answer = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
            if let Some(node) = unless_gone(answer)? {
                self.nodes.put(node);
            }
        }
        let before = self.health.insert(name.to_owned(), health);
        if before.map(|health| health.state) != Some(health.state) {
            for key in self.pods_on.get(name).into_iter().flatten() {
                self.due.set_earliest(Task::Pod(key.clone()), now);
            }
            if leases.is_some() && health.state.answers() {
                self.due.set_earliest(Task::Lease(name.to_owned()), now);
            }
        }
        if health.state == node::State::Gone {
            self.health.remove(name);
            self.silent_since.remove(name);
            self.due.clear(&Task::Lease(name.to_owned()));
        }
        Ok(())
    }

    async fn renew_lease(&mut self, name: &str, now: Timestamp) -> Result<(), kube::Error> {
        let Some(interval) = self.options.renew_leases else { return Ok(()) };
        if !self.health.get(name).is_some_and(|health| health.state.answers()) {
            return Ok(());
        }
        let lease = node::lease(name, now);
        let api: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        api.patch(name, &PatchParams::apply("simulated-kubelet").force(), &Patch::Apply(&lease)).await?;
        self.due.set(Task::Lease(name.to_owned()), after(now, interval));
        Ok(())
    }

    async fn reconcile_pod(&mut self, key: &Key, now: Timestamp) -> Result<(), kube::Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        let Some(node) = pod.spec.node_name.clone() else { return Ok(()) };
        if !self.health.get(&node).is_some_and(|health| health.state.answers()) {
            return Ok(());
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return self.stop(key, now).await;
        }
        if pod.ended() {
            return Ok(());
        }
        let host_ip = super::nodes::host_ip(&node);
        let Some(running_since) = pod.running_since() else {
            return self.start(key, &host_ip, now).await;
        };
        if let Some(run) = pod.seconds(RUN_SECONDS) {
            let end = after(running_since, run);
            if end <= now {
                let exit_code = pod.annotation(EXIT_CODE).and_then(|text| text.parse().ok()).unwrap_or(0);
                let patch = pod.finished(exit_code, now);
                return self.write(key, &patch).await;
            }
            self.due.set(Task::Pod(key.clone()), end);
        }
        if pod.readiness_is_stale() {
            let patch = pod.readiness(now);
            return self.write(key, &patch).await;
        }
        Ok(())
    }

    async fn start(&mut self, key: &Key, host_ip: &str, now: Timestamp) -> Result<(), kube::Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        let bound = self.bound_at.get(key).copied().unwrap_or(now);
        let at = after(bound, pod.seconds(START_SECONDS).unwrap_or(self.options.delays.pod_start));
        if now < at {
            self.due.set(Task::Pod(key.clone()), at);
            if self.options.delays.report_creating && pod.status.start_time.is_none() {
                let patch = pod.creating(host_ip, now);
                return self.write(key, &patch).await;
            }
            return Ok(());
        }
        let pod_ip = pod.status.pod_ip.clone().unwrap_or_else(|| {
            self.addresses = self.addresses.wrapping_add(1);
            let [_, a, b, c] = self.addresses.to_be_bytes();
            format!("100.{}.{b}.{c}", 64 + a % 64)
        });
        let patch = pod.running(host_ip, &pod_ip, now);
        self.write(key, &patch).await
    }

    async fn stop(&mut self, key: &Key, now: Timestamp) -> Result<(), kube::Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        let Some(deletion) = &pod.metadata.deletion_timestamp else { return Ok(()) };
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0);
        let requested = deletion.0.saturating_sub(SignedDuration::from_secs(grace)).unwrap_or(deletion.0);
        let stop = pod.seconds(STOP_SECONDS).unwrap_or(self.options.delays.pod_stop);
        let stop =
            if pod.ended() { Duration::ZERO } else { stop.min(Duration::from_secs(grace.unsigned_abs())) };
        let at = after(requested, stop);
        if now < at {
            self.due.set(Task::Pod(key.clone()), at);
            return Ok(());
        }
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
        match api.delete(&key.1, &parameters).await {
            // A pod with finalizers stays; its removal is no longer the kubelet's work.
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn write(&mut self, key: &Key, patch: &Value) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
        let answer = api.patch_status(&key.1, &PatchParams::default(), &Patch::Strategic(patch)).await;
        if let Some(pod) = unless_gone(answer)? {
            let key = key_of(&pod);
            if let Put::Taken(old) = self.pods.put(pod) {
                self.pod_changed(&key, old.as_ref());
            }
        }
        Ok(())
    }
}

/// Gone, or replaced by another of the same name: nothing left to do for it.
fn unless_gone<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}
