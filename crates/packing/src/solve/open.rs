//! New machines, first answer: one good pattern at a time, used as often as the pods last.
//!
//! Owns the order of opening. Machines that anti-affinity forces come first, each with one of the pods that force it,
//! and are filled so that the least of their price is wasted; what is left then fills the machines that are cheapest
//! for their worth. A pattern stays the best while its pods last, for the choice only becomes smaller.

use super::amounts::Amounts;
use super::catalog::{FamilyIx, Region};
use super::fill::{Item, Pattern, fill, rate};
use super::rates::{Demand, Rates};
use super::state::State;
use std::collections::BTreeMap;

/// Steps of the depth-first search for one machine.
const FILL_STEPS: u64 = 600;
/// Larger offerings that are tried for a forced machine.
const LADDER: usize = 14;
/// Offerings that are tried for a machine that is not forced.
const CANDIDATES: usize = 24;
/// A place costs this part of the cheapest machine: small pods are kept for the gaps that only they fill.
const PLACE_SHARE: u64 = 100;

/// One machine to open.
#[derive(Clone, Debug)]
struct Proposal {
    offering: usize,
    pattern: Pattern,
    /// Lower is better: waste in nano-USD of a forced machine, price per worth of another.
    cost: i128,
}

/// The rates of one solve.
#[derive(Clone, Debug)]
pub(super) struct Market<const D: usize> {
    /// Worth of one unit of each resource.
    unit: [u64; D],
    /// What a place costs in nano-USD.
    place: u64,
    /// Price of the cheapest machine in nano-USD.
    least: u64,
    /// Changes the worth of buckets a little, another way for each number; 0 does not.
    pub noise: u64,
}

impl<const D: usize> State<'_, D> {
    /// Prices all buckets by what is left to place.
    pub(super) fn market(&mut self) -> Market<D> {
        let demands = self.demands(|units, bucket| units.buckets[bucket].left.iter().sum());
        let rates = self.rates(&demands, self.forced().map_or(0, |(_, n)| n));
        let rates =
            rates.evened(&demands, |ix| (self.catalog.offers[ix].room, self.catalog.offers[ix].price));
        let mut highest = 0;
        let mut by_profile = BTreeMap::new();
        for bucket in 0..self.units.buckets.len() {
            let profile = self.units.buckets[bucket].profile;
            let price = match by_profile.get(&profile) {
                Some(price) => *price,
                None => self.price_of(&rates, profile),
            };
            by_profile.insert(profile, price);
            highest = highest.max(price);
            let req = self.units.buckets[bucket].req;
            self.units.buckets[bucket].worth = rates.worth(&req, price);
        }
        let mut unit = [0; D];
        for (at, unit) in unit.iter_mut().enumerate() {
            let mut all = Amounts::<D>::ZERO;
            all.0[at] = 1 << 40;
            *unit = rate(rates.worth(&all, highest), 1 << 40);
        }
        let least = self.catalog.offers.iter().map(|offer| offer.price).filter(|p| *p > 0).min().unwrap_or(0);
        Market { unit, place: least * 1000 / PLACE_SHARE, least: least * 1000, noise: 0 }
    }

    pub(super) fn rates(&self, demands: &[Demand], forced: u32) -> Rates {
        let offer = |ix: usize| (self.catalog.offers[ix].room, self.catalog.offers[ix].price);
        Rates::search(demands, offer, self.problem.resources, forced)
    }

    /// Pods by profile; `count` tells how many of a bucket.
    pub(super) fn demands(&mut self, count: impl Fn(&super::units::Units<D>, usize) -> u32) -> Vec<Demand> {
        let mut by_profile: BTreeMap<usize, Vec<u128>> = BTreeMap::new();
        for (ix, bucket) in self.units.buckets.iter().enumerate() {
            let pods = u128::from(count(&self.units, ix));
            let sum = by_profile.entry(bucket.profile).or_insert_with(|| vec![0; self.problem.resources]);
            for (sum, req) in sum.iter_mut().zip(&bucket.req.0) {
                *sum += u128::from(*req) * pods;
            }
        }
        let demands = by_profile.into_iter().filter(|(_, sum)| sum.iter().any(|n| *n > 0));
        demands.map(|(profile, sum)| Demand { sum, offers: self.catalog.best_of(profile) }).collect()
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
    pub(super) fn open_machines(&mut self, market: &Market<D>) {
        let mut tiers: Vec<i32> = self.problem.pools.iter().map(|pool| pool.priority).collect();
        tiers.sort_unstable_by(|a, b| b.cmp(a));
        tiers.dedup();
        for tier in tiers {
            let families: Vec<FamilyIx> = (0..self.catalog.families.len())
                .filter(|ix| self.problem.pools[self.catalog.families[*ix].pool].priority == tier)
                .collect();
            if let Some((tally, _)) = self.forced() {
                self.open_forced(market, &families, tally);
            }
            self.open_free(market, &families);
        }
    }

    fn open_forced(&mut self, market: &Market<D>, families: &[FamilyIx], tally: usize) {
        let mut seeds: Vec<usize> = (0..self.units.buckets.len())
            .filter(|ix| self.units.buckets[*ix].solo.is_some_and(|(t, _)| t == tally))
            .collect();
        seeds.sort_by_key(|ix| (std::cmp::Reverse(self.units.buckets[*ix].worth), *ix));
        let mut known: BTreeMap<(usize, Region), Proposal> = BTreeMap::new();
        for seed in seeds {
            while let Some(region) = self.seed_region(seed, families) {
                let proposal = match known.get(&(seed, region)) {
                    Some(old) if self.still_there(old, region) && self.may_open(old.offering) => old.clone(),
                    _ => {
                        let Some(new) = self.propose(market, families, region, Some(seed)) else { break };
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

    fn open_free(&mut self, market: &Market<D>, families: &[FamilyIx]) {
        let regions: std::collections::BTreeSet<Region> =
            families.iter().map(|ix| self.catalog.families[*ix].region).collect();
        let mut opened = vec![0u32; self.catalog.regions.len()];
        loop {
            let mut best: Option<(i128, u32, Region, Proposal)> = None;
            for &region in &regions {
                if let Some(proposal) = self.propose(market, families, region, None) {
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
    fn items(&self, market: &Market<D>, region: Region, seed: Option<usize>) -> Vec<Item<D>> {
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
        market: &Market<D>,
        families: &[FamilyIx],
        region: Region,
        seed: Option<usize>,
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
        let mut best: Option<Proposal> = None;
        for (hope, offering) in candidates {
            if best.as_ref().is_some_and(|best| hope >= best.cost) {
                if seed.is_none() {
                    break;
                }
                continue;
            }
            let room = self.catalog.offers[offering].room.minus(&load);
            let fitting: Vec<Item<D>> = items
                .iter()
                .filter(|item| {
                    item.req.fits(&room)
                        && self.catalog.allows(self.units.buckets[item.bucket].profile, offering)
                })
                .copied()
                .collect();
            let pattern = fill(&fitting, &room, market.unit, FILL_STEPS, &mut self.steps);
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
        if seed.is_some() { best } else { Some(self.or_last(market, families, &items, best?)) }
    }

    /// The proposal, or the cheapest machine that takes all that is left where that is no dearer than the proposal
    /// and the least that would have to follow it.
    fn or_last(
        &mut self,
        market: &Market<D>,
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

    /// Offerings worth a try with the lowest cost that each could have, in the order in which they are tried.
    fn candidates(
        &mut self,
        market: &Market<D>,
        families: &[FamilyIx],
        region: Region,
        seed: Option<usize>,
        items: &[Item<D>],
    ) -> Vec<(i128, usize)> {
        let mut profiles: Vec<usize> = match seed {
            Some(seed) => vec![self.units.buckets[seed].profile],
            None => items.iter().map(|item| self.units.buckets[item.bucket].profile).collect(),
        };
        profiles.sort_unstable();
        profiles.dedup();
        let demand: u128 = items.iter().map(|item| u128::from(item.worth) * u128::from(item.most)).sum();
        let load = seed.map_or(Amounts::ZERO, |seed| self.units.buckets[seed].req);
        let mut found = std::collections::BTreeSet::new();
        for &family in families {
            if self.catalog.families[family].region != region {
                continue;
            }
            for &profile in &profiles {
                let holding = self.catalog.frontier(profile, family).to_vec();
                let holding = holding.into_iter().filter(|ix| load.fits(&self.catalog.offers[*ix].room));
                let holding = holding.filter(|ix| self.may_open(*ix));
                found.extend(holding.take(if seed.is_some() { LADDER } else { usize::MAX }));
            }
        }
        let hope = |ix: usize| -> i128 {
            let offer = &self.catalog.offers[ix];
            let worth: u128 = offer
                .room
                .0
                .iter()
                .zip(&market.unit)
                .map(|(r, u)| (u128::from(*r) * u128::from(*u)) >> 24)
                .sum();
            let worth = worth.min(demand).max(1) as i128;
            let price = i128::from(offer.price) * 1000;
            if seed.is_some() { price - worth } else { (price << 20) / worth }
        };
        let mut all: Vec<(i128, usize)> = found.into_iter().map(|ix| (hope(ix), ix)).collect();
        if seed.is_none() {
            all.sort_unstable();
            all.truncate(CANDIDATES);
        } else {
            all.sort_by_key(|(_, ix)| (self.catalog.offers[*ix].price, *ix));
        }
        all
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
