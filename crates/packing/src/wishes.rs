//! What a pod would like, in the order in which it is given up.
//!
//! Owns that order, which is Karpenter's: preferred pod affinity, heaviest first; then preferred pod anti-affinity;
//! then preferred node affinity; then `ScheduleAnyway` constraints, the last one first; last of all the wish to keep
//! off nodes with a `PreferNoSchedule` taint. The heaviest goes first because what weighs most most often is what
//! cannot be had, and what is left then is kept.

use model::{Effect, Node, NodeSelectorTerm, PodShape, PodTerm, SpreadConstraint, Weighted};
use std::cmp::Reverse;

/// One thing that a pod would like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    Near(&'a PodTerm),
    Apart(&'a PodTerm),
    Nodes(&'a NodeSelectorTerm),
    Spread(&'a SpreadConstraint),
    /// No node with a `PreferNoSchedule` taint that the pod does not tolerate.
    Untainted,
}

/// All wishes of a shape; the first is the first to be given up.
pub fn wishes(shape: &PodShape) -> Vec<Wish<'_>> {
    let preferences = &shape.preferences;
    let mut all: Vec<Wish<'_>> = Vec::new();
    all.extend(heaviest_first(&preferences.pod_affinity).map(Wish::Near));
    all.extend(heaviest_first(&preferences.pod_anti_affinity).map(Wish::Apart));
    // An empty term prefers nothing.
    let says =
        |term: &&NodeSelectorTerm| !(term.match_expressions.is_empty() && term.match_fields.is_empty());
    all.extend(heaviest_first(&preferences.node_affinity).filter(says).map(Wish::Nodes));
    all.extend(preferences.spread.iter().rev().map(Wish::Spread));
    all.push(Wish::Untainted);
    all
}

/// Equal weights keep the order of the spec.
fn heaviest_first<T>(list: &[Weighted<T>]) -> impl Iterator<Item = &T> {
    let mut sorted: Vec<&Weighted<T>> = list.iter().collect();
    sorted.sort_by_key(|weighted| Reverse(weighted.weight));
    sorted.into_iter().map(|weighted| &weighted.term)
}

/// Whether a node has a `PreferNoSchedule` taint that pods of the shape do not tolerate.
pub(crate) fn is_unwelcome(shape: &PodShape, node: &Node) -> bool {
    let soft = node.taints.iter().filter(|taint| taint.effect == Effect::PreferNoSchedule);
    soft.into_iter().any(|taint| !shape.tolerations.iter().any(|toleration| toleration.tolerates(taint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{LabelSelector, NodeInclusion, Operator, Preferences, Requirement};

    #[test]
    fn wishes_are_given_up_in_the_stated_order() {
        let near = |key: &str| PodTerm {
            topology_key: key.into(),
            selector: Some(LabelSelector::default()),
            namespaces: Vec::new(),
            namespace_selector: None,
        };
        let weighted = |weight, key: &str| Weighted { weight, term: near(key) };
        let nodes = |weight, key: &str| {
            let has = Requirement { key: key.into(), operator: Operator::Exists, values: Vec::new() };
            let term = NodeSelectorTerm { match_expressions: vec![has], ..Default::default() };
            Weighted { weight, term }
        };
        let spread = |key: &str| SpreadConstraint {
            topology_key: key.into(),
            max_skew: 1,
            selector: None,
            min_domains: 1,
            node_affinity_policy: NodeInclusion::Honor,
            node_taints_policy: NodeInclusion::Ignore,
        };
        let empty = Weighted { weight: 100, term: NodeSelectorTerm::default() };
        let preferences = Preferences {
            node_affinity: vec![nodes(1, "n1"), nodes(9, "n9"), empty],
            pod_affinity: vec![weighted(5, "p5"), weighted(50, "p50"), weighted(5, "q5")],
            pod_anti_affinity: vec![weighted(7, "a7")],
            spread: vec![spread("s1"), spread("s2")],
        };
        let shape = PodShape { preferences, ..Default::default() };
        let names: Vec<&str> = wishes(&shape)
            .into_iter()
            .map(|wish| match wish {
                Wish::Near(term) | Wish::Apart(term) => &*term.topology_key,
                Wish::Nodes(term) => &*term.match_expressions[0].key,
                Wish::Spread(constraint) => &*constraint.topology_key,
                Wish::Untainted => "untainted",
            })
            .collect();
        assert_eq!(names, ["p50", "p5", "q5", "a7", "n9", "n1", "s2", "s1", "untainted"]);
    }
}
