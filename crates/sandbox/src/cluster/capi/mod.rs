//! An imitation of Cluster API: Machines for MachineDeployments, Nodes for Machines.
//!
//! Owns following `spec.replicas`, which Machine goes when they fall, booting and failing. Works through the
//! Kubernetes API only. Simpler than the real thing: no MachineSet stands between (a Machine's owner is its
//! MachineDeployment), there is no roll-out of a changed template, and machines are made from annotations.

mod crds;
mod machine;
mod template;
mod types;

pub use crds::CRDS;

use super::cloud::MachineFaultRule;
use super::deadlines::{Deadlines, after, sleep_until};
use super::delays::Delays;
use super::mirror::{Feed, Key, Mirror, feed, key_of};
use api::annotations::{CAPI_DELETE_MACHINE, CAPI_PAUSED};
use clock::Clock;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::Event;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use types::{Machine, MachineDeployment, MachineDeploymentStatus};

/// The most machines of one deployment, whatever is asked.
const QUOTA: i32 = 20_000;
/// Keeps a Machine until its node is gone.
const FINALIZER: &str = "machine.cluster.x-k8s.io";
/// The older name of the mark on machines that go first.
const DELETE_NODE: &str = "cluster.k8s.io/delete-machine";
/// Prefix of the provider ids of Machines.
const PROVIDER_PREFIX: &str = "capi://";

/// What the imitation is started with.
#[derive(Clone, Debug)]
pub struct CapiOptions {
    pub clock: Clock,
    pub seed: u64,
    pub delays: Delays,
    /// The pool of a rule is `namespace/name` of the MachineDeployment.
    pub faults: Vec<MachineFaultRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Deployment(Key),
    Machine(Key),
}

struct Capi {
    options: CapiOptions,
    client: Client,
    node_api: Api<Node>,
    deployments: Mirror<MachineDeployment>,
    machines: Mirror<Machine>,
    nodes: Mirror<Node>,
    /// Machines by their MachineDeployment.
    machines_of: BTreeMap<Key, BTreeSet<Key>>,
    due: Deadlines<Task>,
    synced: [bool; 3],
}

/// Runs the imitation until its task is dropped. The CRDs must be there.
pub async fn run(client: Client, options: CapiOptions) {
    let (clock, retry) = (options.clock, options.delays.retry);
    let mut deployments: Feed<MachineDeployment> = feed(Api::all(client.clone()), retry);
    let mut machines: Feed<Machine> = feed(Api::all(client.clone()), retry);
    let mut nodes: Feed<Node> = feed(Api::all(client.clone()), retry);
    let mut capi = Capi {
        options,
        node_api: Api::all(client.clone()),
        client,
        deployments: Mirror::new(),
        machines: Mirror::new(),
        nodes: Mirror::new(),
        machines_of: BTreeMap::new(),
        due: Deadlines::new(),
        synced: [false; 3],
    };
    loop {
        let wake = if capi.synced == [true; 3] { capi.due.next() } else { None };
        tokio::select! {
            biased;
            Some(event) = deployments.next() => capi.on_deployment(event),
            Some(event) = machines.next() => capi.on_machine(event),
            Some(event) = nodes.next() => capi.on_node(event),
            () = sleep_until(clock, wake) => {}
            else => return,
        }
        while let Some(Some(event)) = deployments.next().now_or_never() {
            capi.on_deployment(event);
        }
        while let Some(Some(event)) = machines.next().now_or_never() {
            capi.on_machine(event);
        }
        while let Some(Some(event)) = nodes.next().now_or_never() {
            capi.on_node(event);
        }
        if capi.synced == [true; 3] {
            capi.work().await;
        }
    }
}

impl Capi {
    fn on_deployment(&mut self, event: Event<MachineDeployment>) {
        self.synced[0] |= matches!(event, Event::InitDone);
        let (due, now) = (&mut self.due, self.options.clock.now());
        self.deployments.apply(event, |key, _| due.set_earliest(Task::Deployment(key.clone()), now));
    }

    fn on_machine(&mut self, event: Event<Machine>) {
        self.synced[1] |= matches!(event, Event::InitDone);
        let mut changed = Vec::new();
        self.machines.apply(event, |key, old| changed.push((key.clone(), old)));
        for (key, old) in changed {
            self.machine_changed(&key, old.as_ref());
        }
    }

    fn on_node(&mut self, event: Event<Node>) {
        self.synced[2] |= matches!(event, Event::InitDone);
        let mut changed = Vec::new();
        self.nodes.apply(event, |(_, name), old| changed.push((name.clone(), old)));
        for (name, old) in changed {
            let node = self.nodes.get(&(String::new(), name)).or(old.as_ref());
            if let Some(machine) = node.and_then(machine_of) {
                self.due.set_earliest(Task::Machine(machine), self.options.clock.now());
            }
        }
    }

    fn machine_changed(&mut self, key: &Key, old: Option<&Machine>) {
        let now = self.options.clock.now();
        let machine = self.machines.get(key);
        let Some(deployment) = machine.or(old).and_then(deployment_of) else { return };
        if machine.is_some() {
            self.machines_of.entry(deployment.clone()).or_default().insert(key.clone());
            self.due.set_earliest(Task::Machine(key.clone()), now);
        } else {
            if let Some(machines) = self.machines_of.get_mut(&deployment) {
                machines.remove(key);
            }
            self.due.clear(&Task::Machine(key.clone()));
        }
        self.due.set_earliest(Task::Deployment(deployment), now);
    }

    async fn work(&mut self) {
        let now = self.options.clock.now();
        while let Some(task) = self.due.pop_due(now) {
            let done = match &task {
                Task::Deployment(key) => self.reconcile_deployment(key, now).await,
                Task::Machine(key) => self.reconcile_machine(key, now).await,
            };
            if let Err(error) = done {
                tracing::debug!(?task, %error, "simulated Cluster API: a call failed; trying again");
                self.due.set_earliest(task, after(now, self.options.delays.retry));
            }
        }
    }

    async fn reconcile_deployment(&mut self, key: &Key, now: Timestamp) -> Result<(), kube::Error> {
        let Some(deployment) = self.deployments.get(key).cloned() else {
            self.machines_of.remove(key);
            return Ok(());
        };
        if deployment.meta().deletion_timestamp.is_some()
            || deployment.annotations().contains_key(CAPI_PAUSED)
        {
            return Ok(());
        }
        let mut live: Vec<(bool, bool, Reverse<Timestamp>, Key)> = Vec::new();
        for machine_key in self.machines_of.get(key).into_iter().flatten() {
            let Some(machine) = self.machines.get(machine_key) else { continue };
            if machine.meta().deletion_timestamp.is_some() {
                continue;
            }
            let marks = machine.annotations();
            let marked = marks.contains_key(CAPI_DELETE_MACHINE) || marks.contains_key(DELETE_NODE);
            let joined = machine.status.as_ref().is_some_and(|status| status.node_ref.is_some());
            let created = machine.creation_timestamp().map_or(now, |time| time.0);
            live.push((!marked, joined, Reverse(created), machine_key.clone()));
        }
        let wanted = usize::try_from(deployment.spec.replicas.unwrap_or(1).clamp(0, QUOTA)).unwrap_or(0);
        if live.len() > wanted {
            // Marked machines first, then those that have not joined, then the newest.
            live.sort();
            for (_, _, _, machine) in live.drain(..live.len() - wanted) {
                let api: Api<Machine> = Api::namespaced(self.client.clone(), &machine.0);
                match api.delete(&machine.1, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(error),
                    Ok(answer) => {
                        if let Some(going) = answer.left() {
                            self.machines.put(going);
                        }
                    }
                }
            }
        }
        for _ in live.len()..wanted {
            let api: Api<Machine> = Api::namespaced(self.client.clone(), &key.0);
            let made = api.create(&PostParams::default(), &machine::object(&deployment)).await?;
            let made_key = key_of(&made);
            self.machines.put(made);
            self.machine_changed(&made_key, None);
        }
        self.report(key, &deployment, wanted).await
    }

    async fn report(
        &mut self,
        key: &Key,
        deployment: &MachineDeployment,
        wanted: usize,
    ) -> Result<(), kube::Error> {
        let machines = self.machines_of.get(key).map_or(0, BTreeSet::len);
        let keys = self.machines_of.get(key).into_iter().flatten();
        let ready = keys.filter(|machine| self.is_ready(machine)).count();
        let phase = match machines.cmp(&wanted) {
            std::cmp::Ordering::Greater => "ScalingDown",
            std::cmp::Ordering::Less => "ScalingUp",
            std::cmp::Ordering::Equal if ready < wanted => "ScalingUp",
            std::cmp::Ordering::Equal => "Running",
        };
        let status = MachineDeploymentStatus {
            observed_generation: deployment.meta().generation.unwrap_or(0),
            selector: format!("{}={}", api::labels::CAPI_DEPLOYMENT_NAME, key.1),
            replicas: machines as i32,
            updated_replicas: machines as i32,
            ready_replicas: ready as i32,
            available_replicas: ready as i32,
            unavailable_replicas: wanted.saturating_sub(ready) as i32,
            phase: phase.to_owned(),
        };
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api: Api<MachineDeployment> = Api::namespaced(self.client.clone(), &key.0);
        let patch = Patch::Merge(json!({"status": status}));
        match api.patch_status(&key.1, &PatchParams::default(), &patch).await {
            Ok(answer) => {
                self.deployments.put(answer);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_ready(&self, machine: &Key) -> bool {
        let node = self.nodes.get(&(String::new(), machine.1.clone()));
        let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
        conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
    }
}

/// The MachineDeployment that owns a machine.
fn deployment_of(machine: &Machine) -> Option<Key> {
    let owner = machine.owner_references().iter().find(|owner| owner.kind == "MachineDeployment")?;
    Some((machine.namespace().unwrap_or_default(), owner.name.clone()))
}

/// The machine that a node belongs to.
fn machine_of(node: &Node) -> Option<Key> {
    let id = node.spec.as_ref()?.provider_id.as_deref()?.strip_prefix(PROVIDER_PREFIX)?;
    let (namespace, name) = id.split_once('/')?;
    Some((namespace.to_owned(), name.to_owned()))
}
