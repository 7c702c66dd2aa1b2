//! Measures the program as a process of its own against a real kube-apiserver full of nodes and pods, whose kubelets
//! are played by writing their status: time to the first decision, memory, processor time at rest, event to plan.
//!
//! `TIDELINE_PROGRAM=target/release/tideline cargo run --release -p acceptance --example scale -- 5000 150000 60`
//! (nodes, pods, seconds at rest). The control plane is built by `cargo xtask real` the first time.

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use testbed::{ControlPlane, Options};
use tokio::process::{Child, Command};

/// Requests at once while the cluster is filled.
const AT_ONCE: usize = 96;
const NAMESPACES: usize = 20;
/// Changes of pods a second while the program is watched at rest.
const CHURN_PER_SECOND: u64 = 20;
/// Pods that become unschedulable, one after the other.
const SAMPLES: usize = 60;
/// Of a clock tick in `/proc`.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().unwrap());
    let (nodes, pods) = (numbers.next().unwrap_or(5000), numbers.next().unwrap_or(150_000));
    let seconds = numbers.next().unwrap_or(60) as u64;
    let options = Options { audit: false, scheduler: false, controllers: false, ..Options::default() };
    let cluster = ControlPlane::start(options).await.unwrap();
    let definitions: Vec<String> = api::crds().iter().map(|crd| json!(crd).to_string()).collect();
    cluster.apply(&definitions.join("\n---\n")).await.unwrap();
    cluster
        .kubectl_ok(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])
        .await
        .unwrap();
    let begun = Instant::now();
    fill(&cluster, nodes, pods).await;
    println!("{nodes} nodes and {pods} pods written in {:.0} s", begun.elapsed().as_secs_f32());
    unschedulable(&cluster, "first").await;
    measure(&cluster, pods, seconds).await;
}

struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(cluster: &ControlPlane) -> Self {
        let program = acceptance::tideline().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let kubeconfig = cluster.kubeconfig_for_user("tideline", &["system:masters"]).unwrap();
        let log = std::fs::File::create(cluster.dir().join("tideline.log")).unwrap();
        let child = Command::new(program)
            .args(["controller", "--cloud-provider=simulated", "--leader-elect=false"])
            .arg(format!("--address={address}"))
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, address }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(Path::new("/proc").join(self.child.id().unwrap().to_string()).join(file))
            .unwrap()
    }

    /// Mebibytes: now, and the most ever.
    fn memory(&self) -> (u64, u64) {
        let status = self.proc("status");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Processor time so far, in seconds.
    fn processor(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS_PER_SECOND
    }

    async fn metrics(&self) -> String {
        let uri: http::Uri = format!("http://{}", self.address).parse().unwrap();
        let client = kube::Client::try_from(kube::Config::new(uri)).unwrap();
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        client.request_text(request).await.unwrap_or_default()
    }
}

async fn measure(cluster: &ControlPlane, pods: usize, seconds: u64) {
    let begun = Instant::now();
    let program = Program::start(cluster);
    let before = size(cluster).await;
    while size(cluster).await == before {
        assert!(begun.elapsed() < Duration::from_mins(5), "{}", tail(cluster));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("start to first decision, carried out: {:.1} s", begun.elapsed().as_secs_f32());
    let (now, most) = program.memory();
    println!("memory after it: {now} MiB, at most {most} MiB; processor time {:.1} s", program.processor());

    tokio::time::sleep(Duration::from_secs(10)).await;
    let (begun, used) = (Instant::now(), program.processor());
    churn(cluster, pods, seconds).await;
    let cores = (program.processor() - used) / begun.elapsed().as_secs_f64();
    println!("at rest, {CHURN_PER_SECOND} changes of pods a second: {cores:.3} cores over {seconds} s");

    let (mut times, before_samples) = (Vec::new(), parts(&program.metrics().await));
    for sample in 0..SAMPLES {
        let before = size(cluster).await;
        unschedulable(cluster, &format!("sample-{sample}")).await;
        let begun = Instant::now();
        while size(cluster).await == before {
            assert!(begun.elapsed() < Duration::from_mins(1), "{}", tail(cluster));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    times.sort();
    println!(
        "event to order taken by the API server: median {} ms, p99 {} ms",
        times[times.len() / 2].as_millis(),
        times[times.len() * 99 / 100].as_millis()
    );
    let mean = times.iter().sum::<Duration>().as_secs_f64() * 1e3 / times.len() as f64;
    tell_parts(mean, &before_samples, &parts(&program.metrics().await));
    let (now, most) = program.memory();
    println!("memory at the end: {now} MiB, at most {most} MiB");
    for line in program.metrics().await.lines() {
        let told = ["tideline_decide_seconds", "tideline_event_to_plan_seconds"];
        if told.iter().any(|name| line.starts_with(name)) {
            println!("{line}");
        }
    }
}

/// Sum and count of each part of a round so far.
fn parts(metrics: &str) -> BTreeMap<String, (f64, f64)> {
    let mut found = BTreeMap::<String, (f64, f64)>::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("tideline_round_part_seconds_") else { continue };
        let (Some(part), Some(value)) = (rest.split('"').nth(1), rest.split_whitespace().last()) else {
            continue;
        };
        let entry = found.entry(part.to_owned()).or_default();
        match rest.split('{').next() {
            Some("sum") => entry.0 = value.parse().unwrap(),
            Some("count") => entry.1 = value.parse().unwrap(),
            _ => {}
        }
    }
    found
}

/// Where the time of the samples went: what is not ours is the API server's, which tells of the pod, and is read and
/// written once for the order. Rounds that follow an order's outcome count too.
fn tell_parts(whole: f64, before: &BTreeMap<String, (f64, f64)>, after: &BTreeMap<String, (f64, f64)>) {
    let mut rest = whole;
    for (part, (sum, count)) in after {
        let (begun, counted) = before.get(part).copied().unwrap_or_default();
        let mean = (sum - begun) / (count - counted).max(1.0) * 1e3;
        rest -= mean;
        println!("  of the mean of {whole:.0} ms: {part} {mean:.1} ms, over {:.0} rounds", count - counted);
    }
    println!("  the rest, {rest:.1} ms: the API server tells of the pod, and takes the order");
}

fn tail(cluster: &ControlPlane) -> String {
    let text = std::fs::read_to_string(cluster.dir().join("tideline.log")).unwrap_or_default();
    text.lines().rev().take(20).collect::<Vec<_>>().join("\n")
}

fn simulated(cluster: &ControlPlane, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("tideline.dev", "v1alpha1", kind);
    Api::all_with(cluster.client(), &ApiResource::from_gvk(&kind))
}

/// The size that the pool is asked for.
async fn size(cluster: &ControlPlane) -> u64 {
    let pool = simulated(cluster, "SimulatedPool").get("big").await.unwrap();
    pool.data["spec"]["replicas"].as_u64().unwrap()
}

/// Status changes of pods that say nothing new to a planner: what kubelets write all day.
async fn churn(cluster: &ControlPlane, pods: usize, seconds: u64) {
    let mut tick = tokio::time::interval(Duration::from_millis(1000 / CHURN_PER_SECOND));
    for at in 0..seconds * CHURN_PER_SECOND {
        tick.tick().await;
        let at = (at as usize * 7919) % pods;
        let api: Api<Pod> = Api::namespaced(cluster.client(), &namespace(at));
        let status = json!({"status": {"message": format!("change {at}")}});
        api.patch_status(&format!("web-{at}"), &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
    }
}

fn namespace(at: usize) -> String {
    format!("team-{}", at % NAMESPACES)
}

async fn fill(cluster: &ControlPlane, nodes: usize, pods: usize) {
    for at in 0..NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(at)}});
        cluster.apply(&namespace.to_string()).await.unwrap();
    }
    let pool = json!({
        "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": "big"},
        "spec": {"min": nodes, "max": nodes * 2, "replicas": nodes,
                 "template": {"allocatable": {"cpu": "32", "memory": "128Gi"}}},
    });
    cluster.apply(&pool.to_string()).await.unwrap();
    stream::iter(0..nodes).for_each_concurrent(AT_ONCE, |at| node(cluster, at)).await;
    stream::iter(0..pods).for_each_concurrent(AT_ONCE, |at| bound(cluster, at, nodes)).await;
}

async fn node(cluster: &ControlPlane, at: usize) {
    let (name, plain) = (format!("big-{at}"), PostParams::default());
    let id = format!("simulated://big/{name}");
    let machine = json!({
        "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedMachine",
        "metadata": {"name": name, "labels": {"tideline.dev/pool": "big"}},
        "spec": {"pool": "big", "providerID": id},
    });
    let machines = simulated(cluster, "SimulatedMachine");
    machines.create(&plain, &serde_json::from_value(machine).unwrap()).await.unwrap();
    let status = json!({"status": {"phase": "Running", "nodeName": name}});
    machines.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let zone = format!("z{}", at % 3);
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "tideline.dev/pool": "big", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": zone,
            "node.kubernetes.io/instance-type": "s.8xlarge"}},
        "spec": {"providerID": id},
    });
    let nodes: Api<Node> = Api::all(cluster.client());
    nodes.create(&plain, &serde_json::from_value(node).unwrap()).await.unwrap();
    let room = json!({"cpu": "32", "memory": "128Gi", "pods": "110"});
    // As long as what kubelets write: images are most of it.
    let images: Vec<Value> = (0..30)
        .map(|image| json!({"names": [format!("registry.example.com/team/app-{image}@sha256:{image:064}")], "sizeBytes": 1}))
        .collect();
    let status = json!({"status": {
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
                        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "reason": "KubeletReady"}],
        "allocatable": room, "capacity": room, "images": images,
    }});
    // The admission of nodes taints new ones; nobody here takes that off by itself.
    let untainted = json!({"spec": {"taints": null}});
    nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    nodes.patch(&name, &PatchParams::default(), &Patch::Merge(&untainted)).await.unwrap();
}

fn pod(at: usize, name: &str, cpu: &str, node: Option<&str>) -> Pod {
    let app = format!("app-{}", at % 500);
    let variables: Vec<Value> = (0..12)
        .map(|i| json!({"name": format!("SETTING_{i}"), "value": "a value of usual length"}))
        .collect();
    let mut pod = json!({
        "metadata": {
            "name": name,
            "labels": {"app": app, "pod-template-hash": "7c5ddbdf54", "team": "shop"},
            "annotations": {"prometheus.io/scrape": "true", "checksum/config": "0123456789abcdef0123456789abcdef"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app,
                                 "uid": format!("owner-{app}"), "controller": true}],
        },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "registry.example.com/team/app:1", "env": variables,
                            "resources": {"requests": {"cpu": cpu, "memory": "256Mi"}},
                            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    serde_json::from_value(pod).unwrap()
}

async fn bound(cluster: &ControlPlane, at: usize, nodes: usize) {
    let api: Api<Pod> = Api::namespaced(cluster.client(), &namespace(at));
    let (name, node) = (format!("web-{at}"), format!("big-{}", at % nodes));
    api.create(&PostParams::default(), &pod(at, &name, "900m", Some(&node))).await.unwrap();
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.0.0.1", "startTime": "2026-01-01T00:00:00Z",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "containerStatuses": [{"name": "main", "image": "registry.example.com/team/app:1", "ready": true,
                               "imageID": "registry.example.com/team/app@sha256:0", "restartCount": 0,
                               "containerID": "containerd://0123456789abcdef", "started": true,
                               "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
    }});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

/// A pod that is too large for what is free anywhere, and the scheduler's word on it.
async fn unschedulable(cluster: &ControlPlane, name: &str) {
    let api: Api<Pod> = Api::namespaced(cluster.client(), "team-0");
    api.create(&PostParams::default(), &pod(0, name, "30", None)).await.unwrap();
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                           "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {"conditions": [condition]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}
