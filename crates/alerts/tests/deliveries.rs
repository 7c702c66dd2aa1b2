//! Deliveries on an embedded cluster: twice, late, out of order, to two replicas, with a kill at every call.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use alerts::{ANNOTATION, Reason, Scaler, Settings, Verdict};
use jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use sandbox::fault::{FaultPlan, Faults, KillPoint, KillSide};
use serde_json::json;
use std::time::Duration;
use world::{NAMESPACE, World, alert};

const FIRST: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:30:00Z";
const HOUR: Duration = Duration::from_hours(1);
/// More calls than a delivery makes.
const MOST_CALLS: u64 = 100;

async fn code(scaler: &Scaler, alert: &alerts::Alert) -> &'static str {
    match scaler.take(alert).await.unwrap() {
        Verdict::Scaled { .. } => "scaled",
        Verdict::Demanded { .. } => "demanded",
        Verdict::Skipped(reason) => reason.code(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_alert_adds_one_machine_and_writes_the_history() {
    let world = World::new().await;
    let scaler = world.scaler(world.client.clone(), Settings::default());
    let verdict = scaler.take(&alert("cluster-1", "a", FIRST)).await.unwrap();
    let target = format!("{NAMESPACE}/cluster-1-workers");
    assert_eq!(verdict, Verdict::Scaled { cluster: "cluster-1".into(), target, from: 3, to: 4 });
    assert_eq!(world.replicas("cluster-1").await, 4);
    let history = world.history("cluster-1").await;
    assert_eq!(history.len(), 1);
    assert_eq!(history[0]["alert_name"], "autoscaler/cluster.resource.request.cpu.utilization-4pBud");
    assert_eq!(world.record("cluster-1").await.scalings.len(), 1);
    // The clock is the history: a new process does not forget it.
    let next = world.scaler(world.client.clone(), Settings::default());
    assert_eq!(code(&next, &alert("cluster-1", "b", LATER)).await, "IntervalNotOver");
    tokio::time::sleep(HOUR).await;
    assert_eq!(code(&next, &alert("cluster-1", "b", LATER)).await, "scaled");
    assert_eq!(world.history("cluster-1").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn duplicates_and_late_ones_change_nothing_whatever_their_order() {
    let world = World::new().await;
    let scaler = world.scaler(world.client.clone(), Settings::default());
    let (old, new) = (alert("cluster-1", "a", FIRST), alert("cluster-1", "a", LATER));
    assert_eq!(code(&scaler, &new).await, "scaled");
    for _ in 0..3 {
        assert_eq!(code(&scaler, &new).await, "AlreadyActedOn");
        assert_eq!(code(&scaler, &old).await, "IntervalNotOver");
    }
    tokio::time::sleep(HOUR).await;
    assert_eq!(code(&scaler, &new).await, "AlreadyActedOn", "also after the interval");
    assert_eq!(code(&scaler, &old).await, "scaled", "it never acted, and it still fires");
    tokio::time::sleep(HOUR).await;
    assert_eq!(code(&scaler, &old).await, "AlreadyActedOn");
    assert_eq!(code(&scaler, &new).await, "AlreadyActedOn");
    assert_eq!(world.replicas("cluster-1").await, 5);
    assert_eq!(world.history("cluster-1").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_two_replicas_one_acts() {
    let world = World::new().await;
    let replica = |name: &str| {
        let identity = name.to_owned();
        world.scaler(world.client.clone(), Settings { identity, ..Settings::default() })
    };
    let (one, two) = (replica("one"), replica("two"));
    for round in 0..8 {
        let starts = format!("2026-01-01T0{round}:00:00Z");
        let alert = alert("cluster-1", "a", &starts);
        let free = alert_pool(&world).await;
        let (first, second) = tokio::join!(one.take(&alert), two.take(&alert));
        let verdicts = [first.unwrap(), second.unwrap()];
        let scaled = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Scaled { .. })).count();
        assert_eq!(scaled, usize::from(free), "{verdicts:?}");
        tokio::time::sleep(HOUR).await;
    }
    assert_eq!(world.replicas("cluster-1").await, 8, "the eight addresses are used up");
    assert_eq!(world.history("cluster-1").await.len(), 5);
}

async fn alert_pool(world: &World) -> bool {
    world.replicas("cluster-1").await < 8
}

#[tokio::test(start_paused = true)]
async fn address_pools_limit_and_their_absence_is_said() {
    let world = World::new().await;
    let scaler = world.scaler(world.client.clone(), Settings::default());
    let verdict = scaler.take(&alert("cluster-2", "a", FIRST)).await.unwrap();
    let pool = "cluster-2-addresses".to_owned();
    assert_eq!(verdict, Verdict::Skipped(Reason::TooFewAddresses { pool, free: 0, wanted: 1 }));
    let infrastructure = "infrastructure.cluster.x-k8s.io";
    let pools = world.api(infrastructure, "DCSIpHostnamePool");
    let merge = |patch| Patch::Merge(patch);
    pools
        .patch("cluster-2-addresses", &PatchParams::default(), &merge(json!({"spec": {"pool": null}})))
        .await
        .unwrap();
    assert_eq!(code(&scaler, &alert("cluster-2", "a", FIRST)).await, "AddressPoolUnreadable");
    pools.delete("cluster-2-addresses", &kube::api::DeleteParams::default()).await.unwrap();
    assert_eq!(code(&scaler, &alert("cluster-2", "a", FIRST)).await, "AddressPoolMissing");
    let templates = world.api(infrastructure, "DCSMachineTemplate");
    templates.delete("cluster-2-workers", &kube::api::DeleteParams::default()).await.unwrap();
    assert_eq!(code(&scaler, &alert("cluster-2", "a", FIRST)).await, "TemplateMissing");
    assert_eq!(world.replicas("cluster-2").await, 3);
    let other =
        json!({"spec": {"template": {"spec": {"infrastructureRef": {"kind": "OtherMachineTemplate"}}}}});
    world.deployments().patch("cluster-2-workers", &PatchParams::default(), &merge(other)).await.unwrap();
    assert_eq!(code(&scaler, &alert("cluster-2", "a", FIRST)).await, "scaled", "no pool that we know of");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_history_is_kept_aside_and_a_missing_one_repaired() {
    let world = World::new().await;
    let scaler = world.scaler(world.client.clone(), Settings::default());
    assert_eq!(code(&scaler, &alert("cluster-1", "a", FIRST)).await, "scaled");
    let damage = json!({"data": {"cluster-1": "[{\"alert_name\": oops", "cluster-9": "not ours"}});
    let maps = world.api("", "ConfigMap");
    maps.patch("scale-history-config", &PatchParams::default(), &Patch::Merge(damage)).await.unwrap();
    assert_eq!(code(&scaler, &alert("cluster-1", "b", LATER)).await, "IntervalNotOver");
    assert_eq!(world.history("cluster-1").await.len(), 1, "rebuilt from the MachineDeployment");
    let kept = world.values("scale-history-config-damaged").await;
    let kept: Vec<&str> = kept.as_object().unwrap().values().filter_map(|value| value.as_str()).collect();
    assert_eq!(kept, ["[{\"alert_name\": oops"]);
    assert_eq!(world.values("scale-history-config").await["cluster-9"], "not ours");

    maps.delete("scale-history-config", &kube::api::DeleteParams::default()).await.unwrap();
    let starting = world.scaler(world.client.clone(), Settings::default());
    tokio::select! {
        () = starting.keep_repaired(1) => unreachable!(),
        () = async { while !starting.is_ready() { tokio::time::sleep(Duration::from_millis(10)).await } } => {}
    }
    assert_eq!(world.history("cluster-1").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_stops_scaling_and_is_not_overwritten() {
    let world = World::new().await;
    let scaler = world.scaler(world.client.clone(), Settings::default());
    let damage = json!({"metadata": {"annotations": {ANNOTATION: "{"}}});
    let params = PatchParams::default();
    world.deployments().patch("cluster-1-workers", &params, &Patch::Merge(damage)).await.unwrap();
    assert_eq!(code(&scaler, &alert("cluster-1", "a", FIRST)).await, "Unreadable");
    let deployment = world.deployments().get("cluster-1-workers").await.unwrap();
    assert_eq!(deployment.metadata.annotations.unwrap()[ANNOTATION], "{");
}

/// Kills a replica at each of its calls; the alert is delivered again to the next one, as senders do.
async fn kill_everywhere(side: KillSide) {
    let settings = || Settings { interval: SignedDuration::from_secs(60), ..Settings::default() };
    for call in 1..MOST_CALLS {
        let world = World::new().await;
        let earlier = world.scaler(world.client.clone(), settings());
        assert_eq!(code(&earlier, &alert("cluster-1", "earlier", FIRST)).await, "scaled");
        tokio::time::sleep(HOUR).await;
        let faults = Faults::new(FaultPlan::default(), 1, world.clock).unwrap();
        faults.kill_at(KillPoint { call, side, only_writes: false });
        let delivered = alert("cluster-1", "a", LATER);
        let killed = {
            let scaler = world.scaler(faults.client(world.sandbox.api()), settings());
            tokio::select! {
                biased;
                () = faults.killed() => true,
                _ = scaler.take(&delivered) => faults.is_killed(),
            }
        };
        let next = world.scaler(world.client.clone(), settings());
        let _ = next.take(&delivered).await.unwrap();
        tokio::time::sleep(HOUR).await;
        let _ = next.take(&delivered).await.unwrap();
        assert_eq!(world.replicas("cluster-1").await, 5, "killed {side:?} call {call}");
        assert_eq!(world.history("cluster-1").await.len(), 2, "killed {side:?} call {call}");
        if !killed {
            assert!(call > 4, "a delivery makes more calls than {call}");
            return;
        }
    }
    panic!("a delivery never ends");
}

#[tokio::test(start_paused = true)]
async fn a_kill_before_any_call_neither_doubles_nor_loses() {
    kill_everywhere(KillSide::Before).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_after_any_call_neither_doubles_nor_loses() {
    kill_everywhere(KillSide::After).await;
}

/// The same, but the replica lives on: one call is lost, or applied with its answer lost.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_read_back() {
    let world = World::new().await;
    let plan: FaultPlan = serde_json::from_value(json!({"rules": [
        {"fault": {"lostResponse": {}}, "probability": 1.0, "verbs": ["update", "create"], "most": 2}
    ]}))
    .unwrap();
    let faults = Faults::new(plan, 1, world.clock).unwrap();
    let scaler = world.scaler(faults.client(world.sandbox.api()), Settings::default());
    assert_eq!(code(&scaler, &alert("cluster-1", "a", FIRST)).await, "scaled");
    assert_eq!(world.replicas("cluster-1").await, 4);
    assert_eq!(world.history("cluster-1").await.len(), 1);
}
