//! How many pods of a group each domain of a topology holds, kept as pods come and go.
//!
//! Owns topology keys and their domains, the counters that spread constraints and affinity terms read, and which
//! nodes a spread constraint leaves out. The rules themselves are in `filters`.

use super::classes::Classes;
use super::sites::{Presence, Sites};
use crate::intern::{Interner, hash_of};
use model::{Effect, Labels, Node, NodeInclusion, NodeSelectorTerm, PodShape, SpreadConstraint, Toleration};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node without a value for the key.
pub(crate) const NO_DOMAIN: u32 = u32::MAX;
/// Domains whose counts lie together.
const CHUNK: usize = 32;
/// The label that is each node's own; a machine on its way will have a value that no other has.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Counts by domain; most domains of most counters are empty, so they are kept in chunks.
#[derive(Clone, Debug, Default)]
struct Tally {
    chunks: Vec<Option<Box<[u32; CHUNK]>>>,
}

impl Tally {
    fn get(&self, domain: u32) -> u32 {
        let at = domain as usize;
        match self.chunks.get(at / CHUNK) {
            Some(Some(chunk)) => chunk[at % CHUNK],
            _ => 0,
        }
    }

    fn cell(&mut self, domain: u32) -> &mut u32 {
        let at = domain as usize;
        if self.chunks.len() <= at / CHUNK {
            self.chunks.resize(at / CHUNK + 1, None);
        }
        &mut self.chunks[at / CHUNK].get_or_insert_with(|| Box::new([0; CHUNK]))[at % CHUNK]
    }
}

/// One label key by which nodes are grouped.
#[derive(Clone, Debug)]
struct Key {
    name: Arc<str>,
    values: Interner<Arc<str>>,
    of_spot: Vec<u32>,
}

impl Key {
    fn add(&mut self, node: &Node, presence: Presence) {
        let spot = self.of_spot.len();
        let domain = if presence != Presence::Standing && &*self.name == HOSTNAME {
            // No label has a control character, so the name is nobody else's.
            let own: Arc<str> = format!("\u{0}{spot}").into();
            self.values.intern(&own, || Arc::clone(&own)).0
        } else {
            match node.labels.get(&self.name) {
                Some(value) => self.values.intern(value, || Arc::clone(value)).0,
                None => NO_DOMAIN,
            }
        };
        self.of_spot.push(domain);
    }
}

/// Which nodes a spread constraint looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Inclusion {
    /// Every one of these keys must be there.
    keys: Vec<u32>,
    affinity: Option<(Labels, Option<Vec<NodeSelectorTerm>>)>,
    tolerations: Option<Vec<Toleration>>,
}

impl Inclusion {
    fn admits(&self, node: &Node) -> bool {
        let wanted = self.affinity.as_ref().is_none_or(|(selector, terms)| {
            selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
                && terms
                    .as_ref()
                    .is_none_or(|terms| terms.iter().any(|t| t.matches(node.name.as_str(), &node.labels)))
        });
        let bearable = self.tolerations.as_ref().is_none_or(|tolerations| {
            node.taints
                .iter()
                .filter(|taint| taint.effect != Effect::PreferNoSchedule)
                .all(|taint| tolerations.iter().any(|toleration| toleration.tolerates(taint)))
        });
        wanted && bearable
    }

    fn by_name(&self) -> bool {
        let terms = self.affinity.iter().flat_map(|(_, terms)| terms).flatten();
        terms.into_iter().any(|term| !term.match_fields.is_empty())
    }
}

/// The spots that belong to an inclusion.
#[derive(Clone, Debug)]
struct Included {
    spots: Vec<bool>,
    /// What the nodes of each kind were found to be; not used where nodes are named.
    by_kind: Vec<Option<bool>>,
    by_name: bool,
}

impl Included {
    fn add(&mut self, inclusion: &Inclusion, keys: &[Key], sites: &Sites) {
        let spot = self.spots.len();
        let mut belongs = inclusion.keys.iter().all(|key| keys[*key as usize].of_spot[spot] != NO_DOMAIN);
        if belongs {
            let kind = sites.kind(spot) as usize;
            let known = self.by_kind.get(kind).copied().flatten().filter(|_| !self.by_name);
            belongs = known.unwrap_or_else(|| inclusion.admits(sites.node(spot)));
            if self.by_kind.len() <= kind {
                self.by_kind.resize(kind + 1, None);
            }
            self.by_kind[kind] = Some(belongs);
        }
        self.spots.push(belongs);
    }
}

/// The domains of one key that hold a node of one inclusion.
#[derive(Clone, Debug, Default)]
struct DomainSet {
    nodes: Tally,
    count: u32,
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    /// Pods of the group.
    Matching { group: u32, key: u32 },
    /// Pods of the group on nodes of one domain set.
    Spreading { group: u32, key: u32, set: u32 },
    /// Pods that want no pod of the group near them.
    Repelling { group: u32, key: u32 },
}

#[derive(Clone, Debug)]
struct Counter {
    key: u32,
    /// Of a spread constraint: the domains that count.
    set: Option<u32>,
    tally: Tally,
    total: u64,
    /// Of a spread constraint: how many domains have a count, for counts above 0.
    domains_with: BTreeMap<u32, u32>,
    /// How many domains have a count above 0.
    holding: u32,
}

/// A spread constraint of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub counter: u32,
    pub max_skew: u32,
    pub min_domains: u32,
    /// 1 where the constraint's selector covers the class itself.
    pub self_match: u32,
    /// Whether a pod of the class, once placed, is counted.
    pub counts_itself: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    keys: Interner<Arc<str>>,
    key_list: Vec<Key>,
    inclusions: Interner<Inclusion>,
    included: Vec<Included>,
    set_numbers: Interner<(u32, u32)>,
    sets: Vec<DomainSet>,
    counted: Interner<Counted>,
    counters: Vec<Counter>,
    /// Counters to be raised by pods of a group, and those that keep pods of a group away.
    matching: Vec<Vec<u32>>,
    repelling: Vec<Vec<u32>>,
}

impl Topology {
    pub(super) fn key(&mut self, name: &Arc<str>, sites: &Sites) -> u32 {
        let (number, new) = self.keys.intern(name, || Arc::clone(name));
        if new {
            let mut key = Key { name: Arc::clone(name), values: Interner::default(), of_spot: Vec::new() };
            for spot in 0..sites.len() {
                key.add(sites.node(spot), sites.presence(spot));
            }
            self.key_list.push(key);
        }
        number
    }

    /// How much of each thing is numbered.
    pub(super) fn sizes(&self) -> [usize; 5] {
        let values = self.key_list.iter().map(|key| key.values.len()).sum();
        let (keys, inclusions, sets) = (self.keys.len(), self.inclusions.len(), self.set_numbers.len());
        [keys, values, inclusions, sets, self.counted.len()]
    }

    pub(super) fn grow_groups(&mut self, groups: usize) {
        if self.matching.len() < groups {
            self.matching.resize(groups, Vec::new());
            self.repelling.resize(groups, Vec::new());
        }
    }

    /// A new spot, the last of `sites`.
    pub(super) fn add_spot(&mut self, sites: &Sites) {
        let spot = sites.len() - 1;
        for key in &mut self.key_list {
            key.add(sites.node(spot), sites.presence(spot));
        }
        for (number, inclusion) in self.inclusions.items().iter().enumerate() {
            self.included[number].add(inclusion, &self.key_list, sites);
        }
        self.count_node(spot, true);
    }

    pub(super) fn remove_last_spot(&mut self) {
        for key in &mut self.key_list {
            key.of_spot.pop();
        }
        for included in &mut self.included {
            included.spots.pop();
        }
    }

    /// A node comes to, or leaves, the domains that it is in.
    pub(super) fn count_node(&mut self, spot: usize, comes: bool) {
        for (at, (inclusion, key)) in self.set_numbers.items().iter().enumerate() {
            if self.included[*inclusion as usize].spots[spot] {
                let domain = self.key_list[*key as usize].of_spot[spot];
                self.sets[at].count_node(domain, comes);
            }
        }
    }

    fn inclusion(&mut self, inclusion: Inclusion, sites: &Sites) -> u32 {
        if let Some(known) = self.inclusions.get(&inclusion) {
            return known;
        }
        let by_name = inclusion.by_name();
        let mut included = Included { spots: Vec::new(), by_kind: Vec::new(), by_name };
        for _ in 0..sites.len() {
            included.add(&inclusion, &self.key_list, sites);
        }
        self.included.push(included);
        self.inclusions.push(hash_of(&inclusion), inclusion)
    }

    fn domain_set(&mut self, inclusion: u32, key: u32, gone: &dyn Fn(usize) -> bool) -> u32 {
        let (number, new) = self.set_numbers.intern(&(inclusion, key), || (inclusion, key));
        if new {
            let mut set = DomainSet::default();
            for (spot, included) in self.included[inclusion as usize].spots.iter().enumerate() {
                if *included && !gone(spot) {
                    set.count_node(self.key_list[key as usize].of_spot[spot], true);
                }
            }
            self.sets.push(set);
        }
        number
    }

    /// The counter of pods that match an affinity or anti-affinity term, and whether it is new.
    pub(super) fn matching(&mut self, group: u32, key: u32) -> (u32, bool) {
        let (counter, new) = self.counter(Counted::Matching { group, key }, key, None);
        if new {
            self.matching[group as usize].push(counter);
        }
        (counter, new)
    }

    /// The counter of pods that have an anti-affinity term. Whoever has the term makes it, so it starts at nothing.
    pub(super) fn repelling(&mut self, group: u32, key: u32) -> u32 {
        let (counter, new) = self.counter(Counted::Repelling { group, key }, key, None);
        if new {
            self.repelling[group as usize].push(counter);
        }
        counter
    }

    /// The counter of a spread constraint of a shape, and whether it is new.
    pub(super) fn spreading(
        &mut self,
        shape: &PodShape,
        constraint: &SpreadConstraint,
        keys: &[u32],
        group: u32,
        sites: &Sites,
        gone: &dyn Fn(usize) -> bool,
    ) -> (u32, bool) {
        let honors = |policy: NodeInclusion| policy == NodeInclusion::Honor;
        let key = self.key(&constraint.topology_key, sites);
        let inclusion = Inclusion {
            keys: keys.to_vec(),
            affinity: honors(constraint.node_affinity_policy)
                .then(|| (shape.node_selector.clone(), shape.node_affinity.clone())),
            tolerations: honors(constraint.node_taints_policy).then(|| shape.tolerations.clone()),
        };
        let inclusion = self.inclusion(inclusion, sites);
        let set = self.domain_set(inclusion, key, gone);
        let (counter, new) = self.counter(Counted::Spreading { group, key, set }, key, Some(set));
        if new {
            self.matching[group as usize].push(counter);
        }
        (counter, new)
    }

    fn counter(&mut self, counted: Counted, key: u32, set: Option<u32>) -> (u32, bool) {
        let (number, new) = self.counted.intern(&counted, || counted);
        if new {
            let tally = Tally::default();
            self.counters.push(Counter {
                key,
                set,
                tally,
                total: 0,
                domains_with: BTreeMap::new(),
                holding: 0,
            });
        }
        (number, new)
    }

    /// Pods that raise these counters come to a spot, or leave it.
    pub(super) fn bump(&mut self, counter: u32, spot: usize, by: i64) {
        let counter = &mut self.counters[counter as usize];
        if let Some(set) = counter.set {
            let (inclusion, _) = self.set_numbers.items()[set as usize];
            if !self.included[inclusion as usize].spots[spot] {
                return;
            }
        }
        let domain = self.key_list[counter.key as usize].of_spot[spot];
        if domain == NO_DOMAIN {
            return;
        }
        let cell = counter.tally.cell(domain);
        let old = *cell;
        let new = u32::try_from(i64::from(old) + by).unwrap_or(0);
        *cell = new;
        counter.total = counter.total - u64::from(old) + u64::from(new);
        if counter.set.is_some() {
            counter.holding = counter.holding + u32::from(new > 0) - u32::from(old > 0);
            let with = &mut counter.domains_with;
            if let Some(count) = with.get_mut(&old).filter(|_| old > 0) {
                *count -= 1;
                if *count == 0 {
                    with.remove(&old);
                }
            }
            if new > 0 {
                *with.entry(new).or_default() += 1;
            }
        }
    }

    /// Everything that `count` pods of a label set raise; less where `count` is negative.
    pub(super) fn count_pods(
        &mut self,
        classes: &Classes,
        set: u32,
        terminating: bool,
        spot: usize,
        count: i64,
    ) {
        for group in classes.groups_of(set) {
            let spread_only = classes.group(*group).skips_terminating;
            if terminating && spread_only {
                continue;
            }
            for at in 0..self.matching.get(*group as usize).map_or(0, Vec::len) {
                self.bump(self.matching[*group as usize][at], spot, count);
            }
        }
    }

    /// What a counter counts.
    pub(super) fn counted(&self, counter: u32) -> Counted {
        self.counted.items()[counter as usize]
    }

    pub(super) fn key_of(&self, counter: u32) -> u32 {
        self.counters[counter as usize].key
    }

    /// The key of host names.
    pub(super) fn hostname(&mut self, sites: &Sites) -> u32 {
        self.key(&Arc::from(HOSTNAME), sites)
    }

    /// The inclusion that a domain set belongs to.
    pub(super) fn inclusion_of(&self, set: u32) -> u32 {
        self.set_numbers.items()[set as usize].0
    }

    pub(super) fn includes(&self, inclusion: u32, spot: usize) -> bool {
        self.included[inclusion as usize].spots[spot]
    }

    /// The domain of a spot by a key.
    pub(super) fn domain_of(&self, key: u32, spot: usize) -> u32 {
        self.key_list[key as usize].of_spot[spot]
    }

    /// How many domains of a key were ever met.
    pub(super) fn width(&self, key: u32) -> usize {
        self.key_list[key as usize].values.len()
    }

    /// A counter's counts by domain.
    pub(super) fn counts(&self, counter: u32) -> Vec<u32> {
        let counter = &self.counters[counter as usize];
        (0..self.width(counter.key) as u32).map(|domain| counter.tally.get(domain)).collect()
    }

    /// The counters of pods that keep away pods of a group.
    pub(crate) fn repelling_of(&self, group: u32) -> &[u32] {
        self.repelling.get(group as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether the node of a spot has a value for a counter's key.
    pub(crate) fn has_domain(&self, counter: u32, spot: usize) -> bool {
        let key = self.counters[counter as usize].key;
        self.key_list[key as usize].of_spot[spot] != NO_DOMAIN
    }

    /// The domain of a spot by a counter's key.
    pub(crate) fn domain(&self, counter: u32, spot: usize) -> u32 {
        let key = self.counters[counter as usize].key;
        self.key_list[key as usize].of_spot[spot]
    }

    /// The count of the domain that a spot is in; 0 where it is in none.
    pub(crate) fn count_at(&self, counter: u32, spot: usize) -> u32 {
        match self.domain(counter, spot) {
            NO_DOMAIN => 0,
            domain => self.counters[counter as usize].tally.get(domain),
        }
    }

    pub(crate) fn total(&self, counter: u32) -> u64 {
        self.counters[counter as usize].total
    }

    /// The fewest matching pods that a domain of a spread constraint has.
    pub(crate) fn fewest(&self, spread: &Spread) -> u32 {
        let counter = &self.counters[spread.counter as usize];
        let Some(set) = counter.set else { return 0 };
        let domains = self.sets[set as usize].count;
        if domains < spread.min_domains {
            return 0;
        }
        if domains > counter.holding { 0 } else { counter.domains_with.keys().next().copied().unwrap_or(0) }
    }
}

impl DomainSet {
    fn count_node(&mut self, domain: u32, comes: bool) {
        if domain == NO_DOMAIN {
            return;
        }
        let nodes = self.nodes.cell(domain);
        if comes {
            *nodes += 1;
            self.count += u32::from(*nodes == 1);
        } else {
            *nodes -= 1;
            self.count -= u32::from(*nodes == 0);
        }
    }
}
