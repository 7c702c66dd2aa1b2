//! Random storage: classes, volumes, claims, and the CSI drivers of nodes.
//!
//! Claims that are bound can be used by pods that run; no controller is there to bind the others, so pods with those
//! are asked about and never run ([`is_open`]).

use super::NAMESPACES;
use super::nodes::{HOSTNAME, ZONE, ZONES, name};
use crate::dice::Dice;
use serde_json::{Value, json};

const DRIVER: &str = "csi.example.com";
/// Claims that are bound, by name; the last can be used by one pod only.
const BOUND: [&str; 4] = ["bound0", "bound1", "bound2", "alone"];
/// Claims without a volume: of a class of ready-made volumes, of one that makes them, and of one that should have
/// made it at once.
const OPEN: [&str; 3] = ["open-local", "open-made", "open-late"];

/// Where an object is created.
pub(crate) fn path(object: &Value) -> String {
    match object["kind"].as_str().unwrap_or_default() {
        "StorageClass" => "/apis/storage.k8s.io/v1/storageclasses".to_owned(),
        "CSINode" => "/apis/storage.k8s.io/v1/csinodes".to_owned(),
        "PersistentVolume" => "/api/v1/persistentvolumes".to_owned(),
        "DeviceClass" => "/apis/resource.k8s.io/v1/deviceclasses".to_owned(),
        "ResourceSlice" => "/apis/resource.k8s.io/v1/resourceslices".to_owned(),
        "ResourceClaim" => format!("/apis/resource.k8s.io/v1/namespaces/{}/resourceclaims", NAMESPACES[0].0),
        _ => format!("/api/v1/namespaces/{}/persistentvolumeclaims", NAMESPACES[0].0),
    }
}

/// All that a cluster of so many nodes has; nothing at all in most clusters.
pub(super) fn storage(dice: &mut Dice, nodes: usize) -> Vec<Value> {
    if !dice.chance(40) {
        return Vec::new();
    }
    let mut all = classes(dice);
    for claim in BOUND {
        let modes = [if claim == "alone" { "ReadWriteOncePod" } else { "ReadWriteOnce" }];
        all.push(volume(dice, &format!("of-{claim}"), "made", &modes, nodes, Some(claim)));
        all.push(self::claim(claim, "made", &modes, Some(&format!("of-{claim}"))));
    }
    for i in 0..dice.number(0, 3) {
        all.push(volume(dice, &format!("free{i}"), "local", &["ReadWriteOnce"], nodes, None));
    }
    for (open, class) in OPEN.into_iter().zip(["local", "made", "late"]) {
        all.push(claim(open, class, &["ReadWriteOnce"], None));
    }
    for i in 0..nodes {
        if dice.chance(75) {
            all.push(csi_node(dice, i));
        }
    }
    all
}

fn classes(dice: &mut Dice) -> Vec<Value> {
    let mut made = class("made", DRIVER, "WaitForFirstConsumer");
    if dice.chance(50) {
        let zones = json!([ZONES[dice.index(2)], ZONES[2]]);
        made["allowedTopologies"] = json!([{"matchLabelExpressions": [{"key": ZONE, "values": zones}]}]);
    }
    let local = class("local", "kubernetes.io/no-provisioner", "WaitForFirstConsumer");
    vec![made, local, class("late", DRIVER, "Immediate")]
}

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": provisioner, "volumeBindingMode": mode,
    })
}

fn volume(
    dice: &mut Dice,
    name: &str,
    class: &str,
    modes: &[&str],
    nodes: usize,
    claim: Option<&str>,
) -> Value {
    let size = if claim.is_some() { "10Gi" } else { dice.pick(&["5Gi", "10Gi", "20Gi"]) };
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "labels": {}},
        "spec": {
            "capacity": {"storage": size}, "accessModes": modes, "storageClassName": class,
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": DRIVER, "volumeHandle": name},
        },
    });
    if let Some(claim) = claim {
        let namespace = NAMESPACES[0].0;
        volume["spec"]["claimRef"] = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim});
    }
    if dice.chance(50) {
        let (key, value) = if dice.chance(60) {
            (ZONE, (*dice.pick(&ZONES)).to_owned())
        } else {
            (HOSTNAME, self::name(dice.index(nodes)))
        };
        let wanted = json!([{"key": key, "operator": "In", "values": [value]}]);
        volume["spec"]["nodeAffinity"] =
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": wanted}]}});
    }
    if dice.chance(25) {
        volume["metadata"]["labels"][ZONE] = json!(dice.pick(&ZONES));
    }
    volume
}

fn claim(name: &str, class: &str, modes: &[&str], volume: Option<&str>) -> Value {
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACES[0].0},
        "spec": {
            "storageClassName": class, "accessModes": modes, "resources": {"requests": {"storage": "8Gi"}},
        },
    });
    if let Some(volume) = volume {
        claim["spec"]["volumeName"] = json!(volume);
        claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    }
    claim
}

fn csi_node(dice: &mut Dice, i: usize) -> Value {
    let mut driver = json!({"name": DRIVER, "nodeID": name(i), "topologyKeys": [ZONE]});
    if dice.chance(70) {
        driver["allocatable"] = json!({"count": dice.number(1, 2)});
    }
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": name(i)},
        "spec": {"drivers": [driver]},
    })
}

/// Gives a pod a volume or two, now and then one that is not there.
pub(super) fn use_some(dice: &mut Dice, pod: &mut Value) {
    let count = dice.number(1, 2);
    let mut claims: Vec<&str> = Vec::new();
    for _ in 0..count {
        let claim = match dice.number(0, 9) {
            0..=5 => dice.pick(&BOUND),
            6 => "nowhere",
            _ => dice.pick(&OPEN),
        };
        if !claims.contains(&claim) {
            claims.push(claim);
        }
    }
    let volumes =
        claims.iter().map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}));
    pod["spec"]["volumes"] = volumes.collect();
    pod["metadata"]["namespace"] = json!(NAMESPACES[0].0);
}

/// Whether a pod waits for a volume that nobody makes.
pub(crate) fn is_open(pod: &Value) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().map_or(&[][..], Vec::as_slice);
    volumes.iter().any(|volume| {
        let claim = volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str);
        claim.is_some_and(|claim| !BOUND.contains(&claim))
    })
}
