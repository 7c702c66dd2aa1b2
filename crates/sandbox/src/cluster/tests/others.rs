//! DaemonSets, StatefulSets, Jobs, CronJobs, Services.

use super::*;
use crate::store::resource::{
    CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS, JOBS, NAMESPACES, SERVICES,
    STATEFUL_SETS,
};
use crate::store::{DeleteOptions, Part};

fn number(store: &Store, resource: ResourceName, name: &str, path: &str) -> Option<i64> {
    store.get(resource, "default", name).ok()?.at(path)?.as_i64()
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_follows_the_nodes() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "4");
    let mut agent = workload("agent", 0, "100m");
    agent["spec"].as_object_mut().unwrap().remove("replicas");
    store.create(DAEMON_SETS, "default", agent).unwrap();
    until(store, 60, "one", |s| ready_pods(s) == 1).await;
    add_node(store, "n2", "4");
    until(store, 60, "two", |s| ready_pods(s) == 2).await;
    until(store, 60, "counted", |s| number(s, DAEMON_SETS, "agent", "status.numberReady") == Some(2)).await;
    set(store, DAEMON_SETS, "agent", "/spec/template/spec/containers/0/image", json!("new"));
    until(store, 120, "updated", |s| {
        number(s, DAEMON_SETS, "agent", "status.updatedNumberScheduled") == Some(2) && ready_pods(s) == 2
    })
    .await;
    store.delete(NODES, "", "n2", &DeleteOptions::default()).unwrap();
    until(store, 120, "one again", |s| pods(s).len() == 1 && ready_pods(s) == 1).await;
    until(store, 60, "counted", |s| {
        number(s, DAEMON_SETS, "agent", "status.desiredNumberScheduled") == Some(1)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_ordered_stateful_set_makes_one_pod_at_a_time() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "4");
    let mut db = workload("db", 3, "100m");
    db["spec"]["serviceName"] = json!("db");
    db["spec"]["volumeClaimTemplates"] = json!([{
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }]);
    store.create(STATEFUL_SETS, "default", db).unwrap();
    let mut changes = store.subscribe();
    while ready_pods(store) < 3 {
        changes.next().await.unwrap();
        assert!(pods(store).len() - ready_pods(store) <= 1);
    }
    let names: Vec<String> = pods(store).iter().map(|pod| pod.name().to_owned()).collect();
    assert_eq!(names, ["db-0", "db-1", "db-2"]);
    set(store, STATEFUL_SETS, "db", "/spec/replicas", json!(1));
    until(store, 60, "one left", |s| pods(s).len() == 1 && pods(s)[0].name() == "db-0").await;
    until(store, 60, "counted", |s| number(s, STATEFUL_SETS, "db", "status.readyReplicas") == Some(1)).await;
}

fn job(name: &str, seconds: &str, exit_code: &str) -> Value {
    let mut template = template(name, "500m");
    template["spec"]["restartPolicy"] = json!("Never");
    template["metadata"]["annotations"] =
        json!({"tideline.dev/run-seconds": seconds, "tideline.dev/exit-code": exit_code});
    json!({
        "metadata": {"name": name},
        "spec": {"parallelism": 2, "completions": 5, "backoffLimit": 2, "template": template},
    })
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_to_its_end_and_goes() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "4");
    let mut batch = job("batch", "30", "0");
    batch["spec"]["ttlSecondsAfterFinished"] = json!(100);
    store.create(JOBS, "default", batch).unwrap();
    until(store, 300, "complete", |s| {
        let job = s.get(JOBS, "default", "batch").unwrap();
        super::super::controllers::objects::condition_status(&job, "Complete") == Some("True")
    })
    .await;
    assert_eq!(number(store, JOBS, "batch", "status.succeeded"), Some(5));
    assert_eq!(pods(store).len(), 5);
    until(store, 200, "gone with its pods", |s| s.count(JOBS) == 0 && pods(s).is_empty()).await;

    store.create(JOBS, "default", job("broken", "5", "1")).unwrap();
    until(store, 300, "failed", |s| {
        let job = s.get(JOBS, "default", "broken").unwrap();
        super::super::controllers::objects::condition_status(&job, "Failed") == Some("True")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_runs_on_time() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "4");
    let nightly = json!({
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "*/10 * * * *", "jobTemplate": {"spec": job("x", "30", "0")["spec"]}},
    });
    store.create(CRON_JOBS, "default", nightly).unwrap();
    tokio::time::sleep(Duration::from_secs(3650)).await;
    let cron_job = store.get(CRON_JOBS, "default", "nightly").unwrap();
    assert_eq!(cron_job.text("status.lastScheduleTime"), Some("2026-01-01T01:00:00Z"));
    assert_eq!(store.count(JOBS), 4, "three in the history and one running");
}

#[tokio::test(start_paused = true)]
async fn a_service_knows_its_ready_pods() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "4");
    let service = json!({
        "metadata": {"name": "db"},
        "spec": {"selector": {"app": "db"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    store.create(SERVICES, "default", service).unwrap();
    let mut db = workload("db", 2, "100m");
    db["spec"]["podManagementPolicy"] = json!("Parallel");
    db["spec"]["template"]["spec"]["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
    store.create(STATEFUL_SETS, "default", db).unwrap();
    let side = |s: &Store, field: &str| {
        let endpoints = s.find(ENDPOINTS, "default", "db")?;
        Some(endpoints.at("subsets")?.get(0)?.get(field)?.as_array()?.len())
    };
    until(store, 60, "two behind their gates", |s| side(s, "notReadyAddresses") == Some(2)).await;
    store
        .modify(crate::store::resource::PODS, "default", "db-0", Part::Status, |value| {
            let gate = json!({"type": "example.com/gate", "status": "True"});
            value["status"]["conditions"].as_array_mut().unwrap().push(gate);
            true
        })
        .unwrap();
    until(store, 60, "one open", |s| side(s, "addresses") == Some(1)).await;
    let slice = store.get(ENDPOINT_SLICES, "default", "db-slice").unwrap();
    assert_eq!(slice.at("ports").unwrap()[0]["port"], 8080);
    store.delete(SERVICES, "default", "db", &DeleteOptions::default()).unwrap();
    until(store, 60, "all gone", |s| {
        s.find(ENDPOINTS, "default", "db").is_none()
            && s.find(ENDPOINT_SLICES, "default", "db-slice").is_none()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_all_that_runs_in_it() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "8");
    store.create(NAMESPACES, "", json!({"metadata": {"name": "team"}})).unwrap();
    store.create(JOBS, "team", job("batch", "1000", "0")).unwrap();
    let mut web = workload("web", 3, "100m");
    web["metadata"]["namespace"] = json!("team");
    store.create(DEPLOYMENTS, "team", web).unwrap();
    until(store, 60, "all running", |s| ready_pods(s) == 5).await;
    store.delete(NAMESPACES, "", "team", &DeleteOptions::default()).unwrap();
    until(store, 120, "gone", |s| s.find(NAMESPACES, "", "team").is_none() && pods(s).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_job_takes_its_running_pods_along() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "8");
    store.create(JOBS, "default", job("batch", "1000", "0")).unwrap();
    until(store, 60, "running", |s| ready_pods(s) == 2).await;
    store.delete(JOBS, "default", "batch", &DeleteOptions::default()).unwrap();
    until(store, 120, "gone", |s| s.count(JOBS) == 0 && pods(s).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_waits_until_the_gate_opens() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n1", "8");
    let mut pod = template("web", "100m");
    pod["metadata"]["name"] = json!("gated");
    pod["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    store.create(crate::store::resource::PODS, "default", pod).unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let gated = &pods(store)[0];
    let reason = super::super::controllers::objects::condition(gated, "PodScheduled").unwrap();
    assert_eq!(reason["reason"], "SchedulingGated");
    store
        .modify(crate::store::resource::PODS, "default", "gated", Part::Main, |value| {
            value["spec"].as_object_mut().unwrap().remove("schedulingGates");
            true
        })
        .unwrap();
    until(store, 60, "running", |s| ready_pods(s) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn priority_and_age_decide_who_is_placed() {
    let sandbox = sandbox();
    let store = sandbox.store();
    for (name, priority) in [("old", 0), ("new", 0), ("urgent", 100)] {
        let mut pod = template("web", "600m");
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["priority"] = json!(priority);
        if priority > 0 {
            let class = json!({"metadata": {"name": "urgent"}, "value": priority});
            store.create(crate::store::resource::PRIORITY_CLASSES, "", class).unwrap();
            pod["spec"]["priorityClassName"] = json!("urgent");
        }
        store.create(crate::store::resource::PODS, "default", pod).unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    add_node(store, "n1", "1");
    until(store, 60, "the urgent one first", |s| ready_pods(s) == 1).await;
    let on = |name: &str| {
        store.get(crate::store::resource::PODS, "default", name).unwrap().text("spec.nodeName").is_some()
    };
    assert!(on("urgent") && !on("old"));
    add_node(store, "n2", "1");
    until(store, 60, "then the old one", |s| ready_pods(s) == 2).await;
    assert!(on("old") && !on("new"));
}
