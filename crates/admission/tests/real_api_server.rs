//! The webhook as a real API server asks it, and what becomes of pods while it is away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use admission::{Certificate, Webhook, open_gates};
use clock::Clock;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testbed::{ControlPlane, Options};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const GATE: &str = "kapacitystack.io/online";
const REGISTRATION: &str = "tideline-readiness-gate";

async fn serve(cluster: &ControlPlane, clock: Clock) -> (SocketAddr, JoinHandle<()>) {
    let names = vec!["tideline-webhook.kube-system.svc".to_owned()];
    let certificate = Certificate::Own { names, registration: REGISTRATION.to_owned() };
    let webhook = Webhook { address: ([127, 0, 0, 1], 0).into(), certificate };
    let (told, bound) = oneshot::channel();
    let client = cluster.client();
    let task = tokio::spawn(async move {
        webhook.serve(client, clock, |address| told.send(address).unwrap()).await.unwrap();
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
    let (address, serving) = serve(&cluster, Clock::system()).await;
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
    let (second, serving_too) = serve(&cluster, Clock::system()).await;
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

/// The authorities that the API server trusts.
async fn trusted(cluster: &ControlPlane) -> String {
    let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
    cluster.kubectl_ok(&["get", "mutatingwebhookconfiguration", REGISTRATION, "-o", path]).await.unwrap()
}

/// A pod that asks for its gate.
fn wanting() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": fresh(), "labels": {"kapacitystack.io/inject-pod-readiness-gate": "true"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap()
}

/// Pods one after another, until told to stop; how many there were.
async fn keep_creating(cluster: Arc<ControlPlane>, stop: Arc<AtomicBool>) -> usize {
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        // Nobody is let through unasked here: a call that fails is a pod that is refused.
        let pod = pods.create(&PostParams::default(), &wanting()).await.unwrap();
        let gates = pod.spec.and_then(|spec| spec.readiness_gates).unwrap_or_default();
        assert!(
            gates.iter().any(|gate| gate.condition_type == GATE),
            "asked by the old and by the new certificate"
        );
        made += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_the_certificate_is_renewed() {
    if !testbed::wanted("the webhook's certificate, renewed") {
        return;
    }
    let options = Options { controllers: false, scheduler: false, ..Options::default() };
    let cluster = Arc::new(ControlPlane::start(options).await.unwrap());
    let mut strict = registration();
    strict["webhooks"][0]["failurePolicy"] = json!("Fail");
    cluster.apply(&strict.to_string()).await.unwrap();
    // A certificate lives for ninety days and is replaced after sixty: on a clock that shows a day in less than a second,
    // and begins long enough ago for what it makes to be good today.
    let start = Clock::system().now().checked_sub(jiff::SignedDuration::from_hours(70 * 24)).unwrap();
    let (address, _serving) = serve(&cluster, Clock::starting_at(start).at_rate(89_000)).await;
    register(&cluster, address.port()).await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    until("the webhook is asked", async || pods.create(&PostParams::default(), &wanting()).await.is_ok())
        .await;
    let first = trusted(&cluster).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4).map(|_| tokio::spawn(keep_creating(cluster.clone(), stop.clone()))).collect();
    let begun = Instant::now();
    let (mut seen, mut both) = (first.clone(), false);
    while seen == first || seen.len() > first.len() * 3 / 2 {
        assert!(begun.elapsed() < Duration::from_mins(3), "not renewed in time");
        assert!(load.iter().all(|task| !task.is_finished()), "a call failed");
        both |= seen.len() > first.len() * 3 / 2;
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen = trusted(&cluster).await;
    }
    assert!(both, "the new one is trusted before it is served, and the old one distrusted only after");
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.store(true, Ordering::Relaxed);
    let mut made = 0;
    for task in load {
        made += task.await.unwrap();
    }
    assert!(made > 100, "{made} pods in {:?} are no load", begun.elapsed());
    assert!(pods.list(&ListParams::default()).await.unwrap().items.len() >= made);
}
