//! What many autoscalers cost: `cargo run --release -p scaler --example scale -- 5000 10`.
//!
//! Autoscalers with a reactive portrait over workloads of so many pods each. The API server, with metrics by the load
//! model, is this process; the shell of workloads runs in a process of its own and is reached by HTTP, and only that
//! one is measured: processor time and memory at rest, how long a change of one metric takes to reach its workload,
//! and how long a change of all. `MOST_CORES` and `MOST_MIB` make it fail where more is used.

#![allow(clippy::unwrap_used, reason = "an example ends where something is wrong")]

use api::annotations::REQUESTS_PER_MINUTE;
use api::kapacity::IntelligentHorizontalPodAutoscaler as Ihpa;
use clock::Clock;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use leadership::LeaderElection;
use metrics::ResourceApi;
use metrics::resource_api::ResourceApiSettings;
use sandbox::store::{Store, StoreOptions};
use scaler::{Config, Scaler};
use serde_json::{Value, json};
use std::fmt::Debug;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// Workloads in one namespace.
const IN_ONE: u32 = 50;
/// Requests a minute of each pod: half of what it asked for, as the target has it.
const EVEN: u32 = 294;
const LONG_AGO: &str = "2026-01-01T00:00:00Z";
/// Single changes that are timed.
const SINGLE: u32 = 20;

#[derive(Clone, Copy)]
struct Size {
    workloads: u32,
    pods_each: u32,
}

impl Size {
    fn namespaces(self) -> impl Iterator<Item = String> {
        (0..self.workloads.div_ceil(IN_ONE)).map(|number| format!("team-{number}"))
    }

    fn of_namespace(self, place: usize) -> u32 {
        (self.workloads - u32::try_from(place).unwrap() * IN_ONE).min(IN_ONE)
    }
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

async fn make<K>(client: &Client, namespace: &str, object: Value) -> K
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &read(object)).await.unwrap()
}

/// A template with what templates have: a probe, an environment, volumes.
fn template(name: &str) -> Value {
    let variables: Vec<Value> = (0..8)
        .map(|number| json!({"name": format!("SETTING_{number}"), "value": "https://service.example.com/path"}))
        .collect();
    json!({
        "metadata": {"labels": {"app": name, "tier": "web", "app.kubernetes.io/part-of": "shop"}},
        "spec": {
            "readinessGates": [{"conditionType": "kapacitystack.io/online"}],
            "containers": [{
                "name": "web", "image": "registry.example.com/shop/web:1.2.3", "env": variables,
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

async fn populate(client: &Client, size: Size) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in api::kapacity::crds() {
        crds.create(&PostParams::default(), &crd).await.unwrap();
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in size.namespaces().chain([api::kapacity::NAMESPACE.to_owned()]) {
        namespaces.create(&PostParams::default(), &read(json!({"metadata": {"name": name}}))).await.unwrap();
    }
    for (place, namespace) in size.namespaces().enumerate() {
        let service = json!({"metadata": {"name": "all"}, "spec": {"selector": {"tier": "web"}, "ports": [{"port": 80}]}});
        make::<Service>(client, &namespace, service).await;
        for number in 0..size.of_namespace(place) {
            workload(client, &namespace, &format!("web-{number}"), size.pods_each).await;
        }
    }
    load(client, size, EVEN).await;
}

async fn workload(client: &Client, namespace: &str, name: &str, pods: u32) {
    let template = template(name);
    let set = json!({
        "metadata": {"name": name}, "spec": {
            "serviceName": name, "replicas": pods, "selector": {"matchLabels": {"app": name}}, "template": template,
        },
    });
    let set: StatefulSet = make(client, namespace, set).await;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for ordinal in 0..pods {
        let (pod, mut spec) = (format!("{name}-{ordinal}"), template["spec"].clone());
        spec["nodeName"] = json!(format!("node-{}", ordinal * 97 % 500));
        let mut labels = template["metadata"]["labels"].clone();
        labels["statefulset.kubernetes.io/pod-name"] = json!(pod);
        let pod: Pod = make(client, namespace, json!({
            "metadata": {"name": pod, "labels": labels, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": set.uid(), "controller": true,
            }]},
            "spec": spec,
        }))
        .await;
        let conditions: Vec<Value> =
            ["kapacitystack.io/online", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
                .iter()
                .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": LONG_AGO}))
                .collect();
        let status = read(json!({
            "phase": "Running", "startTime": LONG_AGO, "conditions": conditions, "podIP": "10.1.2.3",
            "containerStatuses": [{
                "name": "web", "ready": true, "restartCount": 0, "image": "registry.example.com/shop/web:1.2.3",
                "imageID": "registry.example.com/shop/web@sha256:0123456789abcdef", "state": {"running": {"startedAt": LONG_AGO}},
            }],
        }));
        let running = Pod { status: Some(status), ..pod };
        api.replace_status(&running.name_any(), &PostParams::default(), &running).await.unwrap();
    }
    let metric = json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
    }});
    let dynamic = json!({"portraitType": "Reactive", "algorithm": {"type": "KubeHPA"}, "metrics": [metric]});
    let spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name},
        "minReplicas": 1, "maxReplicas": 100,
        "portraitProviders": [{"type": "Dynamic", "priority": 1, "dynamic": dynamic}],
    });
    // As kubectl apply leaves it.
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": spec.to_string()});
    make::<Ihpa>(
        client,
        namespace,
        json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec}),
    )
    .await;
}

async fn annotate<K>(client: &Client, namespace: &str, name: &str, per_minute: u32)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + serde::de::DeserializeOwned
        + Clone
        + Debug,
{
    let patch = json!({"metadata": {"annotations": {REQUESTS_PER_MINUTE: per_minute.to_string()}}});
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// So many requests a minute for every pod.
async fn load(client: &Client, size: Size, per_minute: u32) {
    for (place, namespace) in size.namespaces().enumerate() {
        let pods = size.of_namespace(place) * size.pods_each;
        annotate::<Service>(client, &namespace, "all", per_minute * pods).await;
    }
}

/// Seconds of processor time of a process, and MiB in memory now and at most.
fn used(process: u32) -> (f64, u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name: the state, then numbers; user and system time are the 11th and 12th of them.
    let words: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    (ticks as f64 / 100.0, field("VmRSS:"), field("VmHWM:"))
}

/// How many workloads are told to have so many replicas, or more.
async fn scaled(client: &Client, replicas: u32) -> usize {
    let sets: Api<StatefulSet> = Api::all(client.clone());
    let all = sets.list(&ListParams::default()).await.unwrap().items;
    let wanted = i32::try_from(replicas).unwrap();
    all.iter().filter(|set| set.spec.as_ref().and_then(|spec| spec.replicas) >= Some(wanted)).count()
}

/// How many autoscalers are in their end state.
async fn settled(client: &Client) -> usize {
    let ihpas: Api<Ihpa> = Api::all(client.clone());
    let all = ihpas.list(&ListParams::default()).await.unwrap().items;
    let settled = |ihpa: &&Ihpa| {
        ihpa.status.as_ref().is_some_and(|status| {
            status.current_replicas.is_some() && status.current_replicas == status.desired_replicas
        })
    };
    all.iter().filter(settled).count()
}

async fn until(what: &str, wanted: usize, look: impl AsyncFn() -> usize) -> Duration {
    let begun = Instant::now();
    loop {
        let seen = look().await;
        if seen == wanted {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_mins(20), "{what}: {seen} of {wanted}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The measured process: the shell of workloads as the program runs it.
async fn scale(address: &str) {
    let config = kube::Config::new(address.parse().unwrap());
    let client = Client::try_from(config).unwrap();
    let clock = Clock::system();
    let source = Arc::new(ResourceApi::new(client.clone(), clock, ResourceApiSettings::default()));
    let defaults = Config::default();
    let election = LeaderElection { enabled: true, ..defaults.leader_election.clone() };
    let config = Config { leader_election: election, ..defaults };
    Scaler::new(client, clock, config, source).unwrap().run(std::future::pending()).await.unwrap();
}

struct Measured(Child);

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

async fn measure(size: Size) {
    let Size { workloads, pods_each } = size;
    let store = Store::new(Clock::system(), &StoreOptions::default());
    let api = sandbox::api::Api::new(store);
    let client = api.client();
    populate(&client, size).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { sandbox::api::serve(api, listener).await.unwrap() });
    println!(
        "{workloads} autoscalers, {} pods in {} namespaces",
        workloads * pods_each,
        size.namespaces().count()
    );

    let program = std::env::current_exe().unwrap();
    let child = Measured(Command::new(program).args(["scale", &address]).spawn().unwrap());
    let process = child.0.id();
    let took = until("profiles", workloads as usize, async || settled(&client).await).await;
    println!("every autoscaler is settled after {:.1} s", took.as_secs_f64());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (before, ..) = used(process);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let (after, mib, peak) = used(process);
    let cores = (after - before) / 60.0;
    println!("at rest: {cores:.3} cores, {mib} MiB, {peak} MiB at most since the start");

    let mut waits = Vec::new();
    for number in 0..SINGLE.min(workloads) {
        let (namespace, name) =
            (format!("team-{}", number % workloads.div_ceil(IN_ONE)), format!("web-{}", number / 100));
        // At another moment of the period each time.
        tokio::time::sleep(Duration::from_millis(u64::from(number) * 733 % 5000)).await;
        annotate::<StatefulSet>(&client, &namespace, &name, EVEN * pods_each).await;
        let wanted = number as usize + 1;
        let took = until("one change", wanted, async || scaled(&client, 2 * pods_each).await).await;
        waits.push(took.as_secs_f64());
    }
    waits.sort_by(f64::total_cmp);
    println!(
        "one changed metric has reached its workload after {:.1} s (median of {}), {:.1} s at most; the period is 15 s",
        waits[waits.len() / 2],
        waits.len(),
        waits[waits.len() - 1]
    );
    load(&client, size, 2 * EVEN).await;
    let rest = workloads as usize - waits.len();
    let (before, ..) = used(process);
    let took = until("all changes", workloads as usize, async || scaled(&client, 2 * pods_each).await).await;
    let (after, _, peak) = used(process);
    println!(
        "all of them changed: {rest} workloads rescaled after {:.1} s with {:.1} s of processor time; {peak} MiB at most",
        took.as_secs_f64(),
        after - before
    );
    let most = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f64>().ok());
    assert!(most("MOST_CORES").is_none_or(|most| cores <= most), "{cores:.3} cores are too many");
    assert!(most("MOST_MIB").is_none_or(|most| mib as f64 <= most), "{mib} MiB are too much");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, address] = &words[..]
        && word == "scale"
    {
        return runtime.block_on(scale(address));
    }
    let number =
        |place: usize, default| words.get(place).and_then(|word| word.parse().ok()).unwrap_or(default);
    runtime.block_on(measure(Size { workloads: number(0, 5000), pods_each: number(1, 10) }));
}
