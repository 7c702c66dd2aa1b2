//! A room's demand as a numeric problem for the optimiser: what is to be placed on machines that can be had.
//!
//! Owns the translation. The room has numbered everything that rules speak of, so most of it is reading its tables:
//! counters become tallies, kinds of nodes become sets of offerings. Existing nodes take part as domains that hold
//! pods; their free room has been used before.

use super::topology::{Counted, NO_DOMAIN};
use super::{ClassIx, Facts, Room};
use crate::Group;
use crate::solve::{BitSet, Class, HOSTNAME, Offering, Pool, Problem, Rule, Soft, Spot, Tally};
use model::{Effect, Node, NodeSelectorTerm, PodShape, ResourceName, Taint, Toleration};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One kind of machine that can be had.
#[derive(Clone, Debug)]
pub struct Make {
    pub node: Arc<Node>,
    /// What will run there from the beginning.
    pub overhead: Vec<ClassIx>,
    /// Index into [`Market::pools`].
    pub pool: usize,
    /// Numbers the machine type: equal types in other zones share it.
    pub machine_type: u32,
    /// Micro-USD an hour.
    pub price: u64,
    /// What one machine takes of each of the pool's limits.
    pub uses: Vec<u64>,
    /// Its values for the pool's requirements with a minimum of values, as numbers.
    pub values: Vec<u32>,
}

/// Everything that can be bought.
#[derive(Clone, Debug, Default)]
pub struct Market {
    pub pools: Vec<Pool>,
    /// In the order of preference at equal prices.
    pub makes: Vec<Make>,
    /// Machines that may be added over all pools; `None` = any number.
    pub max_new: Option<u32>,
    /// What pods prefer is not looked at.
    pub ignores_wishes: bool,
    pub distance: Distance,
}

/// How much of soft distance between pods is asked for, over domains larger than a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distance {
    #[default]
    None,
    /// `ScheduleAnyway` spreading.
    Spread,
    /// Preferred anti-affinity too.
    All,
}

/// A problem, and the names of what it holds as numbers.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Classes are in the order of the groups, offerings in that of the makes.
    pub problem: Problem,
    pub resources: Vec<ResourceName>,
}

impl Room {
    /// What to buy from a market for `groups`, as a problem. The room is left as it was.
    pub fn question(&mut self, market: &Market, groups: &[Group]) -> Question {
        let mark = self.mark();
        let begin = self.len();
        for make in &market.makes {
            self.add_promised(Arc::clone(&make.node));
        }
        let mut draft = Draft::new(self, market, groups, begin);
        let classes = draft.classes();
        let question = draft.finish(classes);
        self.rollback(mark);
        question
    }
}

struct Draft<'r> {
    room: &'r mut Room,
    market: &'r Market,
    groups: &'r [Group],
    /// The first spot that is a make.
    begin: usize,
    /// Columns of resources that matter.
    columns: Vec<usize>,
    /// Topology keys of the room, by key of the problem.
    keys: Vec<u32>,
    tallies: Vec<Tally>,
    /// For each tally the group of pods that it counts, if one does, and its spread constraint's nodes.
    members: Vec<(Option<u32>, Option<u32>)>,
    by_counter: BTreeMap<u32, usize>,
    by_need: BTreeMap<u32, BitSet>,
    /// Makes that a preferred term means, by term; `None` where all or none of them would do.
    by_term: BTreeMap<NodeSelectorTerm, Option<BitSet>>,
    /// Whether any make has a taint that pods would rather avoid.
    tainted: bool,
    /// The makes that are free of such taints, by what is tolerated.
    by_toleration: BTreeMap<Vec<Toleration>, Option<BitSet>>,
}

impl<'r> Draft<'r> {
    fn new(room: &'r mut Room, market: &'r Market, groups: &'r [Group], begin: usize) -> Self {
        let asked = |column: &usize| groups.iter().any(|group| room.sites.ask(group.class.0, *column) > 0);
        let columns = (0..room.sites.columns()).filter(asked).collect();
        let hostname = room.topology.hostname(&room.sites);
        Self {
            room,
            market,
            groups,
            begin,
            columns,
            keys: vec![hostname],
            tallies: Vec::new(),
            members: Vec::new(),
            by_counter: BTreeMap::new(),
            by_need: BTreeMap::new(),
            by_term: BTreeMap::new(),
            tainted: market.makes.iter().flat_map(|make| &make.node.taints).any(is_soft),
            by_toleration: BTreeMap::new(),
        }
    }

    fn classes(&mut self) -> Vec<Class> {
        let mut classes = Vec::with_capacity(self.groups.len());
        for group in self.groups {
            let class = group.class;
            let shape = Arc::clone(self.room.shape_of(class));
            let facts = self.room.facts[class.0 as usize].clone();
            let offerings = if facts.covered { self.suitable(class, &facts) } else { BitSet::default() };
            let rules = self.rules(&shape, &facts);
            let softs = if self.market.ignores_wishes { Vec::new() } else { self.softs(class, &shape) };
            let requests = self.columns.iter().map(|column| self.room.sites.ask(class.0, *column));
            classes.push(Class {
                count: group.count,
                requests: requests.collect(),
                priority: shape.priority,
                offerings,
                kinds: BitSet::default(),
                counts_in: Vec::new(),
                rules,
                softs,
            });
        }
        self.ports(&mut classes);
        self.repelled();
        for (class, group) in classes.iter_mut().zip(self.groups) {
            let of_class = self.room.classes.groups_of(self.room.classes.key(group.class.0).set);
            let counts = self.members.iter().enumerate();
            let counts =
                counts.filter(|(_, (group, _))| group.is_some_and(|group| of_class.contains(&group)));
            class.counts_in.extend(counts.map(|(tally, _)| tally));
            class.counts_in.sort_unstable();
        }
        classes
    }

    /// The makes that a class's lasting needs accept.
    fn suitable(&mut self, class: ClassIx, facts: &Facts) -> BitSet {
        let (room, begin, makes) = (&mut *self.room, self.begin, &self.market.makes);
        let all = self.by_need.entry(facts.need).or_insert_with(|| {
            (0..makes.len())
                .filter(|at| room.sites.admits(facts.need, begin + at, room.volumes.everywhere()))
                .collect()
        });
        if facts.ports.is_empty() {
            return all.clone();
        }
        let collides = |at: &usize| {
            let daemons = makes[*at].overhead.iter();
            daemons
                .flat_map(|daemon| &room.shape_of(*daemon).host_ports)
                .any(|taken| room.shape_of(class).host_ports.iter().any(|port| port.conflicts_with(taken)))
        };
        all.iter().filter(|at| !collides(at)).collect()
    }

    fn rules(&mut self, shape: &PodShape, facts: &Facts) -> Vec<Rule> {
        if !shape.depends_on_pods() {
            return Vec::new();
        }
        let spreads = facts.spread.iter().map(|spread| Rule::Spread {
            tally: self.tally(spread.counter),
            max_skew: spread.max_skew,
            min_domains: spread.min_domains,
        });
        let mut rules: Vec<Rule> = spreads.collect();
        rules.extend(
            facts.terms.affinity.iter().map(|counter| Rule::Affinity { tally: self.tally(*counter) }),
        );
        rules.extend(facts.terms.anti.iter().map(|anti| Rule::Anti { tally: self.tally(anti.counter) }));
        rules
    }

    fn softs(&mut self, class: ClassIx, shape: &Arc<PodShape>) -> Vec<Soft> {
        let softs = if shape.preferences.is_empty() { Vec::new() } else { self.preferences(class, shape) };
        softs.into_iter().chain(self.soft_taints(shape)).collect()
    }

    /// What a class would like of a machine, in the order in which it is given up: lighter terms first, at equal
    /// weight nearness to pods before kinds of nodes.
    ///
    /// Preferred distance from pods and `ScheduleAnyway` spreading are only asked for where the market says so: whoever
    /// gets them keeps out pods that can do without, so that some may be left. They are given up before all else, the
    /// spreading last, and its last constraint first.
    fn preferences(&mut self, class: ClassIx, shape: &Arc<PodShape>) -> Vec<Soft> {
        let wishes = &shape.preferences;
        let namespace = Arc::clone(self.room.namespace_of(class));
        let set = self.room.classes.key(class.0).set;
        let mut softs: Vec<(u32, u8, Soft)> = Vec::new();
        for wish in &wishes.pod_affinity {
            let (counter, _) = self.room.single_term(&wish.term, &namespace, set);
            softs.push((wish.weight, 0, Soft::Rule(Rule::Affinity { tally: self.tally(counter) })));
        }
        for wish in &wishes.node_affinity {
            if !self.by_term.contains_key(&wish.term) {
                let only = only(self.market, |node| wish.term.matches(node.name.as_str(), &node.labels));
                self.by_term.insert(wish.term.clone(), only);
            }
            let only = self.by_term.get(&wish.term).cloned().flatten();
            softs.extend(only.map(|only| (wish.weight, 1, soft_of(only))));
        }
        softs.sort_by_key(|(weight, order, _)| (*weight, *order));
        let distance = match self.market.distance {
            Distance::None => Vec::new(),
            Distance::Spread | Distance::All => self.distance(class, shape),
        };
        distance.into_iter().chain(softs.into_iter().map(|(.., soft)| soft)).collect()
    }

    /// Distance from other pods as wishes. On one node a pod can always be alone, at the price of a node: that is left
    /// to the scheduler.
    fn distance(&mut self, class: ClassIx, shape: &PodShape) -> Vec<Soft> {
        let wishes = &shape.preferences;
        let namespace = Arc::clone(self.room.namespace_of(class));
        let set = self.room.classes.key(class.0).set;
        let mut apart: Vec<_> = wishes.pod_anti_affinity.iter().collect();
        apart.sort_by_key(|wish| wish.weight);
        let mut rules = Vec::new();
        for wish in apart.into_iter().filter(|_| self.market.distance == Distance::All) {
            let (counter, _) = self.room.single_term(&wish.term, &namespace, set);
            rules.push(Rule::Anti { tally: self.tally(counter) });
        }
        for constraint in wishes.spread.iter().rev() {
            for spread in self.room.spread_of(shape, std::slice::from_ref(constraint), &namespace, set) {
                let tally = self.tally(spread.counter);
                rules.push(Rule::Spread {
                    tally,
                    max_skew: spread.max_skew,
                    min_domains: spread.min_domains,
                });
            }
        }
        rules.retain(|rule| self.tallies[rule.tally()].key != HOSTNAME);
        rules.into_iter().map(Soft::Rule).collect()
    }

    /// Machines without taints that a pod would rather not be on.
    fn soft_taints(&mut self, shape: &PodShape) -> Option<Soft> {
        if !self.tainted {
            return None;
        }
        if !self.by_toleration.contains_key(&shape.tolerations) {
            let clean = |node: &Node| {
                let mut soft = node.taints.iter().filter(|taint| is_soft(taint));
                soft.all(|taint| shape.tolerations.iter().any(|t| t.tolerates(taint)))
            };
            self.by_toleration.insert(shape.tolerations.clone(), only(self.market, clean));
        }
        self.by_toleration.get(&shape.tolerations).cloned().flatten().map(soft_of)
    }

    /// The tally of a counter, with what is there already.
    fn tally(&mut self, counter: u32) -> usize {
        if let Some(known) = self.by_counter.get(&counter) {
            return *known;
        }
        let (group, inclusion) = match self.room.topology.counted(counter) {
            Counted::Matching { group, .. } | Counted::Repelling { group, .. } => (group, None),
            Counted::Spreading { group, set, .. } => (group, Some(self.room.topology.inclusion_of(set))),
        };
        let key = self.key(self.room.topology.key_of(counter));
        let mut tally = Tally { key, ..Tally::default() };
        if key == HOSTNAME {
            let total = u32::try_from(self.room.topology.total(counter)).unwrap_or(u32::MAX);
            // Which of the nodes that exist hold them does not matter to new ones.
            tally.initial_nodes.extend((total > 0).then_some((0, total)));
        } else {
            tally.initial = self.room.topology.counts(counter);
        }
        if let Some(inclusion) = inclusion {
            let included = |at: &usize| self.room.topology.includes(inclusion, self.begin + at);
            tally.offerings = Some((0..self.market.makes.len()).filter(included).collect());
        }
        self.by_counter.insert(counter, self.tallies.len());
        self.add(tally, Some(group), inclusion)
    }

    fn add(&mut self, tally: Tally, group: Option<u32>, inclusion: Option<u32>) -> usize {
        self.tallies.push(tally);
        self.members.push((group, inclusion));
        self.tallies.len() - 1
    }

    fn key(&mut self, key: u32) -> usize {
        self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        })
    }

    /// Two pods with colliding host ports share no machine.
    fn ports(&mut self, classes: &mut [Class]) {
        let shapes: Vec<Arc<PodShape>> =
            self.groups.iter().map(|group| Arc::clone(self.room.shape_of(group.class))).collect();
        let mut of_port = BTreeMap::new();
        for (at, shape) in shapes.iter().enumerate() {
            for port in &shape.host_ports {
                let tally = *of_port.entry(port.clone()).or_insert_with(|| {
                    self.tallies.push(Tally::default());
                    self.members.push((None, None));
                    self.tallies.len() - 1
                });
                classes[at].rules.push(Rule::Anti { tally });
            }
        }
        for (port, tally) in &of_port {
            for (class, shape) in classes.iter_mut().zip(&shapes) {
                if shape.host_ports.iter().any(|own| own.conflicts_with(port)) {
                    class.counts_in.push(*tally);
                }
            }
        }
    }

    /// Pods that exist and want none of ours near keep them out of their domains.
    fn repelled(&mut self) {
        let mut counters: Vec<u32> = Vec::new();
        for group in self.groups {
            let set = self.room.classes.key(group.class.0).set;
            let of_class = self.room.classes.groups_of(set).iter();
            counters.extend(of_class.flat_map(|group| self.room.topology.repelling_of(*group)));
        }
        counters.sort_unstable();
        counters.dedup();
        for counter in counters {
            let counts = self.room.topology.counts(counter);
            let forbidden: Vec<u32> =
                (0u32..).zip(&counts).filter(|(_, count)| **count > 0).map(|(at, _)| at).collect();
            let Counted::Repelling { group, .. } = self.room.topology.counted(counter) else { continue };
            let key = self.key(self.room.topology.key_of(counter));
            if key != HOSTNAME && !forbidden.is_empty() {
                self.add(Tally { key, forbidden, ..Tally::default() }, Some(group), None);
            }
        }
    }

    fn domains(&self, spot: usize) -> Vec<u32> {
        self.keys.iter().enumerate().map(|(at, key)| self.domain(at, *key, spot)).collect()
    }

    fn domain(&self, at: usize, key: u32, spot: usize) -> u32 {
        if at == HOSTNAME { NO_DOMAIN } else { self.room.topology.domain_of(key, spot) }
    }

    /// Nodes that exist, as many as differ in what tallies look at; the first stands for none.
    fn spots(&mut self) -> Vec<Spot> {
        let blank =
            |kind: usize, domains: Vec<u32>| Spot { kind, free: vec![0; self.columns.len()], domains };
        let mut spots = vec![blank(0, vec![NO_DOMAIN; self.keys.len()])];
        let mut kinds: BTreeMap<(Vec<u32>, Vec<bool>), usize> = BTreeMap::new();
        let spreads = self.members.iter().any(|(_, inclusion)| inclusion.is_some());
        for at in (0..self.begin).filter(|at| spreads && !self.room.spots[*at].closed) {
            let included: Vec<bool> = self
                .members
                .iter()
                .map(|(_, inclusion)| inclusion.is_some_and(|i| self.room.topology.includes(i, at)))
                .collect();
            let domains = self.domains(at);
            let next = kinds.len() + 1;
            kinds.entry((domains, included)).or_insert(next);
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, kind)| *kind);
        for ((domains, included), kind) in kinds {
            spots.push(blank(kind, domains));
            for (at, (tally, (_, inclusion))) in self.tallies.iter_mut().zip(&self.members).enumerate() {
                if inclusion.is_some() && included[at] {
                    tally.kinds.get_or_insert_default().insert(kind);
                }
            }
        }
        for (tally, (_, inclusion)) in self.tallies.iter_mut().zip(&self.members) {
            if inclusion.is_some() {
                tally.kinds.get_or_insert_default();
            }
        }
        spots
    }

    fn finish(mut self, classes: Vec<Class>) -> Question {
        let spots = self.spots();
        let offerings = (0..self.market.makes.len()).map(|at| self.offering(at)).collect();
        let widths = self.keys.iter().enumerate();
        let widths = widths.map(|(at, key)| if at == HOSTNAME { 0 } else { self.room.topology.width(*key) });
        let resources = self.columns.iter().map(|column| self.room.sites.column_name(*column)).collect();
        let problem = Problem {
            resources: self.columns.len(),
            keys: widths.collect(),
            classes,
            pools: self.market.pools.clone(),
            offerings,
            spots,
            max_new: self.market.max_new,
            tallies: self.tallies,
        };
        Question { problem, resources }
    }

    fn offering(&self, at: usize) -> Offering {
        let make = &self.market.makes[at];
        let left = |column: &usize| {
            let taken = make.overhead.iter().map(|class| self.room.sites.ask(class.0, *column));
            let all = self.room.sites.offer(self.begin + at, *column);
            all.saturating_sub(taken.fold(0, u64::saturating_add))
        };
        Offering {
            pool: make.pool,
            machine_type: make.machine_type,
            room: self.columns.iter().map(left).collect(),
            price: make.price,
            available: true,
            domains: self.domains(self.begin + at),
            uses: make.uses.clone(),
            values: make.values.clone(),
        }
    }
}

fn is_soft(taint: &Taint) -> bool {
    taint.effect == Effect::PreferNoSchedule
}

/// The makes whose nodes suit; none where all or none of them would do.
fn only(market: &Market, suits: impl Fn(&Node) -> bool) -> Option<BitSet> {
    let makes = &market.makes;
    let offerings: BitSet = (0..makes.len()).filter(|at| suits(&makes[*at].node)).collect();
    let choice = !offerings.is_empty() && offerings.len() < makes.len();
    choice.then_some(offerings)
}

fn soft_of(offerings: BitSet) -> Soft {
    Soft::Only { kinds: BitSet::default(), offerings }
}

#[cfg(test)]
mod tests;
