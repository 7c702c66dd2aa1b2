//! Metrics of the load model, as clients of the API see them.

use super::{add_node, ready_pods, sandbox, template, until};
use crate::store::resource::{DEPLOYMENTS, ENDPOINT_SLICES, PODS, SERVICES};
use crate::store::{Part, Store};
use serde_json::{Value, json};
use std::time::Duration;

const GATE: &str = "kapacitystack.io/online";

async fn get(client: &kube::Client, path: &str) -> Result<Value, kube::Error> {
    client.request(http::Request::get(path).body(Vec::new()).unwrap()).await
}

fn set_gate(store: &Store, name: &str, status: &str) {
    let done = store.modify(PODS, "default", name, Part::Status, |value| {
        let conditions = value["status"]["conditions"].as_array_mut().unwrap();
        conditions.retain(|condition| condition["type"] != GATE);
        conditions.push(json!({"type": GATE, "status": status}));
        true
    });
    done.unwrap();
}

fn serving(store: &Store) -> usize {
    let slice = store.find(ENDPOINT_SLICES, "default", "web-slice");
    let endpoints = slice.as_ref().and_then(|slice| slice.at("endpoints")?.as_array());
    endpoints.into_iter().flatten().filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
}

#[tokio::test(start_paused = true)]
async fn load_follows_endpoints_and_endpoints_follow_readiness_gates() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_node(store, "n", "8");
    let mut template = template("web", "100m");
    template["spec"]["readinessGates"] = json!([{"conditionType": GATE}]);
    let deployment = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    store.create(DEPLOYMENTS, "default", deployment).unwrap();
    let service = json!({
        "metadata": {"name": "web", "annotations": {"tideline.dev/requests-per-minute": "1200"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    });
    store.create(SERVICES, "default", service).unwrap();
    let running = |store: &Store| {
        let pods = store.list(PODS);
        pods.len() == 2 && pods.iter().all(|pod| pod.text("status.phase") == Some("Running"))
    };
    until(store, 60, "two pods run", running).await;
    assert_eq!((ready_pods(store), serving(store)), (0, 0), "their gates are closed");
    let names: Vec<String> = store.list(PODS).iter().map(|pod| pod.name().to_owned()).collect();
    for name in &names {
        set_gate(store, name, "True");
    }
    until(store, 10, "both serve", |store| serving(store) == 2).await;

    let client = sandbox.client("test");
    let path = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
    let measured =
        async |query: &str| get(&client, &format!("{path}{query}")).await.unwrap()["items"].clone();
    assert_eq!(measured("").await, json!([]), "not measured before they have run for a while");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let cpu = |items: &Value| -> Vec<String> {
        let items = items.as_array().unwrap();
        items.iter().map(|item| item["containers"][0]["usage"]["cpu"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(cpu(&measured("").await), ["101000000n", "101000000n"]);
    set_gate(store, &names[1], "False");
    until(store, 10, "one serves", |store| serving(store) == 1).await;
    assert_eq!(cpu(&measured("?labelSelector=app%3Dweb").await), ["201000000n", "1000000n"]);
    assert_eq!(measured("?labelSelector=app%3Dother").await, json!([]));
    let one = get(&client, &format!("{path}/{}", names[0])).await.unwrap();
    assert_eq!((&one["kind"], &one["window"]), (&json!("PodMetrics"), &json!("15s")));
    assert!(matches!(
        get(&client, &format!("{path}/none")).await,
        Err(kube::Error::Api(status)) if status.code == 404
    ));
    let nodes = get(&client, "/apis/metrics.k8s.io/v1beta1/nodes").await.unwrap();
    assert_eq!(nodes["items"][0]["usage"]["cpu"], "252000000n");
}
