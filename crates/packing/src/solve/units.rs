//! Pods as the inner loops count them: a class, with the preferences that it still has, in the region chosen for it.
//!
//! Owns units and buckets. A unit is tied to a region as soon as a topology rule on a key other than hostname
//! touches it. A bucket holds units that ask for the same and may go to the same offerings: patterns are made of
//! buckets, and which unit fills a place is decided by the hostname rules when the place is filled.

use super::amounts::Amounts;
use super::bits::BitSet;
use super::catalog::{Catalog, ProfileIx, Region};
use super::problem::{HOSTNAME, Problem, Rule, Soft};
use std::collections::BTreeMap;

/// No limit on the pods of one tally on one node.
pub(super) const UNCAPPED: u32 = u32::MAX;

/// A class with the preferences that it still has.
#[derive(Clone, Debug)]
pub(super) struct Variant<const D: usize> {
    pub class: usize,
    /// Preferences given up so far.
    pub dropped: usize,
    pub req: Amounts<D>,
    pub profile: ProfileIx,
    pub kinds: BitSet,
    /// Tallies on hostname that count these pods.
    pub host_members: Vec<usize>,
    /// Rules on hostname.
    pub host_rules: Vec<Rule>,
    /// Tallies on other keys that count these pods.
    pub zone_members: Vec<usize>,
    /// Rules on other keys.
    pub zone_rules: Vec<Rule>,
    pub bucket: usize,
}

impl<const D: usize> Variant<D> {
    /// Whether a region has to be chosen before a node is.
    pub(super) fn is_tied(&self) -> bool {
        !self.zone_rules.is_empty() || !self.zone_members.is_empty()
    }
}

/// Pods of one variant in one region (or any region).
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub variant: usize,
    pub region: Option<Region>,
    /// Pods that still want a place.
    pub left: u32,
}

/// Units that ask for the same resources and allow the same offerings.
#[derive(Clone, Debug)]
pub(super) struct Bucket<const D: usize> {
    pub req: Amounts<D>,
    pub profile: ProfileIx,
    /// The hostname tally that limits these pods on one node the most, and its limit on an empty node.
    pub solo: Option<(usize, u32)>,
    /// What placing one pod elsewhere costs at the margin, in nano-USD an hour.
    pub worth: u64,
    /// Units by slot: 0 = any region, r + 1 = region r.
    pub units: Vec<Vec<usize>>,
    /// Pods left by slot.
    pub left: Vec<u32>,
}

/// Profile, requests, and the strictest limit on one node.
type BucketKey<const D: usize> = (ProfileIx, Amounts<D>, Option<(usize, u32)>);

/// All variants, units and buckets of one solve.
#[derive(Clone, Debug)]
pub(super) struct Units<const D: usize> {
    pub variants: Vec<Variant<D>>,
    pub all: Vec<Unit>,
    pub buckets: Vec<Bucket<D>>,
    by_key: BTreeMap<BucketKey<D>, usize>,
    by_place: BTreeMap<(usize, Option<Region>), usize>,
    regions: usize,
    /// Tallies that some rule is about: others need no counting.
    ruled: Vec<bool>,
}

impl<const D: usize> Units<D> {
    pub(super) fn new(problem: &Problem, regions: usize) -> Self {
        let mut ruled: Vec<bool> = problem
            .tallies
            .iter()
            .map(|tally| !tally.forbidden.is_empty() || !tally.forbidden_nodes.is_empty())
            .collect();
        for class in &problem.classes {
            let softs = class.softs.iter().filter_map(|soft| match soft {
                Soft::Rule(rule) => Some(rule),
                Soft::Only { .. } => None,
            });
            for rule in class.rules.iter().chain(softs) {
                ruled[rule.tally()] = true;
            }
        }
        Self {
            ruled,
            variants: Vec::new(),
            all: Vec::new(),
            buckets: Vec::new(),
            by_key: BTreeMap::new(),
            by_place: BTreeMap::new(),
            regions,
        }
    }

    /// Adds a class without its first `dropped` preferences.
    pub(super) fn variant(
        &mut self,
        problem: &Problem,
        catalog: &mut Catalog<D>,
        class: usize,
        dropped: usize,
    ) -> usize {
        let from = &problem.classes[class];
        let (mut kinds, mut offerings) = (from.kinds.clone(), from.offerings.clone());
        let mut rules = from.rules.clone();
        for soft in &from.softs[dropped.min(from.softs.len())..] {
            match soft {
                Soft::Rule(rule) => rules.push(*rule),
                Soft::Only { kinds: k, offerings: o } => {
                    kinds = kinds.meet(k);
                    offerings = offerings.meet(o);
                }
            }
        }
        let on_host = |tally: &usize| problem.tallies[*tally].key == HOSTNAME;
        let (host_members, zone_members): (Vec<usize>, Vec<usize>) =
            from.counts_in.iter().copied().filter(|tally| self.ruled[*tally]).partition(on_host);
        let (host_rules, zone_rules): (Vec<Rule>, Vec<Rule>) =
            rules.into_iter().partition(|rule| on_host(&rule.tally()));
        let solo = solo_cap(&host_rules, &host_members);
        let (req, profile) = (Amounts::of(&from.requests), catalog.profile(&offerings));
        let bucket = self.bucket(req, profile, solo);
        self.variants.push(Variant {
            class,
            dropped,
            req,
            profile,
            kinds,
            host_members,
            host_rules,
            zone_members,
            zone_rules,
            bucket,
        });
        self.variants.len() - 1
    }

    fn bucket(&mut self, req: Amounts<D>, profile: ProfileIx, solo: Option<(usize, u32)>) -> usize {
        if let Some(ix) = self.by_key.get(&(profile, req, solo)) {
            return *ix;
        }
        let slots = self.regions + 1;
        let bucket =
            Bucket { req, profile, solo, worth: 0, units: vec![Vec::new(); slots], left: vec![0; slots] };
        self.buckets.push(bucket);
        self.by_key.insert((profile, req, solo), self.buckets.len() - 1);
        self.buckets.len() - 1
    }

    /// The unit of a variant in a region, made when it is first asked for.
    pub(super) fn unit(&mut self, variant: usize, region: Option<Region>) -> usize {
        if let Some(ix) = self.by_place.get(&(variant, region)) {
            return *ix;
        }
        let ix = self.all.len();
        self.all.push(Unit { variant, region, left: 0 });
        self.by_place.insert((variant, region), ix);
        if self.is_ready(ix) {
            self.buckets[self.variants[variant].bucket].units[slot(region)].push(ix);
        }
        ix
    }

    pub(super) fn variant_of(&self, unit: usize) -> &Variant<D> {
        &self.variants[self.all[unit].variant]
    }

    /// Whether patterns may use a unit: tied pods need a region first.
    fn is_ready(&self, unit: usize) -> bool {
        self.all[unit].region.is_some() || !self.variant_of(unit).is_tied()
    }

    /// Pods of a unit that want a place become more.
    pub(super) fn give(&mut self, unit: usize, count: u32) {
        let ready = self.is_ready(unit);
        let Unit { variant, region, left } = &mut self.all[unit];
        *left += count;
        if ready {
            self.buckets[self.variants[*variant].bucket].left[slot(*region)] += count;
        }
    }

    /// Pods of a unit that want a place become fewer.
    pub(super) fn take(&mut self, unit: usize, count: u32) {
        let ready = self.is_ready(unit);
        let Unit { variant, region, left } = &mut self.all[unit];
        *left -= count;
        if ready {
            self.buckets[self.variants[*variant].bucket].left[slot(*region)] -= count;
        }
    }
}

impl<const D: usize> Bucket<D> {
    /// Pods that may be placed in a region.
    pub(super) fn left_in(&self, region: Region) -> u32 {
        self.left[0] + self.left[region + 1]
    }
}

fn slot(region: Option<Region>) -> usize {
    region.map_or(0, |region| region + 1)
}

/// The strictest limit on pods of one's own tally on a node that holds none of them.
fn solo_cap(rules: &[Rule], members: &[usize]) -> Option<(usize, u32)> {
    let cap = |rule: &Rule| match *rule {
        Rule::Anti { tally } if members.contains(&tally) => Some((1, tally)),
        Rule::Spread { tally, max_skew, .. } if members.contains(&tally) => Some((max_skew, tally)),
        _ => None,
    };
    rules.iter().filter_map(cap).min().map(|(cap, tally)| (tally, cap))
}
