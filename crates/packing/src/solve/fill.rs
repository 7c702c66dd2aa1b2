//! What to put on one machine: the mix of pods that uses its room best.
//!
//! Owns the search for one pattern. A large machine is first filled in strides with what suits the shape of its
//! remaining room; the last places are found by a bounded depth-first search that tries each kind of pod first once.

use super::amounts::Amounts;
use super::knapsack::{Choice, prices};
use super::rates::{UNIT_BITS, UnitPrices};

/// Places that the depth-first search decides; more are filled in strides before it.
const FINE_PLACES: u64 = 10;
/// Fraction bits when room is compared with requests.
const RATIO_BITS: u32 = 20;

/// Pods that may be put on the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<const D: usize> {
    pub bucket: usize,
    pub req: Amounts<D>,
    /// In nano-USD.
    pub worth: u64,
    pub most: u32,
    /// Items of equal group share one limit on pods.
    pub solo: Option<(usize, u32)>,
}

/// The pods chosen for one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Bucket and pods of it.
    pub pods: Vec<(usize, u32)>,
    /// Sum of their worth, less what each place costs.
    pub worth: u64,
}

/// One search.
pub(super) struct Filler<'a, const D: usize> {
    items: &'a [Item<D>],
    /// Nothing that fits into room is worth more than these prices for it.
    unit: UnitPrices<D>,
    used: Vec<u32>,
    /// Pods chosen so far of each item with a limit of its own kind.
    steps: u64,
    best: Pattern,
    chosen: Vec<(usize, u32)>,
}

/// Fills `room` with items (sorted by worth, largest first).
pub(super) fn fill<const D: usize>(
    items: &[Item<D>],
    room: &Amounts<D>,
    budget: u64,
    steps: &mut u64,
) -> Pattern {
    let choice = |item: &Item<D>| Choice {
        kind: item.bucket,
        req: item.req,
        worth: item.worth,
        most: item.most,
        alone: None,
    };
    let choices: Vec<Choice<D>> = items.iter().map(choice).collect();
    let mut filler = Filler {
        items,
        unit: prices(&choices, room),
        used: vec![0; items.len()],
        steps: 0,
        best: Pattern::default(),
        chosen: Vec::new(),
    };
    let mut room = *room;
    let worth = filler.strides(&mut room);
    filler.best = Pattern { pods: filler.chosen.clone(), worth };
    filler.finish(&room, worth, budget);
    *steps += filler.steps;
    let mut best = filler.best;
    for (item, _) in &mut best.pods {
        *item = items[*item].bucket;
    }
    best
}

impl<const D: usize> Filler<'_, D> {
    fn limit(&self, at: usize) -> u32 {
        let item = &self.items[at];
        let left = item.most - self.used[at].min(item.most);
        let Some((group, cap)) = item.solo else { return left };
        let shared: u32 = self
            .chosen
            .iter()
            .filter(|(other, _)| self.items[*other].solo.is_some_and(|(g, _)| g == group))
            .map(|(_, n)| n)
            .sum();
        left.min(cap.saturating_sub(shared))
    }

    fn choose(&mut self, at: usize, count: u32) {
        self.used[at] += count;
        match self.chosen.iter_mut().find(|(other, _)| *other == at) {
            Some((_, n)) => *n += count,
            None => self.chosen.push((at, count)),
        }
    }

    fn unchoose(&mut self, at: usize) {
        self.used[at] -= 1;
        if let Some(ix) = self.chosen.iter().position(|(other, _)| *other == at) {
            self.chosen[ix].1 -= 1;
            if self.chosen[ix].1 == 0 {
                self.chosen.remove(ix);
            }
        }
    }

    /// Fills in strides until only a few places are left.
    fn strides(&mut self, room: &mut Amounts<D>) -> u64 {
        let mut worth = 0;
        loop {
            let mut inverse = [0u64; D];
            for (inv, room) in inverse.iter_mut().zip(&room.0) {
                *inv = (1u64 << 62).checked_div(*room).unwrap_or(0);
            }
            let mut best: Option<(u64, u64, usize)> = None;
            for (at, item) in self.items.iter().enumerate() {
                self.steps += 1;
                if !item.req.fits(room) || self.limit(at) == 0 {
                    continue;
                }
                // How often the item would fit if it were the only one, as a fraction.
                let tightest =
                    item.req.0.iter().zip(&inverse).map(|(r, inv)| (u128::from(*r) * u128::from(*inv)) >> 42);
                let tightest = tightest.max().map_or(1, |t| u64::try_from(t).unwrap_or(u64::MAX)).max(1);
                let alone = (u128::from(item.worth) << RATIO_BITS) / u128::from(tightest);
                let alone = u64::try_from(alone).unwrap_or(u64::MAX);
                let places = (1u64 << RATIO_BITS) / tightest;
                // Within an eighth of the best use of the room, the largest item goes first.
                let key = (alone, places, at);
                best = match best {
                    Some(old) if old.0 >= alone - alone / 16 => Some(old),
                    _ => Some(key),
                };
            }
            let Some((_, places, at)) = best else { return worth };
            if places <= FINE_PLACES {
                return worth;
            }
            let fits = self.items[at].req.times_in(room).min(self.limit(at));
            let count = fits.min(u32::try_from(places / 8).unwrap_or(u32::MAX)).max(1);
            *room = room.minus(&self.items[at].req.times(count));
            worth += self.items[at].worth * u64::from(count);
            self.choose(at, count);
        }
    }

    /// The last places, by depth-first search.
    fn finish(&mut self, room: &Amounts<D>, worth: u64, budget: u64) {
        let firsts: Vec<usize> = (0..self.items.len())
            .filter(|at| self.items[*at].req.fits(room) && self.limit(*at) > 0)
            .collect();
        let Some(share) = budget.checked_div(firsts.len() as u64) else { return };
        for first in firsts {
            let until = self.steps + share.max(8);
            self.choose(first, 1);
            self.descend(first, &room.minus(&self.items[first].req), worth + self.items[first].worth, until);
            self.unchoose(first);
        }
    }

    fn descend(&mut self, from: usize, room: &Amounts<D>, worth: u64, until: u64) {
        if worth > self.best.worth {
            self.best = Pattern { pods: self.chosen.clone(), worth };
        }
        let mut hope = 0u128;
        for (price, room) in self.unit.iter().zip(&room.0) {
            hope = hope.saturating_add(u128::from(*price) * u128::from(*room));
        }
        if u128::from(worth) + (hope >> UNIT_BITS) <= u128::from(self.best.worth) {
            return;
        }
        for at in from..self.items.len() {
            self.steps += 1;
            if self.steps > until {
                return;
            }
            if !self.items[at].req.fits(room) || self.limit(at) == 0 {
                continue;
            }
            self.choose(at, 1);
            self.descend(at, &room.minus(&self.items[at].req), worth + self.items[at].worth, until);
            self.unchoose(at);
        }
    }
}
