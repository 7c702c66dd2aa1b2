//! What pods use, by the load model, on a real control plane: served as an aggregated API and read by `kubectl top`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use acceptance::{Cloud, Machines, source_root};
use testbed::{ControlPlane, Options};
use tokio::time::Instant;

const POLL: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn metrics_follow_the_load() {
    if !testbed::wanted("resource metrics by a load model") {
        return;
    }
    let cluster = ControlPlane::start(Options::default()).await.unwrap();
    let mut machines = Machines::start(&cluster, Cloud::None).await.unwrap();
    machines.serve_metrics(&cluster).await.unwrap();
    let node = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "status": {"capacity": {"cpu": "8", "memory": "8Gi", "pods": "110"},
        "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"}}}"#;
    cluster.kubectl_with(cluster.kubeconfig(), &["create", "-f", "-"], node).await.unwrap();
    let workload = source_root().join("tests/seeds/004-ihpa/nginx-statefulset.yaml");
    cluster.apply(&std::fs::read_to_string(workload).unwrap()).await.unwrap();
    cluster.kubectl_ok(&["annotate", "svc", "nginx", "tideline.dev/requests-per-minute=1020"]).await.unwrap();
    let begun = Instant::now();
    loop {
        let output = cluster.kubectl(&["top", "pods"]).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        if rows.get(1).is_some_and(|row| row.as_slice() == ["nginx-0", "171m", "32Mi"]) {
            break;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(begun.elapsed() < Duration::from_secs(90), "kubectl top pods: {text}{said}");
        tokio::time::sleep(POLL).await;
    }
    let nodes = cluster.kubectl_ok(&["top", "nodes"]).await.unwrap();
    assert!(nodes.contains("221m"), "{nodes}");
    let selected = cluster.kubectl_ok(&["top", "pods", "-l", "app=other"]).await.unwrap();
    assert!(!selected.contains("nginx-0"), "{selected}");
}
