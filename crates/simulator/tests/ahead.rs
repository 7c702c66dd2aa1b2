//! Portraits and nodes joined, end to end: what a cron portrait asks for at a time has its nodes ready by then.
//!
//! The whole program in virtual time: the shell of workloads follows the portrait and tells of it, the controller buys
//! for what is told, the embedded cluster makes machines, which take three minutes, and schedules pods.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::capacity::CapacityBuffer;
use api::kapacity::IntelligentHorizontalPodAutoscaler as Ihpa;
use api::simulated::SimulatedPool;
use clock::Clock;
use clouds::watching::WatchSettings;
use controller::{CapacityBuffers, Config, Controller};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplate};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, Resource};
use leadership::LeaderElection;
use metrics::ResourceApi;
use metrics::resource_api::ResourceApiSettings;
use model::Policies;
use sandbox::fault::{FaultPlan, Faults, KillPoint, KillSide};
use sandbox::{Options, Sandbox};
use scaler::Scaler;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::JoinSet;

struct World {
    clock: Clock,
    client: Client,
    policies: Policies,
    log: Log,
    sandbox: Sandbox,
    /// Both shells, as one process.
    running: JoinSet<()>,
}

/// The log of writes, in which the creations of machines stand.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl World {
    /// One pool whose machines hold two replicas and take three minutes, and both shells.
    async fn new(ahead: bool) -> Self {
        let mut world = Self::without_shells("2026-01-01T00:00:00Z", ahead).await;
        let client = world.sandbox.client("program");
        world.start(&client, None);
        world
    }

    async fn without_shells(start: &str, ahead: bool) -> Self {
        let clock = Clock::starting_at(start.parse().unwrap());
        let sandbox = Sandbox::start(Options { cluster_api: false, ..Options::new(clock, 7) }).unwrap();
        let mut policies = Policies { unneeded_time: SignedDuration::from_mins(5), ..Policies::default() };
        policies.delay_after_add = SignedDuration::ZERO;
        policies.ahead.enabled = ahead;
        policies.ahead.unknown_lead = SignedDuration::from_mins(3);
        let log = Log::default();
        sandbox.store().record_writes(Box::new(log.clone()));
        let client = sandbox.client("test");
        let world = Self { clock, client, policies, log, sandbox, running: JoinSet::new() };
        let pool = json!({
            "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": "machines"},
            "spec": {"min": 0, "max": 20, "boot": {"minSeconds": 180, "maxSeconds": 180},
                     "template": {"allocatable": {"cpu": "2", "memory": "16Gi"}}},
        });
        let pools: Api<SimulatedPool> = Api::all(world.client.clone());
        pools.create(&PostParams::default(), &serde_json::from_value(pool).unwrap()).await.unwrap();
        world
    }

    /// Starts both shells in the place of those that ran before, if any did.
    fn start(&mut self, client: &Client, changed: Option<watch::Receiver<Policies>>) {
        let clock = self.clock;
        let capacity_buffers = CapacityBuffers { controller: true, pod_injection: true };
        let config = Config { capacity_buffers, ..Config::for_simulation(self.policies.clone(), 7) };
        let controller = Controller::new(client.clone(), config, clock).unwrap();
        let controller = match changed {
            Some(changed) => controller.with_policies(changed),
            None => controller,
        };
        let config = scaler::Config {
            leader_election: LeaderElection { enabled: false, ..LeaderElection::default() },
            watch: WatchSettings { timeout_seconds: 0, ..WatchSettings::default() },
            ..scaler::Config::default()
        };
        let usage = Arc::new(ResourceApi::new(self.client.clone(), clock, ResourceApiSettings::default()));
        let scaler = Scaler::new(client.clone(), clock, config, usage).unwrap();
        self.running = JoinSet::new();
        self.running.spawn(async { controller.run(std::future::pending()).await.unwrap() });
        self.running.spawn(async { scaler.run(std::future::pending()).await.unwrap() });
    }

    /// Machines ever made.
    fn machines_made(&self) -> usize {
        let log = self.log.0.lock().unwrap();
        let text = String::from_utf8_lossy(&log);
        text.lines().filter(|line| line.contains(" create simulatedmachines.")).count()
    }

    async fn make<K>(&self, object: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), "default");
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    /// A workload of one replica, and a portrait that asks for nine from 1:00 to 2:00.
    async fn populate(&self) {
        let labels = json!({"app": "web"});
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "900m"}}});
        self.make::<Deployment>(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
        }))
        .await;
        let cron = json!({"name": "peak", "start": "0 1 * * *", "end": "0 2 * * *", "replicas": 9});
        self.make::<Ihpa>(json!({
            "apiVersion": "autoscaling.kapacitystack.io/v1alpha1", "kind": "IntelligentHorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 1, "maxReplicas": 10,
                "portraitProviders": [
                    {"type": "Static", "priority": 1, "static": {"replicas": 1}},
                    {"type": "Cron", "priority": 2, "cron": {"crons": [cron]}},
                ],
            },
        }))
        .await;
    }

    async fn until(&self, moment: &str) {
        self.clock.sleep_until(moment.parse().unwrap()).await;
    }

    async fn ready_nodes(&self) -> usize {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let ready = |node: &Node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
        };
        nodes.list(&ListParams::default()).await.unwrap().items.iter().filter(|node| ready(node)).count()
    }

    /// The longest time that a pod had to wait for its place, of those made since a moment.
    async fn longest_wait(&self, since: &str) -> (usize, SignedDuration) {
        let since: Timestamp = since.parse().unwrap();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        let waits = pods.iter().filter_map(|pod| {
            let made = pod.metadata.creation_timestamp.as_ref()?.0;
            let conditions = pod.status.as_ref()?.conditions.as_ref()?;
            let placed = conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "True")?;
            (made >= since).then(|| placed.last_transition_time.as_ref().unwrap().0.duration_since(made))
        });
        let waits: Vec<SignedDuration> = waits.collect();
        (waits.len(), waits.into_iter().max().unwrap_or_default())
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_are_ready_when_a_cron_portraits_replicas_are_due() {
    let world = World::new(true).await;
    world.populate().await;
    world.until("2026-01-01T00:55:00Z").await;
    assert_eq!(world.ready_nodes().await, 1, "nothing comes earlier than needed");
    world.until("2026-01-01T00:59:59Z").await;
    assert_eq!(world.ready_nodes().await, 5, "all are ready before the time");
    world.until("2026-01-01T01:01:00Z").await;
    let (pods, longest) = world.longest_wait("2026-01-01T00:59:00Z").await;
    assert_eq!(pods, 8);
    assert!(longest < SignedDuration::from_secs(10), "a pod waited {longest}");
    world.until("2026-01-01T02:30:00Z").await;
    assert_eq!(world.ready_nodes().await, 1, "and go when the time is over");
}

#[tokio::test(start_paused = true)]
async fn while_it_is_switched_off_pods_wait_for_machines() {
    let world = World::new(false).await;
    world.populate().await;
    world.until("2026-01-01T00:59:59Z").await;
    assert_eq!(world.ready_nodes().await, 1);
    world.until("2026-01-01T01:05:00Z").await;
    let (pods, longest) = world.longest_wait("2026-01-01T00:59:00Z").await;
    assert_eq!(pods, 8);
    assert!(longest >= SignedDuration::from_secs(180), "a pod waited only {longest}");
}

#[tokio::test(start_paused = true)]
async fn the_room_of_a_buffer_stands_beside_what_is_known_ahead() {
    let world = World::new(true).await;
    world.populate().await;
    // None of the buffer's four pods leaves a machine room for one of the others.
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "1500m"}}});
    let template = json!({"metadata": {"name": "spare"}, "template": {"spec": {"containers": [container]}}});
    world.make::<PodTemplate>(template).await;
    world
        .make::<CapacityBuffer>(json!({
            "apiVersion": "autoscaling.x-k8s.io/v1beta1", "kind": "CapacityBuffer", "metadata": {"name": "spare"},
            "spec": {"podTemplateRef": {"name": "spare"}, "replicas": 4},
        }))
        .await;
    world.until("2026-01-01T00:55:00Z").await;
    assert_eq!(world.ready_nodes().await, 5, "room of a buffer is due at once");
    world.until("2026-01-01T00:59:59Z").await;
    assert_eq!(world.ready_nodes().await, 9, "what is known ahead does not count on it");
    world.until("2026-01-01T01:10:00Z").await;
    let (pods, longest) = world.longest_wait("2026-01-01T00:59:00Z").await;
    // Where the scheduler puts them on the buffer's machines, what they took there is bought anew.
    assert!(pods == 8 && longest < SignedDuration::from_secs(10), "of {pods} a pod waited {longest}");
}

#[tokio::test(start_paused = true)]
async fn it_can_be_switched_on_and_off_while_it_runs() {
    let mut world = World::without_shells("2026-01-01T00:00:00Z", false).await;
    let (told, changed) = watch::channel(world.policies.clone());
    let client = world.sandbox.client("program");
    world.start(&client, Some(changed));
    world.populate().await;
    world.until("2026-01-01T00:50:00Z").await;
    told.send_modify(|policies| policies.ahead.enabled = true);
    world.until("2026-01-01T00:55:00Z").await;
    assert_eq!(world.ready_nodes().await, 1, "nothing comes earlier than needed");
    world.until("2026-01-01T00:59:59Z").await;
    assert_eq!(world.ready_nodes().await, 5, "what was not watched before was heard of in time");
    told.send_modify(|policies| policies.ahead.enabled = false);
    world.until("2026-01-02T00:59:59Z").await;
    assert_eq!(world.ready_nodes().await, 1, "and nothing is bought ahead once it is off");
}

/// From before machines are ordered until after the replicas are due: killed at one of the program's calls, true if it
/// came to it.
async fn killed_once(call: u64, side: KillSide) -> bool {
    let mut world = World::without_shells("2026-01-01T00:50:00Z", true).await;
    let faults = Faults::new(FaultPlan::default(), 1, world.clock).unwrap();
    world.start(&faults.client(world.sandbox.api()), None);
    world.populate().await;
    world.until("2026-01-01T00:56:00Z").await;
    assert_eq!((world.ready_nodes().await, world.machines_made()), (1, 1), "nothing is bought yet");
    faults.kill_at(KillPoint { call, side, only_writes: true });
    let killed = tokio::select! {
        biased;
        () = faults.killed() => true,
        () = world.until("2026-01-01T01:01:00Z") => false,
    };
    let bought = world.machines_made();
    let successor = world.sandbox.client("successor");
    world.start(&successor, None);
    world.until("2026-01-01T01:10:00Z").await;
    assert_eq!((world.ready_nodes().await, world.machines_made()), (5, 5), "killed {side:?} write {call}");
    let (pods, longest) = world.longest_wait("2026-01-01T00:59:00Z").await;
    assert_eq!(pods, 8, "killed {side:?} write {call}, {bought} machines made by then");
    assert!(longest < SignedDuration::from_secs(10), "killed {side:?} write {call}: a pod waited {longest}");
    killed
}

#[tokio::test(start_paused = true)]
async fn killed_between_the_purchase_and_its_time_it_goes_on_and_buys_nothing_twice() {
    for side in [KillSide::Before, KillSide::After] {
        let mut call = 1;
        while killed_once(call, side).await {
            call += 1;
            assert!(call < 500, "the way to the peak has an end");
        }
        println!("killed {side:?} each of {} writes", call - 1);
        assert!(call > 6, "there are more writes than {call}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_pods_of_a_cron_jobs_next_run_have_their_nodes_when_it_is_due() {
    let world = World::new(true).await;
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "1500m"}}});
    self_made_job(&world, container).await;
    world.until("2026-01-01T00:25:00Z").await;
    assert_eq!(world.ready_nodes().await, 0);
    world.until("2026-01-01T00:29:59Z").await;
    assert_eq!(world.ready_nodes().await, 3);
}

async fn self_made_job(world: &World, container: Value) {
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [container]}});
    world
        .make::<CronJob>(json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
            "spec": {
                "schedule": "30 1 * * *", "timeZone": "Europe/Berlin",
                "jobTemplate": {"spec": {"parallelism": 3, "completions": 3, "template": pod}},
            },
        }))
        .await;
}
