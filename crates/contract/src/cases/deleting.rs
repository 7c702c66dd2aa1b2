//! Deleting: preconditions, finalizers, grace, propagation, collections.
//!
//! Owns DELETE. Leaves eviction to `evicting` and what the garbage collector does to `controllers`.

use super::cases;
use super::fixtures::{config_map, labelled, node, pod, pod_on, workload};
use crate::world::{MERGE, World, generation, names, uid, version};
use serde_json::json;

cases! { ApiServer,
    delete_answers_with_a_status: ["delete configmaps", "delete nodes"];
    delete_of_a_missing_object_is_404: ["delete configmaps", "delete pods"];
    delete_with_another_uid_is_409: ["delete configmaps", "delete pods"];
    delete_with_another_version_is_409: ["delete configmaps"];
    delete_dry_run_deletes_nothing: ["delete configmaps dry-run"];
    finalizers_keep_an_object: ["delete configmaps", "update configmaps"];
    finalizers_cannot_be_added_to_the_dying: ["update configmaps"];
    a_pod_on_a_node_ends_with_grace: ["delete pods"];
    a_pod_without_a_node_ends_at_once: ["delete pods"];
    grace_can_be_shortened_only: ["delete pods"];
    a_pod_that_is_over_ends_at_once: ["delete pods"];
    foreground_deletion_waits_for_dependents: ["delete deployments.apps"];
    orphaning_deletion_waits_for_orphans: ["delete replicasets.apps"];
    background_deletion_is_immediate: ["delete deployments.apps"];
    jobs_orphan_their_pods_unless_told_otherwise: ["delete jobs.batch"];
    collections_are_deleted_by_labels: ["deletecollection configmaps labels"];
    collections_of_pods_end_with_grace: ["deletecollection pods"];
}

async fn delete_answers_with_a_status(w: World) {
    let made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let status = w.delete(&w.core("configmaps/a")).await.code(200);
    assert_eq!((status["kind"].as_str(), status["status"].as_str()), (Some("Status"), Some("Success")));
    assert_eq!(status["details"]["name"], "a");
    assert_eq!(status["details"]["uid"], made["metadata"]["uid"]);
    w.get(&w.core("configmaps/a")).await.refused(404, "NotFound");
    w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    w.delete(&format!("/api/v1/nodes/{}", w.unique)).await.code(200);
    w.get(&format!("/api/v1/nodes/{}", w.unique)).await.refused(404, "NotFound");
}

async fn delete_of_a_missing_object_is_404(w: World) {
    w.delete(&w.core("configmaps/none")).await.refused(404, "NotFound");
    w.delete(&w.core("pods/none")).await.refused(404, "NotFound");
}

async fn delete_with_another_uid_is_409(w: World) {
    let wrong = json!({"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}});
    for (path, object) in [(w.core("configmaps"), config_map("a", "1")), (w.core("pods"), pod_on("a", "n"))] {
        let made = w.post(&path, &object).await.ok();
        let path = format!("{path}/a");
        let status = w.delete_with(&path, wrong.clone()).await.refused(409, "Conflict");
        let message = status["message"].as_str().unwrap();
        assert!(message.contains("UID in the precondition"), "{message}");
        let right = json!({"preconditions": {"uid": uid(&made)}});
        w.delete_with(&path, right).await.code(200);
    }
}

async fn delete_with_another_version_is_409(w: World) {
    let made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let newer = w.patch(&w.core("configmaps/a"), MERGE, json!({"data": {"key": "2"}})).await.ok();
    let at = |version: String| json!({"preconditions": {"resourceVersion": version}});
    w.delete_with(&w.core("configmaps/a"), at(version(&made))).await.refused(409, "Conflict");
    w.delete_with(&w.core("configmaps/a"), at(version(&newer))).await.code(200);
}

async fn delete_dry_run_deletes_nothing(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    w.delete(&format!("{}?dryRun=All", w.core("configmaps/a"))).await.code(200);
    w.get(&w.core("configmaps/a")).await.code(200);
    w.delete_with(&w.core("configmaps/a"), json!({"dryRun": ["All"]})).await.code(200);
    w.get(&w.core("configmaps/a")).await.code(200);
}

async fn finalizers_keep_an_object(w: World) {
    let path = w.core("configmaps/a");
    let mut object = config_map("a", "1");
    object["metadata"]["finalizers"] = json!(["tideline.dev/one", "tideline.dev/two"]);
    let made = w.post(&w.core("configmaps"), &object).await.ok();
    let dying = w.delete(&path).await.code(200);
    assert_eq!(dying["kind"], "ConfigMap", "what stays for a while is answered as itself");
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = w.delete(&path).await.code(200);
    assert_eq!(version(&again), version(&dying), "a second deletion changes nothing");
    w.post(&w.core("configmaps"), &config_map("a", "2")).await.refused(409, "AlreadyExists");
    let mut half = dying.clone();
    half["metadata"]["finalizers"] = json!(["tideline.dev/two"]);
    let half = w.put(&path, &half).await.code(200);
    assert_eq!(uid(&half), uid(&made));
    let mut last = half.clone();
    last["metadata"]["finalizers"] = json!([]);
    w.put(&path, &last).await.code(200);
    w.get(&path).await.refused(404, "NotFound");
}

async fn finalizers_cannot_be_added_to_the_dying(w: World) {
    let mut object = config_map("a", "1");
    object["metadata"]["finalizers"] = json!(["tideline.dev/one"]);
    w.post(&w.core("configmaps"), &object).await.ok();
    let mut dying = w.delete(&w.core("configmaps/a")).await.ok();
    dying["metadata"]["finalizers"] = json!(["tideline.dev/one", "tideline.dev/late"]);
    w.put(&w.core("configmaps/a"), &dying).await.invalid(&["metadata.finalizers"]);
}

async fn a_pod_on_a_node_ends_with_grace(w: World) {
    let path = w.core("pods/a");
    let mut object = pod_on("a", "n");
    object["spec"]["terminationGracePeriodSeconds"] = json!(40);
    let made = w.post(&w.core("pods"), &object).await.ok();
    let dying = w.delete(&path).await.code(200);
    assert_eq!(dying["kind"], "Pod");
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 40);
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(generation(&dying), generation(&made) + 1, "asking for the end is a wish like a spec");
    assert_eq!(w.get(&path).await.code(200)["metadata"]["uid"], made["metadata"]["uid"]);
    // What the kubelet does once the containers have ended.
    let last = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid(&made)}});
    w.delete_with(&path, last).await.code(200);
    w.get(&path).await.refused(404, "NotFound");
}

async fn a_pod_without_a_node_ends_at_once(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    w.delete(&w.core("pods/a")).await.code(200);
    w.get(&w.core("pods/a")).await.refused(404, "NotFound");
}

async fn grace_can_be_shortened_only(w: World) {
    let path = w.core("pods/a");
    w.post(&w.core("pods"), &pod_on("a", "n")).await.ok();
    let asked = |seconds: i64| json!({"gracePeriodSeconds": seconds});
    let dying = w.delete_with(&path, asked(20)).await.ok();
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 20);
    let same = w.delete_with(&path, asked(60)).await.ok();
    assert_eq!(same["metadata"]["deletionGracePeriodSeconds"], 20);
    let sooner = w.delete_with(&path, asked(5)).await.ok();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
}

async fn a_pod_that_is_over_ends_at_once(w: World) {
    w.post(&w.core("pods"), &pod_on("a", "n")).await.ok();
    w.patch(&w.core("pods/a/status"), MERGE, json!({"status": {"phase": "Succeeded"}})).await.ok();
    w.delete(&w.core("pods/a")).await.code(200);
    w.get(&w.core("pods/a")).await.refused(404, "NotFound");
}

async fn foreground_deletion_waits_for_dependents(w: World) {
    w.post(&w.apps("deployments"), &workload("Deployment", "a", 1)).await.ok();
    let dying =
        w.delete_with(&w.apps("deployments/a"), json!({"propagationPolicy": "Foreground"})).await.ok();
    assert_eq!(dying["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
}

async fn orphaning_deletion_waits_for_orphans(w: World) {
    w.post(&w.apps("replicasets"), &workload("ReplicaSet", "a", 1)).await.ok();
    let dying = w.delete_with(&w.apps("replicasets/a"), json!({"propagationPolicy": "Orphan"})).await.ok();
    assert_eq!(dying["metadata"]["finalizers"], json!(["orphan"]));
    w.delete_with(&w.apps("replicasets/a"), json!({"propagationPolicy": "Sideways"}))
        .await
        .refused(422, "Invalid");
}

async fn background_deletion_is_immediate(w: World) {
    w.post(&w.apps("deployments"), &workload("Deployment", "a", 1)).await.ok();
    let status =
        w.delete_with(&w.apps("deployments/a"), json!({"propagationPolicy": "Background"})).await.code(200);
    assert_eq!(status["status"], "Success");
    w.get(&w.apps("deployments/a")).await.refused(404, "NotFound");
}

async fn jobs_orphan_their_pods_unless_told_otherwise(w: World) {
    let container = json!({"name": "c", "image": "registry.example/job:1"});
    let job = |name: &str| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
        })
    };
    let path = w.group("batch/v1", "jobs");
    w.post(&path, &job("a")).await.ok();
    w.delete_with(&format!("{path}/a"), json!({"propagationPolicy": "Background"})).await.ok();
    w.get(&format!("{path}/a")).await.refused(404, "NotFound");
    w.post(&path, &job("b")).await.ok();
    let dying = w.delete(&format!("{path}/b")).await.ok();
    assert_eq!(dying["metadata"]["finalizers"], json!(["orphan"]));
}

async fn collections_are_deleted_by_labels(w: World) {
    let path = w.core("configmaps");
    for (name, value) in [("a", "x"), ("b", "x"), ("c", "y")] {
        w.post(&path, &labelled(config_map(name, "1"), json!({"t": value}))).await.ok();
    }
    let deleted = w.delete(&format!("{path}?labelSelector=t%3Dx")).await.code(200);
    assert_eq!(names(&deleted), ["a", "b"], "the answer lists what was deleted");
    assert_eq!(deleted["kind"], "ConfigMapList");
    let left = w.get(&format!("{path}?labelSelector=t")).await.ok();
    assert_eq!(names(&left), ["c"]);
}

async fn collections_of_pods_end_with_grace(w: World) {
    let path = w.core("pods");
    w.post(&path, &pod_on("a", "n")).await.ok();
    w.post(&path, &pod("b")).await.ok();
    w.delete(&path).await.code(200);
    let left = w.get(&path).await.ok();
    assert_eq!(names(&left), ["a"]);
    assert!(left["items"][0]["metadata"]["deletionTimestamp"].is_string());
}
