//! What clients ask before they ask for objects: versions, discovery, tables for people, reviews of rights.
//!
//! Owns what `kubectl` needs in order to work. Leaves tables of custom kinds to `custom`.

use super::cases;
use super::fixtures::{node, pod, pod_on, workload};
use crate::world::{MERGE, World};
use serde_json::{Value, json};

cases! { ApiServer,
    the_server_tells_its_version: ["get /version"];
    the_server_tells_its_health: ["get /readyz", "get /livez"];
    groups_and_versions_are_discovered: ["get /api", "get /apis", "get /apis/GROUP"];
    resources_are_discovered: ["get /apis/GROUP/VERSION", "get /api/VERSION"];
    discovery_is_aggregated_on_request: ["get /api", "get /apis"];
    schemas_are_served: ["get /openapi/v3"];
    pods_print_as_usual: ["list pods table"];
    a_single_pod_prints_as_usual: ["get pods table"];
    nodes_print_as_usual: ["list nodes labels table"];
    workloads_print_as_usual: ["list deployments.apps table"];
    tables_can_be_watched: ["watch pods table"];
    methods_that_make_no_sense_are_405: [];
}

async fn the_server_tells_its_version(w: World) {
    let version = w.get("/version").await.code(200);
    assert!(version["gitVersion"].as_str().is_some_and(|text| text.starts_with("v1.")), "{version}");
    assert_eq!(version["major"], "1");
    let typed = w.client.apiserver_version().await.expect("a version");
    assert!(typed.minor.trim_end_matches('+').parse::<u32>().is_ok(), "{}", typed.minor);
}

async fn the_server_tells_its_health(w: World) {
    for path in ["/readyz", "/livez", "/healthz"] {
        let answer = w.get(path).await;
        assert_eq!((answer.code, &answer.body), (200, &json!("ok")), "{path}");
    }
}

async fn groups_and_versions_are_discovered(w: World) {
    let core = w.get("/api").await.ok();
    assert_eq!(core["kind"], "APIVersions");
    assert_eq!(core["versions"], json!(["v1"]));
    let groups = w.get("/apis").await.ok();
    assert_eq!(groups["kind"], "APIGroupList");
    for (group, version) in [
        ("apps", "apps/v1"),
        ("batch", "batch/v1"),
        ("policy", "policy/v1"),
        ("coordination.k8s.io", "coordination.k8s.io/v1"),
        ("apiextensions.k8s.io", "apiextensions.k8s.io/v1"),
        ("storage.k8s.io", "storage.k8s.io/v1"),
        ("scheduling.k8s.io", "scheduling.k8s.io/v1"),
        ("events.k8s.io", "events.k8s.io/v1"),
        ("autoscaling", "autoscaling/v2"),
        ("discovery.k8s.io", "discovery.k8s.io/v1"),
    ] {
        let found = groups["groups"].as_array().unwrap().iter().find(|found| found["name"] == group);
        let found = found.unwrap_or_else(|| panic!("no group {group}"));
        let versions: Vec<&str> = found["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["groupVersion"].as_str().unwrap())
            .collect();
        assert!(versions.contains(&version), "{version} in {versions:?}");
        assert_eq!(found["preferredVersion"]["groupVersion"], version);
    }
    assert_eq!(w.get("/apis/apps").await.ok()["name"], "apps");
    assert_eq!(w.client.list_core_api_versions().await.unwrap().versions, ["v1"]);
}

async fn resources_are_discovered(w: World) {
    for (page, resource, kind, namespaced, short) in [
        ("/api/v1", "pods", "Pod", true, "po"),
        ("/api/v1", "nodes", "Node", false, "no"),
        ("/api/v1", "configmaps", "ConfigMap", true, "cm"),
        ("/apis/apps/v1", "deployments", "Deployment", true, "deploy"),
        ("/apis/policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", true, "pdb"),
    ] {
        let list = w.get(page).await.ok();
        assert_eq!(list["kind"], "APIResourceList");
        let found = list["resources"].as_array().unwrap().iter().find(|found| found["name"] == resource);
        let found = found.unwrap_or_else(|| panic!("no {resource} in {page}"));
        assert_eq!((found["kind"].as_str(), found["namespaced"].as_bool()), (Some(kind), Some(namespaced)));
        assert!(found["shortNames"].as_array().unwrap().contains(&json!(short)));
        assert!(found["singularName"].is_string());
        let verbs = found["verbs"].as_array().unwrap();
        for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
            assert!(verbs.contains(&json!(verb)), "{verb} of {resource}");
        }
    }
    let core = w.get("/api/v1").await.ok();
    for subresource in ["pods/eviction", "pods/binding", "pods/status", "pods/log", "nodes/status"] {
        let listed = core["resources"].as_array().unwrap().iter().any(|found| found["name"] == subresource);
        assert!(listed, "{subresource}");
    }
    let eviction =
        core["resources"].as_array().unwrap().iter().find(|found| found["name"] == "pods/eviction").unwrap();
    assert_eq!((eviction["group"].as_str(), eviction["version"].as_str()), (Some("policy"), Some("v1")));
}

async fn discovery_is_aggregated_on_request(w: World) {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    for (page, group, resource) in [("/api", "", "pods"), ("/apis", "apps", "deployments")] {
        let list = w.send("GET", page, &[(http::header::ACCEPT, accept)], &Value::Null).await.ok();
        assert_eq!(
            (list["kind"].as_str(), list["apiVersion"].as_str()),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io/v2"))
        );
        let items = list["items"].as_array().unwrap();
        let found = items.iter().find(|item| item["metadata"]["name"].as_str().unwrap_or_default() == group);
        let version = &found.unwrap_or_else(|| panic!("no {group} in {page}"))["versions"][0];
        assert_eq!(version["version"], "v1");
        let resources = version["resources"].as_array().unwrap();
        let found = resources.iter().find(|found| found["resource"] == resource).unwrap();
        assert_eq!(found["scope"], "Namespaced");
        assert!(found["responseKind"]["kind"].is_string());
        assert!(found["subresources"].as_array().unwrap().iter().any(|sub| sub["subresource"] == "status"));
    }
}

async fn schemas_are_served(w: World) {
    let root = w.get("/openapi/v3").await.ok();
    let paths = root["paths"].as_object().unwrap();
    for page in ["api/v1", "apis/apps/v1"] {
        let url = paths[page]["serverRelativeURL"].as_str().unwrap_or_else(|| panic!("no {page}"));
        let document = w.get(url).await.ok();
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    }
}

fn columns(table: &Value, wide: bool) -> Vec<&str> {
    assert_eq!(
        (table["kind"].as_str(), table["apiVersion"].as_str()),
        (Some("Table"), Some("meta.k8s.io/v1"))
    );
    let shown = |column: &&Value| wide || column["priority"] == 0;
    let all = table["columnDefinitions"].as_array().unwrap();
    all.iter().filter(shown).map(|column| column["name"].as_str().unwrap()).collect()
}

fn cells(row: &Value) -> Vec<String> {
    let cells = row["cells"].as_array().unwrap();
    cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}

async fn pods_print_as_usual(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    w.post(&w.core("pods"), &pod_on("b", "n1")).await.ok();
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}],
        "containerStatuses": [{
            "name": "main", "ready": true, "restartCount": 2, "image": "i", "imageID": "i",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        }]
    }});
    w.patch(&w.core("pods/b/status"), MERGE, status).await.ok();
    w.post(&w.core("pods"), &pod_on("c", "n1")).await.ok();
    w.delete(&w.core("pods/c")).await.ok();
    let table = w.table(&w.core("pods")).await.ok();
    assert_eq!(columns(&table, false), ["Name", "Ready", "Status", "Restarts", "Age"]);
    let wide =
        ["Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates"];
    assert_eq!(columns(&table, true), wide);
    let rows = table["rows"].as_array().unwrap();
    let [a, b, c] = [0, 1, 2].map(|number| cells(&rows[number]));
    assert_eq!([&a[0], &a[1], &a[2], &a[3]], ["a", "0/1", "Pending", "0"]);
    assert_eq!([&b[0], &b[1], &b[2], &b[3]], ["b", "1/1", "Running", "2"]);
    assert_eq!([&b[5], &b[6], &b[7], &b[8]], ["10.0.0.9", "n1", "<none>", "<none>"]);
    assert_eq!(c[2], "Terminating");
    assert_eq!(a[6], "<none>");
    assert_eq!(rows[0]["object"]["metadata"]["name"], "a");
    let full = w.table(&format!("{}?includeObject=Object", w.core("pods"))).await.ok();
    assert_eq!(full["rows"][0]["object"]["spec"]["restartPolicy"], "Always");
}

async fn a_single_pod_prints_as_usual(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    let table = w.table(&w.core("pods/a")).await.ok();
    assert_eq!(table["rows"].as_array().map(Vec::len), Some(1));
    w.table(&w.core("pods/none")).await.refused(404, "NotFound");
}

async fn nodes_print_as_usual(w: World) {
    let mut object = node(&w.unique);
    object["metadata"]["labels"]["node-role.kubernetes.io/worker"] = json!("");
    object["spec"]["unschedulable"] = json!(true);
    w.post("/api/v1/nodes", &object).await.ok();
    let status = json!({"status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "10.1.2.3"}],
        "nodeInfo": {
            "kubeletVersion": "v1.33.0", "osImage": "Simulated", "kernelVersion": "6.1", "architecture": "amd64",
            "containerRuntimeVersion": "sim://1", "bootID": "", "machineID": "", "systemUUID": "",
            "kubeProxyVersion": "", "operatingSystem": "linux"
        }
    }});
    w.patch(&format!("/api/v1/nodes/{}/status", w.unique), MERGE, status).await.ok();
    let table = w.table(&format!("/api/v1/nodes?labelSelector=case%3D{}", w.unique)).await.ok();
    assert_eq!(columns(&table, false), ["Name", "Status", "Roles", "Age", "Version"]);
    let wide = columns(&table, true);
    assert_eq!(wide[5..], ["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"]);
    let row = cells(&table["rows"][0]);
    assert_eq!(
        [&row[0], &row[1], &row[2], &row[4]],
        [&w.unique, "Ready,SchedulingDisabled", "worker", "v1.33.0"]
    );
    assert_eq!(row[5..8], ["10.1.2.3", "<none>", "Simulated"]);
    // Newer servers add the architecture.
    assert!(row[8].starts_with("6.1"), "{}", row[8]);
    assert_eq!(row[9], "sim://1");
}

async fn workloads_print_as_usual(w: World) {
    w.post(&w.apps("deployments"), &workload("Deployment", "a", 3)).await.ok();
    let table = w.table(&w.apps("deployments")).await.ok();
    let wide = ["Name", "Ready", "Up-to-date", "Available", "Age", "Containers", "Images", "Selector"];
    assert_eq!(columns(&table, true), wide);
    let row = cells(&table["rows"][0]);
    assert_eq!([&row[1], &row[2], &row[3]], ["0/3", "0", "0"]);
    assert_eq!(row[5..], ["main", "registry.example/web:1", "app=web"]);
}

async fn tables_can_be_watched(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let uri = format!("{}?watch=true&timeoutSeconds=1", w.core("pods"));
    let answer = w.send("GET", &uri, &[(http::header::ACCEPT, accept)], &Value::Null).await;
    // One event a line; with one event, the body is one JSON document.
    let event = answer.ok();
    assert_eq!((event["type"].as_str(), event["object"]["kind"].as_str()), (Some("ADDED"), Some("Table")));
    assert_eq!(cells(&event["object"]["rows"][0])[0], "a");
    assert_eq!(columns(&event["object"], false)[0], "Name");
}

async fn methods_that_make_no_sense_are_405(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    w.put(&w.core("pods"), &pod("a")).await.refused(405, "MethodNotAllowed");
    w.post(&w.core("pods/a"), &pod("a")).await.refused(405, "MethodNotAllowed");
    w.put("/api/v1/nodes", &node(&w.unique)).await.refused(405, "MethodNotAllowed");
}
