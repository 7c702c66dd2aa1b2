//! Workload controllers, scheduler and kubelets together.

use super::*;
use crate::store::resource::{DEPLOYMENTS, POD_DISRUPTION_BUDGETS, REPLICA_SETS};
use crate::store::{DeleteOptions, Propagation};

#[tokio::test(start_paused = true)]
async fn a_deployment_grows_and_shrinks() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "4");
    store.create(DEPLOYMENTS, "default", workload("web", 6, "500m")).unwrap();
    until(store, 60, "six ready", |s| ready_pods(s) == 6).await;
    until(store, 60, "status", |s| {
        s.get(DEPLOYMENTS, "default", "web").unwrap().at("status.readyReplicas") == Some(&json!(6))
    })
    .await;
    set(store, DEPLOYMENTS, "web", "/spec/replicas", json!(10));
    until(store, 60, "eight ready and two waiting", |s| {
        let waits = |pod: &Object| {
            super::super::controllers::objects::condition(pod, "PodScheduled")
                .is_some_and(|c| c["message"] == "0/1 nodes are available: 1 Insufficient cpu.")
        };
        ready_pods(s) == 8 && pods(s).iter().filter(|pod| waits(pod)).count() == 2
    })
    .await;
    add_node(store, "n2", "4");
    until(store, 60, "all ready", |s| ready_pods(s) == 10).await;
    set(store, DEPLOYMENTS, "web", "/spec/replicas", json!(1));
    until(store, 60, "one left", |s| pods(s).len() == 1).await;
    let options = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    store.delete(DEPLOYMENTS, "default", "web", &options).unwrap();
    until(store, 60, "all gone", |s| {
        pods(s).is_empty() && s.count(REPLICA_SETS) == 0 && s.count(DEPLOYMENTS) == 0
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_keeps_its_promises() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "8");
    let mut web = workload("web", 4, "500m");
    web["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    store.create(DEPLOYMENTS, "default", web).unwrap();
    until(store, 60, "four ready", |s| ready_pods(s) == 4).await;
    set(store, DEPLOYMENTS, "web", "/spec/template/spec/containers/0/image", json!("new"));
    let new = |pod: &&Arc<Object>| pod.at("spec.containers").unwrap()[0]["image"] == "new";
    let mut changes = store.subscribe();
    while pods(store).iter().filter(new).count() < 4 || pods(store).len() != 4 {
        changes.next().await.unwrap();
        assert!(ready_pods(store) >= 4, "too few ready");
        let live = pods(store).iter().filter(|p| !p.is_terminating()).count();
        assert!(live <= 5, "too many: {live}");
    }
    until(store, 60, "rolled", |s| {
        let web = s.get(DEPLOYMENTS, "default", "web").unwrap();
        web.at("status.updatedReplicas") == Some(&json!(4))
            && web.annotation("deployment.kubernetes.io/revision") == Some("2")
    })
    .await;
    assert_eq!(store.count(REPLICA_SETS), 2);
}

#[tokio::test(start_paused = true)]
async fn a_budget_counts_and_evictions_obey_it() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "8");
    add_node(store, "n2", "8");
    let budget = json!({
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
    });
    store.create(POD_DISRUPTION_BUDGETS, "default", budget).unwrap();
    store.create(DEPLOYMENTS, "default", workload("web", 3, "500m")).unwrap();
    let allowed = |s: &Store| {
        let budget = s.get(POD_DISRUPTION_BUDGETS, "default", "web").unwrap();
        budget.at("status.disruptionsAllowed").and_then(Value::as_i64)
    };
    until(store, 60, "one may go", |s| allowed(s) == Some(1) && ready_pods(s) == 3).await;
    let api: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::default_namespaced(sandbox.client("test"));
    let names: Vec<String> = pods(store).iter().map(|pod| pod.name().to_owned()).collect();
    api.evict(&names[0], &kube::api::EvictParams::default()).await.unwrap();
    let refused = api.evict(&names[1], &kube::api::EvictParams::default()).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 429));
    until(store, 60, "replaced", |s| allowed(s) == Some(1) && ready_pods(s) == 3).await;
    api.evict(&names[1], &kube::api::EvictParams::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_lost_node_start_elsewhere() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "4");
    store.create(DEPLOYMENTS, "default", workload("web", 3, "1")).unwrap();
    until(store, 60, "ready", |s| ready_pods(s) == 3).await;
    add_node(store, "n2", "4");
    let dead = json!({"tideline.dev/kubelet": "dead"});
    store
        .modify(NODES, "", "n1", crate::store::Part::Main, |value| {
            value["metadata"]["annotations"] = dead;
            true
        })
        .unwrap();
    until(store, 60, "tainted", |s| {
        let node = s.get(NODES, "", "n1").unwrap();
        node.at("spec.taints").is_some_and(|t| t.to_string().contains("node.kubernetes.io/unreachable"))
    })
    .await;
    assert_eq!(ready_pods(store), 0);
    until(store, 400, "replaced after five minutes", |s| ready_pods(s) == 3).await;
    assert_eq!(pods(store).len(), 6, "the silent kubelet cannot confirm their end");
    store.delete(NODES, "", "n1", &DeleteOptions::default()).unwrap();
    until(store, 60, "collected with the node", |s| pods(s).len() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_sleeps() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "4");
    store.create(DEPLOYMENTS, "default", workload("web", 3, "1")).unwrap();
    until(store, 60, "ready", |s| ready_pods(s) == 3).await;
    tokio::time::sleep(Duration::from_hours(2)).await;
    let quiet = store.revision();
    tokio::time::sleep(Duration::from_hours(30 * 24)).await;
    assert_eq!(store.revision(), quiet);
}
