//! Which of the nodes that fit is the best, after kube-scheduler's default scores.
//!
//! Owns the scores and their weights, in whole numbers from 0 to 100 as there. Left out: images, the requests that
//! kube-scheduler assumes of pods without any, default spreading of pods that ask for none, and what pods that are
//! there already would prefer of a newcomer.

use super::picture::{Kind, Picture};
use model::{Effect, Labels, PodTerm, SpreadConstraint};
use packing::{ClassIx, NodeView, SpotIx};
use std::collections::BTreeMap;
use std::sync::Arc;

const HIGHEST: i64 = 100;

/// kube-scheduler's weights of its plug-ins.
const RESOURCES: i64 = 1;
const BALANCE: i64 = 1;
const TAINTS: i64 = 3;
const NODE_AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const POD_AFFINITY: i64 = 2;

/// The score of each node that fits; higher is better.
pub(super) fn scores(picture: &Picture, kind: &Kind, feasible: &[SpotIx]) -> Vec<i64> {
    let views: Vec<NodeView> = feasible.iter().map(|spot| picture.room().view(*spot)).collect();
    let each = |score: &dyn Fn(&NodeView) -> i64| views.iter().map(score).collect::<Vec<i64>>();
    let parts = [
        (RESOURCES, each(&|view| least_allocated(kind, view))),
        (BALANCE, each(&|view| balance(kind, view))),
        (TAINTS, reversed(each(&|view| unwanted_taints(kind, view)))),
        (NODE_AFFINITY, normalised(each(&|view| wanted_node(kind, view)))),
        (SPREAD, spread(picture, kind, &views)),
        (POD_AFFINITY, pod_affinity(picture, kind, &views)),
    ];
    (0..views.len()).map(|i| parts.iter().map(|(weight, part)| weight * part[i]).sum()).collect()
}

/// The shares, in percent, of CPU and memory that are taken once the pod is there.
fn shares(kind: &Kind, view: &NodeView) -> [i64; 2] {
    let share = |asked: u64, free: u64, all: u64| {
        let taken = u128::from(all.saturating_sub(free).saturating_add(asked));
        i64::try_from((taken * 100).checked_div(u128::from(all)).unwrap_or(100))
            .map_or(HIGHEST, |s| s.min(HIGHEST))
    };
    let (asked, free, all) = (&kind.shape.requests, view.free(), view.allocatable());
    [share(asked.cpu.0, free.cpu.0, all.cpu.0), share(asked.memory.0, free.memory.0, all.memory.0)]
}

fn least_allocated(kind: &Kind, view: &NodeView) -> i64 {
    let [cpu, memory] = shares(kind, view);
    (2 * HIGHEST - cpu - memory) / 2
}

/// The closer the two shares, the better.
fn balance(kind: &Kind, view: &NodeView) -> i64 {
    let [cpu, memory] = shares(kind, view);
    HIGHEST - (cpu - memory).abs() / 2
}

fn unwanted_taints(kind: &Kind, view: &NodeView) -> i64 {
    let unwanted = view
        .taints()
        .iter()
        .filter(|taint| taint.effect == Effect::PreferNoSchedule)
        .filter(|taint| !kind.shape.tolerations.iter().any(|t| t.tolerates(taint)));
    unwanted.count() as i64
}

fn wanted_node(kind: &Kind, view: &NodeView) -> i64 {
    let preferred = &kind.shape.preferences.node_affinity;
    let met = preferred.iter().filter(|p| p.term.matches(view.name().as_str(), view.labels()));
    met.map(|p| i64::from(p.weight)).sum()
}

/// The most becomes 100.
fn normalised(values: Vec<i64>) -> Vec<i64> {
    match values.iter().max() {
        Some(most) if *most > 0 => values.iter().map(|value| value * HIGHEST / most).collect(),
        _ => values,
    }
}

/// The least becomes 100.
fn reversed(values: Vec<i64>) -> Vec<i64> {
    normalised(values).into_iter().map(|value| HIGHEST - value).collect()
}

/// Constraints that need not hold: the fewer pods alike there are in the node's domains, the better.
fn spread(picture: &Picture, kind: &Kind, views: &[NodeView]) -> Vec<i64> {
    let constraints = &kind.shape.preferences.spread;
    if constraints.is_empty() {
        return vec![0; views.len()];
    }
    let mut sums = vec![0; views.len()];
    let mut in_every = vec![true; views.len()];
    for constraint in constraints {
        let counts = count(picture, &constraint.topology_key, |other| is_alike(kind, constraint, other));
        for (i, view) in views.iter().enumerate() {
            match view.labels().get(&constraint.topology_key) {
                Some(domain) => {
                    sums[i] += counts.get(domain).copied().unwrap_or(0) + i64::from(constraint.max_skew) - 1;
                }
                None => in_every[i] = false,
            }
        }
    }
    let known = || sums.iter().zip(&in_every).filter(|(_, in_every)| **in_every).map(|(sum, _)| *sum);
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let score = |sum: i64| ((most + least - sum) * HIGHEST).checked_div(most).unwrap_or(HIGHEST);
    // A node that lacks a key is the last choice.
    sums.iter().zip(&in_every).map(|(sum, in_every)| if *in_every { score(*sum) } else { 0 }).collect()
}

fn is_alike(kind: &Kind, constraint: &SpreadConstraint, other: &Kind) -> bool {
    let selector = constraint.selector.as_ref();
    !other.terminating
        && other.namespace == kind.namespace
        && selector.is_some_and(|selector| selector.matches(&other.labels))
}

/// Preferred terms about other pods: near those that are wanted, far from those that are not.
fn pod_affinity(picture: &Picture, kind: &Kind, views: &[NodeView]) -> Vec<i64> {
    let mut sums = vec![0; views.len()];
    let preferences = &kind.shape.preferences;
    for (sign, terms) in [(1, &preferences.pod_affinity), (-1, &preferences.pod_anti_affinity)] {
        for weighted in terms {
            let term = &weighted.term;
            let counts = count(picture, &term.topology_key, |other| speaks_of(picture, kind, term, other));
            for (sum, view) in sums.iter_mut().zip(views) {
                let here = view.labels().get(&term.topology_key).and_then(|domain| counts.get(domain));
                *sum += sign * i64::from(weighted.weight) * here.copied().unwrap_or(0);
            }
        }
    }
    let (least, most) = (sums.iter().min().copied().unwrap_or(0), sums.iter().max().copied().unwrap_or(0));
    sums.iter().map(|sum| ((sum - least) * HIGHEST).checked_div(most - least).unwrap_or(0)).collect()
}

fn speaks_of(picture: &Picture, kind: &Kind, term: &PodTerm, other: &Kind) -> bool {
    let labels: Option<&Labels> = picture.namespaces().get(&other.namespace).map(|labels| &**labels);
    term.covers_namespace(&kind.namespace, &other.namespace, labels)
        && term.selector.as_ref().is_some_and(|selector| selector.matches(&other.labels))
}

/// Pods of the wanted kinds in each domain of a topology.
fn count(picture: &Picture, key: &str, wanted: impl Fn(&Kind) -> bool) -> BTreeMap<Arc<str>, i64> {
    let mut known: BTreeMap<ClassIx, bool> = BTreeMap::new();
    let mut counts: BTreeMap<Arc<str>, i64> = BTreeMap::new();
    for (_, spot) in picture.spots() {
        let Some(domain) = picture.room().node(spot).labels.get(key) else { continue };
        for (class, pods) in picture.room().held(spot) {
            if *known.entry(*class).or_insert_with(|| picture.sample(*class).is_some_and(&wanted)) {
                *counts.entry(Arc::clone(domain)).or_default() += i64::from(*pods);
            }
        }
    }
    counts
}
