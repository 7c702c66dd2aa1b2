//! Pods that are interchangeable: one shape, one namespace, equal labels as far as anything asks for them.
//!
//! Owns the numbers of shapes, label sets, classes and the groups of pods that terms speak of, and which label set
//! belongs to which group. A group is matched once against each label set, not against each pod.

use crate::Vocabulary;
use crate::intern::{Interner, hash_of};
use model::{LabelSelector, Labels, Operator, PodShape, PodTerm, SpreadConstraint};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The labels of a label set that are in play, and its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LabelSet {
    namespace: u32,
    pairs: Box<[u32]>,
}

/// Pods as terms speak of them: those that every part covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    parts: Vec<Part>,
    /// Spread constraints do not count pods that are being deleted; affinity does.
    pub skips_terminating: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    namespaces: Vec<Arc<str>>,
    namespace_selector: Option<LabelSelector>,
    /// `None` covers no pod.
    selector: Option<LabelSelector>,
}

impl Group {
    /// The pods that a spread constraint counts. An empty selector counts none, as in kube-scheduler.
    pub(super) fn of_spread(constraint: &SpreadConstraint, namespace: &Arc<str>) -> Self {
        let empty = |s: &&LabelSelector| s.match_labels.is_empty() && s.match_expressions.is_empty();
        let selector = constraint.selector.as_ref().filter(|s| !empty(s)).cloned();
        let part = Part { namespaces: vec![Arc::clone(namespace)], namespace_selector: None, selector };
        Self { parts: vec![part], skips_terminating: true }
    }

    /// The pods that all these terms of a pod in `namespace` speak of at once.
    pub(super) fn of_terms<'t>(terms: impl Iterator<Item = &'t PodTerm>, namespace: &Arc<str>) -> Self {
        let part = |term: &PodTerm| {
            let own = term.namespaces.is_empty() && term.namespace_selector.is_none();
            Part {
                namespaces: if own { vec![Arc::clone(namespace)] } else { term.namespaces.clone() },
                namespace_selector: term.namespace_selector.clone(),
                selector: term.selector.clone(),
            }
        };
        Self { parts: terms.map(part).collect(), skips_terminating: false }
    }

    fn covers(&self, namespace: &Arc<str>, of_namespace: &Labels, labels: &Labels) -> bool {
        self.parts.iter().all(|part| {
            part.selector.as_ref().is_some_and(|selector| selector.matches(labels))
                && (part.namespaces.contains(namespace)
                    || part.namespace_selector.as_ref().is_some_and(|s| s.matches(of_namespace)))
        })
    }

    /// A label that every pod of the group has, if its selectors name one: what it is found by.
    fn telling_label(&self) -> Option<(Arc<str>, Arc<str>)> {
        self.parts.iter().filter_map(|part| part.selector.as_ref()).find_map(|selector| {
            let listed = selector.match_labels.iter().next().map(|(k, v)| (Arc::clone(k), Arc::clone(v)));
            listed.or_else(|| {
                let single = |r: &&model::Requirement| r.operator == Operator::In && r.values.len() == 1;
                let found = selector.match_expressions.iter().find(single)?;
                Some((Arc::clone(&found.key), Arc::clone(found.values.first()?)))
            })
        })
    }
}

/// What makes a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClassKey {
    pub shape: u32,
    pub set: u32,
    pub terminating: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Classes {
    vocabulary: Vocabulary,
    /// The namespace of all pods, where namespaces tell nothing apart.
    everywhere: Arc<str>,
    namespace_labels: BTreeMap<Arc<str>, Arc<Labels>>,
    namespaces: Interner<Arc<str>>,
    pairs: Interner<(Arc<str>, Arc<str>)>,
    sets: Interner<LabelSet>,
    /// For each label set its groups, in the order in which they were found.
    groups_of_set: Vec<Vec<u32>>,
    sets_of_pair: Vec<Vec<u32>>,
    groups: Interner<Group>,
    groups_of_pair: Vec<Vec<u32>>,
    /// Groups that no single label tells.
    loose_groups: Vec<u32>,
    shapes: Interner<Arc<PodShape>>,
    /// Shapes by address: pods of one owner share theirs. The Arcs are kept, so an address stays taken.
    addresses: Interner<usize>,
    by_address: Vec<(Arc<PodShape>, u32)>,
    keys: Interner<ClassKey>,
    scratch: Vec<u32>,
}

impl Classes {
    pub(super) fn new(vocabulary: Vocabulary, namespaces: &BTreeMap<Arc<str>, Arc<Labels>>) -> Self {
        Self { vocabulary, namespace_labels: namespaces.clone(), ..Self::default() }
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How much of each thing is numbered.
    pub(super) fn sizes(&self) -> [usize; 5] {
        [self.keys.len(), self.sets.len(), self.pairs.len(), self.groups.len(), self.shapes.len()]
    }

    /// Addresses of shapes that were met.
    pub(super) fn addresses(&self) -> usize {
        self.by_address.len()
    }

    pub(super) fn key(&self, class: u32) -> ClassKey {
        self.keys.items()[class as usize]
    }

    pub(super) fn shape(&self, class: u32) -> &Arc<PodShape> {
        &self.shapes.items()[self.key(class).shape as usize]
    }

    pub(super) fn namespace(&self, class: u32) -> &Arc<str> {
        let set = &self.sets.items()[self.key(class).set as usize];
        &self.namespaces.items()[set.namespace as usize]
    }

    /// The groups that a label set belongs to.
    pub(super) fn groups_of(&self, set: u32) -> &[u32] {
        &self.groups_of_set[set as usize]
    }

    pub(super) fn group(&self, group: u32) -> &Group {
        &self.groups.items()[group as usize]
    }

    /// The number of a class, and whether it is new.
    pub(super) fn class(
        &mut self,
        shape: &Arc<PodShape>,
        namespace: &Arc<str>,
        labels: &Labels,
        terminating: bool,
    ) -> (u32, bool) {
        let key = ClassKey { shape: self.shape_number(shape), set: self.set(namespace, labels), terminating };
        self.keys.intern(&key, || key)
    }

    fn shape_number(&mut self, shape: &Arc<PodShape>) -> u32 {
        let address = Arc::as_ptr(shape) as usize;
        if let Some(at) = self.addresses.get(&address) {
            return self.by_address[at as usize].1;
        }
        let (number, _) = self.shapes.intern(shape, || Arc::clone(shape));
        self.addresses.intern(&address, || address);
        self.by_address.push((Arc::clone(shape), number));
        number
    }

    fn set(&mut self, namespace: &Arc<str>, labels: &Labels) -> u32 {
        // Where no term speaks of pods, all are alike.
        if !self.vocabulary.speaks_of_pods && self.sets.len() > 0 {
            return 0;
        }
        let namespace = if self.vocabulary.speaks_of_pods { namespace } else { &self.everywhere };
        let (namespace_number, _) = self.namespaces.intern(namespace, || Arc::clone(namespace));
        let mut pairs = std::mem::take(&mut self.scratch);
        pairs.clear();
        if self.vocabulary.of_pods.len() < labels.len() {
            for key in &self.vocabulary.of_pods {
                if let Some((key, value)) = labels.get_key_value(key) {
                    pairs.push(pair(&mut self.pairs, key, value));
                }
            }
        } else {
            for (key, value) in labels {
                if self.vocabulary.of_pods.contains(key) {
                    pairs.push(pair(&mut self.pairs, key, value));
                }
            }
        }
        let hash = hash_of(&(namespace_number, pairs.as_slice()));
        let known = self.sets.find(hash, |set| set.namespace == namespace_number && *set.pairs == *pairs);
        let number = known.unwrap_or_else(|| {
            let set = LabelSet { namespace: namespace_number, pairs: pairs.clone().into_boxed_slice() };
            self.sets.push(hash, set)
        });
        if known.is_none() {
            self.place_set(number);
        }
        self.scratch = pairs;
        number
    }

    pub(super) fn labels_of_set(&self, set: u32) -> Labels {
        let pairs = self.sets.items()[set as usize].pairs.iter();
        pairs.map(|pair| self.pairs.items()[*pair as usize].clone()).collect()
    }

    fn covers(&self, group: u32, set: u32, labels: &Labels) -> bool {
        let namespace = &self.namespaces.items()[self.sets.items()[set as usize].namespace as usize];
        let none = Labels::new();
        let of_namespace = self.namespace_labels.get(namespace).map_or(&none, |labels| &**labels);
        self.groups.items()[group as usize].covers(namespace, of_namespace, labels)
    }

    /// Finds the groups of a new label set.
    fn place_set(&mut self, set: u32) {
        self.sets_of_pair.resize(self.pairs.len(), Vec::new());
        self.groups_of_pair.resize(self.pairs.len(), Vec::new());
        let labels = self.labels_of_set(set);
        let pairs = self.sets.items()[set as usize].pairs.clone();
        let mut found = Vec::new();
        for pair in &pairs {
            let candidates = self.groups_of_pair[*pair as usize].iter();
            found.extend(candidates.filter(|group| self.covers(**group, set, &labels)));
            self.sets_of_pair[*pair as usize].push(set);
        }
        found.extend(self.loose_groups.iter().filter(|group| self.covers(**group, set, &labels)));
        self.groups_of_set.push(found);
    }

    /// The number of a group, and whether it is new.
    pub(super) fn intern_group(&mut self, group: Group) -> (u32, bool) {
        if let Some(known) = self.groups.get(&group) {
            return (known, false);
        }
        let telling = group.telling_label();
        let number = self.groups.push(hash_of(&group), group);
        let candidates: Vec<u32> = if let Some((key, value)) = telling {
            let pair = pair(&mut self.pairs, &key, &value) as usize;
            self.sets_of_pair.resize(self.pairs.len(), Vec::new());
            self.groups_of_pair.resize(self.pairs.len(), Vec::new());
            self.groups_of_pair[pair].push(number);
            self.sets_of_pair[pair].clone()
        } else {
            self.loose_groups.push(number);
            (0..self.sets.len() as u32).collect()
        };
        for set in candidates {
            if self.covers(number, set, &self.labels_of_set(set)) {
                self.groups_of_set[set as usize].push(number);
            }
        }
        (number, true)
    }
}

fn pair(pairs: &mut Interner<(Arc<str>, Arc<str>)>, key: &Arc<str>, value: &Arc<str>) -> u32 {
    let hash = hash_of(&(&**key, &**value));
    match pairs.find(hash, |(k, v)| **k == **key && **v == **value) {
        Some(number) => number,
        None => pairs.push(hash, (Arc::clone(key), Arc::clone(value))),
    }
}
