//! Random devices: slices of nodes, a class, and claims of pods.
//!
//! No controller makes claims from templates here, so each pod has one of its own, made before the cluster begins; some
//! pods share one.

use super::NAMESPACES;
use super::nodes::name;
use crate::dice::Dice;
use serde_json::{Value, json};

const DRIVER: &str = "gpu.example.com";
/// The claim that several pods name.
const SHARED: &str = "shared-devices";

/// Devices of a cluster of so many nodes and pods; nothing at all in most clusters.
pub(super) fn devices(dice: &mut Dice, nodes: usize, pods: usize) -> Vec<Value> {
    if !dice.chance(35) {
        return Vec::new();
    }
    let class = |name: &str, expression: String| {
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": name},
            "spec": {"selectors": [{"cel": {"expression": expression}}]},
        })
    };
    let model = |model: &str| {
        format!("device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].model == '{model}'")
    };
    let mut all = vec![class("large", model("large")), class("small", model("small"))];
    for i in 0..nodes {
        if dice.chance(70) {
            all.push(slice(dice, i));
        }
    }
    for pod in 0..pods {
        all.push(claim(dice, &format!("devices-of-p{pod}")));
    }
    all.push(claim(dice, SHARED));
    all
}

fn slice(dice: &mut Dice, i: usize) -> Value {
    let device = |dice: &mut Dice, at: u32| {
        let mut device = json!({
            "name": format!("gpu-{at}"),
            "attributes": {"model": {"string": dice.pick(&["large", "small"])}},
        });
        if dice.chance(10) {
            device["taints"] = json!([{"key": "broken", "effect": "NoSchedule"}]);
        }
        device
    };
    let devices: Vec<Value> = (0..dice.number(1, 4)).map(|at| device(dice, at)).collect();
    // Now and then a pool of which a part is not published.
    let count = if dice.chance(10) { 2 } else { 1 };
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": format!("slice-{i}")},
        "spec": {
            "driver": DRIVER, "nodeName": name(i), "devices": devices,
            "pool": {"name": name(i), "generation": 1, "resourceSliceCount": count},
        },
    })
}

fn claim(dice: &mut Dice, name: &str) -> Value {
    let request = |dice: &mut Dice, at: u32| {
        let class = dice.pick(&["large", "small"]);
        json!({"name": format!("r{at}"), "exactly": {"deviceClassName": class, "count": dice.number(1, 2)}})
    };
    let requests: Vec<Value> = (0..dice.number(1, 2)).map(|at| request(dice, at)).collect();
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": NAMESPACES[0].0},
        "spec": {"devices": {"requests": requests}},
    })
}

/// Gives a pod a claim, mostly one of its own.
pub(super) fn use_some(dice: &mut Dice, pod: &mut Value) {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let claim = if dice.chance(20) { SHARED.to_owned() } else { format!("devices-of-{name}") };
    pod["spec"]["resourceClaims"] = json!([{"name": "devices", "resourceClaimName": claim}]);
    pod["metadata"]["namespace"] = json!(NAMESPACES[0].0);
}
