//! The scheduler: rules that other pods decide, and the choice among nodes that fit.

use super::*;
use crate::store::DeleteOptions;
use crate::store::resource::NAMESPACES;

fn add_zoned(store: &Store, name: &str, zone: &str) {
    let resources = json!({"cpu": "4", "memory": "64Gi", "pods": "110"});
    let labels = json!({"kubernetes.io/hostname": name, "zone": zone});
    let status = json!({"allocatable": resources, "capacity": resources});
    store.create(NODES, "", json!({"metadata": {"name": name, "labels": labels}, "status": status})).unwrap();
}

fn add_pod(store: &Store, name: &str, app: &str, rules: &Value) {
    let mut pod = template(app, "100m");
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["namespace"] = json!("default");
    for (field, value) in rules.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    store.create(PODS, "default", pod).unwrap();
}

fn node_of(store: &Store, name: &str) -> Option<String> {
    store.get(PODS, "default", name).unwrap().text("spec.nodeName").map(str::to_owned)
}

fn ready_nodes(store: &Store) -> usize {
    let is_ready = |node: &Arc<Object>| {
        let conditions = node.at("status.conditions").and_then(Value::as_array);
        conditions.is_some_and(|list| list.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    store.list(NODES).iter().filter(|node| is_ready(node)).count()
}

fn message(store: &Store, name: &str) -> Option<String> {
    let pod = store.get(PODS, "default", name).ok()?;
    let conditions = pod.at("status.conditions")?.as_array()?;
    let scheduled = conditions.iter().find(|c| c["type"] == "PodScheduled")?;
    Some(scheduled["message"].as_str()?.to_owned())
}

fn spread(key: &str, when: &str) -> Value {
    let selector = json!({"matchLabels": {"app": "web"}});
    let constraint =
        json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector});
    json!({"topologySpreadConstraints": [constraint]})
}

fn apart(app: &str, namespace_selector: Option<&Value>) -> Value {
    let mut term = json!({
        "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}},
    });
    if let Some(selector) = namespace_selector {
        term["namespaceSelector"] = selector.clone();
    }
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

#[tokio::test(start_paused = true)]
async fn a_spread_constraint_holds_and_waits_for_a_zone_to_fill() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_zoned(store, "a1", "a");
    add_zoned(store, "a2", "a");
    add_zoned(store, "b1", "b");
    for i in 0..4 {
        add_pod(store, &format!("web{i}"), "web", &spread("zone", "DoNotSchedule"));
    }
    until(store, 60, "all are bound", |s| (0..4).all(|i| node_of(s, &format!("web{i}")).is_some())).await;
    let in_b = (0..4).filter(|i| node_of(store, &format!("web{i}")).as_deref() == Some("b1")).count();
    assert_eq!(in_b, 2);

    store
        .modify(NODES, "", "b1", crate::store::Part::Main, |node| {
            node["spec"]["unschedulable"] = json!(true);
            true
        })
        .unwrap();
    // Zone b still counts, with its two pods: one more fits into zone a, and then no more.
    add_pod(store, "more", "web", &spread("zone", "DoNotSchedule"));
    until(store, 60, "one more", |s| node_of(s, "more").is_some()).await;
    add_pod(store, "last", "web", &spread("zone", "DoNotSchedule"));
    let expected = "0/3 nodes are available: 1 node(s) were unschedulable, \
                    2 node(s) didn't match pod topology spread constraints.";
    until(store, 60, "it is told why", |s| message(s, "last").as_deref() == Some(expected)).await;
    store.delete(PODS, "default", "more", &DeleteOptions::default()).unwrap();
    until(store, 60, "a place is free again", |s| node_of(s, "last").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn anti_affinity_is_heeded_from_both_sides_and_across_namespaces() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_zoned(store, "n1", "a");
    let everywhere = json!({"matchLabels": {"team": "red"}});
    add_pod(store, "lonely", "db", &apart("web", Some(&everywhere)));
    until(store, 60, "the first is bound", |s| node_of(s, "lonely").is_some()).await;
    // Its namespace is not of the team yet.
    add_pod(store, "web1", "web", &json!({}));
    until(store, 60, "the second is bound", |s| node_of(s, "web1").is_some()).await;
    store
        .modify(NAMESPACES, "", "default", crate::store::Part::Main, |namespace| {
            namespace["metadata"]["labels"]["team"] = json!("red");
            true
        })
        .unwrap();
    add_pod(store, "web2", "web", &json!({}));
    let expected = "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.";
    until(store, 60, "the third is refused", |s| message(s, "web2").as_deref() == Some(expected)).await;
    store.delete(PODS, "default", "lonely", &DeleteOptions::default()).unwrap();
    until(store, 60, "the third is bound", |s| node_of(s, "web2").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn preferences_choose_among_nodes_that_fit() {
    let sandbox = sandbox();
    let store = sandbox.store();
    for name in ["n1", "n2", "n3"] {
        add_zoned(store, name, "a");
    }
    let untainted = |node: &Arc<Object>| {
        let taints = node.at("spec.taints").and_then(Value::as_array);
        taints.is_none_or(Vec::is_empty)
    };
    // Nodes that are not ready yet are tainted, and the choice would be among fewer.
    until(store, 60, "the nodes are ready", |s| ready_nodes(s) == 3 && s.list(NODES).iter().all(untainted))
        .await;
    let near = |field: &str| {
        let term =
            json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}});
        let preferred = json!([{"weight": 100, "podAffinityTerm": term}]);
        json!({"affinity": {field: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}})
    };
    let on = |node: &str| json!({"nodeName": node});
    add_pod(store, "db1", "db", &on("n2"));
    add_pod(store, "near", "x", &near("podAffinity"));
    add_pod(store, "far", "x", &near("podAntiAffinity"));
    until(store, 60, "both are bound", |s| node_of(s, "near").is_some() && node_of(s, "far").is_some()).await;
    assert_eq!(node_of(store, "near").as_deref(), Some("n2"));
    assert_ne!(node_of(store, "far").as_deref(), Some("n2"));
    for i in 0..3 {
        add_pod(store, &format!("web{i}"), "web", &spread("kubernetes.io/hostname", "ScheduleAnyway"));
    }
    until(store, 60, "all are bound", |s| (0..3).all(|i| node_of(s, &format!("web{i}")).is_some())).await;
    let nodes: std::collections::BTreeSet<_> = (0..3).map(|i| node_of(store, &format!("web{i}"))).collect();
    assert_eq!(nodes.len(), 3);
}
