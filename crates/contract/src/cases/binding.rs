//! Binding pods to nodes, and scaling workloads by number.
//!
//! Owns the binding and scale subresources of built-in kinds. Leaves scale of custom resources to `custom`.

use super::cases;
use super::fixtures::{pod, pod_on, workload};
use crate::world::{MERGE, World, generation, uid, version};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use serde_json::{Value, json};

cases! { ApiServer,
    a_binding_places_a_pod: ["create pods/binding", "get pods"];
    a_second_binding_is_409: ["create pods/binding"];
    a_binding_with_another_uid_is_409: ["create pods/binding"];
    a_binding_of_a_missing_pod_is_404: ["create pods/binding"];
    a_binding_of_a_terminating_pod_is_409: ["create pods/binding"];
    a_gated_pod_is_not_bound: ["create pods/binding"];
    workloads_scale_by_number: [
        "get deployments.apps/scale", "update deployments.apps/scale", "patch deployments.apps/scale merge",
        "get statefulsets.apps/scale", "patch statefulsets.apps/scale merge", "get replicasets.apps/scale",
    ];
    a_stale_scale_is_409: ["update deployments.apps/scale"];
    a_negative_scale_is_422: ["update deployments.apps/scale", "patch deployments.apps/scale merge"];
    a_scale_of_a_missing_workload_is_404: ["get deployments.apps/scale", "patch deployments.apps/scale merge"];
}

fn binding_to(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node}
    })
}

async fn a_binding_places_a_pod(w: World) {
    let made = w.post(&w.core("pods"), &pod("a")).await.ok();
    let mut object = binding_to("a", "n1");
    object["metadata"]["annotations"] = json!({"example.com/by": "tideline"});
    let status = w.post(&w.core("pods/a/binding"), &object).await.code(201);
    assert_eq!((status["kind"].as_str(), status["status"].as_str()), (Some("Status"), Some("Success")));
    let bound = w.get(&w.core("pods/a")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["annotations"]["example.com/by"], "tideline");
    assert_eq!(uid(&bound), uid(&made));
    let scheduled =
        bound["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "PodScheduled");
    assert_eq!(scheduled.unwrap()["status"], "True");
}

async fn a_second_binding_is_409(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    w.post(&w.core("pods/a/binding"), &binding_to("a", "n1")).await.code(201);
    for node in ["n1", "n2"] {
        let status = w.post(&w.core("pods/a/binding"), &binding_to("a", node)).await.refused(409, "Conflict");
        assert!(status["message"].as_str().unwrap().contains("already assigned to node \"n1\""), "{status}");
    }
    assert_eq!(w.get(&w.core("pods/a")).await.ok()["spec"]["nodeName"], "n1");
}

async fn a_binding_with_another_uid_is_409(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    let mut object = binding_to("a", "n1");
    object["metadata"]["uid"] = json!("11111111-1111-1111-1111-111111111111");
    w.post(&w.core("pods/a/binding"), &object).await.refused(409, "Conflict");
    assert!(w.get(&w.core("pods/a")).await.ok()["spec"].get("nodeName").is_none());
}

async fn a_binding_of_a_missing_pod_is_404(w: World) {
    w.post(&w.core("pods/none/binding"), &binding_to("none", "n1")).await.refused(404, "NotFound");
}

async fn a_binding_of_a_terminating_pod_is_409(w: World) {
    let mut object = pod("a");
    object["metadata"]["finalizers"] = json!(["example.com/a"]);
    w.post(&w.core("pods"), &object).await.ok();
    w.delete(&w.core("pods/a")).await.ok();
    let status = w.post(&w.core("pods/a/binding"), &binding_to("a", "n1")).await.refused(409, "Conflict");
    assert!(status["message"].as_str().unwrap().contains("is being deleted"), "{status}");
}

async fn a_gated_pod_is_not_bound(w: World) {
    let mut object = pod("a");
    object["spec"]["schedulingGates"] = json!([{"name": "example.com/gate"}]);
    w.post(&w.core("pods"), &object).await.ok();
    w.post(&w.core("pods/a/binding"), &binding_to("a", "n1")).await.refused(409, "Conflict");
    let mut placed = pod_on("b", "n1");
    placed["spec"]["schedulingGates"] = json!([{"name": "example.com/gate"}]);
    w.post(&w.core("pods"), &placed).await.refused(422, "Invalid");
}

async fn workloads_scale_by_number(w: World) {
    for (kind, plural) in
        [("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("ReplicaSet", "replicasets")]
    {
        w.post(&w.apps(plural), &workload(kind, "a", 1)).await.ok();
        let path = w.apps(&format!("{plural}/a/scale"));
        let mut scale = w.get(&path).await.code(200);
        assert_eq!(
            (scale["kind"].as_str(), scale["apiVersion"].as_str()),
            (Some("Scale"), Some("autoscaling/v1"))
        );
        assert_eq!(
            (scale["spec"]["replicas"].as_i64(), scale["status"]["replicas"].as_i64()),
            (Some(1), Some(0))
        );
        assert_eq!(scale["status"]["selector"], "app=web");
        scale["spec"]["replicas"] = json!(4);
        let done = w.put(&path, &scale).await.code(200);
        assert_eq!(done["spec"]["replicas"], 4);
        let object = w.get(&w.apps(&format!("{plural}/a"))).await.ok();
        assert_eq!((object["spec"]["replicas"].as_i64(), generation(&object)), (Some(4), 2));
        assert_eq!(version(&object), version(&done));
        let done = w.patch(&path, MERGE, json!({"spec": {"replicas": 0}})).await.ok();
        assert_eq!(done["spec"]["replicas"].as_i64().unwrap_or_default(), 0);
    }
    assert_eq!(
        w.api::<Deployment>().get_scale("a").await.unwrap().spec.unwrap().replicas.unwrap_or_default(),
        0
    );
    assert_eq!(w.api::<StatefulSet>().get_scale("a").await.unwrap().metadata.name.as_deref(), Some("a"));
}

async fn a_stale_scale_is_409(w: World) {
    w.post(&w.apps("deployments"), &workload("Deployment", "a", 1)).await.ok();
    let path = w.apps("deployments/a/scale");
    let mut stale = w.get(&path).await.ok();
    w.patch(&path, MERGE, json!({"spec": {"replicas": 2}})).await.ok();
    stale["spec"]["replicas"] = json!(5);
    w.put(&path, &stale).await.conflict();
}

async fn a_negative_scale_is_422(w: World) {
    w.post(&w.apps("deployments"), &workload("Deployment", "a", 1)).await.ok();
    let path = w.apps("deployments/a/scale");
    let mut scale = w.get(&path).await.ok();
    scale["spec"]["replicas"] = json!(-1);
    w.put(&path, &scale).await.invalid(&["spec.replicas"]);
    w.patch(&path, MERGE, json!({"spec": {"replicas": -1}})).await.invalid(&["spec.replicas"]);
}

async fn a_scale_of_a_missing_workload_is_404(w: World) {
    let path = w.apps("deployments/none/scale");
    w.get(&path).await.refused(404, "NotFound");
    w.patch(&path, MERGE, json!({"spec": {"replicas": 1}})).await.refused(404, "NotFound");
}
