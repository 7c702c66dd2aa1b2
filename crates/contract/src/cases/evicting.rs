//! Evicting: allowed, refused by a budget, preconditions, and pods that are already going.
//!
//! Owns the eviction subresource. Leaves the computing of budgets to `controllers`.

use super::cases;
use super::fixtures::{pod, pod_on};
use crate::world::{MERGE, World, generation, uid, version};
use k8s_openapi::api::core::v1::Pod;
use kube::api::EvictParams;
use serde_json::{Value, json};

cases! { ApiServer,
    an_eviction_without_a_budget_deletes: ["create pods/eviction"];
    an_eviction_within_the_budget_is_counted: [
        "create pods/eviction", "update poddisruptionbudgets.policy/status", "get poddisruptionbudgets.policy",
        "create poddisruptionbudgets.policy",
    ];
    an_eviction_beyond_the_budget_is_429: ["create pods/eviction"];
    an_eviction_under_an_unread_budget_is_429_with_retry: ["create pods/eviction"];
    an_eviction_under_two_budgets_is_500: ["create pods/eviction"];
    an_eviction_of_a_missing_pod_is_404: ["create pods/eviction"];
    an_eviction_with_another_uid_is_409: ["create pods/eviction"];
    an_eviction_of_a_terminating_pod_succeeds: ["create pods/eviction"];
    an_eviction_of_a_finished_pod_ignores_budgets: ["create pods/eviction"];
    an_eviction_of_a_pending_pod_ignores_budgets: ["create pods/eviction"];
    unhealthy_pods_are_evicted_under_a_healthy_budget: ["create pods/eviction"];
    an_eviction_has_a_grace_period: ["create pods/eviction"];
    an_eviction_dry_run_evicts_nothing: ["create pods/eviction"];
    an_eviction_under_another_name_is_400: [];
    budgets_take_one_bound: ["create poddisruptionbudgets.policy"];
    budgets_are_patched_and_replaced: ["update poddisruptionbudgets.policy", "patch poddisruptionbudgets.policy merge"];
}

/// A pod that runs, as budgets count it.
async fn running(w: &World, name: &str, ready: bool) -> Value {
    w.post(&w.core("pods"), &pod_on(name, "n")).await.ok();
    let ready = if ready { "True" } else { "False" };
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    w.patch(&w.core(&format!("pods/{name}/status")), MERGE, status).await.ok()
}

/// A budget with a status as its controller would write it.
async fn budget(w: &World, name: &str, allowed: i64, healthy: i64, desired: i64) -> Value {
    let object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"minAvailable": desired, "selector": {"matchLabels": {"app": "web"}}}
    });
    let path = w.group("policy/v1", "poddisruptionbudgets");
    let mut made = w.post(&path, &object).await.ok();
    made["status"] = json!({
        "observedGeneration": generation(&made), "disruptionsAllowed": allowed,
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": healthy
    });
    w.put(&format!("{path}/{name}/status"), &made).await.ok()
}

async fn evict(w: &World, name: &str, options: Value) -> crate::Answer {
    let mut body = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": w.ns}
    });
    if !options.is_null() {
        body["deleteOptions"] = options;
    }
    w.post(&w.core(&format!("pods/{name}/eviction")), &body).await
}

async fn an_eviction_without_a_budget_deletes(w: World) {
    running(&w, "a", true).await;
    let status = evict(&w, "a", Value::Null).await.code(201);
    assert_eq!((status["kind"].as_str(), status["status"].as_str()), (Some("Status"), Some("Success")));
    let dying = w.get(&w.core("pods/a")).await.ok();
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 30);
    let disrupted =
        dying["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "DisruptionTarget");
    let disrupted = disrupted.unwrap_or_else(|| panic!("no DisruptionTarget in {dying}"));
    assert_eq!(
        (disrupted["status"].as_str(), disrupted["reason"].as_str()),
        (Some("True"), Some("EvictionByEvictionAPI"))
    );
}

async fn an_eviction_within_the_budget_is_counted(w: World) {
    for name in ["a", "b"] {
        running(&w, name, true).await;
    }
    budget(&w, "web", 1, 2, 1).await;
    evict(&w, "a", Value::Null).await.code(201);
    let left = w.get(&w.group("policy/v1", "poddisruptionbudgets/web")).await.ok();
    assert_eq!(left["status"]["disruptionsAllowed"], 0);
    assert!(left["status"]["disruptedPods"]["a"].is_string(), "{left}");
    evict(&w, "b", Value::Null).await.refused(429, "TooManyRequests");
}

async fn an_eviction_beyond_the_budget_is_429(w: World) {
    running(&w, "a", true).await;
    budget(&w, "web", 0, 1, 1).await;
    let status = evict(&w, "a", Value::Null).await.refused(429, "TooManyRequests");
    assert_eq!(status["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = &status["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert_eq!(cause["message"], "The disruption budget web needs 1 healthy pods and has 1 currently");
    assert!(w.get(&w.core("pods/a")).await.ok()["metadata"].get("deletionTimestamp").is_none());
    // The same through kube's own call, as the controller makes it.
    let error = w.api::<Pod>().evict("a", &EvictParams::default()).await.unwrap_err();
    let kube::Error::Api(typed) = error else { panic!("{error}") };
    assert_eq!((typed.code, typed.reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(typed.details.unwrap().causes[0].reason, "DisruptionBudget");
}

async fn an_eviction_under_an_unread_budget_is_429_with_retry(w: World) {
    running(&w, "a", true).await;
    let object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": "web"}}}
    });
    w.post(&w.group("policy/v1", "poddisruptionbudgets"), &object).await.ok();
    let answer = evict(&w, "a", Value::Null).await;
    assert_eq!(answer.header("retry-after"), Some("10"));
    let status = answer.refused(429, "TooManyRequests");
    assert_eq!(status["details"]["retryAfterSeconds"], 10);
    assert_eq!(status["details"]["causes"][0]["reason"], "DisruptionBudget");
}

async fn an_eviction_under_two_budgets_is_500(w: World) {
    running(&w, "a", true).await;
    budget(&w, "one", 1, 1, 0).await;
    budget(&w, "two", 1, 1, 0).await;
    let status = evict(&w, "a", Value::Null).await;
    assert_eq!(status.code, 500, "{}", status.body);
    let message = status.body["message"].as_str().unwrap();
    assert!(message.contains("more than one PodDisruptionBudget"), "{message}");
}

async fn an_eviction_of_a_missing_pod_is_404(w: World) {
    let status = evict(&w, "none", Value::Null).await.refused(404, "NotFound");
    assert_eq!(status["message"], "pods \"none\" not found");
}

async fn an_eviction_with_another_uid_is_409(w: World) {
    let made = running(&w, "a", true).await;
    let wrong = json!({"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}});
    evict(&w, "a", wrong).await.refused(409, "Conflict");
    assert!(w.get(&w.core("pods/a")).await.ok()["metadata"].get("deletionTimestamp").is_none());
    evict(&w, "a", json!({"preconditions": {"uid": uid(&made)}})).await.code(201);
}

async fn an_eviction_of_a_terminating_pod_succeeds(w: World) {
    running(&w, "a", true).await;
    w.delete(&w.core("pods/a")).await.ok();
    let before = w.get(&w.core("pods/a")).await.ok();
    budget(&w, "web", 0, 1, 1).await;
    evict(&w, "a", Value::Null).await.code(201);
    let after = w.get(&w.core("pods/a")).await.ok();
    assert_eq!(after["metadata"]["deletionTimestamp"], before["metadata"]["deletionTimestamp"]);
}

async fn an_eviction_of_a_finished_pod_ignores_budgets(w: World) {
    running(&w, "a", true).await;
    w.patch(&w.core("pods/a/status"), MERGE, json!({"status": {"phase": "Succeeded"}})).await.ok();
    budget(&w, "web", 0, 1, 1).await;
    evict(&w, "a", Value::Null).await.code(201);
    w.get(&w.core("pods/a")).await.refused(404, "NotFound");
}

async fn an_eviction_of_a_pending_pod_ignores_budgets(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    budget(&w, "web", 0, 1, 1).await;
    evict(&w, "a", Value::Null).await.code(201);
    w.get(&w.core("pods/a")).await.refused(404, "NotFound");
}

async fn unhealthy_pods_are_evicted_under_a_healthy_budget(w: World) {
    running(&w, "a", true).await;
    running(&w, "b", false).await;
    budget(&w, "web", 0, 1, 1).await;
    evict(&w, "b", Value::Null).await.code(201);
    evict(&w, "a", Value::Null).await.refused(429, "TooManyRequests");
    running(&w, "c", false).await;
    let path = w.group("policy/v1", "poddisruptionbudgets/web/status");
    w.patch(&path, MERGE, json!({"status": {"currentHealthy": 0}})).await.ok();
    evict(&w, "c", Value::Null).await.refused(429, "TooManyRequests");
    // A budget may say that pods which are not ready may always go.
    let always = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    let path = w.group("policy/v1", "poddisruptionbudgets/web");
    let stored = w.patch(&path, MERGE, always).await.ok();
    let seen = json!({"status": {"observedGeneration": generation(&stored)}});
    w.patch(&format!("{path}/status"), MERGE, seen).await.ok();
    evict(&w, "c", Value::Null).await.code(201);
}

async fn an_eviction_has_a_grace_period(w: World) {
    running(&w, "a", true).await;
    evict(&w, "a", json!({"gracePeriodSeconds": 7})).await.code(201);
    let dying = w.get(&w.core("pods/a")).await.ok();
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 7);
}

async fn an_eviction_dry_run_evicts_nothing(w: World) {
    running(&w, "a", true).await;
    evict(&w, "a", json!({"dryRun": ["All"]})).await.code(201);
    let kept = w.get(&w.core("pods/a")).await.ok();
    assert!(kept["metadata"].get("deletionTimestamp").is_none());
    budget(&w, "web", 0, 1, 1).await;
    evict(&w, "a", json!({"dryRun": ["All"]})).await.refused(429, "TooManyRequests");
}

async fn an_eviction_under_another_name_is_400(w: World) {
    running(&w, "a", true).await;
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "b"}});
    w.post(&w.core("pods/a/eviction"), &body).await.refused(400, "BadRequest");
}

async fn budgets_take_one_bound(w: World) {
    let object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    });
    let path = w.group("policy/v1", "poddisruptionbudgets");
    w.post(&path, &object).await.refused(422, "Invalid");
    let mut object = object;
    object["spec"] = json!({"minAvailable": "150%", "selector": {}});
    w.post(&path, &object).await.invalid(&["spec.minAvailable"]);
}

async fn budgets_are_patched_and_replaced(w: World) {
    let mut made = budget(&w, "web", 0, 1, 1).await;
    let path = w.group("policy/v1", "poddisruptionbudgets/web");
    made["spec"]["minAvailable"] = json!(2);
    let stored = w.put(&path, &made).await.code(200);
    assert_eq!(generation(&stored), generation(&made) + 1);
    let done = w.patch(&path, MERGE, json!({"spec": {"minAvailable": "50%"}})).await.ok();
    assert_eq!(done["spec"]["minAvailable"], "50%");
    assert_ne!(version(&done), version(&stored));
}
