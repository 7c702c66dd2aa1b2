//! The trace of decisions from the binary: a purchase and what became of it reach a collector on a socket, which is slow
//! to wake up, and the header's secret reaches nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::simulated::SimulatedPool;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use clock::Clock;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(90);
const SECRET: &str = "Bearer c0llector";

#[derive(Default)]
struct Collector {
    asked: u32,
    spans: Vec<Value>,
    authorized: bool,
}

/// Takes spans, but for the first request, which it is not ready for.
async fn collector() -> (String, Arc<Mutex<Collector>>) {
    let known = Arc::new(Mutex::new(Collector::default()));
    let shared = known.clone();
    let take = move |headers: HeaderMap, body: Bytes| async move {
        let mut known = shared.lock().unwrap();
        known.asked += 1;
        if known.asked == 1 {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        known.authorized = headers["authorization"] == SECRET;
        let body: Value = serde_json::from_slice(&body).unwrap();
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        known.spans.extend(spans.as_array().unwrap().iter().cloned());
        StatusCode::OK
    };
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", door.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(door, Router::new().route("/v1/traces", post(take))).await });
    (address, known)
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a str {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == name);
    found.and_then(|attribute| attribute["value"]["stringValue"].as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_reach_a_collector_with_their_actions_as_children() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(Options { cluster_api: false, ..Options::new(Clock::system(), 1) }).unwrap();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", door.local_addr().unwrap());
    tokio::spawn(sandbox::api::serve(sandbox.api().clone(), door));
    let client = sandbox.client("test");
    let pool = |name: &str, cpu: &str| -> SimulatedPool {
        let spec = json!({"min": 0, "max": 3, "boot": {"minSeconds": 1, "maxSeconds": 1},
                          "template": {"allocatable": {"cpu": cpu, "memory": "16Gi"}}});
        let pool = json!({"apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": name}, "spec": spec});
        serde_json::from_value(pool).unwrap()
    };
    for pool in [pool("small", "4"), pool("tiny", "500m")] {
        Api::all(client.clone()).create(&PostParams::default(), &pool).await.unwrap();
    }
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let headers = folder.path().join("headers");
    std::fs::write(&headers, format!("authorization: {SECRET}\n")).unwrap();
    let (address, known) = collector().await;
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let _controller = Command::new(env!("CARGO_BIN_EXE_tideline"))
        .args(["controller", "--cloud-provider=simulated", "--leader-elect=false", "--address=", "-v10"])
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--otlp-endpoint={address}"))
        .arg(format!("--otlp-headers-file={}", headers.display()))
        .stdout(file.try_clone().unwrap())
        .stderr(Stdio::from(file))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}}});
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web"}, "spec": {"containers": [container]}
    }))
    .unwrap();
    Api::<Pod>::namespaced(client, "default").create(&PostParams::default(), &pod).await.unwrap();

    let begun = Instant::now();
    let all = loop {
        let spans = known.lock().unwrap().spans.clone();
        if spans.iter().any(|span| span["name"] == "decision") {
            break spans;
        }
        let told = std::fs::read_to_string(&log).unwrap();
        assert!(begun.elapsed() < PATIENCE, "{told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let decision = all.iter().find(|span| span["name"] == "decision").unwrap();
    let buy = all.iter().find(|span| span["name"] == "buy").unwrap();
    assert_eq!((&buy["traceId"], &buy["parentSpanId"]), (&decision["traceId"], &decision["spanId"]));
    assert_eq!(decision["parentSpanId"], "");
    assert_eq!(attribute(buy, "tideline.what"), "grow pool small 0->1 (max: 3) for pod default/web");
    assert_eq!(attribute(buy, "tideline.not_chosen"), "pool tiny: Insufficient cpu");
    assert_eq!(attribute(buy, "tideline.outcome"), "done");
    assert!(buy["endTimeUnixNano"].as_str() >= buy["startTimeUnixNano"].as_str());
    assert!(known.lock().unwrap().authorized, "the header is sent");
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(!told.contains("c0llector") && !json!(all).to_string().contains("c0llector"), "{told}");
}
