//! Measures the controller against the embedded API: memory at many nodes and pods, and the time from an event to its
//! plan.
//!
//! `cargo run --release -p controller --example scale -- 1000 30000 60` (nodes, pods, samples; `PAGED=1` lists by pages)

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use clock::Clock;
use controller::{Config, Controller, LeaderElection, Status};
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use model::ProviderKind;
use sandbox::store::{ResourceName, Store, StoreOptions, resource};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().unwrap());
    let (nodes, pods) = (numbers.next().unwrap_or(1000), numbers.next().unwrap_or(30_000));
    let samples = numbers.next().unwrap_or(60);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(nodes, pods, samples));
}

async fn measure(nodes: usize, pods: usize, samples: usize) {
    let clock = Clock::system();
    let store = Store::new(clock, &StoreOptions { seed: 1, change_limit: 1_000 });
    let api = sandbox::api::Api::new(store.clone());
    let client = api.client();
    let crds = kube::Api::all(client.clone());
    for crd in api::crds() {
        crds.create(&PostParams::default(), &crd).await.unwrap();
    }
    fill(&store, &client, nodes, pods).await;
    // The API keeps the text of each object that was ever read: that is its memory, not the controller's.
    for resource in ["/api/v1/pods", "/api/v1/nodes"] {
        let request = http::Request::get(resource).body(Vec::new()).unwrap();
        client.request_text(request).await.unwrap();
    }
    let before = resident();
    println!("{nodes} nodes, {pods} pods; {before} MiB resident with the API alone");

    let config = Config {
        providers: vec![ProviderKind::Simulated],
        leader_election: LeaderElection { enabled: false, ..Default::default() },
        status: Status { enabled: false, ..Default::default() },
        watch: controller::Watch { streaming_lists: std::env::var("PAGED").is_err(), ..Default::default() },
        ..Default::default()
    };
    let controller = Controller::new(api.client(), config, clock).unwrap();
    let handle = controller.handle();
    let begun = Instant::now();
    let running = tokio::spawn(controller.run(std::future::pending()));
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if handle.not_ready().is_none() && handle.state().await.is_some_and(|state| state.rounds > 0) {
            break;
        }
    }
    println!("first round after {} ms", begun.elapsed().as_millis());
    let after = resident();
    let grown = after.saturating_sub(before) * 1024;
    println!(
        "{after} MiB resident with the controller: {} KiB a pod at its peak",
        grown as f64 / pods as f64
    );
    if samples > 0 {
        latency(&client, samples).await;
    }
    let metrics = handle.metrics().await.unwrap();
    for name in ["tideline_decide_seconds", "tideline_event_to_plan_seconds"] {
        for line in metrics.lines().filter(|line| line.starts_with(name) && !line.contains("bucket")) {
            println!("{line}");
        }
    }
    running.abort();
}

/// From the scheduler's verdict on a pod to the raised pool.
async fn latency(client: &Client, samples: usize) {
    let pool = dynamic(client, "tideline.dev", "v1alpha1", "SimulatedPool");
    let mut times = Vec::new();
    for sample in 0..samples {
        let replicas = pool.get("big").await.unwrap().data["spec"]["replicas"].as_i64().unwrap();
        let name = format!("waiting-{sample}");
        // Too large for what is free, so each asks for a machine of its own.
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), "default");
        let pod = serde_json::from_value(pod(&name, "30", None)).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let begun = Instant::now();
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                               "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = json!({"status": {"phase": "Pending", "conditions": [condition]}});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if pool.get("big").await.unwrap().data["spec"]["replicas"].as_i64().unwrap() > replicas {
                break;
            }
            if begun.elapsed() > Duration::from_secs(20) {
                println!("sample {sample}: nothing was bought within 20 s");
                return;
            }
        }
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "event to order taken (100 ms of it the batch): median {} ms, p99 {} ms, largest {} ms",
        times[times.len() / 2].as_millis(),
        times[times.len() * 99 / 100].as_millis(),
        times[times.len() - 1].as_millis()
    );
}

async fn fill(store: &Store, client: &Client, nodes: usize, pods: usize) {
    let pool = json!({
        "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": "big"},
        "spec": {"min": nodes, "max": nodes * 2, "replicas": nodes,
                 "template": {"allocatable": {"cpu": "32", "memory": "128Gi"}}},
    });
    let kind = dynamic(client, "tideline.dev", "v1alpha1", "SimulatedPool");
    kind.create(&PostParams::default(), &serde_json::from_value(pool).unwrap()).await.unwrap();
    let machines = dynamic(client, "tideline.dev", "v1alpha1", "SimulatedMachine");
    let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let room = json!({"cpu": "32", "memory": "128Gi", "pods": "110"});
    for at in 0..nodes {
        let name = format!("big-{at}");
        let id = format!("simulated://big/{name}");
        let machine = json!({
            "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedMachine",
            "metadata": {"name": name, "labels": {"tideline.dev/pool": "big"}},
            "spec": {"pool": "big", "providerID": id},
        });
        machines.create(&PostParams::default(), &serde_json::from_value(machine).unwrap()).await.unwrap();
        let status = json!({"status": {"phase": "Running", "nodeName": name}});
        machines.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        let node = json!({
            "metadata": {"name": name, "labels": {"tideline.dev/pool": "big", "kubernetes.io/hostname": name}},
            "spec": {"providerID": id},
        });
        create(store, resource::NODES, "", node, &json!({"conditions": ready, "allocatable": room}));
    }
    for at in 0..pods {
        let node = format!("big-{}", at % nodes);
        let name = format!("web-{at}");
        create(
            store,
            resource::PODS,
            "default",
            pod(&name, "900m", Some(&node)),
            &json!({"phase": "Running"}),
        );
    }
}

fn create(store: &Store, resource: ResourceName, namespace: &str, object: Value, status: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    store.create(resource, namespace, object).unwrap();
    store
        .update_status(resource, namespace, &name, json!({"metadata": {"name": name}, "status": status}))
        .unwrap();
}

fn pod(name: &str, cpu: &str, node: Option<&str>) -> Value {
    let app = name.rsplit('-').next().unwrap().parse::<usize>().unwrap() % 50;
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"app": format!("app-{app}"), "pod-template-hash": "7c5ddbdf54", "team": "shop"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("app-{app}"),
                                 "uid": format!("owner-{app}"), "controller": true}],
        },
        "spec": {"containers": [{"name": "c", "image": "registry/app:1",
                                 "resources": {"requests": {"cpu": cpu, "memory": "256Mi"}}}]},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

fn dynamic(client: &Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)))
}

/// Resident memory in MiB.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) / 1024
}
