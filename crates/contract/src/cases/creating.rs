//! Creating: names, defaults, refusals, and creation that is only tried.
//!
//! Owns POST of built-in kinds. Leaves custom resources to `custom`.

use super::cases;
use super::fixtures::{config_map, labelled, node, pod, workload};
use crate::world::{World, generation};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::ResourceExt as _;
use serde_json::{Value, json};

cases! { ApiServer,
    create_answers_201_with_what_is_stored: ["create configmaps", "create pods"];
    create_twice_is_409_already_exists: ["create configmaps", "create nodes", "create leases.coordination.k8s.io"];
    create_makes_up_names: ["create pods", "create events"];
    create_sets_what_the_client_may_not: ["create pods"];
    pods_get_defaults: ["create pods"];
    containers_get_defaults_of_running: ["create pods"];
    workloads_get_defaults: ["create deployments.apps", "create statefulsets.apps", "create replicasets.apps"];
    nodes_begin_not_ready: ["create nodes"];
    create_dry_run_stores_nothing: ["create configmaps dry-run"];
    create_with_a_version_is_refused: [];
    create_in_another_namespace_is_400: [];
    create_in_a_missing_namespace_is_404: [];
    create_of_another_kind_is_400: [];
    create_of_invalid_names_is_422: ["create configmaps", "create nodes"];
    create_without_a_name_is_422: [];
    create_of_a_pod_without_containers_is_422: ["create pods"];
    create_with_absurd_quantities_is_refused: ["create pods"];
    create_of_a_workload_that_selects_others_is_422: ["create deployments.apps"];
    create_of_text_that_is_not_json_is_400: [];
    create_with_an_unknown_media_type_is_415: [];
    unknown_fields_are_dropped: ["create configmaps"];
    unknown_fields_are_refused_on_request: ["create configmaps"];
    namespaces_begin_active: ["create namespaces"];
}

async fn create_answers_201_with_what_is_stored(w: World) {
    let made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.code(201);
    assert_eq!(made["kind"], "ConfigMap");
    assert_eq!(made["data"]["key"], "1");
    let mut extra = pod("p");
    extra["metadata"]["annotations"] = json!({"tideline.dev/x": "y"});
    extra["spec"]["containers"][0]["resources"]["limits"] = json!({"example.com/gpu": "1"});
    extra["spec"]["containers"][0]["resources"]["requests"]["example.com/gpu"] = json!("1");
    let made = w.post(&w.core("pods"), &extra).await.code(201);
    assert_eq!(w.get(&w.core("pods/p")).await.ok(), made);
}

async fn create_twice_is_409_already_exists(w: World) {
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {}});
    let leases = w.group("coordination.k8s.io/v1", "leases");
    for (path, object, resource) in [
        (w.core("configmaps"), config_map("a", "1"), "configmaps"),
        ("/api/v1/nodes".to_owned(), node(&w.unique), "nodes"),
        (leases, lease, "leases.coordination.k8s.io"),
    ] {
        w.post(&path, &object).await.code(201);
        let status = w.post(&path, &object).await.refused(409, "AlreadyExists");
        let name = object["metadata"]["name"].as_str().unwrap();
        assert_eq!(status["message"], format!("{resource} \"{name}\" already exists"));
        assert_eq!(status["details"]["name"], name);
    }
}

async fn create_makes_up_names(w: World) {
    let mut nameless = pod("x");
    nameless["metadata"] = json!({"generateName": "web-", "labels": {"app": "web"}});
    let first: Pod = w.post(&w.core("pods"), &nameless).await.read();
    let second: Pod = w.post(&w.core("pods"), &nameless).await.read();
    assert_ne!(first.name_any(), second.name_any());
    let suffix = first.name_any().strip_prefix("web-").expect("the prefix asked for").to_owned();
    assert_eq!(suffix.len(), 5);
    assert!(suffix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{suffix}");
    assert_eq!(first.metadata.generate_name.as_deref(), Some("web-"));
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "e-"},
        "involvedObject": {"kind": "Pod", "namespace": w.ns, "name": "p"}, "reason": "R", "message": "m"
    });
    let made = w.post(&w.core("events"), &event).await.code(201);
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("e-"));
}

async fn create_sets_what_the_client_may_not(w: World) {
    let mut object = pod("a");
    object["metadata"]["uid"] = json!("11111111-1111-1111-1111-111111111111");
    object["metadata"]["generation"] = json!(7);
    object["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    object["status"] = json!({"phase": "Running", "podIP": "10.0.0.1"});
    let made = w.post(&w.core("pods"), &object).await.ok();
    assert_ne!(made["metadata"]["uid"], object["metadata"]["uid"]);
    assert_ne!(made["metadata"]["creationTimestamp"], object["metadata"]["creationTimestamp"]);
    assert_eq!(generation(&made), 1);
    assert_eq!(made["status"]["phase"], "Pending", "status is not taken from a creation");
    assert!(made["status"].get("podIP").is_none());
    let mut node = node(&w.unique);
    node["status"] = json!({"phase": "ignored", "capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}});
    let made: Node = w.post("/api/v1/nodes", &node).await.read();
    // Nodes are the exception: a kubelet registers itself with its status.
    let cpu = made.status.and_then(|status| status.allocatable).and_then(|mut all| all.remove("cpu"));
    assert_eq!(cpu.map(|cpu| cpu.0), Some("4".to_owned()));
}

async fn pods_get_defaults(w: World) {
    let mut object = pod("a");
    object["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2", "memory": "1Gi"}});
    object["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    let made = w.post(&w.core("pods"), &object).await.ok();
    let spec = &made["spec"];
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["dnsPolicy"], "ClusterFirst");
    assert_eq!(spec["schedulerName"], "default-scheduler");
    assert_eq!(spec["enableServiceLinks"], true);
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(spec["securityContext"], json!({}));
    let container = &spec["containers"][0];
    assert_eq!(
        container["resources"]["requests"],
        json!({"cpu": "2", "memory": "1Gi"}),
        "limits are requests too"
    );
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["status"]["qosClass"], "Guaranteed");
    let tolerated: Vec<&str> =
        spec["tolerations"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    assert_eq!(tolerated, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    assert_eq!(spec["tolerations"][0]["tolerationSeconds"], 300);
}

async fn containers_get_defaults_of_running(w: World) {
    let made = w.post(&w.core("pods"), &pod("a")).await.ok();
    let container = &made["spec"]["containers"][0];
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(container["terminationMessagePolicy"], "File");
}

async fn workloads_get_defaults(w: World) {
    let mut deployment = workload("Deployment", "a", 1);
    deployment["spec"].as_object_mut().unwrap().remove("replicas");
    let made = w.post(&w.apps("deployments"), &deployment).await.ok();
    assert_eq!(made["spec"]["replicas"], 1);
    assert_eq!(made["spec"]["strategy"]["type"], "RollingUpdate");
    assert_eq!(made["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    assert_eq!(made["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(made["spec"]["progressDeadlineSeconds"], 600);
    assert_eq!(made["spec"]["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(generation(&made), 1);
    let made = w.post(&w.apps("statefulsets"), &workload("StatefulSet", "a", 2)).await.ok();
    assert_eq!(made["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(made["spec"]["updateStrategy"]["type"], "RollingUpdate");
    let made = w.post(&w.apps("replicasets"), &workload("ReplicaSet", "a", 0)).await.ok();
    assert_eq!(made["spec"]["replicas"], 0, "zero is a number of replicas, not an absent one");
}

async fn nodes_begin_not_ready(w: World) {
    let made: Node = w.post("/api/v1/nodes", &node(&w.unique)).await.read();
    let taints = made.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let taint = taints.iter().find(|taint| taint.key == "node.kubernetes.io/not-ready");
    assert_eq!(taint.map(|taint| taint.effect.as_str()), Some("NoSchedule"), "{taints:?}");
}

async fn create_dry_run_stores_nothing(w: World) {
    let path = w.core("configmaps");
    let tried = w.post(&format!("{path}?dryRun=All"), &config_map("a", "1")).await.code(201);
    assert!(tried["metadata"]["uid"].is_string());
    w.get(&format!("{path}/a")).await.refused(404, "NotFound");
    w.post(&path, &config_map("a", "1")).await.ok();
    w.post(&format!("{path}?dryRun=All"), &config_map("a", "1")).await.refused(409, "AlreadyExists");
    w.post(&format!("{path}?dryRun=Some"), &config_map("b", "1")).await.refused(422, "Invalid");
}

async fn create_with_a_version_is_refused(w: World) {
    let mut object = config_map("a", "1");
    object["metadata"]["resourceVersion"] = json!("5");
    let answer = w.post(&w.core("configmaps"), &object).await;
    let message = answer.body["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("resourceVersion should not be set on objects to be created"), "{message}");
    assert!(answer.code >= 400);
}

async fn create_in_another_namespace_is_400(w: World) {
    let mut object = config_map("a", "1");
    object["metadata"]["namespace"] = json!("elsewhere");
    let status = w.post(&w.core("configmaps"), &object).await.refused(400, "BadRequest");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("does not match the namespace"), "{message}");
}

async fn create_in_a_missing_namespace_is_404(w: World) {
    let path = format!("/api/v1/namespaces/{}-none/configmaps", w.unique);
    let status = w.post(&path, &config_map("a", "1")).await.refused(404, "NotFound");
    assert_eq!(status["details"]["kind"], "namespaces");
}

async fn create_of_another_kind_is_400(w: World) {
    w.post(&w.core("configmaps"), &pod("a")).await.refused(400, "BadRequest");
}

async fn create_of_invalid_names_is_422(w: World) {
    for name in ["Upper", "under_score", "-a", "a..b"] {
        w.post(&w.core("configmaps"), &config_map(name, "1")).await.invalid(&["metadata.name"]);
        w.post("/api/v1/nodes", &node(name)).await.invalid(&["metadata.name"]);
    }
    let labels = labelled(config_map("a", "1"), json!({"a b": "c"}));
    w.post(&w.core("configmaps"), &labels).await.invalid(&["metadata.labels"]);
}

async fn create_without_a_name_is_422(w: World) {
    let mut object = config_map("a", "1");
    object["metadata"] = json!({});
    let answer = w.post(&w.core("configmaps"), &object).await;
    let message = answer.body["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("name or generateName is required"), "{message}");
    answer.invalid(&["metadata.name"]);
}

async fn create_of_a_pod_without_containers_is_422(w: World) {
    let mut object = pod("a");
    object["spec"]["containers"] = json!([]);
    let status = w.post(&w.core("pods"), &object).await.invalid(&["spec.containers"]);
    assert_eq!(status["details"]["kind"], "Pod");
    assert_eq!(status["details"]["name"], "a");
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldValueRequired");
}

async fn create_with_absurd_quantities_is_refused(w: World) {
    let mut object = pod("a");
    object["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("much");
    let answer = w.post(&w.core("pods"), &object).await;
    // Unreadable or invalid: servers differ, and no client of ours cares.
    assert!(matches!(answer.code, 400 | 422), "{}", answer.body);
    object["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("-1");
    w.post(&w.core("pods"), &object).await.invalid(&["spec.containers[0].resources.requests[cpu]"]);
    object["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}});
    w.post(&w.core("pods"), &object).await.invalid(&["spec.containers[0].resources.requests"]);
}

async fn create_of_a_workload_that_selects_others_is_422(w: World) {
    let mut object = workload("Deployment", "a", 1);
    object["spec"]["selector"]["matchLabels"] = json!({"app": "other"});
    w.post(&w.apps("deployments"), &object).await.invalid(&["spec.template.metadata.labels"]);
    object["spec"]["selector"]["matchLabels"] = json!({"app": "web"});
    object["spec"]["replicas"] = json!(-1);
    w.post(&w.apps("deployments"), &object).await.invalid(&["spec.replicas"]);
}

async fn create_of_text_that_is_not_json_is_400(w: World) {
    let headers = [(http::header::CONTENT_TYPE, "application/json")];
    let answer = w.send("POST", &w.core("configmaps"), &headers, &Value::String("{".to_owned())).await;
    answer.refused(400, "BadRequest");
}

async fn create_with_an_unknown_media_type_is_415(w: World) {
    let headers = [(http::header::CONTENT_TYPE, "text/csv")];
    let answer = w.send("POST", &w.core("configmaps"), &headers, &config_map("a", "1")).await;
    answer.refused(415, "UnsupportedMediaType");
}

async fn unknown_fields_are_dropped(w: World) {
    let mut object = config_map("a", "1");
    object["colour"] = json!("red");
    let made = w.post(&w.core("configmaps"), &object).await.code(201);
    assert!(made.get("colour").is_none());
}

async fn unknown_fields_are_refused_on_request(w: World) {
    let mut object = config_map("b", "1");
    object["colour"] = json!("red");
    let strict = format!("{}?fieldValidation=Strict", w.core("configmaps"));
    let status = w.post(&strict, &object).await.refused(400, "BadRequest");
    assert!(status["message"].as_str().unwrap().contains("unknown field \"colour\""), "{status}");
}

async fn namespaces_begin_active(w: World) {
    let name = format!("{}-more", w.unique);
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let made: Namespace = w.post("/api/v1/namespaces", &object).await.read();
    assert_eq!(made.spec.and_then(|spec| spec.finalizers), Some(vec!["kubernetes".to_owned()]));
    assert_eq!(made.status.and_then(|status| status.phase).as_deref(), Some("Active"));
    assert_eq!(made.metadata.labels.unwrap_or_default().get("kubernetes.io/metadata.name"), Some(&name));
}
