//! The lower bound on the price of new machines.
//!
//! Owns what is counted into it: the worth of the pods that the answer placed, less the most that existing room could
//! have taken of it.

use super::amounts::Amounts;
use super::problem::{HOSTNAME, Rule};
use super::rates::{Ask, Rates};
use super::state::State;
use std::collections::BTreeMap;

impl<const D: usize> State<'_, D> {
    /// No plan that places the same pods costs less.
    pub(super) fn bound(&mut self) -> u64 {
        let mut pods = vec![0u32; self.problem.classes.len()];
        for (unit, count) in self.nodes.iter().flat_map(|node| &node.pods) {
            pods[self.units.variant_of(*unit).class] += count;
        }
        // A plan may give up preferences, so the bound may not count on them; nor on hostname spread, for its floor
        // rises once every node has a pod. What pods refuse to share a node with each other is forced in any plan.
        let mut apart = BTreeMap::<usize, u32>::new();
        let mut in_buckets = Vec::new();
        for (class, count) in pods.iter().enumerate().filter(|(_, count)| **count > 0) {
            let of = &self.problem.classes[class];
            let variant =
                if of.softs.is_empty() { class } else { self.weaker_variant(class, of.softs.len()) };
            in_buckets.push((self.units.variants[variant].bucket, *count));
            for rule in &of.rules {
                if let Rule::Anti { tally } = *rule
                    && self.problem.tallies[tally].key == HOSTNAME
                    && of.counts_in.contains(&tally)
                {
                    *apart.entry(tally).or_default() += count;
                }
            }
        }
        let mut placed = vec![0u32; self.units.buckets.len()];
        for (bucket, count) in in_buckets {
            placed[bucket] += count;
        }
        // Nodes without room for the smallest request take nothing off the need for machines.
        let buckets = || self.units.buckets.iter().zip(&placed).filter(|(_, n)| **n > 0);
        let mut least = Amounts::<D>([u64::MAX; D]);
        for (least, at) in least.0.iter_mut().zip(0..D) {
            *least = buckets().map(|(bucket, _)| bucket.req.0[at]).min().unwrap_or(0);
        }
        let spots = self.problem.spots.iter().filter(|spot| least.fits(&Amounts::of(&spot.free))).count();
        let on_spots = u32::try_from(spots).unwrap_or(u32::MAX);
        let forced = apart.into_values().max().filter(|n| *n > 1).map_or(0, |n| n.saturating_sub(on_spots));
        let (_, asks) = self.asks(&placed, forced);
        let (bound, strict) = match &self.priced {
            Some(known) if known.counts == placed && known.forced == forced => {
                (known.bound, known.strict.clone())
            }
            _ => {
                let offer = |ix: usize| (self.catalog.offers[ix].price, self.catalog.offers[ix].room);
                let rates = Rates::search(&asks, offer, forced);
                (rates.bound, rates.strict)
            }
        };
        if spots == 0 { bound } else { bound.saturating_sub(self.saved_by_spots(&strict, &asks)) }
    }

    /// The most worth that existing room can take, in micro-USD, rounded up.
    fn saved_by_spots(&self, strict: &[u64], asks: &[Ask<D>]) -> u64 {
        let mut least = Amounts::<D>([u64::MAX; D]);
        // By resource: the most worth that comes with one unit of it, as a fraction.
        let mut density = [0u128; D];
        for (ask, worth) in asks.iter().zip(strict) {
            let worth = (u128::from(*worth) + 1) << FRACTION;
            for ((least, density), req) in least.0.iter_mut().zip(&mut density).zip(&ask.req.0) {
                *least = (*least).min(*req);
                let here = worth.checked_div(u128::from(*req)).map_or(u128::MAX, |d| d + 1);
                *density = (*density).max(here);
            }
        }
        let mut saved = 0u128;
        for spot in &self.problem.spots {
            let free = Amounts::<D>::of(&spot.free);
            if least.fits(&free) {
                let by_one = free
                    .0
                    .iter()
                    .zip(&density)
                    .map(|(free, d)| d.saturating_mul(u128::from(*free)) >> FRACTION);
                saved = saved.saturating_add(by_one.min().unwrap_or(0) + 1);
            }
        }
        u64::try_from(saved / 1000 + 1).unwrap_or(u64::MAX)
    }
}

/// Fraction bits of a density.
const FRACTION: u32 = 40;
