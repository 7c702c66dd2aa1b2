//! What a class's terms mean in numbers: the counters that its rules read and that its pods raise.

use super::classes::Group;
use super::{Facts, Room, Spread, Terms};
use crate::filters::inter_pod_affinity::Anti;
use model::{PodShape, PodTerm, SpreadConstraint};
use std::sync::Arc;

impl Room {
    /// Works out a new class, the last that was named.
    pub(super) fn work_out(&mut self, class: u32) -> Facts {
        let shape = Arc::clone(self.classes.shape(class));
        let namespace = Arc::clone(self.classes.namespace(class));
        let set = self.classes.key(class).set;
        self.sites.add_requests(&shape.requests);
        let mut facts = Facts {
            need: self.sites.need(&shape),
            ports: self.sites.port_numbers(&shape),
            covered: self.classes.vocabulary().covers(&shape),
            ..Facts::default()
        };
        if facts.covered && shape.depends_on_pods() {
            facts.spread = self.spread_of(&shape, &shape.spread, &namespace, set);
            facts.terms = self.terms_of(&shape, &namespace, set);
            facts.holds = self.holds_of(&shape, &namespace);
        }
        facts
    }

    fn group(&mut self, group: Group) -> u32 {
        let (number, _) = self.classes.intern_group(group);
        self.topology.grow_groups(number as usize + 1);
        number
    }

    pub(super) fn spread_of(
        &mut self,
        shape: &PodShape,
        constraints: &[SpreadConstraint],
        namespace: &Arc<str>,
        set: u32,
    ) -> Vec<Spread> {
        let mut keys: Vec<u32> =
            constraints.iter().map(|c| self.topology.key(&c.topology_key, &self.sites)).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut spreads = Vec::new();
        for constraint in constraints {
            let group = self.group(Group::of_spread(constraint, namespace));
            let spots = &self.spots;
            let gone = |spot: usize| spots[spot].closed;
            let (counter, new) = self.topology.spreading(shape, constraint, &keys, group, &self.sites, &gone);
            if new {
                self.count_afresh(counter, group);
            }
            let counts_itself = self.classes.groups_of(set).contains(&group);
            let everything = constraint
                .selector
                .as_ref()
                .is_some_and(|s| s.match_labels.is_empty() && s.match_expressions.is_empty());
            spreads.push(Spread {
                counter,
                max_skew: constraint.max_skew,
                min_domains: constraint.min_domains,
                self_match: u32::from(counts_itself || everything),
                counts_itself,
            });
        }
        spreads
    }

    fn terms_of(&mut self, shape: &PodShape, namespace: &Arc<str>, set: u32) -> Terms {
        let mut terms = Terms::default();
        if !shape.pod_affinity.is_empty() {
            let group = self.group(Group::of_terms(shape.pod_affinity.iter(), namespace));
            terms.affine_to_itself = self.classes.groups_of(set).contains(&group);
            for term in &shape.pod_affinity {
                let counter = self.matching(group, term);
                terms.affinity.push(counter);
            }
        }
        for term in &shape.pod_anti_affinity {
            let (counter, repels_itself) = self.single_term(term, namespace, set);
            terms.anti.push(Anti { counter, repels_itself });
        }
        terms
    }

    /// The counter of the pods that a term speaks of, and whether pods of this label set are among them.
    pub(super) fn single_term(&mut self, term: &PodTerm, namespace: &Arc<str>, set: u32) -> (u32, bool) {
        let group = self.group(Group::of_terms(std::iter::once(term), namespace));
        let own = self.classes.groups_of(set).contains(&group);
        (self.matching(group, term), own)
    }

    fn matching(&mut self, group: u32, term: &PodTerm) -> u32 {
        let key = self.topology.key(&term.topology_key, &self.sites);
        let (counter, new) = self.topology.matching(group, key);
        if new {
            self.count_afresh(counter, group);
        }
        counter
    }

    fn holds_of(&mut self, shape: &PodShape, namespace: &Arc<str>) -> Vec<u32> {
        let mut holds = Vec::new();
        for term in &shape.pod_anti_affinity {
            let group = self.group(Group::of_terms(std::iter::once(term), namespace));
            let key = self.topology.key(&term.topology_key, &self.sites);
            holds.push(self.topology.repelling(group, key));
        }
        holds
    }

    /// Counts what is there for a counter that was not kept so far.
    fn count_afresh(&mut self, counter: u32, group: u32) {
        let skips = self.classes.group(group).skips_terminating;
        for (at, spot) in self.spots.iter().enumerate().filter(|(_, spot)| !spot.closed) {
            for (class, count) in &spot.held {
                let key = self.classes.key(class.0);
                if !(skips && key.terminating) && self.classes.groups_of(key.set).contains(&group) {
                    self.topology.bump(counter, at, i64::from(*count));
                }
            }
        }
    }
}
