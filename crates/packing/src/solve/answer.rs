//! What a solve found.
//!
//! Owns the answer's types and how they are read off a finished placement. Reasons for pods without a place are in
//! `refusals`.

use super::problem::Problem;
use super::refusals::Refusals;
use super::state::{Site, State};
use std::collections::BTreeMap;

/// Pods of one class on one existing node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    pub spot: usize,
    pub class: usize,
    pub count: u32,
}

/// A machine to buy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Machine {
    /// The cheapest offering that holds its pods.
    pub offering: usize,
    /// Of a flexible pool: all offerings of the same region that would do, cheapest first, `offering` among them.
    pub options: Vec<usize>,
    /// Class and pods of it, by class.
    pub pods: Vec<(usize, u32)>,
}

/// Pods that found no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    pub class: usize,
    pub count: u32,
    pub refusals: Refusals,
}

/// The answer to a problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub existing: Vec<Placed>,
    pub machines: Vec<Machine>,
    pub unplaced: Vec<Unplaced>,
    /// Of all machines, in micro-USD an hour.
    pub price: u64,
    /// No valid plan that places the same pods is cheaper.
    pub bound: u64,
    /// Work done, in probes.
    pub steps: u64,
}

impl<const D: usize> State<'_, D> {
    /// Reads the placement off the state. `unplaced` and `bound` are filled in elsewhere.
    pub(super) fn answer(&mut self) -> Answer {
        let mut answer = Answer { price: self.price, steps: self.steps, ..Answer::default() };
        for node in 0..self.nodes.len() {
            let mut pods: BTreeMap<usize, u32> = BTreeMap::new();
            for &(unit, count) in &self.nodes[node].pods {
                *pods.entry(self.units.variant_of(unit).class).or_default() += count;
            }
            match self.nodes[node].site {
                Site::Spot(spot) => {
                    let placed = pods.into_iter().map(|(class, count)| Placed { spot, class, count });
                    answer.existing.extend(placed);
                }
                Site::New { offering, .. } => {
                    let options = self.options(node);
                    answer.machines.push(Machine { offering, options, pods: pods.into_iter().collect() });
                }
                Site::Gone => {}
            }
        }
        answer.machines.sort();
        answer
    }

    /// Offerings that would do for a new machine at up to its price, and as many dearer ones as its pool's minimum
    /// flexibility asks for.
    fn options(&self, node: usize) -> Vec<usize> {
        let Site::New { family, profile, offering } = self.nodes[node].site else { return Vec::new() };
        let pool = &self.problem.pools[self.catalog.families[family].pool];
        if !pool.flexible {
            return vec![offering];
        }
        let load = &self.nodes[node].load;
        let price = self.catalog.offers[offering].price;
        let mut found: Vec<usize> = Vec::new();
        for &ix in &self.catalog.families[family].by_price {
            let offer = &self.catalog.offers[ix];
            if offer.price > price && has_values(self.problem, &found, &pool.min_values) {
                break;
            }
            if load.fits(&offer.room) && self.catalog.allows(profile, ix) {
                found.push(ix);
            }
        }
        found
    }
}

/// Whether offerings show as many different values as a pool's minimum flexibility asks for.
pub(super) fn has_values(problem: &Problem, offerings: &[usize], least: &[u32]) -> bool {
    least.iter().enumerate().all(|(at, least)| {
        let mut values: Vec<u32> =
            offerings.iter().filter_map(|ix| problem.offerings[*ix].values.get(at).copied()).collect();
        values.sort_unstable();
        values.dedup();
        values.len() >= *least as usize
    })
}
