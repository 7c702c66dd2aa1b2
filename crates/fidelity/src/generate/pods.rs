//! Random kinds of pods: labels, requests, ports, tolerations; their placement rules are in `rules`.

use super::nodes::{CORDON, DEDICATED};
use super::{NAMESPACES, rules};
use crate::dice::Dice;
use serde_json::{Value, json};

pub(super) const APPS: [&str; 3] = ["web", "db", "cache"];
pub(super) const VERSIONS: [&str; 2] = ["v1", "v2"];

/// A pod without a name, for a cluster of so many nodes.
pub(super) fn kind(dice: &mut Dice, nodes: usize) -> Value {
    let namespace = if dice.chance(70) { NAMESPACES[0].0 } else { NAMESPACES[1 + dice.index(2)].0 };
    let mut spec = json!({"terminationGracePeriodSeconds": 3600});
    if dice.chance(35) {
        // Little else than rules about other pods, which would seldom be reached otherwise.
        spec["containers"] =
            json!([{"name": "main", "image": "none", "resources": {"requests": {"cpu": "50m"}}}]);
        rules::add_about_pods(dice, &mut spec);
        return json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": NAMESPACES[0].0, "labels": labels(dice)},
            "spec": spec,
        });
    }
    containers(dice, &mut spec);
    if dice.chance(40) {
        spec["tolerations"] = json!((0..dice.number(1, 2)).map(|_| toleration(dice)).collect::<Vec<_>>());
    }
    if dice.chance(25) {
        spec["priority"] = json!(dice.number(0, 3) * 100);
    }
    if dice.chance(3) {
        spec["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    }
    rules::add(dice, &mut spec, nodes);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "labels": labels(dice)},
        "spec": spec,
    })
}

fn labels(dice: &mut Dice) -> Value {
    let mut labels = json!({});
    if dice.chance(95) {
        labels["app"] = json!(dice.pick(&APPS));
    }
    if dice.chance(70) {
        labels["version"] = json!(dice.pick(&VERSIONS));
    }
    if dice.chance(20) {
        labels["tier"] = json!(dice.pick(&["front", "back"]));
    }
    labels
}

fn containers(dice: &mut Dice, spec: &mut Value) {
    let host_network = dice.chance(4);
    let count = if dice.chance(25) { 2 } else { 1 };
    let mut containers: Vec<Value> = (0..count).map(|i| container(dice, &format!("main{i}"))).collect();
    if host_network {
        spec["hostNetwork"] = json!(true);
        let port = dice.pick(&[&8080, &9090]);
        containers[0]["ports"] = json!([{"containerPort": port, "hostPort": port}]);
    } else if dice.chance(15) {
        containers[0]["ports"] = json!([port(dice)]);
    }
    spec["containers"] = json!(containers);
    if dice.chance(20) {
        let inits = (0..dice.number(1, 2)).map(|i| init_container(dice, i)).collect::<Vec<_>>();
        spec["initContainers"] = json!(inits);
    }
    if dice.chance(8) {
        spec["overhead"] = json!({"cpu": "150m", "memory": "90Mi"});
    }
    if dice.chance(4) {
        // More than all containers can ask for together, or the API server refuses it.
        let mut whole = json!({"cpu": dice.pick(&["7", "7500m"])});
        if dice.chance(50) {
            whole["memory"] = json!("14Gi");
        }
        spec["resources"] = json!({"requests": whole});
    }
}

fn container(dice: &mut Dice, name: &str) -> Value {
    let mut requests = json!({});
    let mut limits = json!({});
    if dice.chance(75) {
        requests["cpu"] = json!(dice.pick(&["100m", "250m", "0.5", "1", "1500m", "1e-1", "333m"]));
    } else if dice.chance(30) {
        // A limit without a request asks for as much.
        limits["cpu"] = json!(dice.pick(&["200m", "1"]));
    }
    if dice.chance(60) {
        requests["memory"] = json!(dice.pick(&["64Mi", "128M", "0.5Gi", "1Gi", "1500M", "100e6"]));
    }
    if dice.chance(10) {
        requests["ephemeral-storage"] = json!(dice.pick(&["1Gi", "4Gi", "10G"]));
    }
    if dice.chance(5) {
        limits["example.com/gpu"] = json!(dice.pick(&["1", "2"]));
    }
    if dice.chance(2) {
        // Huge pages go with cpu or memory only.
        requests["cpu"] = json!("100m");
        limits["cpu"] = json!("1");
        limits["hugepages-2Mi"] = json!("64Mi");
    }
    json!({"name": name, "image": "none", "resources": {"requests": requests, "limits": limits}})
}

/// What a container has while a resize is under way.
pub(super) fn actual(dice: &mut Dice) -> Value {
    json!({"cpu": dice.pick(&["50m", "1200m", "2"]), "memory": dice.pick(&["32Mi", "1Gi", "1700M"])})
}

fn init_container(dice: &mut Dice, i: u32) -> Value {
    let mut container = container(dice, &format!("init{i}"));
    if dice.chance(50) {
        container["restartPolicy"] = json!("Always");
        if dice.chance(20) {
            container["ports"] = json!([port(dice)]);
        }
    }
    container
}

fn port(dice: &mut Dice) -> Value {
    let number = dice.pick(&[&8080, &9090]);
    let mut port = json!({"containerPort": number, "hostPort": number});
    if dice.chance(30) {
        port["protocol"] = json!("UDP");
    }
    if dice.chance(50) {
        port["hostIP"] = json!(dice.pick(&["127.0.0.1", "10.0.0.1", "0.0.0.0", "::1"]));
    }
    port
}

fn toleration(dice: &mut Dice) -> Value {
    let mut toleration = match dice.number(0, 9) {
        0..=3 => json!({"key": "dedicated", "operator": "Equal", "value": dice.pick(&DEDICATED)}),
        4..=5 => json!({"key": "dedicated", "operator": "Exists"}),
        6 => json!({"key": "fragile"}),
        7 => json!({"key": CORDON, "operator": "Exists"}),
        _ => json!({"operator": "Exists"}),
    };
    if dice.chance(40) {
        toleration["effect"] = json!(dice.pick(&["NoSchedule", "NoExecute", "PreferNoSchedule"]));
    }
    toleration
}
