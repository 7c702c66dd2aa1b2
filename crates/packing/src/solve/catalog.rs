//! What can be bought, indexed for quick answers.
//!
//! Owns offerings by family (one pool in one region), profiles (interned sets of offerings that a machine may still
//! become) and frontiers (the offerings of a family and profile that nothing cheaper dominates, cheapest first).
//! Limits of pools are the state's.

use super::amounts::Amounts;
use super::bits::BitSet;
use super::problem::{Problem, Spot};
use std::collections::{BTreeMap, BTreeSet};

/// Domains of all keys but hostname: nodes of one region are alike to every topology rule but those on hostname.
pub(super) type Region = usize;
pub(super) type ProfileIx = usize;
pub(super) type FamilyIx = usize;

/// An offering as the inner loops see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<const D: usize> {
    pub room: Amounts<D>,
    pub price: u64,
    pub family: FamilyIx,
}

/// The available offerings of one pool in one region.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub pool: usize,
    pub region: Region,
    pub offers: Vec<usize>,
    /// The same, cheapest first.
    pub by_price: Vec<usize>,
}

/// The catalogue of one problem.
#[derive(Clone, Debug)]
pub(super) struct Catalog<const D: usize> {
    pub offers: Vec<Offer<D>>,
    pub families: Vec<Family>,
    /// Domains by key of each region.
    pub regions: Vec<Vec<u32>>,
    pub spot_regions: Vec<Region>,
    /// The profile of all offerings.
    pub everything: ProfileIx,
    profiles: Vec<BitSet>,
    by_set: BTreeMap<BitSet, ProfileIx>,
    meets: BTreeMap<(ProfileIx, ProfileIx), ProfileIx>,
    /// Of each pool that insists on a choice of values: how many of each it wants, and its available offerings.
    choosy: BTreeMap<usize, Choosy>,
    /// First offering of a family by price and room.
    twins: BTreeMap<(FamilyIx, u64, Amounts<D>), usize>,
    /// By profile, then family; `None` until asked for.
    frontiers: Vec<Vec<Option<Vec<usize>>>>,
}

impl<const D: usize> Catalog<D> {
    pub(super) fn new(problem: &Problem) -> Self {
        let mut regions = BTreeMap::new();
        let keys = problem.keys.len();
        let spot_regions =
            problem.spots.iter().map(|spot: &Spot| region(&mut regions, &spot.domains, keys)).collect();
        let mut families: BTreeMap<(usize, Region), Vec<usize>> = BTreeMap::new();
        let mut at = Vec::new();
        for (ix, offering) in problem.offerings.iter().enumerate() {
            let region = region(&mut regions, &offering.domains, keys);
            at.push((offering.pool, region));
            if offering.available && problem.pools[offering.pool].max_new != Some(0) {
                families.entry((offering.pool, region)).or_default().push(ix);
            }
        }
        let order: BTreeMap<(usize, Region), FamilyIx> =
            families.keys().enumerate().map(|(ix, key)| (*key, ix)).collect();
        let offers = problem
            .offerings
            .iter()
            .zip(at)
            .map(|(offering, key)| Offer {
                room: Amounts::of(&offering.room),
                price: offering.price,
                family: order.get(&key).copied().unwrap_or(usize::MAX),
            })
            .collect();
        let mut names: Vec<(Vec<u32>, Region)> = regions.into_iter().collect();
        names.sort_by_key(|(_, ix)| *ix);
        let mut catalog = Self {
            everything: 0,
            offers,
            families: families
                .into_iter()
                .map(|((pool, region), offers)| {
                    let mut by_price = offers.clone();
                    by_price.sort_by_key(|ix| (problem.offerings[*ix].price, *ix));
                    Family { pool, region, offers, by_price }
                })
                .collect(),
            regions: names.into_iter().map(|(domains, _)| domains).collect(),
            spot_regions,
            profiles: Vec::new(),
            by_set: BTreeMap::new(),
            meets: BTreeMap::new(),
            choosy: BTreeMap::new(),
            twins: BTreeMap::new(),
            frontiers: Vec::new(),
        };
        catalog.choosy = choosy(problem, &catalog.offers);
        for (ix, offer) in catalog.offers.iter().enumerate().filter(|(_, offer)| offer.family != usize::MAX) {
            catalog.twins.entry((offer.family, offer.price, offer.room)).or_insert(ix);
        }
        catalog.everything = catalog.profile(&BitSet::full(problem.offerings.len()));
        catalog
    }

    /// The number of a set of offerings.
    pub(super) fn profile(&mut self, set: &BitSet) -> ProfileIx {
        if let Some(ix) = self.by_set.get(set) {
            return *ix;
        }
        let ix = self.profiles.len();
        self.profiles.push(set.clone());
        self.by_set.insert(set.clone(), ix);
        self.frontiers.push(vec![None; self.families.len()]);
        ix
    }

    /// The offerings that both profiles allow.
    pub(super) fn meet(&mut self, a: ProfileIx, b: ProfileIx) -> ProfileIx {
        if a == b {
            return a;
        }
        let key = (a.min(b), a.max(b));
        if let Some(ix) = self.meets.get(&key) {
            return *ix;
        }
        let set = self.profiles[a].meet(&self.profiles[b]);
        let ix = self.profile(&set);
        self.meets.insert(key, ix);
        ix
    }

    pub(super) fn allows(&self, profile: ProfileIx, offering: usize) -> bool {
        self.profiles[profile].contains(offering)
    }

    /// Offerings of a family that a profile allows and nothing cheaper dominates, cheapest first.
    pub(super) fn frontier(&mut self, profile: ProfileIx, family: FamilyIx) -> &[usize] {
        if self.frontiers[profile][family].is_none() {
            let found = self.undominated(profile, &self.families[family].offers);
            self.frontiers[profile][family] = Some(found);
        }
        self.frontiers[profile][family].as_deref().unwrap_or_default()
    }

    fn undominated(&self, profile: ProfileIx, offers: &[usize]) -> Vec<usize> {
        let mut all: Vec<usize> = offers.iter().copied().filter(|ix| self.allows(profile, *ix)).collect();
        // Among equal prices the larger comes first, so that it can dominate; then the problem's order.
        all.sort_by_key(|ix| (self.offers[*ix].price, std::cmp::Reverse(self.offers[*ix].room), *ix));
        let mut kept: Vec<usize> = Vec::new();
        for ix in all {
            let room = &self.offers[ix].room;
            if !kept.iter().rev().any(|other| room.fits(&self.offers[*other].room)) {
                kept.push(ix);
            }
        }
        kept
    }

    /// Offerings of any family that a profile allows and nothing cheaper dominates. `fractions`: nor anything larger
    /// that is cheaper for its size.
    pub(super) fn best_of(&mut self, profile: ProfileIx, fractions: bool) -> Vec<usize> {
        let mut all = Vec::new();
        for family in 0..self.families.len() {
            all.extend_from_slice(self.frontier(profile, family));
        }
        let mut kept = self.undominated(profile, &all);
        if fractions {
            let better = |ix: &usize, other: &usize| {
                let (one, two) = (&self.offers[*ix], &self.offers[*other]);
                // Strictly better somewhere, so that of two equals one stays.
                let part = |a: u64, b: u64| u128::from(a) * u128::from(b);
                one.room.fits(&two.room)
                    && (one.room, one.price) != (two.room, two.price)
                    && one
                        .room
                        .0
                        .iter()
                        .zip(&two.room.0)
                        .all(|(a, b)| part(*a, two.price) <= part(*b, one.price))
            };
            let all = kept.clone();
            kept.retain(|ix| !all.iter().any(|other| better(ix, other)));
        }
        kept
    }

    /// The offering of a family that gives the same room for the same price.
    pub(super) fn twin(&self, offering: usize, family: FamilyIx) -> Option<usize> {
        let of = &self.offers[offering];
        if of.family == family {
            return Some(offering);
        }
        self.twins.get(&(family, of.price, of.room)).copied()
    }

    /// The cheapest offering of a family that a profile allows and that holds a load.
    pub(super) fn cheapest(
        &mut self,
        profile: ProfileIx,
        family: FamilyIx,
        load: &Amounts<D>,
    ) -> Option<usize> {
        if !self.leaves_choice(profile, family, load) {
            return None;
        }
        self.frontier(profile, family);
        let frontier = self.frontiers[profile][family].as_deref().unwrap_or_default();
        frontier.iter().copied().find(|ix| load.fits(&self.offers[*ix].room))
    }

    /// Whether any pool insists on a choice of values.
    pub(super) fn any_choosy(&self) -> bool {
        !self.choosy.is_empty()
    }

    /// Whether a machine of a family with such a load could be of as many values as its pool insists on.
    pub(super) fn leaves_choice(&self, profile: ProfileIx, family: FamilyIx, load: &Amounts<D>) -> bool {
        let Some(choosy) = self.choosy.get(&self.families[family].pool) else { return true };
        let fits = |ix: usize| load.fits(&self.offers[ix].room) && self.allows(profile, ix);
        choosy.wanted.iter().enumerate().all(|(at, wanted)| {
            let here = |ix: usize| wanted.of_region || self.offers[ix].family == family;
            let fitting = choosy.offerings.iter().filter(|(ix, _)| here(*ix) && fits(*ix));
            values_at(at, fitting).len() >= wanted.least as usize
        })
    }

    /// Whether an offering may be filled to the brim and a machine like it still leaves its pool the choice.
    pub(super) fn may_be_filled(&self, profile: ProfileIx, offering: usize) -> bool {
        let offer = &self.offers[offering];
        offer.family == usize::MAX || self.leaves_choice(profile, offer.family, &offer.room)
    }
}

/// What a pool insists on.
#[derive(Clone, Debug)]
struct Choosy {
    wanted: Vec<Wanted>,
    /// With their values, by requirement.
    offerings: Vec<Valued>,
}

/// An offering with its values.
type Valued = (usize, Vec<u32>);

/// How many values of one label a machine is to leave.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    least: u32,
    /// The region decides the value, as with zones: then machines of all regions count.
    of_region: bool,
}

fn choosy<const D: usize>(problem: &Problem, offers: &[Offer<D>]) -> BTreeMap<usize, Choosy> {
    let pools = problem.pools.iter().enumerate();
    let insisting = pools.filter(|(_, pool)| pool.keeps_choice && pool.min_values.iter().any(|n| *n > 1));
    insisting
        .map(|(at, pool)| {
            let own = problem.offerings.iter().enumerate().filter(|(ix, offering)| {
                offering.pool == at && offering.available && offers[*ix].family != usize::MAX
            });
            let offerings: Vec<Valued> = own.map(|(ix, offering)| (ix, offering.values.clone())).collect();
            let mut by_family: BTreeMap<FamilyIx, Vec<&Valued>> = BTreeMap::new();
            for valued in &offerings {
                by_family.entry(offers[valued.0].family).or_default().push(valued);
            }
            let wanted = |(at, least): (usize, &u32)| Wanted {
                least: *least,
                of_region: by_family.values().all(|family| values_at(at, family.iter().copied()).len() <= 1),
            };
            let wanted = pool.min_values.iter().enumerate().map(wanted).collect();
            (at, Choosy { wanted, offerings })
        })
        .collect()
}

/// The values that some offerings show for a requirement; those without the label show none.
fn values_at<'v>(at: usize, offerings: impl Iterator<Item = &'v Valued>) -> BTreeSet<u32> {
    offerings.filter_map(|(_, values)| values.get(at).copied()).filter(|value| *value != u32::MAX).collect()
}

fn region(known: &mut BTreeMap<Vec<u32>, Region>, domains: &[u32], keys: usize) -> Region {
    let mut name = vec![super::problem::NO_DOMAIN; keys];
    for (to, from) in name.iter_mut().zip(domains).skip(1) {
        *to = *from;
    }
    let next = known.len();
    *known.entry(name).or_insert(next)
}
