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
    /// Pods chosen so far, by item.
    used: Vec<u32>,
    /// By item: the shared limit that its pods take from.
    shared: Vec<Option<usize>>,
    /// Pods chosen so far, by shared limit.
    used_shared: Vec<u32>,
    /// Items in the order in which pods of them were chosen, with how many.
    chosen: Vec<(usize, u32)>,
    steps: u64,
    best: u64,
    best_chosen: Vec<(usize, u32)>,
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
    let mut groups: Vec<usize> = Vec::new();
    let mut shared = |item: &Item<D>| {
        let (group, _) = item.solo?;
        Some(groups.iter().position(|known| *known == group).unwrap_or_else(|| {
            groups.push(group);
            groups.len() - 1
        }))
    };
    let mut filler = Filler {
        items,
        unit: prices(&choices, room),
        used: vec![0; items.len()],
        shared: items.iter().map(&mut shared).collect(),
        used_shared: vec![0; groups.len()],
        chosen: Vec::new(),
        steps: 0,
        best: 0,
        best_chosen: Vec::new(),
    };
    let mut room = *room;
    let worth = filler.strides(&mut room);
    (filler.best, filler.best_chosen) = (worth, filler.chosen.clone());
    filler.finish(&room, worth, budget);
    *steps += filler.steps;
    // Which pods come first matters to those that draw them.
    let mut pods: Vec<(usize, u32)> = Vec::new();
    for (at, count) in filler.best_chosen {
        let bucket = items[at].bucket;
        match pods.iter_mut().find(|(known, _)| *known == bucket) {
            Some((_, n)) => *n += count,
            None => pods.push((bucket, count)),
        }
    }
    Pattern { pods, worth: filler.best }
}

impl<const D: usize> Filler<'_, D> {
    fn limit(&self, at: usize) -> u32 {
        let item = &self.items[at];
        let left = item.most.saturating_sub(self.used[at]);
        match (self.shared[at], item.solo) {
            (Some(shared), Some((_, cap))) => left.min(cap.saturating_sub(self.used_shared[shared])),
            _ => left,
        }
    }

    fn choose(&mut self, at: usize, count: u32) {
        self.used[at] += count;
        self.chosen.push((at, count));
        if let Some(shared) = self.shared[at] {
            self.used_shared[shared] += count;
        }
    }

    /// Takes the last choice back, of one pod.
    fn unchoose(&mut self, at: usize) {
        self.used[at] -= 1;
        self.chosen.pop();
        if let Some(shared) = self.shared[at] {
            self.used_shared[shared] -= 1;
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
        if worth > self.best {
            self.best = worth;
            self.best_chosen.clone_from(&self.chosen);
        }
        let mut hope = 0u128;
        for (price, room) in self.unit.iter().zip(&room.0) {
            hope = hope.saturating_add(u128::from(*price) * u128::from(*room));
        }
        if u128::from(worth) + (hope >> UNIT_BITS) <= u128::from(self.best) {
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
