//! The simulated cloud: machines and Node objects for `SimulatedPool`s.
//!
//! Owns making, booting, failing, terminating and losing machines. Works through the Kubernetes API only, in the
//! sandbox as on a real control plane, and keeps all that must survive a restart in the API objects. Making nodes
//! Ready is the kubelets' work; how many machines a pool wants is the planner's.

mod boot;
mod faults;
mod objects;

pub use faults::{FAULT, KUBELET, MachineFault, MachineFaultRule};
pub(crate) use faults::{draw, draw_between};

use super::deadlines::{Deadlines, after, sleep_until};
use super::delays::Delays;
use super::mirror::{Feed, Mirror, feed};
use api::simulated::{MachinePhase, SimulatedMachine, SimulatedMachineStatus, SimulatedPool};
use clock::Clock;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The most machines that the cloud will run in one pool, whatever is asked: its quota.
const QUOTA: i32 = 20_000;
/// Provider ids of nodes that are ours.
const PROVIDER_PREFIX: &str = "simulated://";

/// What a simulated cloud is started with.
#[derive(Clone, Debug)]
pub struct CloudOptions {
    pub clock: Clock,
    pub seed: u64,
    pub delays: Delays,
    pub faults: Vec<MachineFaultRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Pool(String),
    Machine(String),
    Node(String),
}

/// The cloud's picture of the world and what is due.
struct Cloud {
    options: CloudOptions,
    pool_api: Api<SimulatedPool>,
    machine_api: Api<SimulatedMachine>,
    node_api: Api<Node>,
    pools: Mirror<SimulatedPool>,
    machines: Mirror<SimulatedMachine>,
    nodes: Mirror<Node>,
    machines_of: BTreeMap<String, BTreeSet<String>>,
    due: Deadlines<Task>,
    /// When machines that are shown as Deleting really go.
    deleting: BTreeMap<String, Timestamp>,
    /// Kinds whose first list is complete; nothing is done before all three are.
    synced: [bool; 3],
}

/// Runs the cloud until its task is dropped.
pub async fn run(client: Client, options: CloudOptions) {
    let retry = options.delays.retry;
    let mut cloud = Cloud {
        pool_api: Api::all(client.clone()),
        machine_api: Api::all(client.clone()),
        node_api: Api::all(client),
        pools: Mirror::new(),
        machines: Mirror::new(),
        nodes: Mirror::new(),
        machines_of: BTreeMap::new(),
        due: Deadlines::new(),
        deleting: BTreeMap::new(),
        synced: [false; 3],
        options,
    };
    let mut pools: Feed<SimulatedPool> = feed(cloud.pool_api.clone(), retry);
    let mut machines: Feed<SimulatedMachine> = feed(cloud.machine_api.clone(), retry);
    let mut nodes: Feed<Node> = feed(cloud.node_api.clone(), retry);
    let clock = cloud.options.clock;
    loop {
        let wake = if cloud.synced == [true; 3] { cloud.due.next() } else { None };
        tokio::select! {
            biased;
            Some(event) = pools.next() => cloud.on_pool(event),
            Some(event) = machines.next() => cloud.on_machine(event),
            Some(event) = nodes.next() => cloud.on_node(event),
            () = sleep_until(clock, wake) => {}
            else => return,
        }
        // Everything that is already there belongs to the same look at the world.
        while let Some(Some(event)) = pools.next().now_or_never() {
            cloud.on_pool(event);
        }
        while let Some(Some(event)) = machines.next().now_or_never() {
            cloud.on_machine(event);
        }
        while let Some(Some(event)) = nodes.next().now_or_never() {
            cloud.on_node(event);
        }
        if cloud.synced == [true; 3] {
            cloud.work().await;
        }
    }
}

impl Cloud {
    fn on_pool(&mut self, event: kube::runtime::watcher::Event<SimulatedPool>) {
        self.synced[0] |= matches!(event, kube::runtime::watcher::Event::InitDone);
        let (due, now) = (&mut self.due, self.options.clock.now());
        self.pools.apply(event, |(_, name), _| due.set_earliest(Task::Pool(name.clone()), now));
    }

    fn on_machine(&mut self, event: kube::runtime::watcher::Event<SimulatedMachine>) {
        self.synced[1] |= matches!(event, kube::runtime::watcher::Event::InitDone);
        let mut changed = Vec::new();
        self.machines.apply(event, |key, old| changed.push((key.1.clone(), old)));
        for (name, old) in changed {
            self.machine_changed(&name, old.as_ref());
        }
    }

    fn on_node(&mut self, event: kube::runtime::watcher::Event<Node>) {
        self.synced[2] |= matches!(event, kube::runtime::watcher::Event::InitDone);
        let mut changed = Vec::new();
        self.nodes.apply(event, |(_, name), _| changed.push(name.clone()));
        for name in changed {
            self.node_changed(&name);
        }
    }

    fn machine_changed(&mut self, name: &str, old: Option<&SimulatedMachine>) {
        let now = self.options.clock.now();
        let key = (String::new(), name.to_owned());
        let pool = self.machines.get(&key).or(old).map(|m| m.spec.pool.clone()).unwrap_or_default();
        // One that was launched by itself belongs to no pool.
        let alone = self.machines.get(&key).or(old).is_some_and(|machine| machine.spec.launch.is_some());
        if alone {
            if self.machines.get(&key).is_some() {
                self.due.set_earliest(Task::Machine(name.to_owned()), now);
            } else {
                self.due.clear(&Task::Machine(name.to_owned()));
                self.node_changed(name);
            }
            return;
        }
        if self.machines.get(&key).is_some() {
            self.machines_of.entry(pool.clone()).or_default().insert(name.to_owned());
            self.due.set_earliest(Task::Machine(name.to_owned()), now);
        } else {
            if let Some(names) = self.machines_of.get_mut(&pool) {
                names.remove(name);
            }
            self.due.clear(&Task::Machine(name.to_owned()));
            self.node_changed(name);
        }
        self.due.set_earliest(Task::Pool(pool), now);
    }

    /// A node of ours whose machine is gone is removed after a while, as a cloud's node controller does it.
    fn node_changed(&mut self, name: &str) {
        let key = (String::new(), name.to_owned());
        let task = Task::Node(name.to_owned());
        match self.nodes.get(&key) {
            Some(node) if is_ours(node) && self.machines.get(&key).is_none() => {
                let at = after(self.options.clock.now(), self.options.delays.vanished_node_cleanup);
                self.due.set_earliest(task, at);
            }
            _ => self.due.clear(&task),
        }
    }

    async fn work(&mut self) {
        let now = self.options.clock.now();
        while let Some(task) = self.due.pop_due(now) {
            let done = match &task {
                Task::Pool(name) => self.reconcile_pool(name, now).await,
                Task::Machine(name) => self.reconcile_machine(name, now).await,
                Task::Node(name) => self.delete_node(name).await,
            };
            if let Err(error) = done {
                tracing::debug!(?task, %error, "simulated cloud: a call failed; trying again");
                self.due.set_earliest(task, after(now, self.options.delays.retry));
            }
        }
    }

    async fn reconcile_pool(&mut self, name: &str, now: Timestamp) -> Result<(), kube::Error> {
        let names = self.machines_of.get(name).cloned().unwrap_or_default();
        let Some(pool) = self.pools.get(&(String::new(), name.to_owned())).cloned() else {
            for machine in names {
                self.start_deleting(&machine, now).await?;
            }
            self.machines_of.remove(name);
            return Ok(());
        };
        let (mut live, mut going) = (Vec::new(), Vec::new());
        for machine in names {
            let Some(found) = self.machines.get(&(String::new(), machine.clone())) else { continue };
            if phase(found) == MachinePhase::Deleting {
                continue;
            }
            if pool.spec.terminate.contains(&machine) {
                going.push(machine);
            } else {
                live.push((phase(found) == MachinePhase::Running, number(&machine), machine));
            }
        }
        let wanted = usize::try_from(pool.spec.replicas.clamp(0, QUOTA)).unwrap_or(0);
        if live.len() > wanted {
            // The cloud's own choice: what is not running yet first, then the newest.
            live.sort_by_key(|(running, number, _)| (*running, std::cmp::Reverse(*number)));
            going.extend(live.drain(..live.len() - wanted).map(|(_, _, machine)| machine));
        }
        for machine in &going {
            self.start_deleting(machine, now).await?;
        }
        if live.len() < wanted {
            self.make(&pool, wanted - live.len(), now).await?;
        }
        self.report(name).await
    }

    /// Makes machines: their numbers are taken first, so that a crash wastes numbers, never reuses one.
    async fn make(&mut self, pool: &SimulatedPool, count: usize, now: Timestamp) -> Result<(), kube::Error> {
        let name = pool.name_any();
        let created = pool.status.as_ref().map_or(0, |status| status.created);
        let taken = created.saturating_add(count as i64);
        let patch = json!({
            "metadata": {"resourceVersion": pool.resource_version()},
            "status": {"created": taken},
        });
        let answer =
            self.pool_api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        self.pools.put(answer);
        for number in created + 1..=taken {
            let machine_name = format!("{name}-{number}");
            let fault = faults::draw(&self.options.faults, self.options.seed, &name, &machine_name, now);
            let machine = objects::machine(pool, &machine_name, fault.as_ref());
            match self.machine_api.create(&PostParams::default(), &machine).await {
                Ok(made) => {
                    self.machines.put(made);
                    self.machine_changed(&machine_name, None);
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn report(&mut self, name: &str) -> Result<(), kube::Error> {
        let machines = self.machines_of.get(name).map_or(0, BTreeSet::len) as i32;
        let Some(pool) = self.pools.get(&(String::new(), name.to_owned())) else { return Ok(()) };
        if pool.status.as_ref().is_some_and(|status| status.replicas == machines) {
            return Ok(());
        }
        let patch = json!({"status": {"replicas": machines}});
        let answer = self.pool_api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        self.pools.put(answer);
        Ok(())
    }

    async fn start_deleting(&mut self, name: &str, now: Timestamp) -> Result<(), kube::Error> {
        let Some(machine) = self.machines.get(&(String::new(), name.to_owned())) else { return Ok(()) };
        if phase(machine) == MachinePhase::Deleting {
            return Ok(());
        }
        let mut status = machine.status.clone().unwrap_or_default();
        status.phase = MachinePhase::Deleting;
        self.set_status(name, &status).await?;
        self.due.set_earliest(Task::Machine(name.to_owned()), now);
        Ok(())
    }

    async fn set_status(&mut self, name: &str, status: &SimulatedMachineStatus) -> Result<(), kube::Error> {
        let patch = json!({"status": status});
        match self.machine_api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(answer) => {
                self.machines.put(answer);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn reconcile_machine(&mut self, name: &str, now: Timestamp) -> Result<(), kube::Error> {
        let Some(machine) = self.machines.get(&(String::new(), name.to_owned())).cloned() else {
            return Ok(());
        };
        let fault = machine.annotations().get(FAULT).and_then(|text| MachineFault::parse(text));
        let created = machine.creation_timestamp().map_or(now, |time| time.0);
        match phase(&machine) {
            MachinePhase::Creating => self.boot(&machine, created, fault, now).await,
            MachinePhase::Running => {
                let Some(MachineFault::VanishesAfter(delay)) = fault else { return Ok(()) };
                let joined = machine.status.and_then(|s| s.ready_at).map_or(created, |time| time.0);
                let at = after(joined, delay);
                if at > now {
                    self.due.set(Task::Machine(name.to_owned()), at);
                    return Ok(());
                }
                self.silence(name).await?;
                self.delete_machine(name).await
            }
            MachinePhase::Deleting => {
                // The moment is not stored: after a restart of the cloud the deletion starts over.
                let at = after(now, self.options.delays.machine_delete);
                let at = *self.deleting.entry(name.to_owned()).or_insert(at);
                if at > now {
                    self.due.set(Task::Machine(name.to_owned()), at);
                    return Ok(());
                }
                self.delete_node(name).await?;
                self.delete_machine(name).await?;
                self.deleting.remove(name);
                Ok(())
            }
            MachinePhase::Failed => Ok(()),
        }
    }
}

fn is_ours(node: &Node) -> bool {
    node.spec
        .as_ref()
        .and_then(|spec| spec.provider_id.as_deref())
        .is_some_and(|id| id.starts_with(PROVIDER_PREFIX))
}

fn phase(machine: &SimulatedMachine) -> MachinePhase {
    machine.status.as_ref().map_or(MachinePhase::Creating, |status| status.phase)
}

/// The number at the end of a machine's name: the order in which machines were made.
fn number(machine: &str) -> u64 {
    machine.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(0)
}
