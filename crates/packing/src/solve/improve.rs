//! Local search: a few machines are given up and their pods placed again, with the worth of pods a little changed.
//!
//! Owns the choice of machines and what counts as better: price, then the number of machines. Equal answers are kept
//! too, so that the search drifts. The generator's seed is fixed: equal problems take equal paths.

use super::Effort;
use super::open::Market;
use super::state::State;

/// Machines that are given up at once.
const MOST_RUINED: u64 = 6;
/// Trials without a step of work end the search: nothing is left to try.
const IDLE_TRIALS: u32 = 1000;

/// A small generator of numbers (`SplitMix64`).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % limit.max(1)
    }
}

/// Scatters the bits of a number.
pub(super) fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

impl<const D: usize> State<'_, D> {
    /// Searches until the budget is used up or the price is as close to `bound` as asked.
    pub(super) fn improve(&mut self, market: &Market, bound: u64, effort: Effort) {
        let hopeless = self.set_aside();
        let close = bound.saturating_add(bound / 1000 * effort.close_permille);
        let until = self.steps.saturating_add(effort.steps);
        let mut random = Random(1);
        let mut market = market.clone();
        let mut idle = 0;
        while self.steps < until && self.price > close && idle < IDLE_TRIALS {
            let before = self.steps;
            market.noise = random.below(u64::MAX) | 1;
            self.trial(&market, &mut random);
            idle = if self.steps > before { 0 } else { idle + 1 };
        }
        for (unit, left) in hopeless {
            self.units.give(unit, left);
        }
    }

    /// Takes what found no place off the demand: it would only be tried again and again.
    fn set_aside(&mut self) -> Vec<(usize, u32)> {
        let left = self.units.all.iter().map(|unit| unit.left).enumerate().filter(|(_, left)| *left > 0);
        let left: Vec<(usize, u32)> = left.collect();
        for (unit, count) in &left {
            self.units.take(*unit, *count);
        }
        left
    }

    fn trial(&mut self, market: &Market, random: &mut Random) {
        let ruined = self.choose_ruin(random);
        let (price, machines) = (self.price, self.added_all);
        let mark = self.mark();
        for node in ruined {
            for (unit, count) in self.nodes[node].pods.clone() {
                self.remove(node, unit, count);
            }
            self.close(node);
        }
        if random.below(2) == 0 {
            self.fill_gaps(random);
        }
        self.open_machines(market);
        let complete = self.units.buckets.iter().all(|bucket| bucket.left.iter().all(|n| *n == 0));
        if complete && (self.price, self.added_all) <= (price, machines) {
            self.commit();
        } else {
            self.rollback(mark);
        }
    }

    /// Some machines of one region, or of any where pods are not tied.
    fn choose_ruin(&mut self, random: &mut Random) -> Vec<usize> {
        let spots = self.problem.spots.len();
        let all = (self.nodes.len() - spots) as u64;
        let want = 2 + random.below(MOST_RUINED - 1);
        let mut chosen: Vec<usize> = Vec::new();
        // Vacant places and other regions are drawn in vain; the draws are bounded.
        for _ in 0..want * 6 {
            let node = spots + random.below(all) as usize;
            self.steps += 1;
            let fresh = self.nodes.get(node).is_some_and(|n| n.site.is_new()) && !chosen.contains(&node);
            if fresh
                && chosen.first().is_none_or(|first| self.nodes[*first].region == self.nodes[node].region)
            {
                chosen.push(node);
            }
            if chosen.len() as u64 == want {
                break;
            }
        }
        chosen
    }

    /// Puts pods into gaps of some of the machines that stay.
    fn fill_gaps(&mut self, random: &mut Random) {
        let spots = self.problem.spots.len();
        let all = (self.nodes.len() - spots) as u64;
        for _ in 0..32 {
            let node = spots + random.below(all) as usize;
            if self.nodes.get(node).is_some_and(|n| n.site.is_new()) {
                self.top_up(node);
            }
        }
    }
}
