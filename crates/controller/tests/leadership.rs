//! One leads, the others stand by; a lease that is lost ends all acting, one that is given back is taken at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use controller::{Config, ControllerError, LeaderElection};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use sandbox::fault::{Fault, FaultPlan, FaultRule, Faults};
use serde_json::json;
use std::time::Duration;
use tokio::sync::oneshot;
use world::{Machines, World, config};

const PATIENCE: Duration = Duration::from_mins(15);

fn elected(identity: &str) -> Config {
    let leader_election =
        LeaderElection { enabled: true, identity: identity.into(), ..LeaderElection::default() };
    Config { leader_election, ..config() }
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), "kube-system")
}

async fn holder(world: &World) -> String {
    let lease = leases(world).get("cluster-autoscaler").await.unwrap();
    lease.spec.unwrap().holder_identity.unwrap_or_default()
}

/// Waits in virtual time until `holds`.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_given_back_is_taken_by_the_one_that_stands_by() {
    let world = World::new(Machines::Simulated).await;
    world.populate(2).await;
    let first = world.controller(world.sandbox.client("first"), elected("first"));
    let second = world.controller(world.sandbox.client("second"), elected("second"));
    let (first_handle, second_handle) = (first.handle(), second.handle());
    let (stop, stopped) = oneshot::channel::<()>();
    let first = tokio::spawn(first.run(async { drop(stopped.await) }));
    until("first leads", async || first_handle.state().await.is_some_and(|state| state.leading)).await;
    let second = tokio::spawn(second.run(std::future::pending()));
    world.settle(2, 1, PATIENCE).await;
    until("second is ready", async || second_handle.not_ready().is_none()).await;
    assert!(!second_handle.state().await.unwrap().leading);
    assert_eq!(holder(&world).await, "first");

    stop.send(()).unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(holder(&world).await, "");
    world.scale(6).await;
    world.settle(6, 2, PATIENCE).await;
    assert_eq!(holder(&world).await, "second");
    assert_eq!(world.machines_made(), 2);
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_and_a_successor_waits_for_the_lease_to_run_out() {
    let world = World::new(Machines::Simulated).await;
    world.populate(2).await;
    let rule = FaultRule {
        fault: Fault::LostRequest {},
        probability: 1.0,
        from_seconds: 120,
        until_seconds: None,
        verbs: Vec::new(),
        resources: vec!["leases".into()],
        most: None,
    };
    let faults = Faults::new(FaultPlan { rules: vec![rule] }, 1, world.clock).unwrap();
    let first = world.controller(faults.client(world.sandbox.api()), elected("first"));
    let begun = tokio::time::Instant::now();
    let first = tokio::spawn(first.run(std::future::pending()));
    world.settle(2, 1, Duration::from_secs(110)).await;
    let second = world.controller(world.sandbox.client("second"), elected("second"));
    let second = tokio::spawn(second.run(std::future::pending()));
    let ended = tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ControllerError::LostLeadership { .. })), "{ended:?}");
    let stopped_after = begun.elapsed();
    assert!(
        stopped_after < Duration::from_secs(120 + 15),
        "stopped before the lease ran out: {stopped_after:?}"
    );
    until("second leads", async || holder(&world).await == "second").await;
    assert!(begun.elapsed() > stopped_after);
    world.scale(6).await;
    world.settle(6, 2, PATIENCE).await;
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stolen_lease_ends_the_leader() {
    let world = World::new(Machines::Simulated).await;
    world.populate(2).await;
    let first = world.controller(world.sandbox.client("first"), elected("first"));
    let first = tokio::spawn(first.run(std::future::pending()));
    world.settle(2, 1, PATIENCE).await;
    let now = world.clock.now();
    let theft = json!({"spec": {"holderIdentity": "thief", "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()}});
    leases(&world).patch("cluster-autoscaler", &PatchParams::default(), &Patch::Merge(&theft)).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ControllerError::LostLeadership { .. })), "{ended:?}");
    assert_eq!(holder(&world).await, "thief");
}
