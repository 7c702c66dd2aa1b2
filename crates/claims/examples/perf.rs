//! Karpenter's published scenarios on the embedded cluster: how long, how much, how full.
//!
//! `cargo xtask perf [NAME]`. Time passes only where somebody waits, so a scenario's time
//! is boot, drains and our own waits; what our work costs is told as processor time and memory of the whole process, API
//! server, scheduler and kubelets included.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people who measure")]

use api::karpenter::{NodeClaim, NodePool, SimulatedNodeClass};
use clock::Clock;
use controller::{Config, Controller};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use model::Policies;
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use std::time::Duration;

/// Every machine takes as long, so that what is over it is ours.
const BOOT_SECONDS: u64 = 30;
const LONGEST: Duration = Duration::from_hours(2);
/// Nothing has changed for so long: it has come to rest.
const AT_REST: u32 = 300;

/// How many pods of a Deployment a node takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    Any,
    /// As many as another node, or one more.
    Spread,
    /// One.
    Alone,
}

/// A Deployment: name, replicas, millicores, MiB, and how many of it a node takes.
type Load = (&'static str, u32, u32, u32, Company);

struct Cluster {
    _sandbox: Sandbox,
    client: Client,
    clock: Clock,
}

impl Cluster {
    async fn start() -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let sandbox = Sandbox::start(Options::new(clock, 7)).unwrap();
        let client = sandbox.client("perf");
        let boot = json!({"minSeconds": BOOT_SECONDS, "maxSeconds": BOOT_SECONDS});
        let class = json!({"apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedNodeClass",
            "metadata": {"name": "default"}, "spec": {"boot": boot}});
        let reference = json!({"group": "tideline.dev", "kind": "SimulatedNodeClass", "name": "default"});
        let requirement =
            json!({"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]});
        let pool = json!({"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "main"},
            "spec": {"disruption": {"consolidateAfter": "30s", "budgets": [{"nodes": "100%"}]},
                "template": {"spec": {"requirements": [requirement], "nodeClassRef": reference}}}});
        let classes: Api<SimulatedNodeClass> = Api::all(client.clone());
        classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
        let pools: Api<NodePool> = Api::all(client.clone());
        pools.create(&PostParams::default(), &serde_json::from_value(pool).unwrap()).await.unwrap();
        let ours = sandbox.client("tideline");
        let config = Config::for_simulation(Policies::default(), 7);
        let settings = claims::Settings {
            watches: config.watch_settings(),
            simulate_clouds: false,
            heeds_others: true,
            repairs: true,
            clouds: Vec::new(),
        };
        let (direct, keeper) = claims::start(&ours, clock, &settings);
        let controller = Controller::new(ours, config, clock).unwrap().with_provider(direct);
        let handle = controller.handle();
        tokio::spawn(keeper.run(move || handle.leads()));
        tokio::spawn(controller.run(std::future::pending()));
        Self { _sandbox: sandbox, client, clock }
    }

    async fn deploy(&self, (name, replicas, milli, mebi, company): &Load) {
        let labels = json!({"app": name});
        let container = json!({"name": "main", "image": "none",
            "resources": {"requests": {"cpu": format!("{milli}m"), "memory": format!("{mebi}Mi")}}});
        let mut pod = json!({"containers": [container]});
        if *company == Company::Alone {
            pod["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}]}});
        }
        if *company == Company::Spread {
            pod["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": labels}}]);
        }
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod}}});
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        deployments
            .create(&PostParams::default(), &serde_json::from_value(deployment).unwrap())
            .await
            .unwrap();
    }

    async fn scale(&self, name: &str, replicas: u32) {
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        pods.list(&ListParams::default()).await.unwrap().items
    }

    async fn claims(&self) -> Vec<String> {
        let claims: Api<NodeClaim> = Api::all(self.client.clone());
        claims.list(&ListParams::default()).await.unwrap().items.iter().map(NodeClaim::name_any).collect()
    }

    /// Seconds until so many pods have a node.
    async fn until_placed(&self, wanted: usize) -> Option<i64> {
        let begun = self.clock.now();
        let placed = |pod: &&Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        for _ in 0..LONGEST.as_secs() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let pods = self.pods().await;
            if pods.len() == wanted && pods.iter().filter(placed).count() == wanted {
                return Some(self.clock.now().duration_since(begun).as_secs());
            }
        }
        None
    }

    /// Seconds until the last change of the machines, and how many claims were made meanwhile.
    async fn until_rest(&self) -> (i64, usize) {
        let begun = self.clock.now();
        let (mut known, mut last, mut still, mut made) = (self.claims().await, begun, 0, 0);
        for _ in 0..LONGEST.as_secs() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.claims().await;
            if now == known {
                still += 1;
                if still >= AT_REST {
                    break;
                }
                continue;
            }
            made += now.iter().filter(|name| !known.contains(name)).count();
            (known, last, still) = (now, self.clock.now(), 0);
        }
        (last.duration_since(begun).as_secs(), made)
    }

    /// Nodes, and what of their cpu and memory is asked for, in per cent.
    async fn filled(&self) -> (usize, u64, u64) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default()).await.unwrap().items;
        let amounts =
            |value: &Value| intake::resources(&serde_json::from_value(value.clone()).unwrap()).unwrap();
        let (mut has, mut asked) = ((0, 0), (0, 0));
        for node in &nodes {
            let amounts = amounts(&json!(node.status.as_ref().unwrap().allocatable));
            has = (has.0 + amounts.cpu.0, has.1 + (amounts.memory.0 >> 20));
        }
        for pod in self.pods().await {
            let requests =
                pod.spec.as_ref().unwrap().containers[0].resources.as_ref().unwrap().requests.clone();
            let amounts = amounts(&json!(requests));
            asked = (asked.0 + amounts.cpu.0, asked.1 + (amounts.memory.0 >> 20));
        }
        (nodes.len(), asked.0 * 100 / has.0.max(1), asked.1 * 100 / has.1.max(1))
    }
}

/// Processor seconds of this process, and its largest size in MiB.
fn used() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|text| text.parse().ok())
        .collect();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibi = peak.and_then(|text| text.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    // Linux counts processor time in hundredths.
    (fields.iter().sum::<u64>() as f64 / 100.0, kibi.unwrap_or(0) >> 10)
}

/// Scales out, and then down by 30 in 100.
async fn course(name: &str, loads: &[Load]) {
    let cluster = Cluster::start().await;
    let before = used().0;
    for load in loads {
        cluster.deploy(load).await;
    }
    let wanted: u32 = loads.iter().map(|load| load.1).sum();
    let took = cluster.until_placed(wanted as usize).await;
    let (nodes, cpu, memory) = cluster.filled().await;
    let (spent, peak) = used();
    let over = took.map_or("not in time".to_owned(), |took| format!("{} s", took - BOOT_SECONDS as i64));
    println!(
        "| {name}: scale-out, {wanted} pods | {over} over boot | {nodes} nodes | {cpu} %/{memory} % | {:.1} s | {peak} MiB |",
        spent - before
    );
    let (settled, made) = cluster.until_rest().await;
    let (nodes, cpu, memory) = cluster.filled().await;
    println!(
        "| – at rest after it | {settled} s, {made} machines made | {nodes} nodes | {cpu} %/{memory} % | | |"
    );
    for (name, replicas, ..) in loads {
        cluster.scale(name, replicas * 7 / 10).await;
    }
    let before = used().0;
    let (settled, made) = cluster.until_rest().await;
    let (nodes, cpu, memory) = cluster.filled().await;
    let (spent, peak) = used();
    println!(
        "| – consolidation to {} pods | {settled} s, {made} machines made | {nodes} nodes | {cpu} %/{memory} % | {:.1} s | {peak} MiB |",
        cluster.pods().await.len(),
        spent - before
    );
}

fn main() {
    let only = std::env::args().nth(1);
    let wide: Vec<Load> = (0..30)
        .map(|number| {
            let name: &'static str = Box::leak(format!("wide-{number}").into_boxed_str());
            (name, 33, 100 + 100 * (number % 9), 128 + 256 * (number % 7), Company::Any)
        })
        .collect();
    let pair = |each, company| -> Vec<Load> {
        vec![("small", each, 900, 3100, company), ("large", each, 3500, 28 * 1024, company)]
    };
    let scenarios: [(&str, Vec<Load>); 5] = [
        ("basic", pair(500, Company::Any)),
        ("wide", wide),
        ("self anti-affinity", vec![("single", 500, 900, 3100, Company::Alone)]),
        ("hostname spread", pair(500, Company::Spread)),
        ("hostname spread XL", pair(1000, Company::Spread)),
    ];
    println!("| scenario | time | nodes | cpu/memory asked for | processor time | peak memory |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (name, loads) in scenarios {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(course(name, &loads));
    }
}
