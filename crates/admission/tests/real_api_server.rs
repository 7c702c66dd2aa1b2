//! The webhook as a real API server asks it, and what becomes of pods while it is away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use admission::{Certificate, Webhook, open_gates};
use clock::Clock;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testbed::{ControlPlane, Options};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const GATE: &str = "kapacitystack.io/online";
const REGISTRATION: &str = "tideline-readiness-gate";

async fn serve(cluster: &ControlPlane) -> (SocketAddr, JoinHandle<()>) {
    let names = vec!["tideline-webhook.kube-system.svc".to_owned()];
    let certificate = Certificate::Own { names, registration: REGISTRATION.to_owned() };
    let webhook = Webhook { address: ([127, 0, 0, 1], 0).into(), certificate };
    let (told, bound) = oneshot::channel();
    let client = cluster.client();
    let task = tokio::spawn(async move {
        webhook.serve(client, Clock::system(), |address| told.send(address).unwrap()).await.unwrap();
    });
    (bound.await.unwrap(), task)
}

/// As the installation makes it, but for the port and for the Service, which names loopback.
async fn register(cluster: &ControlPlane, port: u16) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "tideline-webhook", "namespace": "kube-system"},
        "spec": {"type": "ExternalName", "externalName": "127.0.0.1"},
    });
    let mut registration: Value = serde_json::from_str(
        &cluster
            .kubectl_ok(&["get", "mutatingwebhookconfiguration", REGISTRATION, "-o", "json"])
            .await
            .unwrap(),
    )
    .unwrap();
    registration["webhooks"][0]["clientConfig"]["service"]["port"] = port.into();
    registration["metadata"].as_object_mut().unwrap().remove("managedFields");
    cluster.apply(&service.to_string()).await.unwrap();
    let replaced = cluster
        .kubectl_with(cluster.kubeconfig(), &["replace", "-f", "-"], &registration.to_string())
        .await
        .unwrap();
    assert!(replaced.status.success(), "{replaced:?}");
}

fn registration() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": REGISTRATION},
        "webhooks": [{
            "name": "readiness-gate.kapacitystack.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Ignore", "timeoutSeconds": 5, "reinvocationPolicy": "IfNeeded",
            "clientConfig": {"service": {
                "name": "tideline-webhook", "namespace": "kube-system", "path": admission::PATH, "port": 443,
            }},
            "objectSelector": {"matchLabels": {"kapacitystack.io/inject-pod-readiness-gate": "true"}},
            "rules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"},
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods/status"], "scope": "Namespaced"},
            ],
        }],
    })
}

/// A name that no other pod has.
fn fresh() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("pod-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn create(cluster: &ControlPlane, name: &str, wants: bool) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    if wants {
        pod["metadata"]["labels"]["kapacitystack.io/inject-pod-readiness-gate"] = json!("true");
    }
    let made = cluster
        .kubectl_with(cluster.kubeconfig(), &["create", "-f", "-", "-o", "json"], &pod.to_string())
        .await
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    serde_json::from_slice(&made.stdout).unwrap()
}

fn has_gate(pod: &Value) -> bool {
    let gates = pod["spec"]["readinessGates"].as_array();
    gates.is_some_and(|gates| gates.iter().any(|gate| gate["conditionType"] == GATE))
}

async fn online(cluster: &ControlPlane, name: &str) -> Option<String> {
    let text = cluster.kubectl_ok(&["get", "pod", name, "-o", "json"]).await.unwrap();
    let pod: Value = serde_json::from_str(&text).unwrap();
    let conditions = pod["status"]["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == GATE)?;
    found["status"].as_str().map(str::to_owned)
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_mins(1), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_ask_get_their_gate_and_no_failure_of_ours_holds_any_pod() {
    if !testbed::wanted("the webhook of readiness gates") {
        return;
    }
    let options = Options { controllers: false, scheduler: false, ..Options::default() };
    let cluster = ControlPlane::start(options).await.unwrap();
    cluster.apply(&registration().to_string()).await.unwrap();
    let (address, serving) = serve(&cluster).await;
    register(&cluster, address.port()).await;
    // The API server takes a registration up a moment after it is written.
    until("a pod gets its gate", async || has_gate(&create(&cluster, &fresh(), true).await)).await;
    assert!(!has_gate(&create(&cluster, &fresh(), false).await));
    let named = fresh();
    assert!(has_gate(&create(&cluster, &named, true).await));
    let status = r#"{"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}}"#;
    cluster
        .kubectl_ok(&["patch", "pod", &named, "--subresource=status", "--type=merge", "-p", status])
        .await
        .unwrap();
    assert_eq!(online(&cluster, &named).await.as_deref(), Some("True"));

    // Another replica, with an authority of its own: both are trusted.
    let (second, serving_too) = serve(&cluster).await;
    serving.abort();
    register(&cluster, second.port()).await;
    until("the other replica is asked", async || has_gate(&create(&cluster, &fresh(), true).await)).await;
    serving_too.abort();

    // Nobody answers: pods are made all the same, and a gate from the template is opened by the fallback.
    assert!(!has_gate(&create(&cluster, "alone", true).await));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "from-template", "labels": {"kapacitystack.io/inject-pod-readiness-gate": "true"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "readinessGates": [{"conditionType": GATE}]},
    });
    cluster.apply(&pod.to_string()).await.unwrap();
    assert_eq!(online(&cluster, "from-template").await, None);
    let _gates = tokio::spawn(open_gates(cluster.client(), Clock::system()));
    until("its gate is opened", async || online(&cluster, "from-template").await.as_deref() == Some("True"))
        .await;
}
