//! New machines for pods that have no place: which, how many, and what goes where, at the least price.
//!
//! Owns the optimiser. It knows numbers only: [`Problem`] in, [`Answer`] out; compiling the cluster into numbers and
//! attaching names again is the callers'. It is pure, uses integers only and one thread, and counts its work in steps,
//! so equal problems give equal answers on every machine. The algorithm and its sources are in `docs/packing.md`.
//!
//! How to call it: intern resources (the pod itself is one), topology keys (hostname is number 0), tallies (one for
//! each selector and key that a rule names), kinds of existing nodes and offerings; sort every list by name; fill in
//! [`Problem`]; call [`solve`] with an [`Effort`]. [`Answer`] names what was passed in by its index.
//!
//! One solve, top to bottom ([`solve`]):
//! 1. `existing`: room that is there is used first.
//! 2. `regions`: pods with topology rules are split over zones.
//! 3. `rates`: weights of the resources, worth of each pod, and the lower bound.
//! 4. `sales`, `columns`: patterns of a linear program, used as often as it says (`simplex`, `knapsack`);
//!    `open`: machines that anti-affinity forces, then the cheapest for their worth, filled by patterns (`fill`).
//! 5. `insert`: what is left, pod by pod, at the least price increment; preferences are given up here.
//! 6. `improve`: local search within the budget.

mod amounts;
mod answer;
mod bits;
mod bound;
mod catalog;
mod columns;
mod existing;
mod fill;
mod host;
mod improve;
mod insert;
mod knapsack;
mod open;
mod problem;
mod rates;
mod refusals;
mod regions;
mod sales;
mod simplex;
mod stages;
mod state;
mod units;
mod zones;

pub use answer::{Answer, Machine, Placed, Unplaced};
pub use bits::BitSet;
pub use problem::{Class, HOSTNAME, NO_DOMAIN, Offering, Pool, Problem, Rule, Soft, Spot, Tally};
pub use refusals::{Refusal, Refusals};

use open::Market;
use state::State;

/// How much work a solve may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Steps of local search after the first answer. A step is one probe, some ten nanoseconds.
    pub steps: u64,
    /// Stop when the price is within this many thousandths of the bound.
    pub close_permille: u64,
}

impl Default for Effort {
    /// A millisecond or so of search, until the bound is met within half a percent.
    fn default() -> Self {
        Self { steps: 100_000, close_permille: 5 }
    }
}

/// With so many steps of search there is time for two first answers.
const PROGRAM_STEPS: u64 = 2_000_000;
/// More resources than this in one problem are refused.
pub const MAX_RESOURCES: usize = 32;

/// Why a problem cannot be solved at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SolveError {
    #[error(
        "the pods ask for {0} different resources, of which planning can hold {MAX_RESOURCES}: plan for fewer kinds of pods at once"
    )]
    TooManyResources(usize),
}

/// Places the pods of a problem on existing nodes and new machines.
pub fn solve(problem: &Problem, effort: Effort) -> Result<Answer, SolveError> {
    match problem.resources {
        0..=4 => Ok(run::<4>(problem, effort)),
        5..=8 => Ok(run::<8>(problem, effort)),
        9..=MAX_RESOURCES => Ok(run::<MAX_RESOURCES>(problem, effort)),
        more => Err(SolveError::TooManyResources(more)),
    }
}

/// What pods cost at the margin, and on what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineWorths {
    /// By class, in nano-USD an hour: what one of its pods costs where it is cheapest.
    pub worth: Vec<u64>,
    /// By class: index into `useful`.
    pub choice: Vec<usize>,
    /// Offerings that nothing cheaper dominates, ascending; classes that may use the same offerings share a list.
    pub useful: Vec<Vec<usize>>,
}

/// Prices the pods of a problem without placing them.
pub fn worths(problem: &Problem) -> Result<MachineWorths, SolveError> {
    match problem.resources {
        0..=4 => Ok(price::<4>(problem)),
        5..=8 => Ok(price::<8>(problem)),
        9..=MAX_RESOURCES => Ok(price::<MAX_RESOURCES>(problem)),
        more => Err(SolveError::TooManyResources(more)),
    }
}

fn price<const D: usize>(problem: &Problem) -> MachineWorths {
    let mut state = State::<D>::new(problem);
    state.place_on_existing();
    state.zones.open(problem);
    state.split();
    let _market = state.market();
    let mut found = MachineWorths::default();
    let mut profiles: Vec<usize> = Vec::new();
    for class in 0..problem.classes.len() {
        let bucket = &state.units.buckets[state.units.variants[class].bucket];
        found.worth.push(bucket.worth);
        let known = profiles.iter().position(|profile| *profile == bucket.profile);
        found.choice.push(known.unwrap_or(profiles.len()));
        if known.is_none() {
            profiles.push(bucket.profile);
        }
    }
    for profile in profiles {
        let mut best = state.catalog.best_of(profile, false);
        best.sort_unstable();
        found.useful.push(best);
    }
    found
}

/// Opens machines by the patterns of a linear program where many alike pods are free to share machines, one good
/// pattern at a time where anti-affinity decides; both ways, and the cheaper answer, where there is time to search.
fn first_answer<const D: usize>(mut state: State<'_, D>, effort: Effort) -> (State<'_, D>, Market) {
    let market = state.market();
    let searching = effort.steps >= PROGRAM_STEPS;
    let mut planned = None;
    if state.suits_program(&market, searching) {
        let mut other = state.clone();
        planned = other.program(&market).map(|market| (other, market));
    }
    if let Some((other, market)) = &mut planned {
        other.open_machines(market);
        other.place_rest();
    }
    match planned {
        Some(found) if !searching => found,
        planned => {
            state.open_machines(&market);
            state.place_rest();
            match planned {
                Some(other) if other.0.merit() < state.merit() => other,
                _ => (state, market),
            }
        }
    }
}

fn run<const D: usize>(problem: &Problem, effort: Effort) -> Answer {
    let mut state = State::<D>::new(problem);
    state.place_on_existing();
    state.zones.open(problem);
    state.split();
    let (mut state, market) = first_answer(state, effort);
    let bound = whole(problem, state.bound());
    state.improve(&market, bound, effort);
    let mut answer = state.answer();
    answer.bound = bound.min(answer.price);
    answer.unplaced = state.unplaced();
    answer
}

/// Machines are bought whole, so every plan costs a multiple of what all prices are multiples of.
fn whole(problem: &Problem, bound: u64) -> u64 {
    let prices =
        problem.offerings.iter().filter(|offering| offering.available).map(|offering| offering.price);
    let step = prices.fold(0, gcd);
    bound.checked_next_multiple_of(step).unwrap_or(bound)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
