//! What pods cost at the margin, and the lower bound that follows from it.
//!
//! Owns the dual of a linear program: cut machines into fractions, and let every resource of every offering have a
//! price, so that the room of one machine costs what the machine costs. A pod is then worth what it costs on the
//! offering where it is cheapest, and no placement of the pods can cost less than all their worths: on each machine
//! they add up to at most its price. Any prices give a valid bound, so the search for good ones may be rough: in each
//! round every pod chooses its cheapest offering, and the resources that are in demand there become dearer
//! (multiplicative weights). A fixed part of each machine's price is kept apart: it is paid at least as often as
//! anti-affinity forces machines.

use super::amounts::Amounts;

/// Weights of one offering add up to this.
const ONE: u64 = 1 << 20;
/// The parts of a direction add up to this.
const PARTS: u64 = 1024;
/// Fraction bits of amounts, as shares of the largest room.
const SHARE_BITS: u32 = 34;
/// Rounds of the search.
const ROUNDS: u32 = 40;
/// Rounds without a better bound after which the search ends.
const IDLE_ROUNDS: u32 = 14;
/// Offerings of one ask that the search looks at.
const SAMPLE: usize = 24;
/// Worths come from the first round whose bound is within this part of the best (1/80): early weights are even, so
/// that what is almost scarce is worth something as well.
const EVEN_PART: u128 = 80;

/// Pods that ask for the same.
#[derive(Clone, Debug)]
pub(super) struct Ask<const D: usize> {
    pub req: Amounts<D>,
    pub count: u32,
    /// Offerings that may hold one of them, by their numbers.
    pub offers: Vec<usize>,
}

/// Prices of one unit of each resource in nano-USD, shifted by [`UNIT_BITS`].
pub(super) type UnitPrices<const D: usize> = [u64; D];

/// Fraction bits of the price of one unit.
pub(super) const UNIT_BITS: u32 = 24;

/// What the search found.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    /// The bound in micro-USD.
    pub bound: u64,
    /// By ask: worth of one pod in nano-USD, as the bound counts it.
    pub strict: Vec<u64>,
    /// By ask: worth of one pod in nano-USD, from evener prices.
    pub even: Vec<u64>,
    /// By ask: offerings that its pods chose, in ascending order.
    pub chosen: Vec<Vec<usize>>,
}

#[derive(Clone)]
struct Offer<const D: usize> {
    price: u64,
    room: Amounts<D>,
    number: usize,
    weights: [u64; D],
}

/// Offerings dearer for a pod by less than this part (1/16) count as chosen when prices are changed.
const NEAR_PART: u64 = 16;

/// One state of the search.
#[derive(Clone)]
struct Search<'a, const D: usize> {
    asks: &'a [Ask<D>],
    offers: Vec<Offer<D>>,
    /// By ask: offers that may hold it.
    allowed: Vec<Vec<usize>>,
    /// By ask: share of the largest room, by resource.
    shares: Vec<[u64; D]>,
    most: Amounts<D>,
    /// Nano-USD of each machine that is not the pods'.
    fixed: u64,
    forced: u32,
    worth: Vec<u64>,
    choice: Vec<usize>,
}

impl Rates {
    /// Searches prices for a high bound. `forced` machines are needed in any case.
    pub(super) fn search<const D: usize>(
        asks: &[Ask<D>],
        offer: impl Fn(usize) -> (u64, Amounts<D>),
        forced: u32,
    ) -> Self {
        let mut best = Self { chosen: vec![Vec::new(); asks.len()], ..Self::default() };
        if asks.is_empty() {
            return best;
        }
        let mut search = Search::new(asks, offer, forced);
        let mut full = search.clone();
        search.thin(if forced == 0 { 4 * SAMPLE } else { SAMPLE });
        search.fix();
        let direction = search.direct();
        search.fix();
        let common = search.evaluate();
        let (highest, trained) = search.train(&mut best.chosen);
        for chosen in &mut best.chosen {
            chosen.sort_unstable();
            chosen.dedup();
        }
        // Valid are only bounds over all offerings: those left out above get prices along the direction.
        let fixed = search.fixed;
        full.fixed = fixed;
        full.follow(&direction);
        let along = full.evaluate();
        best.strict.clone_from(&full.worth);
        best.bound = u64::try_from(along / 1000).unwrap_or(0);
        full.learn(&trained);
        let value = full.evaluate();
        if value > along {
            best.strict.clone_from(&full.worth);
            best.bound = u64::try_from(value / 1000).unwrap_or(0);
        }
        let enough = highest - highest / EVEN_PART;
        if common >= enough {
            let even = search.even_out(direction, enough);
            full.follow(&even);
        }
        full.evaluate();
        best.even.clone_from(&full.worth);
        best
    }
}

impl<'a, const D: usize> Search<'a, D> {
    fn new(asks: &'a [Ask<D>], offer: impl Fn(usize) -> (u64, Amounts<D>), forced: u32) -> Self {
        let mut most = Amounts::<D>([1; D]);
        let mut used = [false; D];
        for ask in asks {
            for (used, req) in used.iter_mut().zip(&ask.req.0) {
                *used |= *req > 0;
            }
        }
        let numbers = asks.iter().flat_map(|ask| &ask.offers).max().map_or(0, |number| number + 1);
        let mut known = vec![usize::MAX; numbers];
        let mut offers: Vec<Offer<D>> = Vec::new();
        let mut allowed = Vec::new();
        for ask in asks {
            let mut here = Vec::with_capacity(ask.offers.len());
            for &number in &ask.offers {
                if known[number] == usize::MAX {
                    let (price, room) = offer(number);
                    for (most, room) in most.0.iter_mut().zip(&room.0) {
                        *most = (*most).max(*room);
                    }
                    known[number] = offers.len();
                    offers.push(Offer { price, room, number, weights: even_weights(&room, &used) });
                }
                here.push(known[number]);
            }
            allowed.push(here);
        }
        let share = |ask: &Ask<D>| {
            let mut share = [0; D];
            for ((share, req), most) in share.iter_mut().zip(&ask.req.0).zip(&most.0) {
                *share = ((u128::from(*req) << SHARE_BITS) / u128::from(*most)) as u64;
            }
            share
        };
        let shares = asks.iter().map(share).collect();
        let (worth, choice) = (vec![0; asks.len()], vec![usize::MAX; asks.len()]);
        Self { asks, offers, allowed, shares, most, fixed: 0, forced, worth, choice }
    }

    /// Price of the largest room of each resource on one offering, in nano-USD.
    fn prices(&self, offer: &Offer<D>, fixed: u64) -> [u64; D] {
        let mut prices = [0; D];
        let price = u128::from((offer.price * 1000).saturating_sub(fixed));
        for (at, to) in prices.iter_mut().enumerate() {
            let weighed = price * u128::from(offer.weights[at]) / u128::from(ONE);
            let scaled = (weighed * u128::from(self.most.0[at])).checked_div(u128::from(offer.room.0[at]));
            *to = u64::try_from(scaled.unwrap_or(0)).unwrap_or(0);
        }
        prices
    }

    /// Works out the worth of all pods and their choices. Returns the bound in nano-USD.
    fn evaluate(&mut self) -> u128 {
        self.value(self.fixed)
    }

    fn value(&mut self, fixed: u64) -> u128 {
        let prices: Vec<[u64; D]> = self.offers.iter().map(|offer| self.prices(offer, fixed)).collect();
        let mut sum = u128::from(fixed) * u128::from(self.forced);
        for (at, ask) in self.asks.iter().enumerate() {
            let share = &self.shares[at];
            let mut best = (u64::MAX, usize::MAX);
            for &offer in &self.allowed[at] {
                let cost: u128 =
                    prices[offer].iter().zip(share).map(|(p, s)| u128::from(*p) * u128::from(*s)).sum();
                let cost = u64::try_from(cost >> SHARE_BITS).unwrap_or(u64::MAX);
                best = best.min((cost, offer));
            }
            let worth = if best.1 == usize::MAX { 0 } else { best.0 };
            self.worth[at] = worth;
            self.choice[at] = best.1;
            sum += u128::from(worth) * u128::from(ask.count);
        }
        sum
    }

    /// Lets the search look at fewer offerings of each ask.
    fn thin(&mut self, most: usize) {
        for allowed in &mut self.allowed {
            let stride = allowed.len().div_ceil(most).max(1);
            let last = allowed.last().copied();
            let mut kept: Vec<usize> = allowed.iter().step_by(stride).copied().collect();
            kept.extend(last.filter(|last| kept.last() != Some(last)));
            *allowed = kept;
        }
    }

    /// Rounds of choosing and adapting. Returns the highest value with its weights; notes who chose what.
    fn train(&mut self, chosen: &mut [Vec<usize>]) -> (u128, Vec<[u64; D]>) {
        let weights = |offers: &[Offer<D>]| offers.iter().map(|offer| offer.weights).collect();
        let mut best: (u128, Vec<[u64; D]>) = (self.evaluate(), weights(&self.offers));
        let mut idle = 0;
        for round in 0..ROUNDS {
            self.adapt(round);
            let value = self.evaluate();
            idle += 1;
            if value > best.0 + best.0 / 10_000 {
                best = (value, weights(&self.offers));
                idle = 0;
            }
            if idle > IDLE_ROUNDS {
                return best;
            }
            if round >= ROUNDS / 4 {
                for (chosen, choice) in chosen.iter_mut().zip(&self.choice) {
                    chosen.extend(self.offers.get(*choice).map(|offer| offer.number));
                }
            }
        }
        best
    }

    /// Takes over weights that another search over the same asks found, where it changed them.
    fn learn(&mut self, weights: &[[u64; D]]) {
        for (offer, weights) in self.offers.iter_mut().zip(weights) {
            offer.weights = *weights;
        }
    }

    /// Gives all offerings weights in proportion to their room along one direction.
    fn follow(&mut self, direction: &[u64; D]) {
        for offer in &mut self.offers {
            for (((weight, room), most), part) in
                offer.weights.iter_mut().zip(&offer.room.0).zip(&self.most.0).zip(direction)
            {
                *weight = (u128::from(*room) * u128::from(*part) * (1 << 20) / u128::from(*most)) as u64;
            }
            normalise(&mut offer.weights);
        }
    }

    fn value_of(&mut self, direction: &[u64; D]) -> u128 {
        self.follow(direction);
        self.evaluate()
    }

    /// Searches one direction for all offerings, moving ever smaller parts from one resource to another.
    fn direct(&mut self) -> [u64; D] {
        let used: Vec<usize> = (0..D).filter(|at| self.asks.iter().any(|ask| ask.req.0[*at] > 0)).collect();
        let mut best = [0; D];
        for at in &used {
            best[*at] = PARTS / used.len() as u64;
        }
        let mut highest = self.value_of(&best);
        let mut step = PARTS / 4;
        while step > 0 {
            let mut moved = false;
            for (from, to) in used.iter().flat_map(|from| used.iter().map(move |to| (*from, *to))) {
                // What is less than a step moves whole: scarce resources must get all the weight in the end.
                let step = step.min(best[from]);
                let mut next = best;
                next[from] -= step;
                next[to] += step;
                if from != to && step > 0 {
                    let value = self.value_of(&next);
                    if value > highest {
                        (highest, best, moved) = (value, next, true);
                    }
                }
            }
            if !moved {
                step /= 4;
            }
        }
        self.follow(&best);
        best
    }

    /// The evenest direction whose bound is still high enough.
    fn even_out(&mut self, mut best: [u64; D], enough: u128) -> [u64; D] {
        let used: Vec<usize> = (0..D).filter(|at| self.asks.iter().any(|ask| ask.req.0[*at] > 0)).collect();
        let step = PARTS / 32;
        loop {
            let mut moved = false;
            for (from, to) in used.iter().flat_map(|from| used.iter().map(move |to| (*from, *to))) {
                if best[from] < best[to] + 2 * step {
                    continue;
                }
                let mut next = best;
                next[from] -= step;
                next[to] += step;
                if self.value_of(&next) >= enough {
                    (best, moved) = (next, true);
                }
            }
            if !moved {
                return best;
            }
        }
    }

    /// Finds the fixed part that gives the highest bound: the bound is concave in it.
    fn fix(&mut self) {
        if self.forced == 0 {
            return;
        }
        let least = self.offers.iter().map(|offer| offer.price * 1000).min().unwrap_or(0);
        let (mut low, mut high) = (0, least);
        let near = least / 1024 + 1;
        while high - low > near {
            let middle = low + (high - low) / 2;
            if self.value(middle + near) > self.value(middle) { low = middle } else { high = middle }
        }
        let found = [0, low, high].map(|fixed| (self.value(fixed), fixed));
        self.fixed = found.into_iter().max().map_or(0, |(_, fixed)| fixed);
    }

    /// Makes resources dearer where pods that chose an offering ask for more of them than of others.
    fn adapt(&mut self, round: u32) {
        let prices: Vec<[u64; D]> = self.offers.iter().map(|offer| self.prices(offer, self.fixed)).collect();
        let mut loads = vec![[0u128; D]; self.offers.len()];
        for (at, ask) in self.asks.iter().enumerate() {
            // Offerings that are nearly as cheap learn as well, or they would be chosen next with untaught prices.
            let near = self.worth[at] + self.worth[at] / NEAR_PART;
            for &offer in &self.allowed[at] {
                let share = prices[offer].iter().zip(&self.shares[at]);
                let cost: u128 = share.map(|(p, s)| u128::from(*p) * u128::from(*s)).sum();
                if (cost >> SHARE_BITS) as u64 <= near {
                    for (load, req) in loads[offer].iter_mut().zip(&ask.req.0) {
                        *load += u128::from(*req) * u128::from(ask.count);
                    }
                }
            }
        }
        for (offer, load) in self.offers.iter_mut().zip(&loads) {
            let mut parts = [0u128; D];
            for ((part, load), room) in parts.iter_mut().zip(load).zip(&offer.room.0) {
                *part = (load << 20).checked_div(u128::from(*room)).unwrap_or(0);
            }
            let highest = parts.iter().copied().max().unwrap_or(0);
            if highest == 0 {
                continue;
            }
            for (weight, part) in offer.weights.iter_mut().zip(&parts) {
                // From 1 for the scarcest down to 1 - step for what nobody asks for; steps become smaller.
                let lack = ((highest - part) << 16) / highest;
                let step = u128::from((1u64 << 16) / (2 + u64::from(round) / 3));
                *weight = ((u128::from(*weight) * ((1 << 32) - lack * step)) >> 32) as u64;
            }
            normalise(&mut offer.weights);
        }
    }
}

fn even_weights<const D: usize>(room: &Amounts<D>, used: &[bool; D]) -> [u64; D] {
    let mut weights = [0; D];
    for ((weight, room), used) in weights.iter_mut().zip(&room.0).zip(used) {
        *weight = u64::from(*used && *room > 0);
    }
    normalise(&mut weights);
    weights
}

/// Scales weights to a sum of at most [`ONE`].
fn normalise<const D: usize>(weights: &mut [u64; D]) {
    let sum: u64 = weights.iter().sum();
    for weight in weights {
        *weight = (u128::from(*weight) * u128::from(ONE)).checked_div(u128::from(sum)).unwrap_or(0) as u64;
    }
}
