//! Which labels can matter: the keys that any pod's selectors and node terms name.
//!
//! Owns gathering them. Pods and nodes are told apart by these labels only, so that a thousand pods that differ in
//! a label which nothing asks for stay one class.

use model::{LabelSelector, NodeSelectorTerm, PodShape, PodTerm, SpreadConstraint};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The keys in play. A `Room` takes one for its whole life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    pub(crate) of_pods: BTreeSet<Arc<str>>,
    pub(crate) of_nodes: BTreeSet<Arc<str>>,
    /// Whether any term speaks of other pods; if none does, namespaces and labels tell no pods apart.
    pub(crate) speaks_of_pods: bool,
}

impl Vocabulary {
    /// The keys that these shapes name.
    pub fn of<'a>(shapes: impl IntoIterator<Item = &'a PodShape>) -> Self {
        let mut vocabulary = Self::default();
        let mut last: Option<&PodShape> = None;
        for shape in shapes {
            // Pods of one owner come one after the other and share their shape.
            if !last.is_some_and(|last| std::ptr::eq(last, shape)) {
                vocabulary.add(shape);
                last = Some(shape);
            }
        }
        vocabulary
    }

    pub fn add(&mut self, shape: &PodShape) {
        self.speaks_of_pods |= speaks_of_pods(shape);
        for_each_key(shape, &mut |of_pods, key| {
            let keys = if of_pods { &mut self.of_pods } else { &mut self.of_nodes };
            if !keys.contains(key) {
                keys.insert(Arc::clone(key));
            }
        });
    }

    /// Whether every key that a shape names is known.
    pub fn covers(&self, shape: &PodShape) -> bool {
        let mut all = self.speaks_of_pods || !speaks_of_pods(shape);
        for_each_key(shape, &mut |of_pods, key| {
            let keys = if of_pods { &self.of_pods } else { &self.of_nodes };
            all &= keys.contains(key);
        });
        all
    }
}

fn speaks_of_pods(shape: &PodShape) -> bool {
    let preferences = &shape.preferences;
    shape.depends_on_pods()
        || !(preferences.spread.is_empty()
            && preferences.pod_affinity.is_empty()
            && preferences.pod_anti_affinity.is_empty())
}

/// Each key with whether it is one of pods' labels.
fn for_each_key(shape: &PodShape, see: &mut dyn FnMut(bool, &Arc<str>)) {
    for key in shape.node_selector.keys() {
        see(false, key);
    }
    let preferences = &shape.preferences;
    let preferred = preferences.node_affinity.iter().map(|weighted| &weighted.term);
    for term in shape.node_affinity.iter().flatten().chain(preferred) {
        node_term(term, see);
    }
    for constraint in shape.spread.iter().chain(&preferences.spread) {
        spread(constraint, see);
    }
    let preferred = preferences.pod_affinity.iter().chain(&preferences.pod_anti_affinity);
    let preferred = preferred.map(|weighted| &weighted.term);
    for term in shape.pod_affinity.iter().chain(&shape.pod_anti_affinity).chain(preferred) {
        pod_term(term, see);
    }
}

fn node_term(term: &NodeSelectorTerm, see: &mut dyn FnMut(bool, &Arc<str>)) {
    for requirement in &term.match_expressions {
        see(false, &requirement.key);
    }
}

fn spread(constraint: &SpreadConstraint, see: &mut dyn FnMut(bool, &Arc<str>)) {
    if let Some(own) = &constraint.selector {
        selector(own, see);
    }
}

fn pod_term(term: &PodTerm, see: &mut dyn FnMut(bool, &Arc<str>)) {
    if let Some(own) = &term.selector {
        selector(own, see);
    }
}

fn selector(selector: &LabelSelector, see: &mut dyn FnMut(bool, &Arc<str>)) {
    for key in selector.match_labels.keys() {
        see(true, key);
    }
    for requirement in &selector.match_expressions {
        see(true, &requirement.key);
    }
}
