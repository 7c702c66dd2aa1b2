//! Node rules through the whole loop, in virtual time: schedules over restarts, alerts over repeats.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use api::node_rules::HorizontalNodeAutoscaler;
use controller::{AlertAnswer, Config, Handle};
use kube::api::{Api, PostParams};
use model::{AlertDemand, Policies};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::oneshot;
use world::{Machines, World};

/// Long after any machine has become a node.
const MINUTE: Duration = Duration::from_mins(1);

fn config() -> Config {
    Config::for_simulation(Policies { scale_down_enabled: false, ..Policies::default() }, 7)
}

async fn rule(world: &World, rule: Value) {
    let object = json!({
        "apiVersion": "autoscaling.cce.io/v1alpha1", "kind": "HorizontalNodeAutoscaler",
        "metadata": {"name": "rules", "namespace": "kube-system"},
        "spec": {"targetNodepoolIds": ["small"], "rules": [rule]},
    });
    let object: HorizontalNodeAutoscaler = serde_json::from_value(object).unwrap();
    rules(world).create(&PostParams::default(), &object).await.unwrap();
}

fn rules(world: &World) -> Api<HorizontalNodeAutoscaler> {
    Api::namespaced(world.client.clone(), "kube-system")
}

/// A controller that runs until the sender is used.
fn start(world: &World, name: &'static str) -> (Handle, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let controller = world.controller(world.sandbox.client(name), config());
    let handle = controller.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let run = controller.run(async { drop(stopped.await) });
    let running = tokio::spawn(async { run.await.unwrap() });
    (handle, stop, running)
}

/// Runs a controller for so long.
async fn run_for(world: &World, name: &'static str, minutes: u32) {
    let (_, stop, running) = start(world, name);
    tokio::time::sleep(MINUTE * minutes).await;
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_schedule_runs_once_whoever_is_there() {
    let world = World::new(Machines::Simulated).await;
    let action = json!({"type": "ScaleUp", "unit": "Node", "value": 1});
    let cron = json!({"ruleName": "often", "type": "Cron", "cronTrigger": {"schedule": "*/10 * * * *"}, "action": action});
    rule(&world, cron).await;
    // From 0:00: the time 0:10 is met, and met again by nobody.
    run_for(&world, "first", 11).await;
    assert_eq!(world.machines_made(), 1);
    run_for(&world, "second", 6).await;
    assert_eq!(world.machines_made(), 1);
    // Nobody is there at 0:20; whoever comes two minutes later makes up for it.
    tokio::time::sleep(MINUTE * 5).await;
    run_for(&world, "third", 2).await;
    assert_eq!(world.machines_made(), 2);
    // Nobody is there at 0:30 and 0:40, and for longer than the deadline.
    tokio::time::sleep(MINUTE * 23).await;
    run_for(&world, "fourth", 2).await;
    assert_eq!(world.machines_made(), 2);
    let status = rules(&world).get("rules").await.unwrap().status.unwrap();
    assert_eq!((status.rules[0].missed, status.rules[0].last_nodes), (Some(2), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn an_alert_asks_for_nodes_once() {
    let world = World::new(Machines::Simulated).await;
    let action = json!({"type": "ScaleUp", "unit": "Node", "value": 2});
    let trigger = json!({"match": ["alertname=HighCpu"], "intervalSeconds": 0});
    rule(&world, json!({"ruleName": "page", "type": "Alert", "alertTrigger": trigger, "action": action}))
        .await;
    let alert = |name: &str, fingerprint: &str| AlertDemand {
        fingerprint: fingerprint.into(),
        labels: [("alertname".into(), name.into()), ("severity".into(), "page".into())].into(),
        starts_at: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    let taken = AlertAnswer::Taken { rules: vec!["kube-system/rules/page".to_owned()] };
    let (handle, stop, running) = start(&world, "first");
    tokio::time::sleep(MINUTE).await;
    assert_eq!(handle.alert(alert("Other", "a")).await, Some(AlertAnswer::NoRule));
    for _ in 0..3 {
        assert_eq!(handle.alert(alert("HighCpu", "a")).await, Some(taken.clone()));
    }
    tokio::time::sleep(MINUTE).await;
    stop.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(world.machines_made(), 2);

    let (handle, stop, running) = start(&world, "second");
    tokio::time::sleep(MINUTE).await;
    assert_eq!(handle.alert(alert("HighCpu", "a")).await, Some(taken.clone()), "it was taken before");
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.machines_made(), 2);
    assert_eq!(handle.alert(alert("HighCpu", "b")).await, Some(taken), "it is another alert");
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.machines_made(), 4);
    stop.send(()).unwrap();
    running.await.unwrap();
}
