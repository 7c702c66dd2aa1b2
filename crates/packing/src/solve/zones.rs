//! Topology rules on keys other than hostname, kept by domain, and the choice of a region for pods.
//!
//! Owns the counts by domain, which domains take part in a skew, and the caps that carriers of a rule impose on the
//! pods that their selector matches: a pod that only matches keeps the skew of those that carry the rule, so that the
//! finished placement is even whatever order the pods are bound in.

use super::problem::{HOSTNAME, NO_DOMAIN, Problem, Rule};
use super::units::{UNCAPPED, Variant};

/// Counts of all tallies that are not on hostname.
#[derive(Clone, Debug)]
pub(super) struct Zones {
    /// Pods by tally and domain.
    counts: Vec<Vec<u32>>,
    totals: Vec<u32>,
    /// Carriers of a spread rule by tally and domain, with the strictest skew seen.
    spread: Vec<Vec<(u32, u32)>>,
    /// Carriers of anti-affinity by tally and domain.
    refused: Vec<Vec<u32>>,
    /// Domains that take part: of nodes that exist and, once machines may come, of those.
    live: Vec<Vec<bool>>,
    keys: Vec<usize>,
}

impl Zones {
    /// Counts what exists. Only domains of existing nodes take part until [`Self::open`].
    pub(super) fn new(problem: &Problem) -> Self {
        let width = |tally: &super::problem::Tally| {
            if tally.key == HOSTNAME { 0 } else { problem.keys[tally.key] }
        };
        let mut zones = Self {
            counts: Vec::new(),
            totals: Vec::new(),
            spread: Vec::new(),
            refused: Vec::new(),
            live: Vec::new(),
            keys: problem.tallies.iter().map(|tally| tally.key).collect(),
        };
        for tally in &problem.tallies {
            let width = width(tally);
            let mut counts = tally.initial.clone();
            counts.resize(width, 0);
            let mut refused = vec![0; width];
            for domain in tally.forbidden.iter().filter(|domain| (**domain as usize) < width) {
                refused[*domain as usize] += 1;
            }
            let mut live = vec![false; width];
            for spot in problem.spots.iter().filter(|_| width > 0) {
                let counts = tally.kinds.as_ref().is_none_or(|kinds| kinds.contains(spot.kind));
                mark(&mut live, &spot.domains, tally.key, counts);
            }
            zones.totals.push(counts.iter().sum());
            zones.counts.push(counts);
            zones.spread.push(vec![(0, UNCAPPED); width]);
            zones.refused.push(refused);
            zones.live.push(live);
        }
        zones
    }

    /// From here on the domains where machines may come take part.
    pub(super) fn open(&mut self, problem: &Problem) {
        for (ix, tally) in problem.tallies.iter().enumerate().filter(|(_, tally)| tally.key != HOSTNAME) {
            for (at, offering) in problem.offerings.iter().enumerate() {
                let counts = offering.available
                    && problem.pools[offering.pool].max_new != Some(0)
                    && tally.offerings.as_ref().is_none_or(|set| set.contains(at));
                mark(&mut self.live[ix], &offering.domains, tally.key, counts);
            }
        }
    }

    /// Only domains take part that hold nodes: those of existing nodes and of `regions`.
    pub(super) fn settle(&mut self, problem: &Problem, regions: &[&Vec<u32>]) {
        *self = Self { live: Self::new(problem).live, ..self.clone() };
        for (live, key) in self.live.iter_mut().zip(&self.keys).filter(|(_, key)| **key != HOSTNAME) {
            for domains in regions {
                mark(live, domains, *key, true);
            }
        }
    }

    fn least(&self, tally: usize, min_domains: u32) -> u32 {
        let live = self.live[tally].iter().zip(&self.counts[tally]).filter(|(live, _)| **live);
        let (mut domains, mut least) = (0, u32::MAX);
        for (_, count) in live {
            domains += 1;
            least = least.min(*count);
        }
        if domains == 0 || domains < min_domains { 0 } else { least }
    }

    /// Whether one more pod of a variant may be in a region.
    pub(super) fn allows<const D: usize>(&self, variant: &Variant<D>, domains: &[u32]) -> bool {
        variant.zone_rules.iter().all(|rule| self.keeps(*rule, variant, domains))
            && variant.zone_members.iter().all(|tally| self.welcomes(*tally, domains))
    }

    pub(super) fn keeps<const D: usize>(&self, rule: Rule, variant: &Variant<D>, domains: &[u32]) -> bool {
        let tally = rule.tally();
        let domain = domains[self.keys[tally]];
        let own = variant.zone_members.contains(&tally);
        if domain == NO_DOMAIN {
            return matches!(rule, Rule::Anti { .. });
        }
        let count = self.counts[tally][domain as usize];
        match rule {
            Rule::Spread { max_skew, min_domains, .. } => {
                count + u32::from(own) <= self.least(tally, min_domains).saturating_add(max_skew)
            }
            Rule::Affinity { .. } => count > 0 || (own && self.totals[tally] == 0),
            Rule::Anti { .. } => count == 0,
        }
    }

    /// Whether a region, where pods of the variant are, no longer keeps a rule of theirs.
    pub(super) fn breaks<const D: usize>(&self, variant: &Variant<D>, domains: &[u32]) -> bool {
        variant.zone_rules.iter().any(|rule| match (rule, domains[self.keys[rule.tally()]]) {
            (_, NO_DOMAIN) | (Rule::Anti { .. }, _) => false,
            (Rule::Spread { tally, max_skew, min_domains }, domain) => {
                let most = self.least(*tally, *min_domains).saturating_add(*max_skew);
                self.counts[*tally][domain as usize] > most
            }
            (Rule::Affinity { tally }, domain) => self.counts[*tally][domain as usize] == 0,
        })
    }

    /// Whether those who carry rules about this tally let one more of its pods in.
    fn welcomes(&self, tally: usize, domains: &[u32]) -> bool {
        let domain = domains[self.keys[tally]];
        if domain == NO_DOMAIN {
            return true;
        }
        let domain = domain as usize;
        let (carriers, skew) = self.spread[tally][domain];
        let even = carriers == 0 || self.counts[tally][domain] < self.least(tally, 0).saturating_add(skew);
        // Carriers that match themselves count among the pods, and their own rule allows no second pod.
        self.refused[tally][domain] == 0 && even
    }

    /// How far a region is ahead of the emptiest, over all tallies of a variant: lower is evener.
    pub(super) fn lead<const D: usize>(&self, variant: &Variant<D>, domains: &[u32]) -> u32 {
        let ahead = |tally: &usize| match domains[self.keys[*tally]] {
            NO_DOMAIN => 0,
            domain => self.counts[*tally][domain as usize].saturating_sub(self.least(*tally, 0)),
        };
        variant.zone_members.iter().map(ahead).sum()
    }

    /// Counts pods that will be in a region.
    pub(super) fn add<const D: usize>(&mut self, variant: &Variant<D>, domains: &[u32], count: u32) {
        self.change(variant, domains, |n| *n += count);
        for rule in &variant.zone_rules {
            if let (Rule::Spread { tally, max_skew, .. }, domain) = (rule, domains[self.keys[rule.tally()]])
                && domain != NO_DOMAIN
            {
                let skew = &mut self.spread[*tally][domain as usize].1;
                *skew = (*skew).min(*max_skew);
            }
        }
    }

    /// Takes back what [`Self::add`] counted.
    pub(super) fn remove<const D: usize>(&mut self, variant: &Variant<D>, domains: &[u32], count: u32) {
        self.change(variant, domains, |n| *n -= count);
    }

    fn change<const D: usize>(&mut self, variant: &Variant<D>, domains: &[u32], by: impl Fn(&mut u32)) {
        for &tally in &variant.zone_members {
            if domains[self.keys[tally]] != NO_DOMAIN {
                by(&mut self.counts[tally][domains[self.keys[tally]] as usize]);
                by(&mut self.totals[tally]);
            }
        }
        for rule in &variant.zone_rules {
            let tally = rule.tally();
            let domain = domains[self.keys[tally]];
            if domain == NO_DOMAIN {
                continue;
            }
            match rule {
                Rule::Spread { .. } => by(&mut self.spread[tally][domain as usize].0),
                Rule::Anti { .. } => by(&mut self.refused[tally][domain as usize]),
                Rule::Affinity { .. } => {}
            }
        }
    }
}

fn mark(live: &mut [bool], domains: &[u32], key: usize, counts: bool) {
    let domain = domains.get(key).copied().unwrap_or(NO_DOMAIN);
    if counts && domain != NO_DOMAIN {
        live[domain as usize] = true;
    }
}
