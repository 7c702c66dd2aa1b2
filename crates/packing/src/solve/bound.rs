//! The lower bound on the price of new machines.
//!
//! Owns what is counted into it: the worth of the pods that the answer placed, less the most that existing room could
//! have taken of it.

use super::amounts::Amounts;
use super::rates::Rates;
use super::state::State;
use std::collections::BTreeMap;

impl<const D: usize> State<'_, D> {
    /// No plan that places the same pods costs less.
    pub(super) fn bound(&mut self) -> u64 {
        let mut placed = vec![0u32; self.units.buckets.len()];
        let mut solo = BTreeMap::<(usize, u32), u32>::new();
        for (unit, count) in self.nodes.iter().flat_map(|node| &node.pods) {
            let variant = self.units.variant_of(*unit);
            placed[variant.bucket] += count;
            if let Some(group) = variant.solo {
                *solo.entry(group).or_default() += count;
            }
        }
        let spots = self.problem.spots.len();
        let beyond = |(cap, pods): (u32, u32)| {
            let on_spots = u32::try_from(spots).unwrap_or(u32::MAX).saturating_mul(cap);
            pods.saturating_sub(on_spots).div_ceil(cap.max(1))
        };
        let forced = solo.into_iter().map(|((_, cap), pods)| beyond((cap, pods))).max().unwrap_or(0);
        let demands = self.demands(|_, bucket| placed[bucket]);
        let rates = self.rates(&demands, forced);
        if spots == 0 {
            return rates.bound;
        }
        rates.bound.saturating_sub(self.saved_by_spots(&rates, &placed))
    }

    /// The most worth that existing room can take, in micro-USD, rounded up.
    fn saved_by_spots(&mut self, rates: &Rates, placed: &[u32]) -> u64 {
        let mut highest = 0;
        let mut least = Amounts::<D>([u64::MAX; D]);
        // By resource: the most worth that comes with one unit of it, as a fraction.
        let mut density = [0u128; D];
        for (ix, _) in placed.iter().enumerate().filter(|(_, n)| **n > 0) {
            let (req, profile) = (self.units.buckets[ix].req, self.units.buckets[ix].profile);
            let price = self.price_of(rates, profile);
            highest = highest.max(price);
            let worth = (u128::from(rates.worth(&req, price)) + 1) << FRACTION;
            for ((least, density), req) in least.0.iter_mut().zip(&mut density).zip(&req.0) {
                *least = (*least).min(*req);
                let here = worth.checked_div(u128::from(*req)).map_or(u128::MAX, |d| d + 1);
                *density = (*density).max(here);
            }
        }
        let mut saved = 0u128;
        for spot in &self.problem.spots {
            let free = Amounts::<D>::of(&spot.free);
            if !least.fits(&free) {
                continue;
            }
            let weighed = u128::from(rates.worth(&free, highest)) + 1;
            let by_one =
                free.0.iter().zip(&density).map(|(free, d)| d.saturating_mul(u128::from(*free)) >> FRACTION);
            saved += by_one.min().map_or(weighed, |one| weighed.min(one + 1));
        }
        u64::try_from(saved / 1000 + 1).unwrap_or(u64::MAX)
    }

    /// The least price per worth among the offerings of a profile.
    pub(super) fn price_of(&mut self, rates: &Rates, profile: usize) -> u128 {
        let offers = self.catalog.best_of(profile);
        let price = |ix: &usize| {
            rates.price_per_worth(&self.catalog.offers[*ix].room, self.catalog.offers[*ix].price)
        };
        offers.iter().map(price).min().unwrap_or(0)
    }
}

/// Fraction bits of a density.
const FRACTION: u32 = 40;
