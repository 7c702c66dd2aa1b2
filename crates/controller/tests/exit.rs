//! A cluster is handed back: whenever the controller was killed, nothing of ours is left on it afterwards.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use controller::{ControllerError, LeaderElection, hand_back};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use sandbox::fault::{FaultPlan, Faults, KillPoint, KillSide};
use std::time::Duration;
use world::{Machines, World, config};

const PATIENCE: Duration = Duration::from_mins(20);

/// Everything of ours that can still be found.
async fn traces(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for node in world.nodes().await {
        let spec = node.spec.clone().unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        let ours = taints.iter().any(|taint| taint.key.contains("ClusterAutoscaler"));
        let annotated = node.annotations().keys().any(|key| key.starts_with("tideline.dev/"));
        if ours || annotated || spec.unschedulable == Some(true) {
            found.push(node.name_any());
        }
    }
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "kube-system");
    for map in maps.list(&ListParams::default()).await.unwrap().items {
        found.push(map.name_any());
    }
    found
}

async fn begin_draining(world: &World) {
    world.populate(6).await;
    let before = world.controller(world.sandbox.client("before"), config());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(before.run(async { drop(stopped.await) }));
    world.settle(6, 2, PATIENCE).await;
    world.scale(3).await;
    world.settle_pods(3).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

/// Kills the controller at its n-th call of a drain and hands the cluster back. `None`: it was over before.
async fn killed_at(machines: Machines, call: u64) -> Option<usize> {
    let world = World::new(machines).await;
    begin_draining(&world).await;
    let faults = Faults::new(FaultPlan::default(), 1, world.clock).unwrap();
    faults.kill_at(KillPoint { call, side: KillSide::After, only_writes: true });
    let controller = world.controller(faults.client(world.sandbox.api()), config());
    let running = tokio::spawn(controller.run(std::future::pending()));
    let killed = tokio::select! {
        biased;
        () = faults.killed() => true,
        () = world.settle(3, 1, PATIENCE) => false,
    };
    running.abort();
    let _ = running.await;
    if !killed {
        return None;
    }
    let before = traces(&world).await;
    assert!(!before.is_empty(), "a killed controller leaves at least its ledger");
    let told = hand_back(&world.client, world.clock, &config(), true).await.unwrap();
    assert_eq!(traces(&world).await, before, "a dry run changes nothing");
    let handed = hand_back(&world.client, world.clock, &config(), false).await.unwrap();
    assert_eq!(handed.done, told.done);
    assert_eq!((handed.left, traces(&world).await), (Vec::new(), Vec::<String>::new()), "killed at {call}");
    let again = hand_back(&world.client, world.clock, &config(), false).await.unwrap();
    // A machine that its group is lowered for already keeps its mark until it is gone.
    assert!(again.done.iter().all(|line| line.contains("stays marked")), "{again:?}");
    Some(before.len())
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_whenever_the_controller_was_killed() {
    for machines in [Machines::Simulated, Machines::ClusterApi] {
        let mut most = 0;
        for call in 1..1000 {
            let Some(traces) = killed_at(machines, call).await else {
                assert!(call > 5, "a drain writes more than {call} times");
                break;
            };
            most = most.max(traces);
        }
        assert!(most >= 2, "some kill leaves a marked node beside the ledger");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_somebody_leads_is_not_touched() {
    let world = World::new(Machines::Simulated).await;
    world.populate(6).await;
    let mut config = config();
    config.leader_election = LeaderElection { identity: "the-other".into(), ..LeaderElection::default() };
    let controller = world.controller(world.sandbox.client("tideline"), config.clone());
    let running = tokio::spawn(controller.run(std::future::pending()));
    world.settle(6, 2, PATIENCE).await;
    let before = traces(&world).await;
    let error = hand_back(&world.client, world.clock, &config, false).await.unwrap_err();
    assert!(
        matches!(&error, ControllerError::LostLeadership { why } if why.contains("the-other")),
        "{error}"
    );
    assert_eq!(traces(&world).await, before);
    running.abort();
}
