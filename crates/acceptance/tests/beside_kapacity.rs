//! Beside an installed Kapacity, on a real control plane: while its Deployment runs, or while another process holds its
//! Lease, its autoscalers are left to it; then they are taken over, and given back when it returns.
//!
//! Its manager cannot run here: pods that do nothing stand for it. What counts is what we write, by the audit log.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use acceptance::{Cloud, Process, Site};
use serde_json::json;

const KAPACITY: &str = "kapacity-system";
const LEASE: &str = "kapacity-manager.kapacitystack.io";
const AUTOSCALER: &str = "
apiVersion: autoscaling.kapacitystack.io/v1alpha1
kind: IntelligentHorizontalPodAutoscaler
metadata: { name: web, namespace: default }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: web }
  minReplicas: 0
  maxReplicas: 10
  portraitProviders:
  - { type: Static, priority: 1, static: { replicas: 3 } }
";
const NODE: &str = "
apiVersion: v1
kind: Node
metadata: { name: n1, labels: { kubernetes.io/hostname: n1 } }
status: { capacity: { cpu: '8', memory: 32Gi, pods: '110' }, allocatable: { cpu: '8', memory: 32Gi, pods: '110' } }
";

async fn read(site: &Site, arguments: &[&str]) -> String {
    site.cluster.kubectl_ok(arguments).await.unwrap()
}

async fn condition(site: &Site, kind: &str) -> String {
    let path = format!("jsonpath={{.status.conditions[?(@.type=='{kind}')].reason}}");
    read(site, &["get", "ihpa", "web", "-o", &path]).await
}

async fn replicas(site: &Site) -> String {
    read(site, &["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"]).await
}

async fn manager(site: &Site, replicas: &str) {
    let scale = ["-n", KAPACITY, "scale", "deployment", "kapacity-manager", "--replicas", replicas];
    read(site, &scale).await;
}

/// Writes but those that may be while another acts: what the autoscaler's status and events say, our place in the Lease.
async fn acts(site: &Site, process: &Process) -> Vec<String> {
    const MAY_BE: [&str; 3] = ["/intelligenthorizontalpodautoscalers/web/status", "/leases", "/events"];
    let writes = site.writes(process).await.unwrap();
    writes.into_iter().filter(|write| !MAY_BE.iter().any(|path| write.contains(path))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_autoscalers_are_left_to_it_until_it_is_gone() {
    if !testbed::wanted("Kapacity beside us") {
        return;
    }
    let site = Site::start_with(Cloud::None).await.unwrap();
    site.cluster.apply(NODE).await.unwrap();
    read(&site, &["create", "namespace", KAPACITY]).await;
    site.deployment(KAPACITY, "kapacity-manager", 1, &json!({})).await.unwrap();
    site.deployment("default", "web", 1, &json!({})).await.unwrap();
    let ready = ["-n", KAPACITY, "rollout", "status", "deployment", "kapacity-manager", "--timeout=60s"];
    read(&site, &ready).await;
    site.cluster.apply(AUTOSCALER).await.unwrap();

    let flags = [
        "kapacity-manager",
        "--leader-elect",
        "--metrics-bind-address=0",
        "--health-probe-bind-address=0",
        "--grpc-server-bind-address=0",
    ];
    let mut ours = Process::start(&site, "tideline", &flags).await.unwrap();
    site.until("the autoscaler is left to the Deployment that runs", &[&ours], async |site| {
        condition(site, "AnotherController").await == "DeploymentRuns"
    })
    .await;
    // Something changes while it acts: that is its to answer.
    let change = json!({"metadata": {"labels": {"changed": "yes"}}, "spec": {"maxReplicas": 9}}).to_string();
    read(&site, &["patch", "ihpa", "web", "--type=merge", "-p", &change]).await;
    let generation = async |site: &Site| {
        let path = "jsonpath={.status.conditions[?(@.type=='AnotherController')].observedGeneration}";
        read(site, &["get", "ihpa", "web", "-o", path]).await
    };
    site.until("the change was seen", &[&ours], async |site| generation(site).await == "2").await;
    let acted = acts(&site, &ours).await;
    assert!(acted.is_empty(), "{acted:#?}");
    assert_eq!(replicas(&site).await, "1");

    manager(&site, "0").await;
    site.until("taken over", &[&ours], async |site| replicas(site).await == "3").await;
    assert_eq!(condition(&site, "AnotherController").await, "");
    assert!(acts(&site, &ours).await.iter().any(|write| write.contains("/scale")), "by the audit log");

    manager(&site, "1").await;
    site.until("given back", &[&ours], async |site| {
        condition(site, "AnotherController").await == "DeploymentRuns"
    })
    .await;

    // Where it elects a leader, its Lease is ours to wait for, too.
    ours.signal("-TERM").await.unwrap();
    assert!(ours.end().await, "{}", ours.said());
    manager(&site, "0").await;
    let now = clock::Clock::system().now();
    let lease = json!({"spec": {
        "holderIdentity": "kapacity-manager-0_peer", "leaseDurationSeconds": 15,
        "acquireTime": format!("{now:.6}"), "renewTime": format!("{now:.6}"),
    }});
    read(&site, &["-n", KAPACITY, "patch", "lease", LEASE, "--type=merge", "-p", &lease.to_string()]).await;
    read(&site, &["patch", "ihpa", "web", "--type=merge", "-p", r#"{"spec":{"minReplicas":4}}"#]).await;
    let next = Process::start(&site, "next", &flags).await.unwrap();
    site.until("the next one stands by", &[&next], async |_| next.said().contains("standing by")).await;
    assert_eq!(site.holder(KAPACITY, LEASE).await.unwrap(), "kapacity-manager-0");
    let acted = acts(&site, &next).await;
    assert!(acted.is_empty(), "{acted:#?}");
    site.until("the Lease ran out", &[&next], async |site| replicas(site).await == "4").await;
}
