//! Random nodes: sizes, labels, taints, cordons.

use crate::dice::Dice;
use serde_json::{Value, json};

pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";
pub(super) const ZONES: [&str; 3] = ["z1", "z2", "z3"];
pub(super) const DISKS: [&str; 3] = ["ssd", "hdd", "nvme"];
pub(super) const DEDICATED: [&str; 2] = ["db", "web"];
pub(super) const CORDON: &str = "node.kubernetes.io/unschedulable";

/// The name of the node with a number.
pub(super) fn name(i: usize) -> String {
    format!("n{i}")
}

pub(super) fn node(dice: &mut Dice, i: usize) -> Value {
    let unschedulable = dice.chance(6);
    let mut taints = taints(dice);
    // The node controller marks a cordon with a taint, a moment later.
    if unschedulable && dice.chance(50) {
        taints.push(json!({"key": CORDON, "effect": "NoSchedule"}));
    }
    let room = room(dice);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name(i), "labels": labels(dice, i)},
        "spec": {"unschedulable": unschedulable, "taints": taints},
        "status": {"capacity": room, "allocatable": room},
    })
}

/// What becomes of a node while it is there, as a merge patch.
pub(super) fn patch(dice: &mut Dice) -> Value {
    match dice.number(0, 4) {
        0 => json!({"spec": {"unschedulable": true}}),
        1 => json!({"spec": {"unschedulable": null}}),
        2 => json!({"spec": {"taints": taints(dice)}}),
        3 => json!({"metadata": {"labels": {"disk": null}}}),
        _ => json!({"metadata": {"labels": {ZONE: dice.pick(&ZONES), "disk": dice.pick(&DISKS)}}}),
    }
}

fn labels(dice: &mut Dice, i: usize) -> Value {
    let mut labels = json!({"kubernetes.io/os": "linux"});
    if dice.chance(95) {
        labels[HOSTNAME] = json!(name(i));
    }
    if dice.chance(92) {
        labels[ZONE] = json!(dice.pick(&ZONES));
    }
    if dice.chance(70) {
        labels["disk"] = json!(dice.pick(&DISKS));
    }
    if dice.chance(60) {
        labels["gen"] = json!(dice.pick(&["1", "2", "3", "10", "0", "old", "007"]));
    }
    labels
}

fn taints(dice: &mut Dice) -> Vec<Value> {
    let mut taints = Vec::new();
    if dice.chance(20) {
        let effect = dice.pick(&["NoSchedule", "NoExecute", "PreferNoSchedule"]);
        taints.push(json!({"key": "dedicated", "value": dice.pick(&DEDICATED), "effect": effect}));
    }
    if dice.chance(10) {
        taints.push(json!({"key": "fragile", "effect": dice.pick(&["NoSchedule", "PreferNoSchedule"])}));
    }
    taints
}

fn room(dice: &mut Dice) -> Value {
    let mut room = json!({
        "cpu": dice.pick(&["1500m", "2", "3900m", "4", "8", "16"]),
        "memory": dice.pick(&["2Gi", "3900Mi", "8G", "16Gi", "7635497Ki", "32Gi"]),
        "pods": dice.pick(&["4", "8", "110", "110"]),
    });
    if dice.chance(85) {
        room["ephemeral-storage"] = json!(dice.pick(&["5Gi", "20G", "100Gi"]));
    }
    if dice.chance(40) {
        room["example.com/gpu"] = json!(dice.pick(&["0", "1", "2", "4"]));
    }
    if dice.chance(30) {
        room["hugepages-2Mi"] = json!(dice.pick(&["64Mi", "128Mi"]));
    }
    room
}
