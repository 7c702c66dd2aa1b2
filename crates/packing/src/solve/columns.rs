//! The linear program over patterns: which mixes of pods are worth buying machines for, and how often.
//!
//! Owns column generation. The program knows some patterns; what one more pod costs in it is the pod's worth; whatever
//! fits on a machine and is worth more than the machine is a pattern to add. When none is left, the worths are the
//! best there are, and most of the answer is the program's patterns, used as often as it says.
use super::amounts::Amounts;
use super::knapsack::{Choice, Knapsack, Limit, most_worth, prices, raised};
use super::rates::UnitPrices;
use super::simplex::Master;

/// Steps of the search for a pattern with one kind of pod.
const SHARE: u64 = 60;
/// Offerings that are searched at once for patterns.
const AT_ONCE: usize = 24;
/// Offerings whose best pattern is added in one round.
const BEST_SALES: usize = 24;
/// Rounds for which an offering that gave nothing is left aside, at most.
const LONGEST_SLEEP: u32 = 7;
/// Pivots between two searches for patterns.
const PIVOTS: u32 = 400;
/// Pods without a pattern cost so many per cent of their worth.
const MISSING: u64 = 180;
/// The search ends when a round brings less than this part of the price, three times in a row.
const LEAST_GAIN: f64 = 0.0002;

/// Pods that ask for the same and may go to the same offerings.
#[derive(Clone, Debug)]
pub(super) struct Kind<const D: usize> {
    pub req: Amounts<D>,
    pub count: u32,
    /// Of pods that refuse to share a machine with others of a tally: the tally.
    pub alone: Option<usize>,
    /// Buckets that these pods are in.
    pub buckets: Vec<usize>,
    /// A first idea of what one of them is worth, in nano-USD.
    pub worth: u64,
}

/// An offering that nothing cheaper dominates.
#[derive(Clone, Debug)]
pub(super) struct Sale<const D: usize> {
    pub offering: usize,
    /// In nano-USD.
    pub price: u64,
    pub room: Amounts<D>,
    /// Kinds of pods of which it holds one.
    pub kinds: Vec<usize>,
}

/// A pattern and how often it is to be used.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub offering: usize,
    /// Kinds and pods of them.
    pub pods: Vec<(usize, u32)>,
    pub times: u32,
}

/// What the program found.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    /// By kind: what one more pod costs, in nano-USD.
    pub worth: Vec<u64>,
    pub planned: Vec<Planned>,
}

/// What the search knows of one sale.
#[derive(Clone, Copy, Debug)]
struct Habit<const D: usize> {
    /// Rounds for which it is left aside, and for how many the next time.
    asleep: u32,
    next: u32,
    /// Prices of its resources when it was looked at last.
    unit: UnitPrices<D>,
}

/// A sale, what it may hold, and at which prices.
type Promise<const D: usize> = (usize, Vec<Choice<D>>, UnitPrices<D>);

struct Search<'a, const D: usize> {
    kinds: &'a [Kind<D>],
    sales: &'a [Sale<D>],
    habits: Vec<Habit<D>>,
    master: Master,
    /// Sale and pods of each column after the first, which are not patterns.
    patterns: Vec<(usize, Vec<(usize, u32)>)>,
    steps: u64,
}

impl Program {
    /// Searches patterns for at most so many rounds. `None`: some kind fits on no sale.
    pub(super) fn search<const D: usize>(
        kinds: &[Kind<D>],
        sales: &[Sale<D>],
        rounds: u32,
        steps: &mut u64,
    ) -> Option<Self> {
        let mut search = Search::new(kinds, sales)?;
        let mut steady: Vec<u64> = kinds.iter().map(|kind| kind.worth + kind.worth / 5).collect();
        search.extend(&steady);
        let (mut value, mut idle) = (f64::MAX, 0);
        for _ in 0..rounds {
            search.solve();
            let exact = search.worth();
            for (steady, exact) in steady.iter_mut().zip(&exact) {
                *steady = *steady / 2 + *exact / 2;
            }
            // Worths jump about from round to round; what they were before keeps the search steady.
            if !search.extend(&steady) {
                steady.clone_from(&exact);
                if !search.extend(&exact) {
                    break;
                }
            }
            let now = search.master.value();
            idle = if now > value - value * LEAST_GAIN { idle + 1 } else { 0 };
            value = now;
            if idle == 3 {
                break;
            }
        }
        search.solve();
        *steps += search.steps;
        Some(search.finish())
    }
}

impl<'a, const D: usize> Search<'a, D> {
    fn new(kinds: &'a [Kind<D>], sales: &'a [Sale<D>]) -> Option<Self> {
        let mut alone: Vec<Option<u64>> = vec![None; kinds.len()];
        for sale in sales {
            for &kind in &sale.kinds {
                let of = &kinds[kind];
                let most = if of.alone.is_some() { 1 } else { of.req.times_in(&sale.room).min(of.count) };
                let each = sale.price.div_ceil(u64::from(most.max(1)));
                alone[kind] = Some(alone[kind].map_or(each, |old| old.min(each)));
            }
        }
        let least = sales.iter().map(|sale| sale.price).min().unwrap_or(0);
        let mut costs = Vec::with_capacity(kinds.len());
        for (kind, each) in kinds.iter().zip(alone) {
            let of_machine = if kind.alone.is_some() { least } else { 0 };
            let missing = (kind.worth / 100).saturating_mul(MISSING).saturating_add(of_machine);
            costs.push(each?.min(missing).max(1) as f64);
        }
        let wants: Vec<f64> = kinds.iter().map(|kind| f64::from(kind.count)).collect();
        let habits = vec![Habit { asleep: 0, next: 1, unit: [1; D] }; sales.len()];
        let (master, patterns) = (Master::new(&wants, &costs), Vec::new());
        Some(Self { kinds, sales, habits, master, patterns, steps: 0 })
    }

    fn solve(&mut self) {
        let pivots = self.master.solve(PIVOTS);
        self.steps += u64::from(pivots) * (self.kinds.len() * self.kinds.len()) as u64 / 16;
    }

    fn worth(&self) -> Vec<u64> {
        self.master.duals.iter().map(|dual| dual.max(1.0) as u64).collect()
    }

    fn choices(&self, sale: &Sale<D>, worth: &[u64]) -> Vec<Choice<D>> {
        let one = |&kind: &usize| {
            let of = &self.kinds[kind];
            Choice { kind, req: of.req, worth: worth[kind].max(1), most: of.count, alone: of.alone }
        };
        sale.kinds.iter().map(one).collect()
    }

    /// Sales that may hold more than they cost, the most promising first, with what they may hold and at which prices.
    fn promising(&mut self, worth: &[u64]) -> Vec<Promise<D>> {
        let mut found: Vec<(u128, usize, Vec<Choice<D>>, UnitPrices<D>)> = Vec::new();
        for at in 0..self.sales.len() {
            let (sale, habit) = (&self.sales[at], self.habits[at]);
            if habit.asleep > 0 {
                self.habits[at].asleep -= 1;
                continue;
            }
            let choices = self.choices(sale, worth);
            self.steps += choices.len() as u64;
            let enough = sale.price + sale.price / 10_000;
            // Prices of the last time may do: then there is no need for better ones.
            if most_worth(&raised(habit.unit, &choices), &choices, &sale.room) <= enough {
                continue;
            }
            let unit = prices(&choices, &sale.room);
            self.habits[at].unit = unit;
            let most = most_worth(&unit, &choices, &sale.room);
            if most > enough {
                found.push(((u128::from(most) << 20) / u128::from(sale.price.max(1)), at, choices, unit));
            }
        }
        found.sort_by_key(|(promise, at, ..)| (std::cmp::Reverse(*promise), *at));
        found.into_iter().map(|(_, at, choices, unit)| (at, choices, unit)).collect()
    }

    /// Adds patterns that are worth more than their machine: the best with each kind and those of the best sales.
    /// `false`: there are none.
    fn extend(&mut self, worth: &[u64]) -> bool {
        let mut promising = self.promising(worth);
        for some in promising.chunks_mut(AT_ONCE) {
            let new = self.patterns_of(some);
            if !new.is_empty() {
                for (sale, pods) in new {
                    let entries = pods.iter().map(|(kind, n)| (*kind, f64::from(*n)));
                    self.master.add((self.sales[sale].price as f64).max(1.0), entries);
                    self.patterns.push((sale, pods));
                }
                return true;
            }
        }
        for habit in &mut self.habits {
            habit.asleep = 0;
        }
        false
    }

    fn patterns_of(&mut self, sales: &mut [Promise<D>]) -> Vec<(usize, Vec<(usize, u32)>)> {
        let mut by_kind: Vec<Option<(f64, usize)>> = vec![None; self.kinds.len()];
        let mut by_sale: Vec<(f64, usize)> = Vec::new();
        let mut found: Vec<(usize, Vec<(usize, u32)>)> = Vec::new();
        for (at, choices, unit) in sales {
            let limit = Limit::at(*unit, choices);
            let (sale, duals) = (&self.sales[*at], &self.master.duals);
            let mut best: Option<(f64, usize)> = None;
            let mut search = Knapsack::new(choices, &limit);
            search.sample(&sale.room, sale.price - sale.price / 100, SHARE, |mix, first| {
                let gain: f64 =
                    mix.iter().map(|(choice, n)| duals[choices[*choice].kind] * f64::from(*n)).sum();
                let gain = gain / sale.price.max(1) as f64;
                let kind = &mut by_kind[choices[first].kind];
                let is_best = best.is_none_or(|old| gain > old.0);
                if gain > 1.000_01 && (is_best || kind.is_none_or(|old| gain > old.0)) {
                    if kind.is_none_or(|old| gain > old.0) {
                        *kind = Some((gain, found.len()));
                    }
                    if is_best {
                        best = Some((gain, found.len()));
                    }
                    found.push((*at, merged(mix.iter().map(|(choice, n)| (choices[*choice].kind, *n)))));
                }
            });
            self.steps += search.steps;
            by_sale.extend(best);
            let habit = &mut self.habits[*at];
            (habit.asleep, habit.next) = match best {
                Some(_) => (0, 1),
                None => (habit.next, (habit.next * 2 + 1).min(LONGEST_SLEEP)),
            };
        }
        by_sale.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        by_sale.truncate(BEST_SALES);
        let mut kept: Vec<usize> = by_kind.into_iter().flatten().chain(by_sale).map(|(_, at)| at).collect();
        kept.sort_unstable();
        kept.dedup();
        kept.into_iter().map(|at| found[at].clone()).collect()
    }

    fn finish(&self) -> Program {
        let mut planned = Vec::new();
        for (column, level) in self.master.used() {
            let Some(at) = column.checked_sub(self.kinds.len()) else { continue };
            let (sale, pods) = &self.patterns[at];
            // Exact numbers of machines may come out a little smaller.
            let times = (level + 0.001) as u32;
            if level > 0.01 {
                planned.push(Planned { offering: self.sales[*sale].offering, pods: pods.clone(), times });
            }
        }
        Program { worth: self.worth(), planned }
    }
}

/// Kinds and pods of them, each kind once.
fn merged(pods: impl Iterator<Item = (usize, u32)>) -> Vec<(usize, u32)> {
    let mut all: Vec<(usize, u32)> = Vec::new();
    for (kind, n) in pods {
        match all.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, count)) => *count += n,
            None => all.push((kind, n)),
        }
    }
    all
}
