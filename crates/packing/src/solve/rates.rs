//! What resources cost at the margin, and the lower bound that follows from it.
//!
//! Owns a linear program in its smallest form. Give each resource a weight; let a machine's worth be its weighted
//! room. Each profile then has a price per worth, that of its best offering, and no placement pays less for the pods
//! of that profile: `price of plan >= sum over pods of (their worth x the least price per worth that they may get)`.
//! Every choice of weights gives a valid bound, so the search for good weights may be as rough as it likes. A fixed
//! part of each machine's price is counted apart: it is paid at least as often as anti-affinity forces machines.

use super::amounts::Amounts;

/// Weights add up to this.
const WEIGHTS: u64 = 1024;
/// Worth of all pods together when one resource has all the weight.
const WORTH_BITS: u32 = 40;
/// Evened weights may lose this part of the bound (1/40).
const EVEN_SHARE: u64 = 40;
/// Fraction bits of a price per worth.
const PRICE_BITS: u32 = 60;

/// Pods of one profile together.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    /// By resource, of all pods of the profile.
    pub sum: Vec<u128>,
    /// Room and price of the offerings that the profile allows and nothing dominates.
    pub offers: Vec<usize>,
}

/// Weights, and the fixed part of a machine's price in micro-USD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    pub weights: Vec<u64>,
    pub fixed: u64,
    /// The bound that they give, in micro-USD.
    pub bound: u64,
    totals: Vec<u128>,
}

/// Offerings as shares of the total demand, so that the search only multiplies small numbers.
struct Shares {
    /// By offering: (price, share of the total demand by resource, rounded up).
    offers: Vec<(u64, Vec<u128>)>,
    /// By profile: (share of the total demand by resource, rounded down; offerings).
    demands: Vec<(Vec<u128>, Vec<usize>)>,
}

impl Rates {
    /// Searches weights for a high bound. `forced` machines are needed in any case.
    pub(super) fn search<const D: usize>(
        demands: &[Demand],
        offer: impl Fn(usize) -> (Amounts<D>, u64),
        resources: usize,
        forced: u32,
    ) -> Self {
        let mut totals = vec![0u128; resources];
        for demand in demands {
            for (total, sum) in totals.iter_mut().zip(&demand.sum) {
                *total += sum;
            }
        }
        let shares = Shares::new(demands, offer, &totals);
        let coarse = shares.sample();
        let used: Vec<usize> = (0..resources).filter(|at| totals[*at] > 0).collect();
        let mut best = Self { weights: vec![0; resources], fixed: 0, bound: 0, totals };
        if used.is_empty() {
            return best;
        }
        for at in &used {
            best.weights[*at] = WEIGHTS / used.len() as u64;
        }
        best.weights[used[0]] += WEIGHTS % used.len() as u64;
        for _ in 0..2 {
            best.fix(&coarse, forced);
            let mut step = WEIGHTS / 4;
            while step > 0 {
                if !best.shift(&coarse, &used, step, forced) {
                    step /= 2;
                }
            }
        }
        best.fix(&shares, forced);
        best
    }

    /// Tries to move weight from one resource to another; `true` if that raised the bound.
    fn shift(&mut self, shares: &Shares, used: &[usize], step: u64, forced: u32) -> bool {
        for &from in used {
            for &to in used {
                // What is less than a step moves whole: scarce resources must get all the weight in the end.
                let step = step.min(self.weights[from]);
                if from == to || step == 0 {
                    continue;
                }
                let mut next = self.clone();
                next.weights[from] -= step;
                next.weights[to] += step;
                next.bound = next.value(shares, next.fixed, forced);
                if next.bound > self.bound {
                    *self = next;
                    return true;
                }
            }
        }
        false
    }

    /// Finds the fixed part that gives the highest bound: the bound is concave in it.
    fn fix(&mut self, shares: &Shares, forced: u32) {
        let least = shares.offers.iter().map(|(price, _)| *price).min().unwrap_or(0);
        let (mut low, mut high) = (0, if forced == 0 { 0 } else { least });
        let near = least / 4096 + 1;
        while high - low > near {
            let middle = low + (high - low) / 2;
            let rises = self.value(shares, middle + near, forced) > self.value(shares, middle, forced);
            if rises { low = middle } else { high = middle }
        }
        let found = [0, low, high].map(|fixed| (self.value(shares, fixed, forced), fixed));
        (self.bound, self.fixed) = found.into_iter().max().unwrap_or((0, 0));
    }

    /// The evenest weights whose bound is nearly as high: they also value what is almost scarce.
    #[must_use]
    pub(super) fn evened<const D: usize>(
        &self,
        demands: &[Demand],
        offer: impl Fn(usize) -> (Amounts<D>, u64),
    ) -> Self {
        let shares = Shares::new(demands, offer, &self.totals).sample();
        let enough = self.bound - self.bound / EVEN_SHARE;
        let base = self.value(&shares, self.fixed, 0);
        let mut best = self.clone();
        let step = WEIGHTS / 32;
        let used: Vec<usize> = (0..self.totals.len()).filter(|at| self.totals[*at] > 0).collect();
        loop {
            let mut moved = false;
            for &from in &used {
                for &to in &used {
                    if best.weights[from] < best.weights[to] + 2 * step {
                        continue;
                    }
                    let mut next = best.clone();
                    next.weights[from] -= step;
                    next.weights[to] += step;
                    next.bound = (next.value(&shares, next.fixed, 0) + self.bound).saturating_sub(base);
                    if next.bound >= enough {
                        best = next;
                        moved = true;
                    }
                }
            }
            if !moved {
                return best;
            }
        }
    }

    fn value(&self, shares: &Shares, fixed: u64, forced: u32) -> u64 {
        let price_of = |offer: &usize| {
            let (price, share) = &shares.offers[*offer];
            let worth: u128 = share.iter().zip(&self.weights).map(|(s, w)| s * u128::from(*w)).sum();
            (u128::from(price.saturating_sub(fixed)) << PRICE_BITS).checked_div(worth).unwrap_or(u128::MAX)
        };
        let mut sum = u128::from(fixed) * u128::from(forced);
        for (share, offers) in &shares.demands {
            let worth: u128 = share.iter().zip(&self.weights).map(|(s, w)| s * u128::from(*w)).sum();
            let price = offers.iter().map(price_of).min().unwrap_or(0);
            sum = sum.saturating_add(mul_shift(worth, price));
        }
        u64::try_from(sum).unwrap_or(0)
    }

    /// What a pod costs at the margin in nano-USD, where the best offering of its profile has this price per worth.
    pub(super) fn worth<const D: usize>(&self, req: &Amounts<D>, price_per_worth: u128) -> u64 {
        let worth = self.weigh(req, false);
        u64::try_from(mul_shift(worth.saturating_mul(1000), price_per_worth)).unwrap_or(u64::MAX)
    }

    fn weigh<const D: usize>(&self, amounts: &Amounts<D>, up: bool) -> u128 {
        let one = |(at, weight): (usize, &u64)| {
            share(u128::from(amounts.0[at]), self.totals[at], up) * u128::from(*weight)
        };
        self.weights.iter().enumerate().map(one).sum()
    }

    /// Price per worth of one offering, above the fixed part.
    pub(super) fn price_per_worth<const D: usize>(&self, room: &Amounts<D>, price: u64) -> u128 {
        let worth = self.weigh(room, true);
        (u128::from(price.saturating_sub(self.fixed)) << PRICE_BITS).checked_div(worth).unwrap_or(u128::MAX)
    }
}

/// Offerings of one demand that the search looks at.
const SAMPLE: usize = 48;

impl Shares {
    /// Fewer offerings for the search; what it finds is valued with all of them.
    fn sample(&self) -> Self {
        let thin = |offers: &Vec<usize>| -> Vec<usize> {
            let last = offers.len().saturating_sub(1);
            let stride = (offers.len() / SAMPLE).max(1);
            let chosen = offers.iter().enumerate().filter(|(at, _)| at % stride == 0 || *at == last);
            chosen.map(|(_, ix)| *ix).collect()
        };
        let demands = self.demands.iter().map(|(share, offers)| (share.clone(), thin(offers))).collect();
        Self { offers: self.offers.clone(), demands }
    }

    fn new<const D: usize>(
        demands: &[Demand],
        offer: impl Fn(usize) -> (Amounts<D>, u64),
        totals: &[u128],
    ) -> Self {
        let mut known = std::collections::BTreeMap::new();
        let mut offers = Vec::new();
        let mut out = Vec::new();
        for demand in demands {
            let mut at = Vec::new();
            for ix in &demand.offers {
                let (room, price) = offer(*ix);
                at.push(*known.entry((price, room)).or_insert_with(|| {
                    let parts = totals.iter().enumerate();
                    offers.push((
                        price,
                        parts.map(|(r, total)| share(u128::from(room.0[r]), *total, true)).collect(),
                    ));
                    offers.len() - 1
                }));
            }
            let parts = demand.sum.iter().zip(totals).map(|(sum, total)| share(*sum, *total, false));
            out.push((parts.collect(), at));
        }
        Self { offers, demands: out }
    }
}

/// `part` of `total`, of which all is `1 << WORTH_BITS`.
fn share(part: u128, total: u128, up: bool) -> u128 {
    let scaled = part << WORTH_BITS;
    if total == 0 {
        0
    } else if up {
        scaled.div_ceil(total)
    } else {
        scaled / total
    }
}

/// `worth * price >> PRICE_BITS`, rounded down; what does not fit is no bound at all.
fn mul_shift(worth: u128, price: u128) -> u128 {
    worth.checked_mul(price).map_or(0, |product| product >> PRICE_BITS)
}
