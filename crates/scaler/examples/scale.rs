//! What many autoscalers cost: `cargo run --release -p scaler --example scale -- 5000 10`.
//!
//! Autoscalers with a reactive portrait over workloads of so many pods each, in an API server in memory, with metrics
//! that stand still, then double. Prints the processor time and the memory of the process at rest, and how long the
//! change takes to reach every profile. The API server is in the same process, and idle at rest.

#![allow(clippy::unwrap_used, reason = "an example ends where something is wrong")]

use api::kapacity::{IntelligentHorizontalPodAutoscaler as Ihpa, ReplicaProfile};
use clock::Clock;
use clouds::watching::WatchSettings;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use leadership::LeaderElection;
use metrics::{Latest, MetricSource, MetricsError, Objects, Point, Query, Range, Sample, Series};
use scaler::{Config, Scaler};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Every pod uses the same.
struct Even {
    clock: Clock,
    milli: Arc<AtomicU32>,
}

impl MetricSource for Even {
    fn name(&self) -> &'static str {
        "constant metrics"
    }

    fn latest<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Latest, MetricsError>> {
        let value = f64::from(self.milli.load(Ordering::Relaxed)) / 1000.0;
        let point = Point { at: self.clock.now(), value };
        let pods = match query {
            Query::PodResource { pods: Objects::Named(names), .. } => names.clone(),
            _ => Vec::new(),
        };
        let sample =
            move |pod: Arc<str>| Sample { labels: [(Arc::from("pod"), pod)].into(), point, window: None };
        Box::pin(async move {
            Ok(Latest { samples: pods.into_iter().map(sample).collect(), omitted: Vec::new() })
        })
    }

    fn history<'a>(&'a self, _: &'a Query, _: &'a Range) -> BoxFuture<'a, Result<Vec<Series>, MetricsError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

async fn populate(client: &kube::Client, workloads: u32, pods_each: u32) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in api::kapacity::crds() {
        crds.create(&PostParams::default(), &crd).await.unwrap();
    }
    let (sets, pods): (Api<StatefulSet>, Api<Pod>) =
        (Api::default_namespaced(client.clone()), Api::default_namespaced(client.clone()));
    let ihpas: Api<Ihpa> = Api::default_namespaced(client.clone());
    let long_ago = "2026-01-01T00:00:00Z";
    for number in 0..workloads {
        let name = format!("web-{number}");
        let template = json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}},
        ]}});
        let set = json!({
            "metadata": {"name": name}, "spec": {
                "serviceName": name, "replicas": pods_each, "selector": {"matchLabels": {"app": name}}, "template": template,
            },
        });
        let set = sets.create(&PostParams::default(), &read(set)).await.unwrap();
        for ordinal in 0..pods_each {
            let pod = json!({
                "metadata": {"name": format!("{name}-{ordinal}"), "labels": {"app": name}, "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": set.uid(), "controller": true,
                }]},
                "spec": template["spec"],
            });
            let pod: Pod = pods.create(&PostParams::default(), &read(pod)).await.unwrap();
            let running: Pod = Pod {
                status: read(json!({"phase": "Running", "startTime": long_ago, "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": long_ago},
                ]})),
                ..pod
            };
            pods.replace_status(&running.name_any(), &PostParams::default(), &running).await.unwrap();
        }
        let ihpa = json!({
            "metadata": {"name": name}, "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name},
                "minReplicas": 1, "maxReplicas": 100, "portraitProviders": [{
                    "type": "Dynamic", "priority": 1, "dynamic": {
                        "portraitType": "Reactive", "algorithm": {"type": "KubeHPA"}, "metrics": [{
                            "type": "Resource", "resource": {
                                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
                            },
                        }],
                    },
                }],
            },
        });
        ihpas.create(&PostParams::default(), &read(ihpa)).await.unwrap();
    }
}

/// Seconds of processor time and MiB in memory of this process.
fn used() -> (f64, i64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<i64> =
        stat.rsplit(") ").next().unwrap().split(' ').filter_map(|word| word.parse().ok()).collect();
    // Without the state, which is a letter: user and system time are the 11th and 12th, resident pages the 21st.
    let ticks = u32::try_from(fields[10] + fields[11]).unwrap();
    (f64::from(ticks) / 100.0, (fields[20] * 4096) >> 20)
}

async fn until_planned(client: &kube::Client, workloads: usize, replicas: i32) {
    let profiles: Api<ReplicaProfile> = Api::all(client.clone());
    loop {
        let all = profiles.list(&ListParams::default()).await.unwrap().items;
        if all.iter().filter(|profile| profile.spec.online_replicas == replicas).count() == workloads {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|number| number.parse::<u32>().ok());
    let (workloads, pods_each) = (numbers.next().unwrap_or(5000), numbers.next().unwrap_or(10));
    let clock = Clock::system();
    let store = sandbox::store::Store::new(clock, &sandbox::store::StoreOptions::default());
    let client = sandbox::api::Api::new(store).client();
    populate(&client, workloads, pods_each).await;
    let (_, before) = used();
    println!("{workloads} autoscalers, {} pods: {before} MiB before the start", workloads * pods_each);
    let milli = Arc::new(AtomicU32::new(50));
    let source = Arc::new(Even { clock, milli: milli.clone() });
    let config = Config {
        leader_election: LeaderElection { enabled: false, ..LeaderElection::default() },
        watch: WatchSettings { timeout_seconds: 0, ..WatchSettings::default() },
        ..Config::default()
    };
    let begun = Instant::now();
    tokio::spawn(Scaler::new(client.clone(), clock, config, source).unwrap().run(std::future::pending()));
    until_planned(&client, workloads as usize, i32::try_from(pods_each).unwrap()).await;
    println!("every autoscaler has its profile after {:.1} s", begun.elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (busy, _) = used();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let (later, after) = used();
    println!("at rest: {:.3} cores; {after} MiB, {} more than before", (later - busy) / 60.0, after - before);
    milli.store(100, Ordering::Relaxed);
    let begun = Instant::now();
    until_planned(&client, workloads as usize, 2 * i32::try_from(pods_each).unwrap()).await;
    println!(
        "a changed metric has reached every profile after {:.1} s (period 15 s)",
        begun.elapsed().as_secs_f64()
    );
}
