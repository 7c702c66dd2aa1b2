//! `ProvisioningRequest`s through the whole loop, in virtual time: bought as a whole, held for their pods, over; and not
//! bought in part. Another process goes on from the conditions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use api::capacity::ProvisioningRequest;
use controller::{Config, ProvisioningRequests};
use k8s_openapi::api::core::v1::{Pod, PodTemplate};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use world::{Machines, World};

fn config() -> Config {
    let provisioning_requests = ProvisioningRequests { enabled: true, ..ProvisioningRequests::default() };
    Config { provisioning_requests, ..world::config() }
}

fn requests(world: &World) -> Api<ProvisioningRequest> {
    Api::namespaced(world.client.clone(), "default")
}

async fn create_template(world: &World, name: &str, cpu: &str) {
    let template: PodTemplate = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name, "namespace": "default"},
        "template": {"spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}},
    }))
    .unwrap();
    let templates: Api<PodTemplate> = Api::namespaced(world.client.clone(), "default");
    templates.create(&PostParams::default(), &template).await.unwrap();
}

async fn ask(world: &World, name: &str, class: &str, sets: &[(&str, i32)], parameters: Value) {
    let sets: Vec<Value> = sets
        .iter()
        .map(|(template, count)| json!({"podTemplateRef": {"name": template}, "count": count}))
        .collect();
    let request = json!({
        "apiVersion": "autoscaling.x-k8s.io/v1", "kind": "ProvisioningRequest",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "provisioningClassName": format!("{class}.autoscaling.x-k8s.io"),
            "podSets": sets, "parameters": parameters,
        },
    });
    let request: ProvisioningRequest = serde_json::from_value(request).unwrap();
    requests(world).create(&PostParams::default(), &request).await.unwrap();
}

/// Waits until a condition says so, and answers its reason.
async fn until(world: &World, name: &str, kind: &str, holds: &str, within: Duration) -> String {
    let end = tokio::time::Instant::now() + within;
    loop {
        let status = requests(world).get(name).await.unwrap().status.unwrap_or_default();
        let found = status.conditions.iter().find(|known| known.type_ == kind && known.status == holds);
        if let Some(condition) = found {
            return condition.reason.clone();
        }
        assert!(tokio::time::Instant::now() < end, "{name} is not {kind} {holds}: {status:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn consume(world: &World, request: &str, numbers: std::ops::Range<u32>, annotation: &str) {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "default");
    for number in numbers {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{request}-{number}"), "namespace": "default",
                "annotations": {annotation: request},
            },
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]},
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
}

fn start(world: &World) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let controller = world.controller(world.sandbox.client("controller"), config());
    let (stop, stopped) = oneshot::channel::<()>();
    let run = controller.run(async { drop(stopped.await) });
    (stop, tokio::spawn(async { run.await.unwrap() }))
}

const ATOMIC: &str = "best-effort-atomic-scale-up";
const CHECK: &str = "check-capacity";
const SOON: Duration = Duration::from_mins(3);
const CONSUME: &str = "autoscaling.x-k8s.io/consume-provisioning-request";
const CONSUME_OLD: &str = "cluster-autoscaler.kubernetes.io/consume-provisioning-request";

/// Machines have four cores; a pool has ten at most.
async fn follow(machines: Machines) {
    let world = World::new(machines).await;
    let (stop, running) = start(&world);
    ask(&world, "job", ATOMIC, &[("large", 2), ("small", 2)], json!({})).await;
    let why = until(&world, "job", "Provisioned", "False", SOON).await;
    assert_eq!(why, "FailedToCreatePods", "there are no templates yet");
    create_template(&world, "large", "3").await;
    create_template(&world, "small", "900m").await;
    assert_eq!(until(&world, "job", "Accepted", "True", SOON).await, "Accepted");
    assert_eq!(until(&world, "job", "Provisioned", "True", SOON).await, "CapacityIsProvisioned");
    world.settle(0, 2, Duration::from_secs(1)).await;

    // Larger than the pool can grow: no part of it is bought.
    ask(&world, "huge", ATOMIC, &[("large", 11)], json!({"ValidUntilSeconds": "240"})).await;
    assert_eq!(until(&world, "huge", "Provisioned", "False", SOON).await, "CapacityIsNotFound");
    // What was promised to the first is not there for the second.
    ask(&world, "look", CHECK, &[("large", 1)], json!({"noRetry": "true"})).await;
    assert_eq!(until(&world, "look", "Failed", "True", SOON).await, "CapacityIsNotFound");

    // Another process goes on where this one ended.
    stop.send(()).unwrap();
    running.await.unwrap();
    let (stop, running) = start(&world);
    assert_eq!(until(&world, "huge", "Failed", "True", Duration::from_mins(6)).await, "Expired");
    world.settle(0, 2, Duration::from_secs(1)).await;
    assert_eq!(until(&world, "job", "BookingExpired", "True", Duration::from_mins(12)).await, EXPIRED);
    world.settle(0, 0, Duration::from_mins(15)).await;
    stop.send(()).unwrap();
    running.await.unwrap();
}

const EXPIRED: &str = "CapacityReservationTimeExpired";

#[tokio::test(start_paused = true)]
async fn a_request_is_bought_as_a_whole_held_and_given_back() {
    follow(Machines::Simulated).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_is_served_by_machines_of_cluster_api() {
    follow(Machines::ClusterApi).await;
}

#[tokio::test(start_paused = true)]
async fn pods_use_the_room_of_their_request_and_are_not_bought_for() {
    let world = World::new(Machines::Simulated).await;
    create_template(&world, "small", "1").await;
    let (stop, running) = start(&world);
    // Nothing is bought for pods whose request is not there.
    consume(&world, "job", 0..2, CONSUME).await;
    consume(&world, "older", 0..1, CONSUME_OLD).await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(world.nodes().await.is_empty());
    // It is asked for and bought with them; what is left of it waits for the others.
    ask(&world, "job", ATOMIC, &[("small", 6)], json!({})).await;
    assert_eq!(until(&world, "job", "Provisioned", "True", SOON).await, "CapacityIsProvisioned");
    consume(&world, "job", 2..6, CONSUME).await;
    assert_eq!(until(&world, "job", "BookingExpired", "True", SOON).await, "CapacityBookingConsumed");
    world.settle(7, 2, SOON).await;
    stop.send(()).unwrap();
    running.await.unwrap();
}
