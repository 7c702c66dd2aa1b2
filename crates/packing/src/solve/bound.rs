//! The lower bound on the price of new machines.
//!
//! Owns what is counted into it: the worth of the pods that the answer placed, less the most that existing room could
//! have taken of it.

use super::amounts::Amounts;
use super::rates::{Ask, Rates};
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
        // Nodes without room for the smallest request take nothing off the need for machines.
        let buckets = || self.units.buckets.iter().zip(&placed).filter(|(_, n)| **n > 0);
        let mut least = Amounts::<D>([u64::MAX; D]);
        for (least, at) in least.0.iter_mut().zip(0..D) {
            *least = buckets().map(|(bucket, _)| bucket.req.0[at]).min().unwrap_or(0);
        }
        let spots = self.problem.spots.iter().filter(|spot| least.fits(&Amounts::of(&spot.free))).count();
        let beyond = |(cap, pods): (u32, u32)| {
            let on_spots = u32::try_from(spots).unwrap_or(u32::MAX).saturating_mul(cap);
            pods.saturating_sub(on_spots).div_ceil(cap.max(1))
        };
        let forced = solo.into_iter().map(|((_, cap), pods)| beyond((cap, pods))).max().unwrap_or(0);
        let (_, asks) = self.asks(&placed, forced);
        let (bound, strict) = match &self.priced {
            Some(known) if known.counts == placed && known.forced == forced => {
                (known.bound, known.strict.clone())
            }
            _ => {
                let rates = Rates::search(&asks, forced);
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
