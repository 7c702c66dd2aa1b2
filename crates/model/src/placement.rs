//! How a pod wants to stand to other pods and to kinds of nodes: topology spread, pod affinity, preferences.
//!
//! Owns the terms as the pod's spec gives them, with `matchLabelKeys` and `mismatchLabelKeys` already merged into the
//! selectors. Which pods a term counts, and on which nodes, is `packing`'s.

use crate::{LabelSelector, Labels, NodeSelectorTerm};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether a spread constraint leaves out the nodes that the pod could not run on anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeInclusion {
    Honor,
    Ignore,
}

/// One topology spread constraint; whether it is required says the list that it stands in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpreadConstraint {
    pub topology_key: Arc<str>,
    /// Matching pods that a domain may have more than the one that has fewest; at least 1.
    pub max_skew: u32,
    /// Over pods of the pod's own namespace; `None` matches none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// With fewer domains than these the fewest counts as zero; at least 1.
    pub min_domains: u32,
    /// Of the pod's node selector and required node affinity.
    pub node_affinity_policy: NodeInclusion,
    /// Of the node's taints.
    pub node_taints_policy: NodeInclusion,
}

/// Pods that a pod wants to be near, or not near: one affinity or anti-affinity term.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTerm {
    pub topology_key: Arc<str>,
    /// `None` matches no pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Sorted. Empty, with no namespace selector, means the pod's own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Arc<str>>,
    /// Namespaces by their labels, besides the named ones; the empty selector means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

impl PodTerm {
    /// Whether the term speaks of a namespace, for a pod that lives in `own`.
    pub fn covers_namespace(&self, own: &str, namespace: &str, labels: Option<&Labels>) -> bool {
        if self.namespaces.is_empty() && self.namespace_selector.is_none() {
            return namespace == own;
        }
        let by_labels = |selector: &LabelSelector| match labels {
            Some(labels) => selector.matches(labels),
            None => selector.matches(&Labels::new()),
        };
        self.namespaces.iter().any(|name| **name == *namespace)
            || self.namespace_selector.as_ref().is_some_and(by_labels)
    }
}

/// A preferred term and how much it counts, 1 to 100 (anti-affinity counts against).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Weighted<T> {
    pub weight: u32,
    pub term: T,
}

/// What a pod would like and can do without.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preferences {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_affinity: Vec<Weighted<NodeSelectorTerm>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod_affinity: Vec<Weighted<PodTerm>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod_anti_affinity: Vec<Weighted<PodTerm>>,
    /// `ScheduleAnyway`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<SpreadConstraint>,
}

impl Preferences {
    pub fn is_empty(&self) -> bool {
        self.node_affinity.is_empty()
            && self.pod_affinity.is_empty()
            && self.pod_anti_affinity.is_empty()
            && self.spread.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terms_namespaces_are_its_own_the_named_and_the_selected() {
        let term = |names: &[&str], selector: Option<LabelSelector>| PodTerm {
            topology_key: "zone".into(),
            selector: None,
            namespaces: names.iter().map(|name| Arc::from(*name)).collect(),
            namespace_selector: selector,
        };
        let team: Labels = [("team".into(), "a".into())].into();
        let of_team = LabelSelector { match_labels: team.clone(), ..Default::default() };
        let table = [
            ("own", term(&[], None), "home", None, true),
            ("other", term(&[], None), "away", None, false),
            ("named", term(&["away"], None), "away", None, true),
            ("own is not implied by a list", term(&["away"], None), "home", None, false),
            ("selected", term(&[], Some(of_team.clone())), "away", Some(&team), true),
            ("labels not known", term(&[], Some(of_team.clone())), "away", None, false),
            ("named or selected", term(&["x"], Some(of_team)), "away", Some(&team), true),
            ("all", term(&[], Some(LabelSelector::default())), "away", None, true),
        ];
        for (name, term, namespace, labels, expected) in table {
            assert_eq!(term.covers_namespace("home", namespace, labels), expected, "{name}");
        }
    }
}
