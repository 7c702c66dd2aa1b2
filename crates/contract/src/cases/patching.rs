//! Patching: JSON, merge, strategic and apply patches, of objects and of their status.
//!
//! Owns PATCH of built-in kinds. Leaves custom resources to `custom`.

use super::cases;
use super::fixtures::{config_map, node, pod, pod_on, workload};
use crate::world::{APPLY, JSON_PATCH, MERGE, STRATEGIC, World, generation, version};
use serde_json::{Value, json};

cases! { ApiServer,
    a_merge_patch_changes_and_removes: ["patch configmaps merge", "patch deployments.apps merge"];
    a_merge_patch_replaces_lists: ["patch pods merge"];
    a_merge_patch_with_a_version_compares: ["patch configmaps merge", "patch nodes merge"];
    a_merge_patch_with_another_uid_is_422: ["patch configmaps merge"];
    a_json_patch_follows_its_steps: ["patch configmaps json"];
    a_json_patch_that_fails_its_test_is_422: ["patch configmaps json", "patch nodes json"];
    a_malformed_json_patch_is_400: ["patch configmaps json"];
    a_strategic_patch_merges_lists_by_key: [
        "patch deployments.apps strategic", "patch nodes strategic", "patch nodes/status strategic",
    ];
    a_strategic_patch_deletes_by_directive: ["patch nodes strategic", "patch pods strategic"];
    a_patch_of_status_changes_status_only: ["patch pods/status merge", "patch nodes/status merge"];
    conditions_merge_by_type: ["patch pods/status strategic", "patch nodes/status strategic"];
    an_apply_creates_then_changes: ["patch configmaps apply", "patch deployments.apps apply"];
    an_apply_needs_a_field_manager: ["patch configmaps apply"];
    an_apply_to_status: ["patch nodes/status apply"];
    a_patch_of_a_missing_object_is_404: ["patch configmaps merge", "patch pods/status merge"];
    a_patch_that_makes_it_invalid_is_422: ["patch deployments.apps merge", "patch pods merge"];
    a_patch_in_an_unknown_form_is_415: [];
    a_patch_dry_run_stores_nothing: ["patch configmaps merge dry-run"];
    a_node_is_cordoned_by_patch: ["patch nodes strategic", "patch nodes merge"];
}

async fn a_merge_patch_changes_and_removes(w: World) {
    let path = w.core("configmaps/a");
    let mut object = config_map("a", "1");
    object["metadata"]["labels"] = json!({"x": "1", "y": "2"});
    let made = w.post(&w.core("configmaps"), &object).await.ok();
    let change = json!({"metadata": {"labels": {"x": null, "z": "3"}}, "data": {"more": "4"}});
    let done = w.patch(&path, MERGE, change).await.code(200);
    assert_eq!(done["metadata"]["labels"], json!({"y": "2", "z": "3"}));
    assert_eq!(done["data"], json!({"key": "1", "more": "4"}));
    assert_ne!(version(&done), version(&made));
    w.post(&w.apps("deployments"), &workload("Deployment", "d", 1)).await.ok();
    let done = w.patch(&w.apps("deployments/d"), MERGE, json!({"spec": {"replicas": 3}})).await.ok();
    assert_eq!((done["spec"]["replicas"].as_i64(), generation(&done)), (Some(3), 2));
}

async fn a_merge_patch_replaces_lists(w: World) {
    let mut object = pod("a");
    object["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    w.post(&w.core("pods"), &object).await.ok();
    let change = json!({"metadata": {"finalizers": ["example.com/c"]}});
    let done = w.patch(&w.core("pods/a"), MERGE, change).await.ok();
    assert_eq!(done["metadata"]["finalizers"], json!(["example.com/c"]));
    let done = w.patch(&w.core("pods/a"), MERGE, json!({"metadata": {"finalizers": null}})).await.ok();
    assert!(done["metadata"].get("finalizers").is_none());
}

async fn a_merge_patch_with_a_version_compares(w: World) {
    for (collection, object, path) in [
        (w.core("configmaps"), config_map("a", "1"), w.core("configmaps/a")),
        ("/api/v1/nodes".to_owned(), node(&w.unique), format!("/api/v1/nodes/{}", w.unique)),
    ] {
        let made = w.post(&collection, &object).await.ok();
        let change = |version: String, value: &str| json!({"metadata": {"resourceVersion": version, "annotations": {"a": value}}});
        let newer = w.patch(&path, MERGE, change(version(&made), "1")).await.ok();
        w.patch(&path, MERGE, change(version(&made), "2")).await.conflict();
        w.patch(&path, MERGE, change(version(&newer), "3")).await.ok();
    }
}

async fn a_merge_patch_with_another_uid_is_422(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let change = json!({"metadata": {"uid": "11111111-1111-1111-1111-111111111111"}, "data": {"key": "2"}});
    w.patch(&w.core("configmaps/a"), MERGE, change).await.invalid(&["metadata.uid"]);
}

async fn a_json_patch_follows_its_steps(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let steps = json!([
        {"op": "test", "path": "/data/key", "value": "1"},
        {"op": "replace", "path": "/data/key", "value": "2"},
        {"op": "add", "path": "/metadata/labels", "value": {"example.com/x": "y"}},
        {"op": "copy", "from": "/data/key", "path": "/data/copy"},
        {"op": "move", "from": "/data/copy", "path": "/data/moved"}
    ]);
    let done = w.patch(&w.core("configmaps/a"), JSON_PATCH, steps).await.code(200);
    assert_eq!(done["data"], json!({"key": "2", "moved": "2"}));
    let steps = json!([{"op": "remove", "path": "/metadata/labels/example.com~1x"}]);
    let done = w.patch(&w.core("configmaps/a"), JSON_PATCH, steps).await.ok();
    assert!(done["metadata"].get("labels").is_none());
}

async fn a_json_patch_that_fails_its_test_is_422(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let steps = json!([
        {"op": "replace", "path": "/data/key", "value": "2"}, {"op": "test", "path": "/data/key", "value": "9"}
    ]);
    w.patch(&w.core("configmaps/a"), JSON_PATCH, steps).await.refused(422, "Invalid");
    assert_eq!(w.get(&w.core("configmaps/a")).await.ok()["data"]["key"], "1", "all or nothing");
    let made = w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    let path = format!("/api/v1/nodes/{}", w.unique);
    let steps = |version: &str| {
        json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}
        ])
    };
    w.patch(&path, JSON_PATCH, steps(&version(&made))).await.code(200);
    w.patch(&path, JSON_PATCH, steps(&version(&made))).await.refused(422, "Invalid");
}

async fn a_malformed_json_patch_is_400(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    w.patch(&w.core("configmaps/a"), JSON_PATCH, json!({"op": "add"})).await.refused(400, "BadRequest");
    let missing = json!([{"op": "remove", "path": "/data/none"}]);
    w.patch(&w.core("configmaps/a"), JSON_PATCH, missing).await.refused(422, "Invalid");
}

async fn a_strategic_patch_merges_lists_by_key(w: World) {
    let mut object = workload("Deployment", "a", 1);
    let side = json!({"name": "side", "image": "registry.example/side:1"});
    object["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(side);
    w.post(&w.apps("deployments"), &object).await.ok();
    let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "registry.example/side:2"}]}}}});
    let done = w.patch(&w.apps("deployments/a"), STRATEGIC, change).await.ok();
    let images: Vec<&str> = done["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["image"].as_str().unwrap())
        .collect();
    assert_eq!(images, ["registry.example/web:1", "registry.example/side:2"]);

    let path = format!("/api/v1/nodes/{}", w.unique);
    w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    let addresses =
        |kind: &str, address: &str| json!({"status": {"addresses": [{"type": kind, "address": address}]}});
    w.patch(&format!("{path}/status"), STRATEGIC, addresses("InternalIP", "10.0.0.1")).await.ok();
    let done = w.patch(&format!("{path}/status"), STRATEGIC, addresses("Hostname", "n")).await.ok();
    assert_eq!(done["status"]["addresses"].as_array().map(Vec::len), Some(2));
    let spec = json!({"spec": {"taints": [{"key": "a", "value": "1", "effect": "NoSchedule"}]}});
    let done = w.patch(&path, STRATEGIC, spec).await.ok();
    assert_eq!(
        keys(&done["spec"]["taints"]).iter().filter(|key| **key == "a").count(),
        1,
        "taints are replaced"
    );
}

fn keys(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|entry| entry["key"].as_str().unwrap()).collect()
}

async fn a_strategic_patch_deletes_by_directive(w: World) {
    let mut object = pod("a");
    object["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    w.post(&w.core("pods"), &object).await.ok();
    let change = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}});
    let done = w.patch(&w.core("pods/a"), STRATEGIC, change).await.ok();
    assert_eq!(done["metadata"]["finalizers"], json!(["example.com/b"]));
    let path = format!("/api/v1/nodes/{}", w.unique);
    let mut object = node(&w.unique);
    object["metadata"]["annotations"] = json!({"a": "1", "b": "2"});
    w.post("/api/v1/nodes", &object).await.ok();
    let done = w.patch(&path, STRATEGIC, json!({"metadata": {"annotations": {"a": null}}})).await.ok();
    assert_eq!(done["metadata"]["annotations"], json!({"b": "2"}));
    w.patch(&w.core("pods/a"), MERGE, json!({"metadata": {"finalizers": null}})).await.ok();
}

async fn a_patch_of_status_changes_status_only(w: World) {
    w.post(&w.core("pods"), &pod_on("a", &w.unique)).await.ok();
    let change = json!({"status": {"phase": "Running"}, "spec": {"nodeName": "other"}});
    let done = w.patch(&w.core("pods/a/status"), MERGE, change).await.ok();
    assert_eq!(
        (done["status"]["phase"].as_str(), done["spec"]["nodeName"].as_str()),
        (Some("Running"), Some(&*w.unique))
    );
    w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    let change = json!({"status": {"capacity": {"cpu": "8"}}, "spec": {"unschedulable": true}});
    let done = w.patch(&format!("/api/v1/nodes/{}/status", w.unique), MERGE, change).await.ok();
    assert_eq!(done["status"]["capacity"]["cpu"], "8");
    assert!(done["spec"].get("unschedulable").is_none());
}

async fn conditions_merge_by_type(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    let with = |kind: &str, status: &str| json!({"status": {"conditions": [{"type": kind, "status": status, "reason": "R", "message": "m"}]}});
    let path = w.core("pods/a/status");
    w.patch(&path, STRATEGIC, with("PodScheduled", "False")).await.ok();
    w.patch(&path, STRATEGIC, with("example.com/Gate", "True")).await.ok();
    let done = w.patch(&path, STRATEGIC, with("PodScheduled", "True")).await.ok();
    let mut found: Vec<(&str, &str)> = done["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| (condition["type"].as_str().unwrap(), condition["status"].as_str().unwrap()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [("PodScheduled", "True"), ("example.com/Gate", "True")]);
    w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    let path = format!("/api/v1/nodes/{}/status", w.unique);
    w.patch(&path, STRATEGIC, with("MemoryPressure", "False")).await.ok();
    let done = w.patch(&path, STRATEGIC, with("Ready", "True")).await.ok();
    assert_eq!(done["status"]["conditions"].as_array().map(Vec::len), Some(2));
}

async fn an_apply_creates_then_changes(w: World) {
    let path = format!("{}?fieldManager=tideline", w.core("configmaps/a"));
    let made = w.patch(&path, APPLY, config_map("a", "1")).await.code(201);
    let done = w.patch(&path, APPLY, config_map("a", "2")).await.code(200);
    assert_eq!(
        (done["data"]["key"].as_str(), &done["metadata"]["uid"]),
        (Some("2"), &made["metadata"]["uid"])
    );
    let same = w.patch(&path, APPLY, config_map("a", "2")).await.code(200);
    assert_eq!(version(&same), version(&done), "applying the same again changes nothing");
    let path = format!("{}?fieldManager=tideline&force=true", w.apps("deployments/d"));
    w.patch(&path, APPLY, workload("Deployment", "d", 1)).await.code(201);
    let done = w.patch(&path, APPLY, workload("Deployment", "d", 4)).await.code(200);
    assert_eq!((done["spec"]["replicas"].as_i64(), generation(&done)), (Some(4), 2));
}

async fn an_apply_needs_a_field_manager(w: World) {
    let answer = w.patch(&w.core("configmaps/a"), APPLY, config_map("a", "1")).await;
    answer.refused(422, "Invalid");
}

async fn an_apply_to_status(w: World) {
    w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    let path = format!("/api/v1/nodes/{}/status?fieldManager=kubelet&force=true", w.unique);
    let change = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": w.unique}, "status": {"capacity": {"cpu": "3"}}
    });
    let done = w.patch(&path, APPLY, change).await.ok();
    assert_eq!(done["status"]["capacity"]["cpu"], "3");
}

async fn a_patch_of_a_missing_object_is_404(w: World) {
    w.patch(&w.core("configmaps/a"), MERGE, json!({"data": {"a": "b"}})).await.refused(404, "NotFound");
    w.patch(&w.core("pods/a/status"), MERGE, json!({"status": {}})).await.refused(404, "NotFound");
}

async fn a_patch_that_makes_it_invalid_is_422(w: World) {
    w.post(&w.apps("deployments"), &workload("Deployment", "a", 1)).await.ok();
    let path = w.apps("deployments/a");
    w.patch(&path, MERGE, json!({"spec": {"replicas": -2}})).await.invalid(&["spec.replicas"]);
    w.post(&w.core("pods"), &pod("p")).await.ok();
    w.patch(&w.core("pods/p"), MERGE, json!({"spec": {"nodeName": "n"}})).await.invalid(&["spec"]);
}

async fn a_patch_in_an_unknown_form_is_415(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let answer = w.patch(&w.core("configmaps/a"), "application/json", json!({})).await;
    answer.refused(415, "UnsupportedMediaType");
}

async fn a_patch_dry_run_stores_nothing(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let path = w.core("configmaps/a");
    let tried = w.patch(&format!("{path}?dryRun=All"), MERGE, json!({"data": {"key": "2"}})).await.code(200);
    assert_eq!(tried["data"]["key"], "2");
    assert_eq!(w.get(&path).await.ok()["data"]["key"], "1");
}

async fn a_node_is_cordoned_by_patch(w: World) {
    let path = format!("/api/v1/nodes/{}", w.unique);
    w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    // As kubectl cordons, and uncordons.
    let done = w.patch(&path, STRATEGIC, json!({"spec": {"unschedulable": true}})).await.ok();
    assert_eq!(done["spec"]["unschedulable"], true);
    let done = w.patch(&path, STRATEGIC, json!({"spec": {"unschedulable": null}})).await.ok();
    assert!(done["spec"].get("unschedulable").is_none());
    let taints = json!({"spec": {"taints": null}});
    let done = w.patch(&path, MERGE, taints).await.ok();
    assert!(!keys(&done["spec"]["taints"]).contains(&"node.kubernetes.io/not-ready"));
}
