//! Pods with volumes in the embedded cluster: nodes come where the volumes are, and go with them in mind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use sandbox::fault::{FaultPlan, FaultRule, Faults};
use serde_json::{Value, json};
use std::time::Duration;
use world::{Machines, World, config};

const PATIENCE: Duration = Duration::from_mins(20);
const ZONE: &str = "topology.kubernetes.io/zone";

async fn create(world: &World, (group, version, kind): (&str, &str, &str), namespace: &str, object: Value) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(world.client.clone(), &resource)
    } else {
        Api::namespaced_with(world.client.clone(), namespace, &resource)
    };
    let mut object = object;
    object["kind"] = kind.into();
    object["apiVersion"] =
        if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

async fn zoned_pool(world: &World, zone: &str) {
    let pool = json!({
        "metadata": {"name": format!("zone-{zone}")},
        "spec": {"min": 0, "max": 4, "boot": {"minSeconds": 10, "maxSeconds": 10},
                 "template": {"allocatable": {"cpu": "2", "memory": "8Gi"}, "labels": {ZONE: zone}}},
    });
    create(world, ("tideline.dev", "v1alpha1", "SimulatedPool"), "", pool).await;
}

async fn class(world: &World, binding: &str) {
    let terms = json!([{"matchLabelExpressions": [{"key": ZONE, "values": ["b", "c"]}]}]);
    let class = json!({
        "metadata": {"name": "zonal"}, "provisioner": "disks.example.com", "volumeBindingMode": binding,
        "allowedTopologies": terms,
    });
    create(world, ("storage.k8s.io", "v1", "StorageClass"), "", class).await;
}

async fn database(world: &World, replicas: u32) {
    let labels = json!({"app": "db"});
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "1500m"}}});
    let claim = json!({
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "zonal",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    let set = json!({
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "replicas": replicas, "podManagementPolicy": "Parallel", "serviceName": "db",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            "volumeClaimTemplates": [claim],
        },
    });
    create(world, ("apps", "v1", "StatefulSet"), "default", set).await;
}

/// Waits until all of so many pods run; the zones that they run in, by pod.
async fn zones(world: &World, pods: usize) -> Vec<String> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let nodes = world.nodes().await;
        let zone_of = |name: &str| {
            let node = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name))?;
            node.metadata.labels.as_ref()?.get(ZONE).cloned()
        };
        let found = world.pods().await;
        let running: Vec<String> = found
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter(|pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running"))
            .map(|pod| zone_of(pod.spec.as_ref().unwrap().node_name.as_deref().unwrap()).unwrap_or_default())
            .collect();
        if running.len() == pods && found.len() == pods {
            return running;
        }
        assert!(tokio::time::Instant::now() < end, "{running:?} of {pods} run");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_come_where_volumes_can_be_made() {
    let world = World::new(Machines::Simulated).await;
    for zone in ["a", "b"] {
        zoned_pool(&world, zone).await;
    }
    class(&world, "WaitForFirstConsumer").await;
    database(&world, 2).await;
    let controller = world.controller(world.sandbox.client("tideline"), config());
    let running = tokio::spawn(controller.run(std::future::pending()));
    // The unlabelled pool and zone a are of no use to the class.
    assert_eq!(zones(&world, 2).await, ["b", "b"]);
    assert_eq!(world.nodes().await.len(), 2, "nothing was bought in vain");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pod_returns_to_the_zone_of_its_volume() {
    let world = World::new(Machines::Simulated).await;
    for zone in ["a", "b", "c"] {
        zoned_pool(&world, zone).await;
    }
    class(&world, "Immediate").await;
    database(&world, 2).await;
    let controller = world.controller(world.sandbox.client("tideline"), config());
    let running = tokio::spawn(controller.run(std::future::pending()));
    let mut found = zones(&world, 2).await;
    found.sort();
    assert_eq!(found, ["b", "c"], "each volume has a zone before its pod has a node");
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    assert_eq!(volumes.list(&ListParams::default()).await.unwrap().items.len(), 2);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn where_volumes_cannot_be_read_only_their_pods_wait() {
    let world = World::new(Machines::Simulated).await;
    class(&world, "WaitForFirstConsumer").await;
    database(&world, 1).await;
    world.populate(2).await;
    let rule = json!({
        "fault": {"serverError": {"code": 503}}, "probability": 1.0, "resources": ["persistentvolumes"],
        "untilSeconds": 600,
    });
    let plan = FaultPlan { rules: vec![serde_json::from_value::<FaultRule>(rule).unwrap()] };
    let faults = Faults::new(plan, 1, world.clock).unwrap();
    let controller = world.controller(faults.client(world.sandbox.api()), config());
    let handle = controller.handle();
    let running = tokio::spawn(controller.run(std::future::pending()));
    let end = tokio::time::Instant::now() + PATIENCE;
    let waits = loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let Some(state) = handle.state().await else { continue };
        assert!(tokio::time::Instant::now() < end, "the others did not get their node: {state:?}");
        if state.pending.len() == 1 && world.nodes().await.len() == 1 {
            break state;
        }
    };
    assert!(waits.pending[0].reason.contains("claims and volumes cannot be read now"), "{waits:?}");
    assert!(waits.round.iter().any(|said| said.contains("volumes and their claims")), "{waits:?}");
    // Once they can be read, the rest follows.
    zoned_pool(&world, "b").await;
    assert_eq!(zones(&world, 3).await.iter().filter(|zone| *zone == "b").count(), 1);
    running.abort();
}
