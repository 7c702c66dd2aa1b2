//! New machines, first answer: one good pattern at a time, used as often as the pods last.
//!
//! Owns the order of opening. Machines that anti-affinity forces come first, each with one of the pods that force it,
//! and are filled so that the least of their price is wasted; what is left then fills the machines that are cheapest
//! for their worth. A pattern stays the best while its pods last, for the choice only becomes smaller.

use super::amounts::Amounts;
use super::catalog::{FamilyIx, Region};
use super::columns::Planned;
use super::fill::{Item, Pattern, fill};
use super::rates::{Ask, Rates};
use super::state::State;
use std::collections::BTreeMap;

/// Steps of the depth-first search for one machine.
const FILL_STEPS: u64 = 600;
/// Larger offerings that are tried for a forced machine.
const LADDER: usize = 14;
/// A place costs this part of the cheapest machine: small pods are kept for the gaps that only they fill.
const PLACE_SHARE: u64 = 100;

/// Several small machines are taken instead of a last large one if they cost less with this part (1/8) on top.
const SMALLER_SHARE: u64 = 8;

/// Patterns found so far, by seed, region and offering: the best ones while their pods last.
type Patterns = BTreeMap<(Option<usize>, Region, usize), Pattern>;

/// One machine to open.
#[derive(Clone, Debug)]
struct Proposal {
    offering: usize,
    pattern: Pattern,
    /// Lower is better: waste in nano-USD of a forced machine, price per worth of another.
    cost: i128,
}

/// What the first answer and the search go by.
#[derive(Clone, Debug)]
pub(super) struct Market {
    /// By bucket: offerings that its pods chose in the linear program.
    pub chosen: Vec<Vec<usize>>,
    /// Patterns to begin with, and the buckets of each kind that they speak of.
    pub planned: Vec<Planned>,
    pub kinds: Vec<Vec<usize>>,
    /// What a place costs in nano-USD.
    place: u64,
    /// Price of the cheapest machine in nano-USD.
    least: u64,
    /// Changes the worth of buckets a little, another way for each number; 0 does not.
    pub noise: u64,
}

/// The bound that was found when the market was made, and for which pods.
#[derive(Clone, Debug)]
pub(super) struct Priced {
    pub counts: Vec<u32>,
    pub forced: u32,
    pub bound: u64,
    pub strict: Vec<u64>,
}

impl<const D: usize> State<'_, D> {
    /// Prices all buckets by what is left to place.
    pub(super) fn market(&mut self) -> Market {
        let left: Vec<u32> = self.units.buckets.iter().map(|bucket| bucket.left.iter().sum()).collect();
        let forced = self.forced().map_or(0, |(_, n)| n);
        let (buckets, asks) = self.asks(&left, forced);
        let offer = |ix: usize| (self.catalog.offers[ix].price, self.catalog.offers[ix].room);
        let rates = Rates::search(&asks, offer, forced);
        self.priced = Some(Priced { counts: left, forced, bound: rates.bound, strict: rates.strict });
        let mut chosen = vec![Vec::new(); self.units.buckets.len()];
        for (at, bucket) in buckets.into_iter().enumerate() {
            self.units.buckets[bucket].worth = rates.even[at];
            chosen[bucket].clone_from(&rates.chosen[at]);
        }
        let least = self.catalog.offers.iter().map(|offer| offer.price).filter(|p| *p > 0).min().unwrap_or(0);
        Market {
            chosen,
            planned: Vec::new(),
            kinds: Vec::new(),
            place: least * 1000 / PLACE_SHARE,
            least: least * 1000,
            noise: 0,
        }
    }

    /// What pods of each bucket ask for, with the offerings that may hold one of them.
    pub(super) fn asks(&mut self, counts: &[u32], forced: u32) -> (Vec<usize>, Vec<Ask<D>>) {
        let mut fronts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let (mut buckets, mut asks) = (Vec::new(), Vec::new());
        for (ix, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (req, profile) = (self.units.buckets[ix].req, self.units.buckets[ix].profile);
            let front = match fronts.get(&profile) {
                Some(front) => front,
                None => fronts.entry(profile).or_insert(self.catalog.best_of(profile, forced == 0)),
            };
            let offers =
                front.iter().copied().filter(|ix| req.fits(&self.catalog.offers[*ix].room)).collect();
            buckets.push(ix);
            asks.push(Ask { req, count: *count, offers });
        }
        (buckets, asks)
    }

    /// The hostname tally that forces the most machines for what is left, and how many.
    pub(super) fn forced(&self) -> Option<(usize, u32)> {
        let mut pods: BTreeMap<usize, (u32, u32)> = BTreeMap::new();
        for bucket in &self.units.buckets {
            if let Some((tally, cap)) = bucket.solo {
                let entry = pods.entry(tally).or_insert((0, cap));
                entry.0 += bucket.left.iter().sum::<u32>();
                entry.1 = entry.1.max(cap);
            }
        }
        let need =
            |(tally, (pods, cap)): (usize, (u32, u32))| (pods.div_ceil(cap.max(1)), std::cmp::Reverse(tally));
        let most = pods.into_iter().map(need).max()?;
        (most.0 > 1).then_some((most.1.0, most.0))
    }

    /// Opens machines for all that is left, pools of higher priority first.
    pub(super) fn open_machines(&mut self, market: &Market) {
        let mut tiers: Vec<i32> = self.problem.pools.iter().map(|pool| pool.priority).collect();
        tiers.sort_unstable_by(|a, b| b.cmp(a));
        tiers.dedup();
        for tier in tiers {
            let families: Vec<FamilyIx> = (0..self.catalog.families.len())
                .filter(|ix| self.problem.pools[self.catalog.families[*ix].pool].priority == tier)
                .collect();
            if market.noise == 0 {
                self.open_planned(market, &families);
            }
            if let Some((tally, _)) = self.forced() {
                self.open_forced(market, &families, tally);
            }
            self.open_free(market, &families);
        }
    }

    fn open_forced(&mut self, market: &Market, families: &[FamilyIx], tally: usize) {
        let mut seeds: Vec<usize> = (0..self.units.buckets.len())
            .filter(|ix| self.units.buckets[*ix].solo.is_some_and(|(t, _)| t == tally))
            .collect();
        seeds.sort_by_key(|ix| (std::cmp::Reverse(self.units.buckets[*ix].worth), *ix));
        let mut known: BTreeMap<(usize, Region), Proposal> = BTreeMap::new();
        let mut patterns = Patterns::new();
        for seed in seeds {
            while let Some(region) = self.seed_region(seed, families) {
                let proposal = match known.get(&(seed, region)) {
                    Some(old) if self.still_there(old, region) && self.may_open(old.offering) => old.clone(),
                    _ => {
                        let Some(new) = self.propose(market, families, region, Some(seed), &mut patterns)
                        else {
                            break;
                        };
                        known.insert((seed, region), new.clone());
                        new
                    }
                };
                if !self.apply(&proposal, region, Some(seed)) {
                    break;
                }
            }
        }
    }

    /// The region with the most tied worth left, among those where pods of the seed are left.
    fn seed_region(&self, seed: usize, families: &[FamilyIx]) -> Option<Region> {
        let mut regions: Vec<Region> = families.iter().map(|ix| self.catalog.families[*ix].region).collect();
        regions.sort_unstable();
        regions.dedup();
        let tied = |region: Region| -> u128 {
            let one = |bucket: &super::units::Bucket<D>| {
                u128::from(bucket.worth) * u128::from(bucket.left[region + 1])
            };
            self.units.buckets.iter().map(one).sum()
        };
        let open = regions.into_iter().filter(|region| self.units.buckets[seed].left_in(*region) > 0);
        open.max_by_key(|region| (tied(*region), std::cmp::Reverse(*region)))
    }

    fn open_free(&mut self, market: &Market, families: &[FamilyIx]) {
        let regions: std::collections::BTreeSet<Region> =
            families.iter().map(|ix| self.catalog.families[*ix].region).collect();
        let mut opened = vec![0u32; self.catalog.regions.len()];
        let mut patterns = Patterns::new();
        let mut known: BTreeMap<Region, Proposal> = BTreeMap::new();
        loop {
            let mut best: Option<(i128, u32, Region, Proposal)> = None;
            for &region in &regions {
                let old = known.remove(&region);
                let old = old.filter(|old| self.still_there(old, region) && self.may_open(old.offering));
                let new = old.or_else(|| self.propose(market, families, region, None, &mut patterns));
                if let Some(proposal) = new {
                    known.insert(region, proposal.clone());
                    let key = (proposal.cost, opened[region], region);
                    if best.as_ref().is_none_or(|old| key < (old.0, old.1, old.2)) {
                        best = Some((key.0, key.1, key.2, proposal));
                    }
                }
            }
            let Some((_, _, region, proposal)) = best else { return };
            let mut any = false;
            while self.still_there(&proposal, region) && self.may_open(proposal.offering) {
                if !self.apply(&proposal, region, None) {
                    break;
                }
                any = true;
                opened[region] += 1;
                if regions.len() > 1 && !self.is_tied_pattern(&proposal, region) {
                    break;
                }
            }
            if !any {
                return;
            }
        }
    }

    /// Whether a pattern uses pods that must be in the region: else other regions would do as well.
    fn is_tied_pattern(&self, proposal: &Proposal, region: Region) -> bool {
        proposal.pattern.pods.iter().any(|(bucket, _)| self.units.buckets[*bucket].left[region + 1] > 0)
    }

    fn still_there(&self, proposal: &Proposal, region: Region) -> bool {
        proposal.pattern.pods.iter().all(|(bucket, n)| self.units.buckets[*bucket].left_in(region) >= *n)
    }

    /// What may go on a machine in a region, largest worth first.
    fn items(&self, market: &Market, region: Region, seed: Option<usize>) -> Vec<Item<D>> {
        let taken = seed.and_then(|seed| self.units.buckets[seed].solo).map(|(tally, _)| tally);
        let mut items: Vec<Item<D>> = Vec::new();
        for (ix, bucket) in self.units.buckets.iter().enumerate() {
            let left = bucket.left_in(region);
            if left == 0 || bucket.solo.is_some_and(|(tally, _)| Some(tally) == taken) {
                continue;
            }
            let worth = bucket.worth.saturating_sub(market.place.min(bucket.worth / 2)).max(1);
            let worth = noisy(worth, market.noise, ix);
            items.push(Item { bucket: ix, req: bucket.req, worth, most: left, solo: bucket.solo });
        }
        items.sort_by_key(|item| (std::cmp::Reverse(item.worth), item.bucket));
        items
    }

    fn propose(
        &mut self,
        market: &Market,
        families: &[FamilyIx],
        region: Region,
        seed: Option<usize>,
        patterns: &mut Patterns,
    ) -> Option<Proposal> {
        let items = self.items(market, region, seed);
        if items.is_empty() && seed.is_none() {
            return None;
        }
        let (load, own) = match seed {
            Some(ix) => (self.units.buckets[ix].req, self.units.buckets[ix].worth),
            None => (Amounts::ZERO, 0),
        };
        let candidates = self.candidates(market, families, region, seed, &items);
        let best = self.best_of(candidates, &items, (seed, region), (load, own), patterns);
        let takes_all = |best: &Proposal| {
            let taken: u64 = best.pattern.pods.iter().map(|(_, n)| u64::from(*n)).sum();
            taken == items.iter().map(|item| u64::from(item.most)).sum::<u64>()
        };
        if seed.is_some() {
            return best;
        }
        let all = takes_all(best.as_ref()?);
        let last = self.or_last(market, families, &items, best?);
        if !all {
            return Some(last);
        }
        // What suits many pods may be far too large for the last few. The first small machine is the best of them, so
        // the others count a little more.
        let small = self.smallest(families, region, &items);
        let small = self.best_of(small, &items, (seed, region), (load, own), patterns);
        let price = |one: &Proposal| self.catalog.offers[one.offering].price;
        let cover = |small: &Proposal| {
            let times = last.pattern.worth.div_ceil(small.pattern.worth.max(1));
            let price = price(small).saturating_mul(times);
            price.saturating_add(price / SMALLER_SHARE)
        };
        Some(small.filter(|small| cover(small) < price(&last)).unwrap_or(last))
    }

    /// For each item the cheapest machine that holds one.
    fn smallest(&mut self, families: &[FamilyIx], region: Region, items: &[Item<D>]) -> Vec<usize> {
        let mut found = std::collections::BTreeSet::new();
        for &family in families {
            if self.catalog.families[family].region == region {
                for item in items {
                    let profile = self.units.buckets[item.bucket].profile;
                    found.extend(self.catalog.cheapest(profile, family, &item.req));
                }
            }
        }
        found.into_iter().filter(|ix| self.may_open(*ix) && self.may_fill(*ix)).collect()
    }

    /// Whether patterns may fill machines of an offering, however full.
    fn may_fill(&self, offering: usize) -> bool {
        self.catalog.may_be_filled(self.catalog.everything, offering)
    }

    /// The proposal of least cost among some offerings.
    fn best_of(
        &mut self,
        offerings: Vec<usize>,
        items: &[Item<D>],
        (seed, region): (Option<usize>, Region),
        (load, own): (Amounts<D>, u64),
        patterns: &mut Patterns,
    ) -> Option<Proposal> {
        let mut best: Option<Proposal> = None;
        for offering in offerings {
            let room = self.catalog.offers[offering].room.minus(&load);
            let key = (seed, region, offering);
            let left = |(bucket, n): &(usize, u32)| self.units.buckets[*bucket].left_in(region) >= *n;
            let pattern = match patterns.get(&key) {
                Some(known) if known.pods.iter().all(left) => known.clone(),
                _ => {
                    let here = |item: &&Item<D>| {
                        let profile = self.units.buckets[item.bucket].profile;
                        item.req.fits(&room) && self.catalog.allows(profile, offering)
                    };
                    let fitting: Vec<Item<D>> = items.iter().filter(here).copied().collect();
                    let new = fill(&fitting, &room, FILL_STEPS, &mut self.steps);
                    patterns.insert(key, new.clone());
                    new
                }
            };
            if seed.is_none() && pattern.pods.is_empty() {
                continue;
            }
            let price = i128::from(self.catalog.offers[offering].price) * 1000;
            let cost = match seed {
                Some(_) => price - i128::from(pattern.worth) - i128::from(own),
                None => (price << 20) / i128::from(pattern.worth.max(1)),
            };
            if best.as_ref().is_none_or(|best| cost < best.cost) {
                best = Some(Proposal { offering, pattern, cost });
            }
        }
        best
    }

    /// The proposal, or the cheapest machine that takes all that is left where that is no dearer than the proposal
    /// and the least that would have to follow it.
    fn or_last(
        &mut self,
        market: &Market,
        families: &[FamilyIx],
        items: &[Item<D>],
        proposal: Proposal,
    ) -> Proposal {
        let region = self.catalog.families[self.catalog.offers[proposal.offering].family].region;
        if items.iter().any(|item| item.solo.is_some_and(|(_, cap)| item.most > cap)) {
            return proposal;
        }
        let (mut load, mut profile) = (Amounts::ZERO, self.catalog.everything);
        for item in items {
            load = load.plus(&item.req.times(item.most));
            profile = self.catalog.meet(profile, self.units.buckets[item.bucket].profile);
        }
        let mut last: Option<(u64, usize)> = None;
        for &family in families {
            if self.catalog.families[family].region != region {
                continue;
            }
            if let Some(offering) = self.catalog.cheapest(profile, family, &load)
                && self.may_open(offering)
            {
                let key = (self.catalog.offers[offering].price, offering);
                last = Some(last.map_or(key, |old| old.min(key)));
            }
        }
        let Some((price, offering)) = last else { return proposal };
        let worth: u64 = items.iter().map(|item| item.worth.saturating_mul(u64::from(item.most))).sum();
        let rest = worth.saturating_sub(proposal.pattern.worth);
        let follows = if rest == 0 { 0 } else { rest.max(market.least) };
        if price * 1000 > self.catalog.offers[proposal.offering].price * 1000 + follows {
            return proposal;
        }
        let pods = items.iter().map(|item| (item.bucket, item.most)).collect();
        let cost = ((i128::from(price) * 1000) << 20) / i128::from(worth.max(1));
        Proposal { offering, pattern: Pattern { pods, worth }, cost }
    }

    /// Offerings worth a try, cheapest first.
    fn candidates(
        &mut self,
        market: &Market,
        families: &[FamilyIx],
        region: Region,
        seed: Option<usize>,
        items: &[Item<D>],
    ) -> Vec<usize> {
        let mut found = std::collections::BTreeSet::new();
        for &family in families {
            if self.catalog.families[family].region != region {
                continue;
            }
            if let Some(seed) = seed {
                let (profile, load) = (self.units.buckets[seed].profile, self.units.buckets[seed].req);
                let holding = self.catalog.frontier(profile, family).to_vec().into_iter();
                let holding = holding.filter(|ix| load.fits(&self.catalog.offers[*ix].room));
                found.extend(holding.take(LADDER).map(|ix| (self.catalog.offers[ix].price, ix)));
                continue;
            }
            for item in items {
                for &chosen in &market.chosen[item.bucket] {
                    let twin = self.catalog.twin(chosen, family);
                    found.extend(twin.map(|ix| (self.catalog.offers[ix].price, ix)));
                }
            }
            if found.is_empty() {
                for item in items {
                    let (profile, req) = (self.units.buckets[item.bucket].profile, item.req);
                    let first = self.catalog.cheapest(profile, family, &req);
                    found.extend(first.map(|ix| (self.catalog.offers[ix].price, ix)));
                }
            }
        }
        found.into_iter().map(|(_, ix)| ix).filter(|ix| self.may_open(*ix) && self.may_fill(*ix)).collect()
    }

    /// Opens one machine with a pattern. `false`: nothing could be placed on it.
    fn apply(&mut self, proposal: &Proposal, region: Region, seed: Option<usize>) -> bool {
        if !self.may_open(proposal.offering) {
            return false;
        }
        let node = self.open(proposal.offering);
        if let Some(seed) = seed
            && self.draw(node, seed, 1, region) == 0
        {
            self.close(node);
            return false;
        }
        let mut missing = false;
        for &(bucket, count) in &proposal.pattern.pods {
            missing |= self.draw(node, bucket, count, region) < count;
        }
        if missing {
            self.top_up(node);
        }
        if self.nodes[node].pods.is_empty() {
            self.close(node);
            return false;
        }
        self.shrink(node);
        true
    }

    /// Puts up to `count` pods of a bucket on a node. Returns how many.
    pub(super) fn draw(&mut self, node: usize, bucket: usize, count: u32, region: Region) -> u32 {
        let mut done = 0;
        for slot in [region + 1, 0] {
            let mut at = 0;
            while done < count && at < self.units.buckets[bucket].units[slot].len() {
                let unit = self.units.buckets[bucket].units[slot][at];
                let left = self.units.all[unit].left;
                if left > 0 {
                    let room = self.room_for(unit, node).min(left).min(count - done);
                    if room > 0 {
                        self.add(node, unit, room);
                        done += room;
                    }
                }
                at += 1;
            }
        }
        done
    }

    /// Fills what is free on a node with whatever fits, largest worth first.
    pub(super) fn top_up(&mut self, node: usize) {
        let region = self.nodes[node].region;
        let mut order: Vec<usize> =
            (0..self.units.buckets.len()).filter(|ix| self.units.buckets[*ix].left_in(region) > 0).collect();
        order.sort_by_key(|ix| (std::cmp::Reverse(self.units.buckets[*ix].worth), *ix));
        for bucket in order {
            let fits = self.units.buckets[bucket].req.times_in(&self.nodes[node].free);
            if fits > 0 {
                self.draw(node, bucket, fits, region);
            }
        }
    }
}

/// `worth` changed by up to a sixteenth, depending on `noise` and the bucket.
fn noisy(worth: u64, noise: u64, bucket: usize) -> u64 {
    if noise == 0 {
        return worth;
    }
    let part = super::improve::mix(noise ^ bucket as u64) % 1024;
    worth + (worth / 8192) * part - worth / 16
}
