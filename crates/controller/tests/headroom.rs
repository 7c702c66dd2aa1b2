//! Headroom through the whole loop, in virtual time: a `CapacityBuffer` is bought for, used by pods, filled again, and
//! given back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use api::capacity::CapacityBuffer;
use controller::{CapacityBuffers, Config};
use k8s_openapi::api::core::v1::PodTemplate;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::oneshot;
use world::{Machines, World};

fn config() -> Config {
    Config { capacity_buffers: CapacityBuffers { controller: true, pod_injection: true }, ..world::config() }
}

fn buffers(world: &World) -> Api<CapacityBuffer> {
    Api::namespaced(world.client.clone(), "default")
}

async fn create_template(world: &World, cpu: &str) {
    let template: PodTemplate = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "spare", "namespace": "default"},
        "template": {"spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}},
    }))
    .unwrap();
    let templates: Api<PodTemplate> = Api::namespaced(world.client.clone(), "default");
    templates.create(&PostParams::default(), &template).await.unwrap();
}

async fn create_buffer(world: &World, spec: Value) {
    let buffer = json!({
        "apiVersion": "autoscaling.x-k8s.io/v1beta1", "kind": "CapacityBuffer",
        "metadata": {"name": "spare", "namespace": "default"}, "spec": spec,
    });
    let buffer: CapacityBuffer = serde_json::from_value(buffer).unwrap();
    buffers(world).create(&PostParams::default(), &buffer).await.unwrap();
}

/// Waits until a condition of the buffer says so, and answers its reason and the replicas.
async fn until(world: &World, kind: &str, holds: &str) -> (String, Option<i32>) {
    let end = tokio::time::Instant::now() + Duration::from_mins(5);
    loop {
        let status = buffers(world).get("spare").await.unwrap().status.unwrap_or_default();
        let found = status.conditions.iter().find(|known| known.type_ == kind && known.status == holds);
        if let Some(condition) = found {
            return (condition.reason.clone(), status.replicas);
        }
        assert!(tokio::time::Instant::now() < end, "not {kind} {holds}: {status:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow(machines: Machines) {
    let world = World::new(machines).await;
    create_buffer(&world, json!({"podTemplateRef": {"name": "spare"}, "replicas": 5})).await;
    let controller = world.controller(world.sandbox.client("controller"), config());
    let (stop, stopped) = oneshot::channel::<()>();
    let run = controller.run(async { drop(stopped.await) });
    let running = tokio::spawn(async { run.await.unwrap() });

    assert_eq!(until(&world, "ReadyForProvisioning", "False").await, ("error".to_owned(), None));
    create_template(&world, "1").await;
    until(&world, "ReadyForProvisioning", "True").await;
    assert_eq!(until(&world, "RoomReady", "True").await, ("RoomOnNodes".to_owned(), Some(5)));
    world.settle(0, 2, Duration::from_mins(3)).await;
    // It is not removed as idle, however long nobody comes.
    tokio::time::sleep(Duration::from_mins(10)).await;
    world.settle(0, 2, Duration::from_secs(1)).await;

    // A machine takes 10 s to come; these pods do not wait for one.
    world.populate(7).await;
    let begun = tokio::time::Instant::now();
    world.settle_pods(7).await;
    while !world.pods().await.iter().all(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
    {
        assert!(begun.elapsed() < Duration::from_secs(8), "pods wait although there is a buffer");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The buffer is filled again: 12 pods of one core on machines of four.
    world.settle(7, 3, Duration::from_mins(3)).await;
    until(&world, "RoomReady", "True").await;

    let more = json!({"spec": {"replicas": null, "limits": {"cpu": "9"}}});
    let params = PatchParams::default();
    buffers(&world).patch("spare", &params, &Patch::Merge(&more)).await.unwrap();
    world.settle(7, 4, Duration::from_mins(3)).await;
    buffers(&world).delete("spare", &DeleteParams::default()).await.unwrap();
    world.settle(7, 2, Duration::from_mins(15)).await;
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_buffer_is_bought_for_used_filled_again_and_given_back() {
    follow(Machines::Simulated).await;
}

#[tokio::test(start_paused = true)]
async fn a_buffer_is_kept_on_machines_of_cluster_api() {
    follow(Machines::ClusterApi).await;
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_workload_follows_its_replicas() {
    let world = World::new(Machines::Simulated).await;
    world.populate(4).await;
    let target = json!({"apiGroup": "apps", "kind": "Deployment", "name": "web"});
    create_buffer(&world, json!({"scalableRef": target, "percentage": 50})).await;
    let controller = world.controller(world.sandbox.client("controller"), config());
    let (stop, stopped) = oneshot::channel::<()>();
    let run = controller.run(async { drop(stopped.await) });
    let running = tokio::spawn(async { run.await.unwrap() });
    world.settle(4, 2, Duration::from_mins(3)).await;
    assert_eq!(until(&world, "RoomReady", "True").await, ("RoomOnNodes".to_owned(), Some(2)));
    world.scale(8).await;
    world.settle(8, 3, Duration::from_mins(3)).await;
    assert_eq!(until(&world, "RoomReady", "True").await, ("RoomOnNodes".to_owned(), Some(4)));
    stop.send(()).unwrap();
    running.await.unwrap();
}
