//! Replacing: versions, generations, status apart from spec, and what may not change.
//!
//! Owns PUT, the compare-and-swap that leases and ledgers rest on included. Leaves patches to `patching`.

use super::cases;
use super::fixtures::{config_map, node, pod, pod_on, workload};
use crate::world::{MERGE, World, generation, uid, version};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::PostParams;
use serde_json::json;

cases! { ApiServer,
    replace_with_a_stale_version_is_409: ["update configmaps", "update nodes", "update deployments.apps"];
    replace_without_a_version_overwrites: ["update configmaps"];
    replace_that_changes_nothing_keeps_the_version: ["update configmaps"];
    replace_of_a_missing_object_is_404: ["update configmaps", "update pods/status"];
    replace_with_another_uid_is_409: ["update configmaps"];
    replace_under_another_name_is_400: ["update configmaps"];
    replace_dry_run_stores_nothing: ["update configmaps dry-run"];
    replace_keeps_what_the_client_may_not_change: ["update configmaps"];
    one_of_two_concurrent_replacements_wins: ["update configmaps"];
    a_config_map_over_its_size_is_refused: ["create configmaps", "update configmaps"];
    an_immutable_config_map_cannot_change: ["update configmaps"];
    replacing_status_ignores_spec: ["update pods/status", "update deployments.apps/status"];
    replacing_spec_ignores_status: ["update deployments.apps", "update nodes"];
    generation_counts_spec_changes_only: ["update deployments.apps", "update deployments.apps/status"];
    node_status_and_spec_are_apart: ["update nodes/status"];
    nodes_keep_fields_we_do_not_know: ["update nodes"];
    node_taints_must_be_valid: ["update nodes"];
    the_provider_of_a_node_is_set_once: ["update nodes"];
    the_node_of_a_pod_cannot_be_replaced: ["update pods"];
    pod_specs_are_fixed_but_for_a_few_fields: ["update pods"];
    selectors_of_workloads_are_fixed: ["update deployments.apps"];
    status_conflicts_too: ["update pods/status"];
}

async fn replace_with_a_stale_version_is_409(w: World) {
    for (path, object) in [
        (w.core("configmaps"), config_map("a", "1")),
        (w.apps("deployments"), workload("Deployment", "a", 1)),
        ("/api/v1/nodes".to_owned(), node(&w.unique)),
    ] {
        let made = w.post(&path, &object).await.ok();
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
        let mut newer = made.clone();
        newer["metadata"]["annotations"] = json!({"a": "1"});
        let newer = w.put(&path, &newer).await.code(200);
        assert_ne!(version(&newer), version(&made));
        let mut stale = made.clone();
        stale["metadata"]["annotations"] = json!({"a": "2"});
        let status = w.put(&path, &stale).await.conflict();
        assert_eq!(status["details"]["name"], object["metadata"]["name"]);
        assert_eq!(w.get(&path).await.ok()["metadata"]["annotations"]["a"], "1");
    }
}

async fn replace_without_a_version_overwrites(w: World) {
    let made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let mut changed = made.clone();
    changed["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    changed["data"]["key"] = json!("2");
    let stored = w.put(&w.core("configmaps/a"), &changed).await.code(200);
    assert_eq!(stored["data"]["key"], "2");
    assert_eq!(uid(&stored), uid(&made));
    // Pods too: kubelets and controllers may write without a version.
    let mut pod = w.post(&w.core("pods"), &pod("p")).await.ok();
    pod["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    pod["metadata"]["labels"]["a"] = json!("b");
    w.put(&w.core("pods/p"), &pod).await.code(200);
}

async fn replace_that_changes_nothing_keeps_the_version(w: World) {
    let made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let same = w.put(&w.core("configmaps/a"), &made).await.code(200);
    assert_eq!(version(&same), version(&made));
    let same = w.patch(&w.core("configmaps/a"), MERGE, json!({"data": {"key": "1"}})).await.code(200);
    assert_eq!(version(&same), version(&made));
}

async fn replace_of_a_missing_object_is_404(w: World) {
    let mut object = config_map("a", "1");
    object["metadata"]["resourceVersion"] = json!("1");
    w.put(&w.core("configmaps/a"), &object).await.refused(404, "NotFound");
    w.put(&w.core("pods/a/status"), &pod("a")).await.refused(404, "NotFound");
}

async fn replace_with_another_uid_is_409(w: World) {
    let mut made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    made["metadata"]["uid"] = json!("11111111-1111-1111-1111-111111111111");
    let status = w.put(&w.core("configmaps/a"), &made).await.refused(409, "Conflict");
    assert!(status["message"].as_str().unwrap().contains("UID in precondition"), "{status}");
}

async fn replace_under_another_name_is_400(w: World) {
    let made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    w.put(&w.core("configmaps/b"), &made).await.refused(400, "BadRequest");
}

async fn replace_dry_run_stores_nothing(w: World) {
    let mut made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    made["data"]["key"] = json!("2");
    let tried = w.put(&format!("{}?dryRun=All", w.core("configmaps/a")), &made).await.code(200);
    assert_eq!(tried["data"]["key"], "2");
    assert_eq!(w.get(&w.core("configmaps/a")).await.ok()["data"]["key"], "1");
}

async fn replace_keeps_what_the_client_may_not_change(w: World) {
    let made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let mut changed = made.clone();
    changed["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    changed["metadata"]["generation"] = json!(9);
    changed["metadata"]["labels"] = json!({"a": "b"});
    let stored = w.put(&w.core("configmaps/a"), &changed).await.ok();
    assert_eq!(stored["metadata"]["creationTimestamp"], made["metadata"]["creationTimestamp"]);
    assert_eq!(stored["metadata"]["labels"]["a"], "b");
    assert!(stored["metadata"]["deletionTimestamp"].is_null());
}

async fn one_of_two_concurrent_replacements_wins(w: World) {
    let made: ConfigMap = w.post(&w.core("configmaps"), &config_map("ledger", "1")).await.read();
    let maps = w.api::<ConfigMap>();
    let write = |value: &str| {
        let mut mine = made.clone();
        mine.data.as_mut().unwrap().insert("key".into(), value.into());
        let maps = maps.clone();
        async move { maps.replace("ledger", &PostParams::default(), &mine).await }
    };
    let (first, second) = futures::future::join(write("x"), write("y")).await;
    let lost = match (&first, &second) {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => error,
        other => panic!("exactly one must win: {other:?}"),
    };
    let kube::Error::Api(status) = lost else { panic!("{lost}") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
}

async fn a_config_map_over_its_size_is_refused(w: World) {
    let large = config_map("large", &"x".repeat(1024 * 1024 + 1));
    w.post(&w.core("configmaps"), &large).await.refused(422, "Invalid");
    let fits = config_map("fits", &"x".repeat(900 * 1024));
    let mut made = w.post(&w.core("configmaps"), &fits).await.ok();
    made["data"]["more"] = json!("x".repeat(200 * 1024));
    w.put(&w.core("configmaps/fits"), &made).await.refused(422, "Invalid");
}

async fn an_immutable_config_map_cannot_change(w: World) {
    let mut object = config_map("a", "1");
    object["immutable"] = json!(true);
    let mut made = w.post(&w.core("configmaps"), &object).await.ok();
    made["data"]["key"] = json!("2");
    w.put(&w.core("configmaps/a"), &made).await.invalid(&["data"]);
}

async fn replacing_status_ignores_spec(w: World) {
    let mut pod = w.post(&w.core("pods"), &pod_on("a", &w.unique)).await.ok();
    pod["status"]["phase"] = json!("Running");
    pod["status"]["podIP"] = json!("10.0.0.7");
    pod["status"]["podIPs"] = json!([{"ip": "10.0.0.7"}]);
    pod["spec"]["containers"][0]["image"] = json!("registry.example/other:2");
    pod["metadata"]["labels"]["app"] = json!("other");
    let stored = w.put(&w.core("pods/a/status"), &pod).await.code(200);
    assert_eq!(stored["status"]["phase"], "Running");
    assert_eq!(stored["spec"]["containers"][0]["image"], "registry.example/web:1");

    let mut deployment = w.post(&w.apps("deployments"), &workload("Deployment", "a", 1)).await.ok();
    deployment["spec"]["replicas"] = json!(5);
    deployment["metadata"]["labels"] = json!({"not": "taken"});
    deployment["status"] = json!({"observedGeneration": 1, "replicas": 1});
    let stored = w.put(&w.apps("deployments/a/status"), &deployment).await.ok();
    assert_eq!(stored["spec"]["replicas"], 1);
    assert_eq!(stored["status"]["replicas"], 1);
    assert!(stored["metadata"]["labels"].is_null(), "labels of a Deployment are not part of its status");
}

async fn replacing_spec_ignores_status(w: World) {
    let mut deployment = w.post(&w.apps("deployments"), &workload("Deployment", "a", 1)).await.ok();
    deployment["spec"]["replicas"] = json!(5);
    deployment["status"] = json!({"replicas": 9});
    let stored = w.put(&w.apps("deployments/a"), &deployment).await.ok();
    assert_eq!(stored["spec"]["replicas"], 5);
    assert!(stored["status"].get("replicas").is_none());

    let mut made = w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    made["status"]["allocatable"] = json!({"cpu": "64"});
    made["metadata"]["labels"]["zone"] = json!("a");
    let stored = w.put(&format!("/api/v1/nodes/{}", w.unique), &made).await.ok();
    assert!(stored["status"].get("allocatable").is_none());
    assert_eq!(stored["metadata"]["labels"]["zone"], "a");
}

async fn generation_counts_spec_changes_only(w: World) {
    let path = w.apps("deployments/a");
    let mut object = w.post(&w.apps("deployments"), &workload("Deployment", "a", 1)).await.ok();
    assert_eq!(generation(&object), 1);
    object["metadata"]["labels"] = json!({"a": "b"});
    let mut object = w.put(&path, &object).await.ok();
    assert_eq!(generation(&object), 1, "labels do not count");
    object["status"] = json!({"observedGeneration": 1});
    let mut object = w.put(&format!("{path}/status"), &object).await.ok();
    assert_eq!(generation(&object), 1, "status does not count");
    object["spec"]["replicas"] = json!(2);
    let object = w.put(&path, &object).await.ok();
    assert_eq!(generation(&object), 2);
}

async fn node_status_and_spec_are_apart(w: World) {
    let path = format!("/api/v1/nodes/{}", w.unique);
    let mut object = w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    object["status"]["allocatable"] = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    object["status"]["capacity"] = object["status"]["allocatable"].clone();
    object["status"]["conditions"] = json!([{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"
    }]);
    object["spec"]["unschedulable"] = json!(true);
    let stored: Node = w.put(&format!("{path}/status"), &object).await.read();
    let status = stored.status.unwrap();
    assert_eq!(status.allocatable.unwrap()["memory"].0, "8Gi");
    assert_eq!(status.conditions.unwrap()[0].type_, "Ready");
    assert_ne!(stored.spec.unwrap().unschedulable, Some(true), "a status write does not cordon");
}

async fn nodes_keep_fields_we_do_not_know(w: World) {
    let path = format!("/api/v1/nodes/{}", w.unique);
    let mut object = node(&w.unique);
    object["metadata"]["annotations"] = json!({"vendor.example/a": "b"});
    object["spec"] =
        json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "providerID": "simulated://p/m"});
    let mut made = w.post("/api/v1/nodes", &object).await.ok();
    let before = made.clone();
    let taint = json!({"key": "tideline.dev/drain", "value": "1", "effect": "NoSchedule"});
    made["spec"]["unschedulable"] = json!(true);
    match made["spec"]["taints"].as_array_mut() {
        Some(taints) => taints.push(taint.clone()),
        None => made["spec"]["taints"] = json!([taint.clone()]),
    }
    let stored = w.put(&path, &made).await.code(200);
    assert!(stored["spec"]["taints"].as_array().unwrap().contains(&taint));
    assert_eq!(stored["spec"]["unschedulable"], true);
    for field in ["podCIDR", "podCIDRs", "providerID"] {
        assert_eq!(stored["spec"][field], before["spec"][field], "{field}");
    }
    assert_eq!(stored["metadata"]["annotations"]["vendor.example/a"], "b");
    assert_eq!(stored["status"], before["status"]);
}

async fn node_taints_must_be_valid(w: World) {
    let path = format!("/api/v1/nodes/{}", w.unique);
    let made = w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    let mut wrong = made.clone();
    wrong["spec"]["taints"] = json!([{"key": "a", "effect": "Sometimes"}]);
    w.put(&path, &wrong).await.invalid(&["metadata.taints[0].effect"]);
    let mut twice = made.clone();
    twice["spec"]["taints"] =
        json!([{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]);
    w.put(&path, &twice).await.invalid(&["metadata.taints[1]"]);
}

async fn the_provider_of_a_node_is_set_once(w: World) {
    let path = format!("/api/v1/nodes/{}", w.unique);
    let mut made = w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    made["spec"]["providerID"] = json!("simulated://p/1");
    let mut stored = w.put(&path, &made).await.code(200);
    stored["spec"]["providerID"] = json!("simulated://p/2");
    w.put(&path, &stored).await.invalid(&["spec.providerID"]);
}

async fn the_node_of_a_pod_cannot_be_replaced(w: World) {
    let mut made = w.post(&w.core("pods"), &pod("a")).await.ok();
    made["spec"]["nodeName"] = json!("n1");
    w.put(&w.core("pods/a"), &made).await.invalid(&["spec"]);
    let mut placed = w.post(&w.core("pods"), &pod_on("b", "n1")).await.ok();
    placed["spec"]["nodeName"] = json!("n2");
    let status = w.put(&w.core("pods/b"), &placed).await.invalid(&["spec"]);
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("pod updates may not change fields other than"), "{message}");
}

async fn pod_specs_are_fixed_but_for_a_few_fields(w: World) {
    let mut made = w.post(&w.core("pods"), &pod("a")).await.ok();
    made["spec"]["containers"][0]["image"] = json!("registry.example/web:2");
    made["spec"]["tolerations"].as_array_mut().unwrap().push(json!({"key": "a", "operator": "Exists"}));
    made["metadata"]["annotations"] = json!({"a": "b"});
    let stored = w.put(&w.core("pods/a"), &made).await.code(200);
    let mut wrong = stored.clone();
    wrong["spec"]["nodeSelector"] = json!({"a": "b"});
    w.put(&w.core("pods/a"), &wrong).await.invalid(&["spec"]);
    let mut wrong = stored.clone();
    wrong["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("5");
    w.put(&w.core("pods/a"), &wrong).await.invalid(&["spec"]);
}

async fn selectors_of_workloads_are_fixed(w: World) {
    let mut made = w.post(&w.apps("deployments"), &workload("Deployment", "a", 1)).await.ok();
    made["spec"]["selector"]["matchLabels"] = json!({"app": "other"});
    made["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    w.put(&w.apps("deployments/a"), &made).await.invalid(&["spec.selector"]);
}

async fn status_conflicts_too(w: World) {
    let made = w.post(&w.core("pods"), &pod_on("a", &w.unique)).await.ok();
    w.patch(&w.core("pods/a"), MERGE, json!({"metadata": {"labels": {"x": "y"}}})).await.ok();
    let mut stale = made.clone();
    stale["status"]["phase"] = json!("Running");
    w.put(&w.core("pods/a/status"), &stale).await.conflict();
}
