//! The test bed itself, against the real control plane: it starts, schedules, refuses and ends.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use testbed::{ControlPlane, Options, client_from, service_account_user};

const SHOP: &str = r"
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: reader, namespace: shop }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
        - name: web
          image: web
          resources: { requests: { cpu: 500m, memory: 128Mi } }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: reader, namespace: shop }
rules:
  - { apiGroups: [''], resources: [pods], verbs: [get, list] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: reader, namespace: shop }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader }
subjects:
  - { kind: ServiceAccount, name: reader, namespace: shop }
  - { kind: Group, apiGroup: rbac.authorization.k8s.io, name: clerks }
---
apiVersion: v1
kind: Node
metadata: { name: node-1 }
";

const READY: &str = r#"{"status": {
    "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
    "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
    "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}"#;

async fn until<F: Future<Output = bool>>(what: &str, cluster: &ControlPlane, probe: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !probe().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}\n{}", cluster.log_tails());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn bound(client: Client, namespace: &str) -> usize {
    let pods = Api::<Pod>::namespaced(client, namespace).list(&ListParams::default()).await.unwrap();
    pods.iter().filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_scheduled_and_rights_are_enforced() {
    if !testbed::wanted("the test bed's own test") {
        return;
    }
    let begun = Instant::now();
    let cluster = ControlPlane::start(Options::default()).await.unwrap();
    println!("{} after {:?}", cluster.version(), begun.elapsed());
    cluster.apply(SHOP).await.unwrap();
    cluster
        .kubectl_ok(&["patch", "node", "node-1", "--subresource=status", "--type=merge", "-p", READY])
        .await
        .unwrap();
    until("both pods are bound", &cluster, || async { bound(cluster.client(), "shop").await == 2 }).await;
    let printed = cluster.kubectl_ok(&["get", "pods", "-n", "shop", "-o", "wide"]).await.unwrap();
    assert_eq!(printed.matches("node-1").count(), 2, "{printed}");

    let reader = cluster.kubeconfig_for_service_account("shop", "reader").await.unwrap();
    let clerk = cluster.kubeconfig_for_user("carla", &["clerks", "night-shift"]).unwrap();
    reads_pods_only(&reader).await;
    reads_pods_only(&clerk).await;
    let denied = cluster.kubectl_with(&clerk, &["get", "nodes"], "").await.unwrap();
    assert!(!denied.status.success());
    assert!(String::from_utf8_lossy(&denied.stderr).contains("Forbidden"), "{denied:?}");

    let audit = cluster.audit().await.unwrap();
    let user = service_account_user("shop", "reader");
    assert_eq!(audit.of(&user).map(|entry| entry.code).collect::<Vec<_>>(), [200, 403]);
    assert!(audit.check_none_forbidden(&user).unwrap_err().to_string().contains("/api/v1/nodes"));
    assert!(audit.check_none_forbidden("carla").is_err());
    audit.check_none_forbidden("system:kube-scheduler").unwrap();
    audit.check_none_forbidden("system:kube-controller-manager").unwrap();
    assert!(audit.entries.iter().any(|entry| entry.subresource == "binding" && entry.code == 201));

    let (dir, processes) = (cluster.dir().to_owned(), cluster.process_ids());
    assert_eq!(processes.len(), 4);
    drop(cluster);
    assert!(!dir.exists());
    for (name, id) in processes {
        assert!(!Path::new("/proc").join(id.to_string()).exists(), "{name} still runs");
    }
}

async fn reads_pods_only(kubeconfig: &Path) {
    let client = client_from(kubeconfig).await.unwrap();
    let pods = Api::<Pod>::namespaced(client.clone(), "shop").list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items.len(), 2);
    let refused = Api::<Node>::all(client).list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
}

#[tokio::test]
async fn a_component_that_does_not_start_is_named() {
    if !testbed::wanted("what the test bed says of a component that does not start") {
        return;
    }
    let options = Options {
        apiserver_flags: vec!["--no-such-flag".to_owned()],
        controllers: false,
        ..Options::default()
    };
    let error = ControlPlane::start(options).await.unwrap_err().to_string();
    assert!(error.contains("kube-apiserver ended") && error.contains("no-such-flag"), "{error}");
}
