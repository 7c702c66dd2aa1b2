//! What scaling workloads by hand or by an autoscaler relies on: who is deleted first, who gets traffic, what an
//! autoscaler of Kubernetes looks like.
//!
//! Owns the cases that need controllers and pods whose state is written by the case.

use super::cases;
use super::fixtures::{node, pod_on, workload};
use crate::world::{MERGE, World, names};
use serde_json::{Value, json};

cases! { Controllers,
    endpoints_follow_readiness: ["patch pods/status merge"];
    pods_that_cost_little_are_deleted_first: ["patch replicasets.apps/scale merge", "patch pods merge"];
    autoscalers_are_kept_and_shown: [];
}

/// A pod that runs, as its kubelet would write it.
fn running(ready: bool, address: &str) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }})
}

async fn endpoints_follow_readiness(w: World) {
    w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    let mut object = pod_on("a", &w.unique);
    object["spec"]["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
    let made = w.post(&w.core("pods"), &object).await.ok();
    assert_eq!(made["spec"]["readinessGates"][0]["conditionType"], "example.com/gate");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    w.post(&w.core("services"), &service).await.ok();
    let slices = w.group("discovery.k8s.io/v1", "endpointslices");
    let slices = format!("{slices}?labelSelector=kubernetes.io%2Fservice-name%3Dweb");
    for ready in [true, false, true] {
        w.patch(&w.core("pods/a/status"), MERGE, running(ready, "10.200.0.7")).await.ok();
        let found = w
            .until(&slices, |answer| {
                let endpoint = &answer.body["items"][0]["endpoints"][0];
                endpoint["conditions"]["ready"] == ready && endpoint["addresses"] == json!(["10.200.0.7"])
            })
            .await
            .ok();
        assert_eq!(found["items"][0]["ports"][0]["port"], 8080);
        let side = if ready { "addresses" } else { "notReadyAddresses" };
        w.until(&w.core("endpoints/web"), |answer| answer.body["subsets"][0][side][0]["ip"] == "10.200.0.7")
            .await;
    }
    w.delete(&format!("/api/v1/nodes/{}", w.unique)).await.ok();
}

async fn pods_that_cost_little_are_deleted_first(w: World) {
    let mut object = workload("ReplicaSet", "a", 3);
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"no-such": "node"});
    w.post(&w.apps("replicasets"), &object).await.ok();
    let pods = w.core("pods?labelSelector=app%3Dweb");
    let found = w.until(&pods, |answer| names(&answer.body).len() == 3).await.ok();
    let all: Vec<String> = names(&found).into_iter().map(str::to_owned).collect();
    for (index, name) in all.iter().enumerate() {
        let status = running(true, &format!("10.200.1.{}", index + 1));
        w.patch(&w.core(&format!("pods/{name}/status")), MERGE, status).await.ok();
    }
    let cost = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-10"}}});
    w.patch(&w.core(&format!("pods/{}", all[1])), MERGE, cost).await.ok();
    // The controller has to have seen the cost: it shows nothing of that, but its count of ready pods came later.
    w.until(&w.apps("replicasets/a"), |answer| answer.body["status"]["readyReplicas"] == 3).await;
    w.patch(&w.apps("replicasets/a/scale"), MERGE, json!({"spec": {"replicas": 2}})).await.ok();
    let left = w.until(&pods, |answer| names(&answer.body).len() == 2).await.ok();
    assert_eq!(names(&left), [all[0].as_str(), all[2].as_str()]);
}

async fn autoscalers_are_kept_and_shown(w: World) {
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "no-such"},
            "minReplicas": 2, "maxReplicas": 9,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60},
            }}],
        },
    });
    let path = w.group("autoscaling/v2", "horizontalpodautoscalers");
    let made = w.post(&path, &autoscaler).await.ok();
    assert_eq!(made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
    let older = w.get(&format!("{}/web", w.group("autoscaling/v1", "horizontalpodautoscalers"))).await.ok();
    assert_eq!(older["spec"]["targetCPUUtilizationPercentage"], 60);
    let mut wrong = autoscaler;
    wrong["metadata"]["name"] = json!("wrong");
    wrong["spec"]["maxReplicas"] = json!(1);
    w.post(&path, &wrong).await.refused(422, "Invalid");
}
