//! Every kind of call that our processes were seen to make has a case in the suite.
//!
//! The controller with both providers, the simulated kubelets, the simulated cloud and the imitation of Cluster API
//! run on virtual time, with faults and with the settings of real clusters, and the random scenarios run too; what
//! they asked of the API is held against what the suite says it covers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clock::Clock;
use contract::{CallKind, Recorder, Recording, all};
use controller::{Config, Controller};
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams, Patch, PatchParams};
use model::Policies;
use sandbox::api::CallShape;
use sandbox::cluster::Delays;
use sandbox::cluster::kubelet::{self, KubeletOptions};
use sandbox::fault::{FaultPlan, FaultRule, Faults};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tower::Layer as _;

/// Random scenarios that are recorded, each a simulated day or more.
const RANDOM_SCENARIOS: u64 = 2;

/// Kinds of calls, and who made them.
type Seen = BTreeMap<CallKind, BTreeSet<String>>;

/// A kind as the sandbox's own census knows it: without pages, caches and streams.
fn kind_of(shape: &CallShape) -> CallKind {
    let resource = shape.resource.clone();
    CallKind::from_parts(
        &shape.verb,
        &resource,
        &shape.subresource,
        &shape.patch_type,
        shape.label_selector,
        &shape.field_selector,
    )
}

fn note(seen: &mut Seen, census: &sandbox::api::Census) {
    // Users stand for anybody; what they ask of the API is their business.
    for (shape, _) in
        census.iter().filter(|(shape, _)| !matches!(shape.actor.as_str(), "user" | "test" | "unnamed"))
    {
        seen.entry(kind_of(shape)).or_default().insert(shape.actor.clone());
    }
}

#[test]
fn the_suite_covers_every_call_that_was_seen() {
    let mut seen = Seen::new();
    for cluster_api in [false, true] {
        for trouble in [false, true] {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let found = runtime.unwrap().block_on(a_day(cluster_api, trouble));
            for (kind, actors) in found {
                seen.entry(kind).or_default().extend(actors);
            }
        }
    }
    for seed in 1..=RANDOM_SCENARIOS {
        let outcome =
            simulator::random::run_random(seed, simulator::random::RandomOptions::default()).unwrap();
        for (shape, _) in outcome.census.iter() {
            seen.entry(kind_of(shape)).or_default().insert("a random scenario".to_owned());
        }
    }
    assert!(seen.len() > 30, "hardly anything was recorded: {seen:?}");
    let covered: BTreeSet<CallKind> = all().iter().flat_map(contract::Case::covered).collect();
    // The census is coarser than the suite: there, a list in pages is a list.
    let coarse: BTreeSet<CallKind> = covered.iter().map(CallKind::coarse).collect();
    let missing: Vec<String> = seen
        .iter()
        .filter(|(kind, _)| !covered.contains(kind) && !coarse.contains(kind))
        .map(|(kind, actors)| {
            format!("\"{kind}\" by {}", actors.iter().cloned().collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} recorded kinds of calls have no case in the contract suite; add one that covers:\n{}",
        missing.len(),
        seen.len(),
        missing.join("\n")
    );
}

async fn a_day(cluster_api: bool, trouble: bool) -> Seen {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let sandbox = Sandbox::start(Options { cluster_api, ..Options::new(clock, 11) }).unwrap();
    let users = sandbox.client("user");
    for (path, object) in world(cluster_api) {
        let text = object.to_string().into_bytes();
        let request = http::Request::post(path).header("content-type", "application/json").body(text);
        let _: Value = users.request(request.unwrap()).await.unwrap();
    }
    // On a real cluster kubelets renew their leases, which in simulation they do not.
    let renewing =
        KubeletOptions { clock, delays: Delays::default(), renew_leases: Some(Duration::from_secs(10)) };
    let kubelets = tokio::spawn(kubelet::run(sandbox.client("kubelet"), renewing));
    let recording = Recording::default();
    let rules = if trouble { troubles() } else { Vec::new() };
    let faults = Faults::new(FaultPlan { rules }, 11, clock).unwrap();
    let service = Recorder::new(faults.layer().layer(sandbox.api().service()), recording.clone());
    let client = kube::Client::new(service, "default");

    let deployments: Api<Deployment> = Api::namespaced(users.clone(), "default");
    for replicas in [12, 5, 0] {
        let controller = Controller::new(client.clone(), config(trouble), clock).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(controller.run(async { drop(stopped.await) }));
        let patch = json!({"spec": {"replicas": replicas}});
        deployments.patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        tokio::time::sleep(Duration::from_mins(20)).await;
        let _ = stop.send(());
        let _ = tokio::time::timeout(Duration::from_mins(5), running).await;
    }
    let pods = Api::<k8s_openapi::api::core::v1::Pod>::all(users).list(&ListParams::default()).await.unwrap();
    assert!(pods.items.len() <= 1, "the scenario came to its end: {}", pods.items.len());
    kubelets.abort();
    let mut seen = Seen::new();
    for kind in recording.calls().into_keys() {
        seen.entry(kind).or_default().insert("controller".to_owned());
    }
    note(&mut seen, &sandbox.api().census());
    seen
}

/// The settings of a real cluster, with the impatience of a test.
fn config(trouble: bool) -> Config {
    let seconds = SignedDuration::from_secs;
    let policies =
        Policies { unneeded_time: seconds(60), delay_after_add: seconds(30), ..Policies::default() };
    let mut config = Config { policies, seed: 11, ..Config::default() };
    config.watch.streaming_lists = trouble;
    config.leader_election.identity = "tideline-0".into();
    config
}

fn troubles() -> Vec<FaultRule> {
    let rule = |fault: Value, probability: f64| -> FaultRule {
        serde_json::from_value(json!({"fault": fault, "probability": probability, "untilSeconds": 600}))
            .unwrap()
    };
    vec![
        rule(json!({"conflict": {}}), 0.1),
        rule(json!({"tooManyRequests": {"retryAfterSeconds": 3}}), 0.1),
        rule(json!({"serverError": {"code": 503}}), 0.1),
        rule(json!({"droppedWatch": {"afterChunks": 3}}), 0.5),
        rule(json!({"staleList": {"revisions": 5}}), 0.2),
        rule(json!({"lostResponse": {}}), 0.1),
    ]
}

/// A Deployment under a budget, and a pool of machines for it.
fn world(cluster_api: bool) -> Vec<(&'static str, Value)> {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}
        }}
    });
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    });
    let pool = json!({
        "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": "small"},
        "spec": {"max": 6, "boot": {"minSeconds": 10, "maxSeconds": 10},
            "template": {"allocatable": {"cpu": "4", "memory": "16Gi"}}}
    });
    let size = |bound: &str| format!("cluster.x-k8s.io/cluster-api-autoscaler-node-group-{bound}-size");
    let capacity = |name: &str| format!("capacity.cluster-autoscaler.kubernetes.io/{name}");
    let annotations =
        json!({size("min"): "0", size("max"): "6", capacity("cpu"): "4", capacity("memory"): "16Gi"});
    let machines = json!({
        "apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "MachineDeployment",
        "metadata": {"name": "md", "annotations": annotations},
        "spec": {"clusterName": "c", "replicas": 0, "selector": {"matchLabels": {}}, "template": {
            "spec": {"clusterName": "c", "bootstrap": {}, "infrastructureRef": {}}
        }}
    });
    let machines = if cluster_api {
        ("/apis/cluster.x-k8s.io/v1beta1/namespaces/default/machinedeployments", machines)
    } else {
        ("/apis/tideline.dev/v1alpha1/simulatedpools", pool)
    };
    vec![
        machines,
        ("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget),
        ("/apis/apps/v1/namespaces/default/deployments", deployment),
    ]
}
