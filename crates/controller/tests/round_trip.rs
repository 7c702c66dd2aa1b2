//! The whole loop in the embedded cluster: pods get nodes, nodes go again, and every round can be decided again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use controller::ControllerError;
use controller::journal::{Doer, MemorySink, ReplayReport, compare, replay};
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::api::{Api, ListParams};
use sandbox::fault::{FaultPlan, FaultRule, Faults};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use world::{Machines, World, config};

const PATIENCE: Duration = Duration::from_mins(15);
/// Starts of a controller under faults.
const MOST_LIVES: usize = 4;

#[tokio::test(start_paused = true)]
async fn nodes_follow_pods_up_and_down() {
    let world = World::new(Machines::Simulated).await;
    world.populate(6).await;
    let sink = MemorySink::default();
    let controller =
        world.controller(world.sandbox.client("tideline"), config()).with_journal(Box::new(sink.clone()));
    let handle = controller.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(controller.run(async { drop(stopped.await) }));

    world.settle(6, 2, PATIENCE).await;
    assert_eq!(world.machines_made(), 2);
    assert!(!world.writes_of("tideline").is_empty());
    world.scale(3).await;
    world.settle(3, 1, PATIENCE).await;
    world.scale(0).await;
    world.settle(0, 0, PATIENCE).await;

    assert_eq!(handle.not_ready(), None);
    let state = handle.state().await.unwrap();
    assert!(state.rounds > 3 && state.pending.is_empty() && state.nodes.is_empty(), "{state:?}");
    assert!(
        state.decisions.iter().any(|decision| decision.what.starts_with("grow pool small 0->2 (max: 6)"))
    );
    let metrics = handle.metrics().await.unwrap();
    for line in [
        "tideline_scaled_up_nodes_total 2",
        "tideline_node_group_target_count{node_group=\"small\"} 0",
        "tideline_pod_pending_to_node_seconds_count",
        "tideline_evicted_pods_total{eviction_result=\"done\"}",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();

    let mut report = ReplayReport::default();
    replay(&mut sink.text().as_bytes(), nodes::decide, &mut report).unwrap();
    assert!(report.is_same() && report.rounds > 3 && report.damage.is_empty(), "{report:?}");
    events_tell(&world).await;
}

async fn events_tell(world: &World) {
    let events: Api<Event> = Api::all(world.client.clone());
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in events.list(&ListParams::default()).await.unwrap().items {
        if event.source.as_ref().and_then(|source| source.component.as_deref()) == Some("tideline") {
            let kind = event.involved_object.kind.clone().unwrap_or_default();
            *told.entry((event.reason.unwrap_or_default(), kind)).or_default() += 1;
        }
    }
    let count = |reason: &str, kind: &str| told.get(&(reason.to_owned(), kind.to_owned())).copied();
    assert_eq!(count("TriggeredScaleUp", "Pod"), Some(6), "{told:?}");
    assert!(count("ScaleDown", "Node").is_some(), "{told:?}");
    assert!(count("ScaleDown", "Pod").is_some(), "{told:?}");
    assert!(count("ScaledUpGroup", "ConfigMap").is_some(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_it_would_do_and_leaves_no_trace() {
    let world = World::new(Machines::Simulated).await;
    world.populate(6).await;
    let sink = MemorySink::default();
    let mut config = config();
    config.policies.dry_run = true;
    let controller =
        world.controller(world.sandbox.client("tideline"), config).with_journal(Box::new(sink.clone()));
    let handle = controller.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(controller.run(async { drop(stopped.await) }));

    let deadline = world.clock.now() + PATIENCE;
    let state = loop {
        let state = handle.state().await.unwrap();
        if state.rounds > 5 && !state.decisions.is_empty() {
            break state;
        }
        assert!(world.clock.now() < deadline, "{state:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let said: Vec<&str> = state.decisions.iter().map(|decision| &*decision.what).collect();
    assert!(state.dry_run, "{state:?}");
    // Told once, though every round rehearses it again.
    let count = said.iter().filter(|what| what.starts_with("dry run, would: grow pool small 0->2 (max: 6)"));
    assert_eq!(count.count(), 1, "{said:?}");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();

    assert_eq!(world.writes_of("tideline"), Vec::<String>::new());
    let mut report = ReplayReport::default();
    replay(&mut sink.text().as_bytes(), nodes::decide, &mut report).unwrap();
    assert!(report.is_same() && report.rounds > 3, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_is_compared_with_whoever_acted_beside_it() {
    let world = World::new(Machines::Simulated).await;
    let folder = tempfile::tempdir().unwrap();
    let mut watching = config();
    watching.policies.dry_run = true;
    watching.journal = Some(controller::JournalConfig::at(folder.path().to_owned()));
    let watching = world.controller(world.sandbox.client("tideline"), watching);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let watching = tokio::spawn(watching.run(async { drop(stopped.await) }));
    let acting = world.controller(world.sandbox.client("present"), config());
    let acting = tokio::spawn(acting.run(std::future::pending()));
    world.populate(6).await;
    world.settle(6, 2, PATIENCE).await;
    world.scale(0).await;
    world.settle(0, 0, PATIENCE).await;
    stop.send(()).unwrap();
    watching.await.unwrap().unwrap();
    acting.abort();

    let told = compare(folder.path(), nodes::decide).unwrap();
    assert_eq!(told.machines(Doer::Present), (2, 2), "{told:?}");
    let (more, fewer) = told.machines(Doer::Tideline);
    assert!(more >= 2 && fewer >= 1, "{told:?}");
    let episode = told.episodes.first().unwrap();
    assert_eq!(episode.pods, 6, "{told:?}");
    assert!(episode.present_answered_after_seconds.is_some(), "{told:?}");
    assert!(episode.tideline_answered_after_seconds.is_some(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_deployment_grows_from_zero_and_shrinks_by_name() {
    let world = World::new(Machines::ClusterApi).await;
    world.populate(6).await;
    let controller = world.controller(world.sandbox.client("tideline"), config());
    let running = tokio::spawn(controller.run(std::future::pending()));
    for (pods, machines) in [(6, 2), (3, 1), (0, 0)] {
        world.scale(pods).await;
        world.settle(pods as usize, machines, PATIENCE).await;
    }
    assert_eq!(world.machines_made(), 2);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn the_status_is_written_on_change_and_removed_at_exit() {
    let world = World::new(Machines::Simulated).await;
    world.populate(6).await;
    let status = controller::Status { enabled: true, ..Default::default() };
    let controller =
        world.controller(world.sandbox.client("tideline"), controller::Config { status, ..config() });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(controller.run(async { drop(stopped.await) }));
    world.settle(6, 2, PATIENCE).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "kube-system");
    let map = maps.get("cluster-autoscaler-status").await.unwrap();
    let text = map.data.clone().unwrap()["status"].clone();
    for line in
        ["autoscalerStatus: Running", "status: Healthy", "cloudProviderTarget: 2", "maxSize: 6", "ready: 2"]
    {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    let annotations = map.metadata.annotations.clone().unwrap();
    assert!(annotations.contains_key("cluster-autoscaler.kubernetes.io/last-updated"));
    tokio::time::sleep(Duration::from_mins(30)).await;
    let later = maps.get("cluster-autoscaler-status").await.unwrap();
    assert_eq!(later.metadata.resource_version, map.metadata.resource_version, "nothing changed");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert!(maps.get_opt("cluster-autoscaler-status").await.unwrap().is_none());
}

/// Faults of every kind, for the first ten minutes.
fn trouble() -> FaultPlan {
    let rule = |fault: Value, probability: f64| {
        let rule = json!({"fault": fault, "probability": probability, "untilSeconds": 600});
        serde_json::from_value::<FaultRule>(rule).unwrap()
    };
    FaultPlan {
        rules: vec![
            rule(json!({"latency": {"mostMilliseconds": 900}}), 0.3),
            rule(json!({"conflict": {}}), 0.1),
            rule(json!({"tooManyRequests": {"retryAfterSeconds": 3}}), 0.1),
            rule(json!({"serverError": {"code": 503}}), 0.1),
            rule(json!({"droppedWatch": {"afterChunks": 3}}), 0.5),
            rule(json!({"lateWatch": {"milliseconds": 1500}}), 0.2),
            rule(json!({"staleList": {"revisions": 5}}), 0.2),
            rule(json!({"lostResponse": {}}), 0.1),
            rule(json!({"lostRequest": {}}), 0.1),
        ],
    }
}

#[tokio::test(start_paused = true)]
async fn faults_delay_the_work_and_change_nothing_of_it() {
    for seed in 0..24 {
        let world = World::new(Machines::Simulated).await;
        world.populate(6).await;
        let faults = Faults::new(trouble(), seed, world.clock).unwrap();
        let course = async {
            world.settle(6, 2, PATIENCE).await;
            world.scale(3).await;
            world.settle(3, 1, 3 * PATIENCE).await;
        };
        // A server that answers from an old state for too long ends a controller; it is started anew, as it would be.
        let lives = async {
            for _ in 0..MOST_LIVES {
                let controller = world.controller(faults.client(world.sandbox.api()), config());
                let ended = controller.run(std::future::pending()).await;
                assert!(matches!(ended, Err(ControllerError::LostLeadership { .. })), "{ended:?}");
            }
            panic!("seed {seed}: ended {MOST_LIVES} times");
        };
        tokio::select! {
            () = course => {}
            () = lives => {}
        }
        assert_eq!(world.machines_made(), 2, "seed {seed}");
        assert!(faults.counts().len() > 8, "{:?}", faults.counts());
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_ledger_is_kept_aside_and_the_work_goes_on() {
    let world = World::new(Machines::Simulated).await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "kube-system");
    let damaged = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("tideline-ledger".into()), ..Default::default() },
        data: Some(BTreeMap::from([("ledger.json".into(), "{\"epo".into()), ("epoch".into(), "41".into())])),
        ..Default::default()
    };
    maps.create(&kube::api::PostParams::default(), &damaged).await.unwrap();
    world.populate(2).await;
    let running = tokio::spawn(
        world.controller(world.sandbox.client("tideline"), config()).run(std::future::pending()),
    );
    world.settle(2, 1, PATIENCE).await;
    let aside = maps.get("tideline-ledger-damaged").await.unwrap();
    assert_eq!(aside.data, damaged.data);
    let ledger = maps.get("tideline-ledger").await.unwrap();
    assert_eq!(ledger.data.unwrap()["epoch"], "42");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_asked_although_the_api_does_not_answer() {
    let world = World::new(Machines::Simulated).await;
    let rule = json!({"fault": {"lostRequest": {}}, "probability": 1.0});
    let plan = FaultPlan { rules: vec![serde_json::from_value(rule).unwrap()] };
    let faults = Faults::new(plan, 1, world.clock).unwrap();
    let controller = world.controller(faults.client(world.sandbox.api()), config());
    let handle = controller.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(controller.run(async { drop(stopped.await) }));
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(handle.not_ready().is_some());
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_mins(1), running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_second_leader_stops_the_first() {
    let world = World::new(Machines::Simulated).await;
    world.populate(2).await;
    let first = world.controller(world.sandbox.client("first"), config()).run(std::future::pending());
    let first = tokio::spawn(first);
    world.settle(2, 1, PATIENCE).await;
    let second = world.controller(world.sandbox.client("second"), config()).run(std::future::pending());
    let second = tokio::spawn(second);
    world.scale(6).await;
    world.settle(6, 2, PATIENCE).await;
    let ended = tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
    assert!(matches!(ended, Err(controller::ControllerError::LostLeadership { .. })), "{ended:?}");
    assert_eq!(world.machines_made(), 2);
    second.abort();
}
