//! What controllers of Kubernetes do with objects, as far as the API shows it: namespaces, owners, budgets, workloads.
//!
//! Owns the cases that make no sense without controllers. They wait for a condition, never for a time.

use super::cases;
use super::fixtures::{config_map, pod, workload};
use crate::world::{MERGE, World, generation, names, uid};
use serde_json::{Value, json};

cases! { Controllers,
    namespaces_go_with_their_content: ["delete namespaces", "get namespaces"];
    terminating_namespaces_take_nothing_new: ["create configmaps"];
    owners_take_their_dependants_along: ["delete configmaps"];
    orphans_lose_their_owner: ["delete deployments.apps"];
    foreground_owners_go_last: ["delete replicasets.apps"];
    dependants_without_an_owner_are_collected: ["create configmaps"];
    deployments_make_replica_sets_and_pods: ["create deployments.apps", "patch deployments.apps/scale merge"];
    budgets_are_computed_and_kept: ["create pods/eviction", "get poddisruptionbudgets.policy"];
    claims_find_a_volume_that_is_there: ["create persistentvolumeclaims", "get persistentvolumes"];
    ephemeral_volumes_get_their_claims: ["get persistentvolumeclaims"];
    finished_jobs_say_so: ["create jobs.batch", "get jobs.batch"];
}

fn owned(name: &str, owner: &Value) -> Value {
    let mut object = config_map(name, "1");
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": uid(owner),
        "blockOwnerDeletion": true
    }]);
    object
}

async fn namespaces_go_with_their_content(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let path = format!("/api/v1/namespaces/{}", w.ns);
    let dying = w.delete(&path).await.ok();
    assert_eq!(dying["status"]["phase"], "Terminating");
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    w.until(&path, |answer| answer.code == 404).await;
    w.get(&w.core("configmaps/a")).await.refused(404, "NotFound");
}

async fn terminating_namespaces_take_nothing_new(w: World) {
    let mut held = config_map("held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    w.post(&w.core("configmaps"), &held).await.ok();
    let path = format!("/api/v1/namespaces/{}", w.ns);
    w.delete(&path).await.ok();
    w.until(&path, |answer| answer.body["status"]["phase"] == "Terminating").await;
    let status = w.post(&w.core("configmaps"), &config_map("late", "1")).await.refused(403, "Forbidden");
    assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating", "{status}");
    w.until(&w.core("configmaps/held"), |answer| answer.body["metadata"]["deletionTimestamp"].is_string())
        .await;
    w.patch(&w.core("configmaps/held"), MERGE, json!({"metadata": {"finalizers": null}})).await.ok();
    w.until(&path, |answer| answer.code == 404).await;
}

async fn owners_take_their_dependants_along(w: World) {
    let owner = w.post(&w.core("configmaps"), &config_map("owner", "1")).await.ok();
    w.post(&w.core("configmaps"), &owned("child", &owner)).await.ok();
    w.delete(&w.core("configmaps/owner")).await.ok();
    w.until(&w.core("configmaps/child"), |answer| answer.code == 404).await;
}

async fn orphans_lose_their_owner(w: World) {
    let owner = w.post(&w.apps("deployments"), &workload("Deployment", "a", 0)).await.ok();
    w.post(&w.core("configmaps"), &owned("child", &owner)).await.ok();
    // The collector learns of objects in their order: it knows the child once a later stray is gone.
    let mut stray = owned("stray", &owner);
    stray["metadata"]["ownerReferences"][0]["uid"] = json!("00000000-0000-4000-8000-000000000001");
    w.post(&w.core("configmaps"), &stray).await.ok();
    w.until(&w.core("configmaps/stray"), |answer| answer.code == 404).await;
    let options = json!({"propagationPolicy": "Orphan"});
    w.delete_with(&w.apps("deployments/a"), options).await.ok();
    w.until(&w.apps("deployments/a"), |answer| answer.code == 404).await;
    let child = w.get(&w.core("configmaps/child")).await.ok();
    assert!(child["metadata"].get("ownerReferences").is_none(), "{child}");
}

async fn foreground_owners_go_last(w: World) {
    let owner = w.post(&w.apps("replicasets"), &workload("ReplicaSet", "a", 0)).await.ok();
    let mut child = owned("child", &owner);
    child["metadata"]["finalizers"] = json!(["example.com/hold"]);
    w.post(&w.core("configmaps"), &child).await.ok();
    let options = json!({"propagationPolicy": "Foreground"});
    w.delete_with(&w.apps("replicasets/a"), options).await.ok();
    w.until(&w.core("configmaps/child"), |answer| answer.body["metadata"]["deletionTimestamp"].is_string())
        .await;
    let waiting = w.get(&w.apps("replicasets/a")).await.ok();
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    w.patch(&w.core("configmaps/child"), MERGE, json!({"metadata": {"finalizers": null}})).await.ok();
    w.until(&w.apps("replicasets/a"), |answer| answer.code == 404).await;
}

async fn dependants_without_an_owner_are_collected(w: World) {
    let owner = w.post(&w.core("configmaps"), &config_map("owner", "1")).await.ok();
    w.delete(&w.core("configmaps/owner")).await.ok();
    w.post(&w.core("configmaps"), &owned("late", &owner)).await.ok();
    w.until(&w.core("configmaps/late"), |answer| answer.code == 404).await;
}

async fn deployments_make_replica_sets_and_pods(w: World) {
    let mut object = workload("Deployment", "a", 2);
    // Nothing runs it: the case is about objects.
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"no-such": "node"});
    let made = w.post(&w.apps("deployments"), &object).await.ok();
    let pods = w.core("pods?labelSelector=app%3Dweb");
    let two = w.until(&pods, |answer| names(&answer.body).len() == 2).await.ok();
    let pod = &two["items"][0];
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!((owner["kind"].as_str(), owner["controller"].as_bool()), (Some("ReplicaSet"), Some(true)));
    assert!(pod["metadata"]["labels"]["pod-template-hash"].is_string());
    let set = w.get(&w.apps(&format!("replicasets/{}", owner["name"].as_str().unwrap()))).await.ok();
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
    w.until(&w.apps("deployments/a"), |answer| {
        let status = &answer.body["status"];
        status["observedGeneration"] == generation(&made) && status["unavailableReplicas"] == 2
    })
    .await;
    w.patch(&w.apps("deployments/a/scale"), MERGE, json!({"spec": {"replicas": 0}})).await.ok();
    w.until(&pods, |answer| names(&answer.body).is_empty()).await;
}

async fn claims_find_a_volume_that_is_there(w: World) {
    let class = format!("class-{}", w.unique);
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": w.unique},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "storageClassName": class,
            "csi": {"driver": "disks.example.com", "volumeHandle": w.unique},
        },
    });
    let path = format!("/api/v1/persistentvolumes/{}", w.unique);
    w.post("/api/v1/persistentvolumes", &volume).await.ok();
    w.until(&path, |answer| answer.body["status"]["phase"] == "Available").await;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    w.post(&w.core("persistentvolumeclaims"), &claim).await.ok();
    let data = w.core("persistentvolumeclaims/data");
    let bound = w.until(&data, |answer| answer.body["status"]["phase"] == "Bound").await.ok();
    assert_eq!(bound["spec"]["volumeName"], json!(w.unique));
    assert_eq!(bound["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"], "yes");
    assert_eq!(bound["status"]["capacity"]["storage"], "2Gi");
    let volume = w.until(&path, |answer| answer.body["status"]["phase"] == "Bound").await.ok();
    assert_eq!(volume["spec"]["claimRef"]["uid"], json!(uid(&bound)));
    w.delete(&data).await.ok();
    w.until(&path, |answer| answer.body["status"]["phase"] == "Released").await;
    w.delete(&path).await.ok();
}

async fn ephemeral_volumes_get_their_claims(w: World) {
    let mut object = pod("a");
    object["spec"]["nodeSelector"] = json!({"no-such": "node"});
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "none",
        "resources": {"requests": {"storage": "1Gi"}},
    });
    object["spec"]["volumes"] =
        json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}]);
    let made = w.post(&w.core("pods"), &object).await.ok();
    let claim = w.core("persistentvolumeclaims/a-scratch");
    let found = w.until(&claim, |answer| answer.code == 200).await.ok();
    let owner = &found["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&made["metadata"]["uid"], &json!(true)));
    w.delete(&w.core("pods/a")).await.ok();
    w.until(&claim, |answer| answer.code == 404).await;
}

async fn budgets_are_computed_and_kept(w: World) {
    let mut object = workload("ReplicaSet", "a", 2);
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"no-such": "node"});
    w.post(&w.apps("replicasets"), &object).await.ok();
    let pods = w.core("pods?labelSelector=app%3Dweb");
    let found = w.until(&pods, |answer| names(&answer.body).len() == 2).await.ok();
    for name in names(&found) {
        let status =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        w.patch(&w.core(&format!("pods/{name}/status")), MERGE, status).await.ok();
    }
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    });
    let path = w.group("policy/v1", "poddisruptionbudgets");
    w.post(&path, &budget).await.ok();
    let computed =
        w.until(&format!("{path}/web"), |answer| answer.body["status"]["disruptionsAllowed"] == 1).await;
    let status = computed.ok()["status"].clone();
    assert_eq!(
        (status["expectedPods"].as_i64(), status["desiredHealthy"].as_i64()),
        (Some(2), Some(1)),
        "{status}"
    );
    assert_eq!(
        (status["currentHealthy"].as_i64(), status["observedGeneration"].as_i64()),
        (Some(2), Some(1))
    );
    let evict = |name: &str| {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        let path = w.core(&format!("pods/{name}/eviction"));
        let world = w.clone();
        async move { world.post(&path, &body).await }
    };
    let both = names(&found);
    evict(both[0]).await.code(201);
    // The one in its place is not ready, so the other must stay.
    let status = evict(both[1]).await.refused(429, "TooManyRequests");
    assert_eq!(status["details"]["causes"][0]["reason"], "DisruptionBudget");
}

async fn finished_jobs_say_so(w: World) {
    let mut template = json!({"spec": pod("x")["spec"].clone()});
    template["spec"]["restartPolicy"] = json!("Never");
    template["spec"]["nodeSelector"] = json!({"no-such": "node"});
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"template": template}
    });
    let path = w.group("batch/v1", "jobs");
    w.post(&path, &job).await.ok();
    let pods = w.core("pods?labelSelector=batch.kubernetes.io%2Fjob-name%3Da");
    let found = w.until(&pods, |answer| names(&answer.body).len() == 1).await.ok();
    let name = names(&found)[0].to_owned();
    let done = json!({"status": {"phase": "Succeeded"}});
    w.patch(&w.core(&format!("pods/{name}/status")), MERGE, done).await.ok();
    let finished = w
        .until(&format!("{path}/a"), |answer| {
            let conditions = answer.body["status"]["conditions"].as_array();
            conditions
                .into_iter()
                .flatten()
                .any(|found| found["type"] == "Complete" && found["status"] == "True")
        })
        .await
        .ok();
    assert_eq!(finished["status"]["succeeded"], 1);
}
