//! Which pod goes first, as the workload's own controller will have it.
//!
//! Owns the two orders: by ordinal, and the ranks of a ReplicaSet's controller. Names break what ties are left.

use super::Pod;
use std::cmp::{Ordering as Cmp, Reverse};
use std::collections::BTreeMap;

/// How a workload deletes pods when it is scaled down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// StatefulSet: the highest ordinals.
    Ordinal,
    /// ReplicaSet, Deployment, and what follows them: by rank.
    #[default]
    Ranked,
}

/// Places of the pods, those that go first in front.
pub(super) fn sorted(pods: &[Pod], ordering: Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..pods.len()).collect();
    match ordering {
        Ordering::Ordinal => {
            places.sort_by_key(|place| (Reverse(ordinal(&pods[*place].name)), pods[*place].name.clone()));
        }
        Ordering::Ranked => {
            let mut neighbours: BTreeMap<Option<&str>, usize> = BTreeMap::new();
            for pod in pods {
                *neighbours.entry(pod.node.as_deref()).or_default() += 1;
            }
            let crowd = |pod: &Pod| neighbours.get(&pod.node.as_deref()).copied().unwrap_or_default();
            places.sort_by(|a, b| ranked(&pods[*a], &pods[*b], crowd(&pods[*a]), crowd(&pods[*b])));
        }
    }
    places
}

/// The number behind the last dash; what has none counts as the first.
fn ordinal(name: &str) -> u32 {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Unassigned, pending, not ready, cheap, crowded, lately ready, often restarted, young: each goes before its opposite.
fn ranked(a: &Pod, b: &Pod, crowd_a: usize, crowd_b: usize) -> Cmp {
    let since = |pod: &Pod| if pod.ready { pod.ready_since } else { None };
    a.node
        .is_some()
        .cmp(&b.node.is_some())
        .then_with(|| a.phase.cmp(&b.phase))
        .then_with(|| a.ready.cmp(&b.ready))
        .then_with(|| a.cost.cmp(&b.cost))
        .then_with(|| crowd_b.cmp(&crowd_a))
        .then_with(|| since(b).cmp(&since(a)))
        .then_with(|| b.restarts.cmp(&a.restarts))
        .then_with(|| b.created.cmp(&a.created))
        .then_with(|| a.name.cmp(&b.name))
}
