//! Measures the time from an event to the plan that answers it, on a loaded embedded cluster, and memory.
//!
//! `cargo run --release -p tideline --example event_to_plan [NODES PODS SAMPLES]` (1,000, 30,000, 200). Everything
//! runs in this process on real time: API, built-in controllers, scheduler, kubelets, cloud, and the controller under
//! test. A sample is a pod that fits nowhere: the clock starts before the call that creates it and stops when the round
//! is decided that names it, so the call, the scheduler's verdict and the batch's 100 ms of quiet are all in it. The
//! time of deciding alone is measured beside it. Memory is the whole process's, from the kernel.

use clock::Clock;
use controller::{Config, Controller};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use model::{Cluster, Decision, Ledger, PodKey, Policies};
use sandbox::{Options, Sandbox};
use serde_json::json;
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Longest wait for the cluster to be loaded, and for one sample.
const LOADING_DEADLINE: Duration = Duration::from_secs(900);
const SAMPLE_DEADLINE: Duration = Duration::from_secs(60);
const POOL: &str = "load";

/// Time of each decision, in the order of the rounds.
static DECIDED: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

fn timed_decide(cluster: &Cluster, policies: &Policies, ledger: &Ledger, now: Timestamp) -> Decision {
    let begun = Instant::now();
    let decision = nodes::decide(cluster, policies, ledger, now);
    if let Ok(mut all) = DECIDED.lock() {
        all.push(begun.elapsed());
    }
    decision
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let argument = |at: usize, usual: usize| arguments.get(at).copied().unwrap_or(usual);
    let (nodes, pods, samples) = (argument(0, 1000), argument(1, 30_000), argument(2, 200));

    let clock = Clock::system();
    let sandbox = Sandbox::start(Options::new(clock, 1))?;
    let client = sandbox.client("load");
    println!("idle embedded cluster: {} MiB", resident_mebibytes()?);

    let (decided, mut hear) = mpsc::unbounded_channel();
    let controller = Controller::new(sandbox.client("tideline"), config(), clock)?
        .with_decide(timed_decide)
        .with_hook(Box::new(move |round| {
            let named: BTreeSet<PodKey> = round.decision.verdicts.pods.keys().cloned().collect();
            // The listener leaves at the end of the run, before the controller does.
            let _ = decided.send((Instant::now(), named));
        }));
    let running = tokio::spawn(controller.run(std::future::pending()));

    let begun = Instant::now();
    load(&client, nodes, pods).await?;
    println!("loaded {nodes} nodes and {pods} pods in {:.1} s", begun.elapsed().as_secs_f64());
    println!("embedded cluster and controller, loaded: {} MiB", resident_mebibytes()?);

    let settled = DECIDED.lock().map_err(|_| "a measurement was lost")?.len();
    let mut latencies = Vec::with_capacity(samples);
    let api: Api<Pod> = Api::namespaced(client, "default");
    for number in 0..samples {
        latencies.push(sample(&api, number, &mut hear).await?);
    }
    let mut decisions = DECIDED.lock().map_err(|_| "a measurement was lost")?.split_off(settled);
    println!("event to plan, batch of 100 ms included: {}", spread(&mut latencies));
    println!("deciding alone, {} rounds: {}", decisions.len(), spread(&mut decisions));
    println!("embedded cluster and controller, after: {} MiB", resident_mebibytes()?);
    running.abort();
    Ok(())
}

fn config() -> Config {
    let mut config = Config::default();
    config.leader_election.enabled = false;
    config.listen = None;
    config.events = false;
    // Nothing may be removed while the cluster is being filled and measured.
    config.policies.unneeded_time = SignedDuration::from_hours(24);
    config
}

async fn load(client: &kube::Client, nodes: usize, pods: usize) -> Result<(), Box<dyn Error>> {
    let pool: api::simulated::SimulatedPool = serde_json::from_value(json!({
        "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": POOL},
        "spec": {
            "min": 0, "max": nodes * 2, "replicas": nodes, "boot": {"minSeconds": 0, "maxSeconds": 1},
            "template": {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"}},
        },
    }))?;
    Api::all(client.clone()).create(&PostParams::default(), &pool).await?;
    let deployments = 30.min(pods.max(1));
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    for number in 0..deployments {
        let name = format!("load-{number}");
        let replicas = pods / deployments + usize::from(number < pods % deployments);
        let milli_cpu = 50 + 10 * number;
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": name}, "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{
                    "name": "c", "image": "c",
                    "resources": {"requests": {"cpu": format!("{milli_cpu}m"), "memory": "256Mi"}},
                }]}},
            },
        }))?;
        api.create(&PostParams::default(), &deployment).await?;
    }
    let deadline = Instant::now() + LOADING_DEADLINE;
    loop {
        let machines =
            Api::<Node>::all(client.clone()).list_metadata(&ListParams::default()).await?.items.len();
        let running = ListParams::default().fields("status.phase=Running");
        let bound = Api::<Pod>::default_namespaced(client.clone()).list_metadata(&running).await?.items.len();
        if machines >= nodes && bound >= pods {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("only {machines} nodes and {bound} running pods before the deadline").into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// One pod that fits nowhere, from the call that creates it to the round that names it.
async fn sample(
    api: &Api<Pod>,
    number: usize,
    hear: &mut mpsc::UnboundedReceiver<(Instant, BTreeSet<PodKey>)>,
) -> Result<Duration, Box<dyn Error>> {
    let name = format!("sample-{number}");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"containers": [{
            "name": "c", "image": "c", "resources": {"requests": {"cpu": "1000"}},
        }]},
    }))?;
    let key = PodKey::new("default", &name);
    let begun = Instant::now();
    api.create(&PostParams::default(), &pod).await?;
    let ended = tokio::time::timeout(SAMPLE_DEADLINE, async {
        while let Some((at, named)) = hear.recv().await {
            if at > begun && named.contains(&key) {
                return Some(at);
            }
        }
        None
    });
    let ended = ended.await?.ok_or("the controller ended")?;
    api.delete(&name, &DeleteParams::default().grace_period(0)).await?;
    Ok(ended - begun)
}

fn spread(all: &mut [Duration]) -> String {
    all.sort_unstable();
    let at = |permille: usize| {
        let index = (all.len().saturating_sub(1)) * permille / 1000;
        all.get(index).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
    };
    format!("median {:.1} ms, p99 {:.1} ms, most {:.1} ms", at(500), at(990), at(1000))
}

/// Resident memory of this process, from `/proc`.
fn resident_mebibytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("/proc has no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes / 1024)
}
