//! Random clusters: nodes, and the pods that come one at a time.
//!
//! Owns how large a cluster is and what happens between two pods. What nodes and pods look like is in `nodes`,
//! `pods` and `rules`. The vocabulary is small on purpose, so that rules meet each other often.

mod devices;
mod nodes;
mod pods;
mod rules;
pub(crate) mod storage;

use crate::dice::Dice;
use serde_json::{Value, json};

/// Namespaces that every cluster has, with the labels that `namespaceSelector`s can choose by.
pub(crate) const NAMESPACES: [(&str, &[(&str, &str)]); 3] =
    [("alpha", &[("team", "red"), ("env", "prod")]), ("beta", &[("team", "blue")]), ("gamma", &[])];

/// A cluster that has not begun.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Value>,
    /// Classes, volumes, claims, the nodes' CSI drivers and devices.
    pub(crate) storage: Vec<Value>,
    pub(crate) steps: Vec<Step>,
}

/// One pod comes, after something else may have happened.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) before: Option<Change>,
    pub(crate) pod: Value,
}

/// What happens to a cluster by itself. Pods and nodes are named by a number, modulo how many there are.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A pod is asked to end and stays for its grace period.
    Terminate(usize),
    /// A pod has done its work.
    Complete(usize),
    /// A pod is put on a node by its creator, past the scheduler and whether or not it fits.
    Plant { pod: Value, node: usize },
    /// A pod still has more than its spec asks for, by a resize that its kubelet has not carried out.
    Resize { pod: usize, actual: Value },
    /// A node is cordoned, tainted or labelled anew: a merge patch.
    Node { node: usize, patch: Value },
}

/// Draws the cluster of a seed.
pub(crate) fn cluster(seed: u64, pods: usize) -> Cluster {
    let mut dice = Dice::new(seed);
    let count = dice.number(3, 7) as usize;
    let nodes: Vec<Value> = (0..count).map(|i| nodes::node(&mut dice, i)).collect();
    let kinds: Vec<Value> = (0..dice.number(3, 6)).map(|_| pods::kind(&mut dice, count)).collect();
    // A stream of its own, so that clusters without storage are those that they were.
    let mut storage_dice = Dice::new(seed ^ 0x5707);
    let mut storage = storage::storage(&mut storage_dice, count);
    let has_volumes = !storage.is_empty();
    let mut device_dice = Dice::new(seed ^ 0xdec1);
    let devices = devices::devices(&mut device_dice, count, pods);
    let has_devices = !devices.is_empty();
    storage.extend(devices);
    let steps = (0..pods)
        .map(|i| {
            let before = change(&mut dice, &kinds, i);
            // Most pods are replicas, as in real life; the others meet rules that their own kind lacks.
            let mut pod = if dice.chance(70) {
                kinds[dice.index(kinds.len())].clone()
            } else {
                pods::kind(&mut dice, count)
            };
            pod["metadata"]["name"] = json!(format!("p{i}"));
            if has_volumes && storage_dice.chance(45) {
                storage::use_some(&mut storage_dice, &mut pod);
            }
            if has_devices && device_dice.chance(60) {
                devices::use_some(&mut device_dice, &mut pod);
            }
            Step { before, pod }
        })
        .collect();
    Cluster { nodes, storage, steps }
}

fn change(dice: &mut Dice, kinds: &[Value], at: usize) -> Option<Change> {
    if !dice.chance(25) {
        return None;
    }
    let which = dice.index(1000);
    Some(match dice.number(0, 9) {
        0 | 1 => Change::Terminate(which),
        2 => Change::Complete(which),
        3 => Change::Resize { pod: which, actual: pods::actual(dice) },
        4 | 5 => Change::Node { node: which, patch: nodes::patch(dice) },
        _ => {
            let mut pod = kinds[dice.index(kinds.len())].clone();
            pod["metadata"]["name"] = json!(format!("planted{at}"));
            if let Some(spec) = pod["spec"].as_object_mut() {
                // The API server refuses a pod that is both.
                spec.remove("schedulingGates");
                // Two owners of one port on one node are one to kube-scheduler, and none when one of them goes.
                spec.remove("hostNetwork");
                for list in ["containers", "initContainers"] {
                    let containers = spec.get_mut(list).and_then(Value::as_array_mut);
                    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                        container.remove("ports");
                    }
                }
            }
            Change::Plant { pod, node: which }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_cluster() {
        let (one, same, other) = (cluster(3, 20), cluster(3, 20), cluster(4, 20));
        assert_eq!(format!("{one:?}"), format!("{same:?}"));
        assert_ne!(format!("{one:?}"), format!("{other:?}"));
        assert_eq!(one.steps.len(), 20);
    }

    #[test]
    fn every_rule_comes_up() {
        let all = format!("{:?}", (0..200).map(|seed| cluster(seed, 20)).collect::<Vec<_>>());
        for word in [
            "topologySpreadConstraints",
            "minDomains",
            "matchLabelKeys",
            "nodeTaintsPolicy",
            "podAntiAffinity",
            "namespaceSelector",
            "mismatchLabelKeys",
            "matchFields",
            "hostPort",
            "overhead",
            "initContainers",
            "schedulingGates",
            "unschedulable",
            "example.com/gpu",
            "hugepages-2Mi",
            "PreferNoSchedule",
            "ReadWriteOncePod",
            "allowedTopologies",
            "open-local",
            "ResourceSlice",
            "shared-devices",
        ] {
            assert!(all.contains(word), "{word}");
        }
    }
}
