//! Good mixes of pods for one machine at given worths.
//!
//! Owns a branch and bound search. Kinds of pods come in the order of their worth for the room that they take, at
//! prices that nothing exceeds; so the first descent is the greedy one, and whatever can no longer reach the best is
//! cut. Of pods that want to be alone, a machine holds one of each tally.

use super::amounts::Amounts;
use super::rates::{UNIT_BITS, UnitPrices};
use super::simplex::room_prices;
use std::cmp::Reverse;

/// Pods that may be put on the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<const D: usize> {
    pub kind: usize,
    pub req: Amounts<D>,
    /// In nano-USD.
    pub worth: u64,
    pub most: u32,
    pub alone: Option<usize>,
}

/// How much what fits on a machine may be worth.
#[derive(Clone, Debug)]
pub(super) struct Limit<const D: usize> {
    /// Prices that pods that may share a machine are not worth more than.
    pub unit: UnitPrices<D>,
    /// For each choice: what it and later ones that want to be alone are worth beyond the prices.
    bonus: Vec<u64>,
}

/// What amounts cost at prices, in nano-USD shifted by [`UNIT_BITS`].
fn cost<const D: usize>(unit: &UnitPrices<D>, of: &Amounts<D>) -> u128 {
    unit.iter().zip(&of.0).map(|(price, n)| u128::from(*price) * u128::from(*n)).sum()
}

/// Prices, all raised so far that no pod that may share a machine is worth more.
pub(super) fn raised<const D: usize>(mut unit: UnitPrices<D>, choices: &[Choice<D>]) -> UnitPrices<D> {
    // In parts of 2^32.
    let mut lack = 1u128 << 32;
    for choice in choices.iter().filter(|choice| choice.alone.is_none()) {
        let (worth, cost) = (u128::from(choice.worth) << UNIT_BITS, cost(&unit, &choice.req));
        if (cost * lack) >> 32 < worth {
            lack = ((worth << 32) / cost.max(1)) + 1;
        }
    }
    if lack > 1 << 32 {
        unit = unit.map(|price| u64::try_from(((u128::from(price) * lack) >> 32) + 1).unwrap_or(u64::MAX));
    }
    unit
}

/// The lowest prices of a machine's resources that no pod that may share it is worth more than.
pub(super) fn prices<const D: usize>(choices: &[Choice<D>], room: &Amounts<D>) -> UnitPrices<D> {
    let part = room.0.map(|n| 1.0 / n.max(1) as f64);
    let shares = |choice: &Choice<D>| {
        let mut shares = part;
        for (share, req) in shares.iter_mut().zip(&choice.req.0) {
            *share *= *req as f64;
        }
        (choice.worth as f64, shares)
    };
    let pods: Vec<(f64, [f64; D])> = choices.iter().filter(|c| c.alone.is_none()).map(shares).collect();
    let mut unit = [1; D];
    for ((unit, price), part) in unit.iter_mut().zip(room_prices(&pods)).zip(part) {
        *unit += (price.max(0.0) * part * (1u64 << UNIT_BITS) as f64) as u64;
    }
    // Rounding may have left some pod a little dearer than its price.
    raised(unit, choices)
}

/// Nothing that fits into a room is worth more, at prices that pods that may share it are not worth more than.
pub(super) fn most_worth<const D: usize>(
    unit: &UnitPrices<D>,
    choices: &[Choice<D>],
    room: &Amounts<D>,
) -> u64 {
    let mut tallies = Vec::new();
    let bonus: u64 = choices.iter().map(|choice| more_bonus(&mut tallies, unit, choice)).sum();
    let room = u64::try_from(cost(unit, room) >> UNIT_BITS).unwrap_or(u64::MAX);
    room.saturating_add(1).saturating_add(bonus)
}

/// How much more the choices that want to be alone may be worth beyond the prices, with one more of them. Of each
/// tally the highest counts.
fn more_bonus<const D: usize>(
    tallies: &mut Vec<(usize, u64)>,
    unit: &UnitPrices<D>,
    choice: &Choice<D>,
) -> u64 {
    let Some(tally) = choice.alone else { return 0 };
    let cost = u64::try_from(cost(unit, &choice.req) >> UNIT_BITS).unwrap_or(u64::MAX);
    let more = choice.worth.saturating_sub(cost);
    let at = tallies.iter().position(|(known, _)| *known == tally).unwrap_or_else(|| {
        tallies.push((tally, 0));
        tallies.len() - 1
    });
    let before = tallies[at].1;
    tallies[at].1 = more.max(before);
    more.saturating_sub(before)
}

impl<const D: usize> Limit<D> {
    /// Works out the limit at given prices, and sorts the choices for the search.
    pub(super) fn at(unit: UnitPrices<D>, choices: &mut [Choice<D>]) -> Self {
        choices.sort_by_cached_key(|choice| {
            let cost = (cost(&unit, &choice.req) >> UNIT_BITS).max(1);
            let density = u64::try_from((u128::from(choice.worth) << 20) / cost).unwrap_or(u64::MAX);
            (Reverse(density), choice.kind)
        });
        let (mut bonus, mut tallies, mut sum) = (vec![0; choices.len()], Vec::new(), 0);
        for (choice, bonus) in choices.iter().zip(&mut bonus).rev() {
            sum += more_bonus(&mut tallies, &unit, choice);
            *bonus = sum;
        }
        Self { unit, bonus }
    }
}

/// One search.
pub(super) struct Knapsack<'a, const D: usize> {
    choices: &'a [Choice<D>],
    limit: &'a Limit<D>,
    budget: u64,
    pub steps: u64,
    best: u64,
    /// Choice and pods of it.
    found: Vec<(usize, u32)>,
    chosen: Vec<(usize, u32)>,
    /// The choice of which one pod was taken before all others.
    first: usize,
}

impl<'a, const D: usize> Knapsack<'a, D> {
    pub(super) fn new(choices: &'a [Choice<D>], limit: &'a Limit<D>) -> Self {
        let (found, chosen) = (Vec::new(), Vec::new());
        Self { choices, limit, budget: 0, steps: 0, best: 0, found, chosen, first: usize::MAX }
    }

    /// The best mix with each choice in turn, where it is worth more than `least`; `share` steps for each. `take`
    /// is told the mix and its first choice.
    pub(super) fn sample(
        &mut self,
        room: &Amounts<D>,
        least: u64,
        share: u64,
        mut take: impl FnMut(&[(usize, u32)], usize),
    ) {
        for at in 0..self.choices.len() {
            let choice = self.choices[at];
            if !choice.req.fits(room) {
                continue;
            }
            self.budget = self.steps + share;
            (self.first, self.best) = (at, least);
            self.found.clear();
            self.chosen.push((at, 1));
            self.descend(0, &room.minus(&choice.req), choice.worth);
            self.chosen.pop();
            if !self.found.is_empty() {
                take(&self.found, at);
            }
        }
        self.first = usize::MAX;
    }

    /// How many more pods of a choice may be taken.
    fn most(&self, at: usize, room: &Amounts<D>) -> u32 {
        let choice = &self.choices[at];
        let left = choice.most - u32::from(at == self.first).min(choice.most);
        match choice.alone {
            None => left.min(choice.req.times_in(room)),
            Some(_) if self.chosen.iter().any(|(other, _)| self.choices[*other].alone == choice.alone) => 0,
            Some(_) => left.min(1),
        }
    }

    fn descend(&mut self, from: usize, room: &Amounts<D>, worth: u64) {
        if worth > self.best {
            self.best = worth;
            self.found.clone_from(&self.chosen);
        }
        let room_worth = u64::try_from(cost(&self.limit.unit, room) >> UNIT_BITS).unwrap_or(u64::MAX);
        let hope = worth.saturating_add(room_worth).saturating_add(1);
        for at in from..self.choices.len() {
            self.steps += 1;
            if self.steps > self.budget || hope.saturating_add(self.limit.bonus[at]) <= self.best {
                return;
            }
            let choice = self.choices[at];
            if !choice.req.fits(room) {
                continue;
            }
            // As many as fit first, then one less, and so on.
            for count in (1..=self.most(at, room)).rev() {
                self.chosen.push((at, count));
                let rest = room.minus(&choice.req.times(count));
                self.descend(at + 1, &rest, worth + choice.worth * u64::from(count));
                self.chosen.pop();
                if self.steps > self.budget {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(choices: &[Choice<1>], limit: &Limit<1>, room: Amounts<1>) -> u64 {
        let mut worths = vec![0];
        Knapsack::new(choices, limit).sample(&room, 0, 1000, |mix, _| {
            worths.push(mix.iter().map(|(at, n)| choices[*at].worth * u64::from(*n)).sum());
        });
        worths.into_iter().max().unwrap()
    }

    #[test]
    fn the_best_mix_is_found_with_each_kind() {
        // Room for ten: three of three for 5 each leave one for 1; two of four for 7 leave room for two more.
        let choice = |kind, req, worth, alone| Choice { kind, req: Amounts([req]), worth, most: 9, alone };
        let room = Amounts([10]);
        let mut choices = [choice(0, 3, 5, None), choice(1, 4, 7, None), choice(2, 1, 1, None)];
        let limit = Limit::at(prices(&choices, &room), &mut choices);
        assert!(most_worth(&limit.unit, &choices, &room) >= 17, "{limit:?}");
        assert_eq!(best(&choices, &limit, room), 17);
        // One of the fours may be on the machine: with it two threes.
        let mut choices = [choice(0, 3, 5, None), choice(1, 4, 7, Some(0)), choice(2, 1, 1, None)];
        let limit = Limit::at(prices(&choices, &room), &mut choices);
        assert_eq!(best(&choices, &limit, room), 17);
        let mut with_each = Vec::new();
        Knapsack::new(&choices, &limit)
            .sample(&room, 0, 1000, |_, first| with_each.push(choices[first].kind));
        with_each.sort_unstable();
        assert_eq!(with_each, [0, 1, 2]);
    }
}
