//! Bad days of a whole controller: two replicas of which one is cut off, a flood of events, objects that cannot be
//! read, a disk that is full, a clock that jumps. After each the work is done, and nothing twice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use controller::journal::{self, DirectorySink, Sink};
use controller::{Config, ControllerError, Handle, LeaderElection};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use sandbox::fault::{FaultPlan, FaultRule, Faults};
use sandbox::store::{DeleteOptions, Part, ResourceName, resource};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use world::{Machines, World, config};

const PATIENCE: Duration = Duration::from_mins(20);

fn elected(identity: &str) -> Config {
    let leader_election =
        LeaderElection { enabled: true, identity: identity.into(), ..LeaderElection::default() };
    Config { leader_election, ..config() }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn metric(handle: &Handle, name: &str) -> f64 {
    let text = handle.metrics().await.unwrap();
    let line =
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The first cannot reach the API server from its second minute to its tenth; the other one always can.
#[tokio::test(start_paused = true)]
async fn of_two_replicas_parted_by_the_network_one_acts() {
    let world = World::new(Machines::Simulated).await;
    world.populate(2).await;
    let rule =
        json!({"fault": {"lostRequest": {}}, "probability": 1.0, "fromSeconds": 120, "untilSeconds": 600});
    let plan = FaultPlan { rules: vec![serde_json::from_value::<FaultRule>(rule).unwrap()] };
    let faults = Faults::new(plan, 1, world.clock).unwrap();
    let parted = || world.controller(faults.client(world.sandbox.api()), elected("parted"));
    let first = tokio::spawn(parted().run(std::future::pending()));
    world.settle(2, 1, Duration::from_secs(100)).await;
    let second = world.controller(world.sandbox.client("second"), elected("second"));
    let second_handle = second.handle();
    let second = tokio::spawn(second.run(std::future::pending()));

    // Its watches still bring news, as a half-open connection may: pods that it would buy for if it could.
    world.clock.sleep_until("2026-01-01T00:02:05Z".parse().unwrap()).await;
    world.scale(6).await;
    let ended = tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ControllerError::LostLeadership { .. })), "{ended:?}");
    world.settle(6, 2, PATIENCE).await;
    assert!(second_handle.leads());

    // Started anew it is as cut off as before, then it stands by.
    let again = parted();
    let again_handle = again.handle();
    let again = tokio::spawn(again.run(std::future::pending()));
    until("the parted one is ready", async || again_handle.not_ready().is_none()).await;
    assert!(world.clock.now() > "2026-01-01T00:10:00Z".parse().unwrap());
    assert!(!again_handle.leads());
    world.scale(10).await;
    world.settle(10, 3, PATIENCE).await;
    assert_eq!(world.machines_made(), 3);
    let lease = Api::<Lease>::namespaced(world.client.clone(), "kube-system");
    let holder = lease.get("cluster-autoscaler").await.unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder.as_deref(), Some("second"));
    second.abort();
    again.abort();
}

/// More changes than the API server remembers, all between two breaths of the controller.
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_events_at_once_are_a_few_rounds() {
    const OBJECTS: usize = 200;
    const EVENTS: usize = 100_000;
    let world = World::new(Machines::Simulated).await;
    world.populate(2).await;
    let controller = world.controller(world.sandbox.client("tideline"), config());
    let handle = controller.handle();
    let running = tokio::spawn(controller.run(std::future::pending()));
    world.settle(2, 1, PATIENCE).await;
    let store = world.sandbox.store();
    for at in 0..OBJECTS {
        let object = json!({"metadata": {"name": format!("quiet-{at}")}, "spec": {"unschedulable": true}});
        store.create(resource::NODES, "", object).unwrap();
    }
    let rounds = handle.state().await.unwrap().rounds;
    for event in 0..EVENTS {
        let name = format!("quiet-{}", event % OBJECTS);
        let change = |object: &mut Value| {
            object["metadata"]["labels"]["event"] = json!(event.to_string());
            true
        };
        store.modify(resource::NODES, "", &name, Part::Main, change).unwrap();
    }
    world.scale(6).await;
    until("the pods run", async || world.pods().await.len() == 6).await;
    until("two machines", async || world.machines_made() == 2).await;
    let took = handle.state().await.unwrap().rounds - rounds;
    assert!(took < 100, "{took} rounds for {EVENTS} events");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn objects_that_cannot_be_read_are_counted_and_hold_up_nothing() {
    let world = World::new(Machines::Simulated).await;
    let store = world.sandbox.store();
    let create = |kind: ResourceName, namespace: &str, object: Value| {
        store.create(kind, namespace, object).unwrap();
    };
    create(
        resource::PODS,
        "default",
        json!({
            "metadata": {"name": "odd"},
            "spec": {
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "Resembles", "values": ["a"]}]}]}}},
            },
        }),
    );
    let controller = world.controller(world.sandbox.client("tideline"), config());
    let handle = controller.handle();
    let running = tokio::spawn(controller.run(std::future::pending()));
    world.populate(6).await;
    until("two machines", async || world.machines_made() == 2).await;
    assert!(metric(&handle, "tideline_poison_objects").await >= 1.0);
    let _ = store.delete(resource::PODS, "default", "odd", &DeleteOptions::default());
    world.settle(6, 2, PATIENCE).await;
    world.scale(3).await;
    world.settle(3, 1, PATIENCE).await;
    running.abort();
}

/// A journal's directory on a disk without space for a while.
struct Disk {
    sink: DirectorySink,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn space(&self) -> Result<(), ControllerError> {
        if self.full.load(Ordering::Relaxed) {
            let problem = std::io::Error::from(std::io::ErrorKind::StorageFull).to_string();
            return Err(ControllerError::Journal { path: "the journal".into(), problem });
        }
        Ok(())
    }
}

impl Sink for Disk {
    fn needs_checkpoint(&self) -> bool {
        self.full.load(Ordering::Relaxed) || self.sink.needs_checkpoint()
    }

    fn begin(&mut self, at: Timestamp, line: &str) -> Result<(), ControllerError> {
        self.space()?;
        self.sink.begin(at, line)
    }

    fn append(&mut self, line: &str) -> Result<(), ControllerError> {
        self.space()?;
        self.sink.append(line)
    }
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_costs_the_record_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(Machines::Simulated).await;
    world.populate(6).await;
    let full = Arc::new(AtomicBool::new(false));
    let sink = DirectorySink::new(directory.path(), 1 << 20, 1 << 30).unwrap();
    let disk = Disk { sink, full: Arc::clone(&full) };
    let controller = world.controller(world.sandbox.client("tideline"), config());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(controller.with_journal(Box::new(disk)).run(async { drop(stopped.await) }));
    world.settle(6, 2, PATIENCE).await;
    full.store(true, Ordering::Relaxed);
    world.scale(3).await;
    world.settle(3, 1, PATIENCE).await;
    assert_eq!(files(directory.path()), 1);
    full.store(false, Ordering::Relaxed);
    world.scale(6).await;
    world.settle(6, 2, PATIENCE).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    // What was recorded before and since is decided again, byte for byte.
    let report = journal::open(directory.path(), nodes::decide).unwrap();
    assert!(report.is_same() && report.steps > 1, "{report:?}");
}

/// A directory in which nothing can be written any more: no file is left behind for each round that was not recorded.
#[test]
fn what_cannot_be_written_leaves_no_empty_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = DirectorySink::new(directory.path(), 1 << 20, 1 << 30).unwrap();
    std::fs::remove_dir(directory.path()).unwrap();
    let begin = |sink: &mut DirectorySink, second| sink.begin(Timestamp::from_second(second).unwrap(), "{}");
    assert!(begin(&mut sink, 1).is_err());
    assert!(sink.append("{}").is_ok(), "without a segment there is nothing to append to");
    std::fs::create_dir(directory.path()).unwrap();
    begin(&mut sink, 2).unwrap();
    assert_eq!(files(directory.path()), 1);
}

/// A successor whose clock is an hour behind, then one whose clock is ten minutes ahead, take over in the midst of a
/// drain. Further ahead than a machine may take to come, each new one would count as late.
#[tokio::test(start_paused = true)]
async fn successors_with_wrong_clocks_finish_the_work() {
    for minutes in [-60, 10] {
        let world = World::new(Machines::Simulated).await;
        world.populate(6).await;
        let before = world.controller(world.sandbox.client("before"), config());
        let before = tokio::spawn(before.run(std::future::pending()));
        world.settle(6, 2, PATIENCE).await;
        world.scale(3).await;
        world.settle_pods(3).await;
        tokio::time::sleep(Duration::from_secs(40)).await;
        before.abort();
        let clock = world.clock.ahead_by(SignedDuration::from_mins(minutes));
        let next = world.controller_at(world.sandbox.client("next"), config(), clock);
        let next = tokio::spawn(next.run(std::future::pending()));
        // Behind, all waits last an hour longer at most.
        world.settle(3, 1, PATIENCE + Duration::from_hours(1)).await;
        world.scale(6).await;
        world.settle(6, 2, PATIENCE + Duration::from_hours(1)).await;
        assert_eq!(world.machines_made(), 3, "{minutes} min");
        next.abort();
    }
}

/// The clock of the process that runs is set back by an hour in the midst of a drain, and later ahead by two.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_while_it_runs_delays_no_longer_than_it_jumped() {
    static JUMPS: AtomicI64 = AtomicI64::new(0);
    let hour = Duration::from_hours(1);
    let world = World::new(Machines::Simulated).await;
    world.populate(6).await;
    let clock = world.clock.jumping_by(&JUMPS);
    let controller = world.controller_at(world.sandbox.client("tideline"), config(), clock);
    let running = tokio::spawn(controller.run(std::future::pending()));
    world.settle(6, 2, PATIENCE).await;
    world.scale(3).await;
    world.settle_pods(3).await;
    JUMPS.store(-3_600_000, Ordering::Relaxed);
    world.settle(3, 1, PATIENCE + hour).await;
    // What is bought waits for nothing.
    world.scale(6).await;
    world.settle(6, 2, PATIENCE).await;
    JUMPS.store(3_600_000, Ordering::Relaxed);
    world.scale(3).await;
    world.settle(3, 1, PATIENCE).await;
    assert_eq!(world.machines_made(), 3);
    running.abort();
}

/// The cluster has moved on since the ledger was copied: pods came and went, machines were bought and given back.
#[tokio::test(start_paused = true)]
async fn a_ledger_older_than_the_cluster_does_no_harm() {
    let world = World::new(Machines::Simulated).await;
    world.populate(6).await;
    let start = |name: &'static str| {
        let controller = world.controller(world.sandbox.client(name), config());
        tokio::spawn(controller.run(std::future::pending()))
    };
    let first = start("first");
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "kube-system");
    until("an order is in the ledger", async || {
        let ledger = maps.get_opt(controller::LEDGER_CONFIG_MAP).await.unwrap();
        ledger.is_some_and(|map| map.data.unwrap()["ledger.json"].contains("\"scaleUps\":{\""))
    })
    .await;
    let copy = maps.get(controller::LEDGER_CONFIG_MAP).await.unwrap();
    world.settle(6, 2, PATIENCE).await;
    world.scale(3).await;
    world.settle(3, 1, PATIENCE).await;

    let mut live = maps.get(controller::LEDGER_CONFIG_MAP).await.unwrap();
    let newest: u64 = live.data.as_ref().unwrap()["epoch"].parse().unwrap();
    live.data = copy.data;
    maps.replace(controller::LEDGER_CONFIG_MAP, &PostParams::default(), &live).await.unwrap();
    world.scale(6).await;
    let ended = tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ControllerError::LostLeadership { .. })), "{ended:?}");
    let second = start("second");
    world.settle(6, 2, PATIENCE).await;
    world.scale(3).await;
    world.settle(3, 1, PATIENCE).await;
    assert_eq!(world.machines_made(), 3);
    let epoch: u64 =
        maps.get(controller::LEDGER_CONFIG_MAP).await.unwrap().data.unwrap()["epoch"].parse().unwrap();
    assert!(epoch > newest, "epoch {epoch} after {newest}: an intent's name could be used twice");
    second.abort();
}
