//! Measures what the embedded cluster costs: `cargo run --release -p sandbox --example cost`.
//!
//! Two loads, without a controller: many pods at once on a thousand machines, and a long thin stream of batch pods.

use clock::Clock;
use sandbox::store::resource::{DAEMON_SETS, DEPLOYMENTS, PODS, SIMULATED_POOLS};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn pool(machines: u32) -> Value {
    json!({
        "metadata": {"name": "pool"},
        "spec": {
            "min": 0, "max": machines, "replicas": machines,
            "template": {"allocatable": {"cpu": "32", "memory": "128Gi", "pods": "110"}},
        },
    })
}

fn pod_spec(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]})
}

fn start() -> Result<Sandbox, sandbox::SandboxError> {
    let mut options = Options::new(Clock::starting_at(jiff::Timestamp::UNIX_EPOCH), 1);
    options.controllers.events = false;
    options.delays.report_creating = false;
    options.cluster_api = false;
    Sandbox::start(options)
}

async fn crowd(machines: u32, deployments: u32, replicas: u32) -> Result<(), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let sandbox = start()?;
    let store = sandbox.store();
    let agent = json!({
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": pod_spec("100m")},
        },
    });
    store.create(DAEMON_SETS, "kube-system", agent)?;
    store.create(SIMULATED_POOLS, "", pool(machines))?;
    tokio::time::sleep(Duration::from_mins(5)).await;
    println!("{machines} machines: {:?}, {} writes", begin.elapsed(), store.revision());
    let (begin, before) = (Instant::now(), store.revision());
    for number in 0..deployments {
        let name = format!("web-{number}");
        let deployment = json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec("500m")},
            },
        });
        store.create(DEPLOYMENTS, "default", deployment)?;
    }
    tokio::time::sleep(Duration::from_mins(5)).await;
    let running = store.list(PODS).iter().filter(|p| p.text("status.phase") == Some("Running")).count();
    println!("{running} pods running: {:?}, {} writes", begin.elapsed(), store.revision() - before);
    Ok(())
}

async fn stream(pods: u32) -> Result<(), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let sandbox = start()?;
    let store = sandbox.store();
    store.create(SIMULATED_POOLS, "", pool(100))?;
    for number in 0..pods {
        let pod = json!({
            "metadata": {
                "name": format!("batch-{number}"), "annotations": {"tideline.dev/run-seconds": "3600"},
            },
            "spec": pod_spec("4"),
        });
        store.create(PODS, "default", pod)?;
        tokio::time::sleep(Duration::from_mins(25)).await;
    }
    println!("{pods} batch pods one by one: {:?}, {} writes", begin.elapsed(), store.revision());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime()?.block_on(stream(8152))?;
    runtime()?.block_on(crowd(200, 20, 300))?;
    runtime()?.block_on(crowd(500, 50, 200))
}
