//! Why a pod fits on no node, in kube-scheduler's words.

use model::{PodShape, PoolRejection};
use packing::{Ask, NodeView, first_rejection};
use std::collections::BTreeMap;

/// The message of the `PodScheduled` condition.
pub(super) fn message<'a>(shape: &PodShape, nodes: impl Iterator<Item = &'a NodeView>) -> String {
    let ask = Ask::of(shape);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut total = 0_usize;
    for node in nodes {
        total += 1;
        match first_rejection(&ask, node) {
            // Each short resource is a reason of its own.
            Some(PoolRejection::Insufficient { resources }) => {
                for name in resources {
                    let one = PoolRejection::Insufficient { resources: vec![name] };
                    *counts.entry(one.to_string()).or_default() += 1;
                }
            }
            Some(other) => *counts.entry(other.to_string()).or_default() += 1,
            None => {}
        }
    }
    if total == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut reasons: Vec<String> = counts.iter().map(|(text, count)| format!("{count} {text}")).collect();
    reasons.sort();
    format!("0/{total} nodes are available: {}.", reasons.join(", "))
}
