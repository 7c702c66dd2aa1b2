//! The placement in the making: nodes, what is on them, and what is still without a place.
//!
//! Owns adding and removing pods and machines, with pool limits, and a log to take changes back: a trial costs what it
//! moves. Which change is a good one is decided elsewhere.

use super::amounts::Amounts;
use super::catalog::{Catalog, FamilyIx, ProfileIx, Region};
use super::host::{HostCounts, HostTotals};
use super::open::Priced;
use super::problem::{HOSTNAME, Problem};
use super::units::Units;
use super::zones::Zones;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// A node that exists: index into the problem's spots.
    Spot(usize),
    /// A new machine, for now of this offering.
    New { family: FamilyIx, profile: ProfileIx, offering: usize },
    /// A new machine that was given up.
    Gone,
}

impl Site {
    pub(super) fn is_new(self) -> bool {
        matches!(self, Self::New { .. })
    }
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node<const D: usize> {
    pub site: Site,
    pub region: Region,
    pub free: Amounts<D>,
    pub load: Amounts<D>,
    /// Units and pods of each, in the order of arrival.
    pub pods: Vec<(usize, u32)>,
    pub host: HostCounts,
}

#[derive(Clone, Copy, Debug)]
enum Undo {
    Added { node: usize, unit: usize, count: u32, profile: Option<ProfileIx> },
    Removed { node: usize, unit: usize, count: u32 },
    Offering { node: usize, was: usize },
    Opened { node: usize },
    Closed { node: usize, site: Site },
}

/// The whole placement.
#[derive(Clone, Debug)]
pub(super) struct State<'p, const D: usize> {
    pub problem: &'p Problem,
    pub catalog: Catalog<D>,
    pub units: Units<D>,
    pub zones: Zones,
    pub totals: HostTotals,
    pub nodes: Vec<Node<D>>,
    /// New machines by pool, and over all pools.
    pub added: Vec<u32>,
    pub added_all: u32,
    /// What is left of each pool's limited amounts.
    limits: Vec<Vec<u64>>,
    /// Of all new machines.
    pub price: u64,
    /// Probes so far: the measure of work.
    pub steps: u64,
    /// What the market was made for, and the bound found with it.
    pub priced: Option<Priced>,
    /// Hostname counts of existing nodes before anything was placed.
    base: Vec<HostCounts>,
    /// Places in the list of nodes whose machine was given up, last in first out.
    vacant: Vec<usize>,
    log: Vec<Undo>,
    logging: bool,
}

impl<'p, const D: usize> State<'p, D> {
    pub(super) fn new(problem: &'p Problem) -> Self {
        let catalog = Catalog::new(problem);
        let regions = catalog.regions.len();
        let mut nodes: Vec<Node<D>> = problem
            .spots
            .iter()
            .zip(&catalog.spot_regions)
            .enumerate()
            .map(|(ix, (spot, region))| Node {
                site: Site::Spot(ix),
                region: *region,
                free: Amounts::of(&spot.free),
                load: Amounts::ZERO,
                pods: Vec::new(),
                host: HostCounts::default(),
            })
            .collect();
        let mut total = vec![0; problem.tallies.len()];
        for (ix, tally) in problem.tallies.iter().enumerate().filter(|(_, tally)| tally.key == HOSTNAME) {
            for &(node, count) in &tally.initial_nodes {
                nodes[node as usize].host.start(ix, count);
                total[ix] += count;
            }
            for &node in &tally.forbidden_nodes {
                nodes[node as usize].host.forbid(ix);
            }
        }
        let floor = vec![0; problem.tallies.len()];
        let base = nodes.iter().map(|node| node.host.clone()).collect();
        Self {
            problem,
            catalog,
            units: Units::new(problem, regions),
            zones: Zones::new(problem),
            totals: HostTotals { total, floor },
            nodes,
            added: vec![0; problem.pools.len()],
            added_all: 0,
            limits: problem.pools.iter().map(|pool| pool.limits.clone()).collect(),
            price: 0,
            steps: 0,
            priced: None,
            base,
            vacant: Vec::new(),
            log: Vec::new(),
            logging: false,
        }
    }

    /// Lower is better: pods left, price, machines.
    pub(super) fn merit(&self) -> (u64, u64, u32) {
        (self.units.all.iter().map(|unit| u64::from(unit.left)).sum(), self.price, self.added_all)
    }

    /// How many more pods of a unit a node takes as it is.
    pub(super) fn room_for(&mut self, unit: usize, node: usize) -> u32 {
        self.steps += 1;
        let variant = self.units.variant_of(unit);
        let at = &self.nodes[node];
        if !variant.req.fits(&at.free)
            || self.units.all[unit].region.is_some_and(|region| region != at.region)
        {
            return 0;
        }
        let accepted = match at.site {
            Site::Spot(spot) => variant.kinds.contains(self.problem.spots[spot].kind),
            Site::New { offering, .. } => self.catalog.allows(variant.profile, offering),
            Site::Gone => false,
        };
        if !accepted {
            return 0;
        }
        let allowed = at.host.allowed(variant, &self.totals);
        let fits = if allowed <= 1 { allowed } else { allowed.min(variant.req.times_in(&at.free)) };
        if fits == 0 || !self.catalog.any_choosy() { fits } else { self.choice_for(unit, node, fits) }
    }

    /// How many of `most` more pods a machine takes before its pool would have too little choice.
    fn choice_for(&mut self, unit: usize, node: usize, most: u32) -> u32 {
        let Site::New { family, profile, .. } = self.nodes[node].site else { return most };
        let variant = &self.units.variants[self.units.all[unit].variant];
        let (profile, load) = (self.catalog.meet(profile, variant.profile), self.nodes[node].load);
        let leaves = |n: u32| self.catalog.leaves_choice(profile, family, &load.plus(&variant.req.times(n)));
        // More pods never leave more choice.
        let (mut good, mut bad) = (0, most.saturating_add(1));
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if leaves(middle) { good = middle } else { bad = middle }
        }
        good
    }

    /// Puts pods that want a place on a node; the caller knows that they fit.
    pub(super) fn add(&mut self, node: usize, unit: usize, count: u32) {
        self.units.take(unit, count);
        let before = self.put(node, unit, count);
        if self.logging {
            self.log.push(Undo::Added { node, unit, count, profile: before });
        }
    }

    /// Returns the profile that the node had before, where it is a new machine.
    fn put(&mut self, node: usize, unit: usize, count: u32) -> Option<ProfileIx> {
        let variant = &self.units.variants[self.units.all[unit].variant];
        let at = &mut self.nodes[node];
        let took = variant.req.times(count);
        at.free = at.free.minus(&took);
        at.load = at.load.plus(&took);
        at.host.add(variant, count);
        match at.pods.iter_mut().find(|(other, _)| *other == unit) {
            Some((_, n)) => *n += count,
            None => at.pods.push((unit, count)),
        }
        for &tally in &variant.host_members {
            self.totals.total[tally] += count;
        }
        let Site::New { profile, .. } = &mut at.site else { return None };
        let before = *profile;
        *profile = self.catalog.meet(before, variant.profile);
        Some(before)
    }

    /// Takes pods off a node; they want a place again.
    pub(super) fn remove(&mut self, node: usize, unit: usize, count: u32) {
        self.lift(node, unit, count);
        self.units.give(unit, count);
        if self.logging {
            self.log.push(Undo::Removed { node, unit, count });
        }
    }

    fn lift(&mut self, node: usize, unit: usize, count: u32) {
        let variant = &self.units.variants[self.units.all[unit].variant];
        let at = &mut self.nodes[node];
        let took = variant.req.times(count);
        at.free = at.free.plus(&took);
        at.load = at.load.minus(&took);
        if let Some(ix) = at.pods.iter().position(|(other, _)| *other == unit) {
            at.pods[ix].1 -= count;
            if at.pods[ix].1 == 0 {
                at.pods.remove(ix);
            }
        }
        for &tally in &variant.host_members {
            self.totals.total[tally] -= count;
        }
        self.recount(node);
    }

    /// Counts hostname tallies and the profile of a node again from what is on it.
    fn recount(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        let mut host = match at.site {
            Site::Spot(spot) => self.base[spot].clone(),
            _ => HostCounts::default(),
        };
        let mut narrowed = None;
        for &(unit, count) in &at.pods {
            let variant = &self.units.variants[self.units.all[unit].variant];
            host.add(variant, count);
            narrowed = Some(match narrowed {
                None => variant.profile,
                Some(profile) => self.catalog.meet(profile, variant.profile),
            });
        }
        at.host = host;
        if let (Site::New { profile, .. }, Some(narrowed)) = (&mut at.site, narrowed) {
            *profile = narrowed;
        }
    }

    /// Whether a pool may add one more machine of an offering.
    pub(super) fn may_open(&self, offering: usize) -> bool {
        let offer = &self.problem.offerings[offering];
        let pool = &self.problem.pools[offer.pool];
        pool.max_new.is_none_or(|max| self.added[offer.pool] < max)
            && self.problem.max_new.is_none_or(|max| self.added_all < max)
            && self.limits[offer.pool].iter().zip(&offer.uses).all(|(left, uses)| uses <= left)
    }

    /// Whether a machine of offering `from` may become one of offering `to`.
    pub(super) fn may_become(&self, from: usize, to: usize) -> bool {
        let (old, new) = (&self.problem.offerings[from], &self.problem.offerings[to]);
        let left = self.limits[new.pool].iter().zip(&new.uses).zip(&old.uses);
        left.into_iter().all(|((left, new), old)| *new <= left.saturating_add(*old))
    }

    /// Adds a machine; the caller knows that limits allow it.
    pub(super) fn open(&mut self, offering: usize) -> usize {
        let node = self.vacant.pop().unwrap_or_else(|| {
            self.nodes.push(Node {
                site: Site::Gone,
                region: 0,
                free: Amounts::ZERO,
                load: Amounts::ZERO,
                pods: Vec::new(),
                host: HostCounts::default(),
            });
            self.nodes.len() - 1
        });
        let family = self.catalog.offers[offering].family;
        self.revive(node, Site::New { family, profile: self.catalog.everything, offering });
        if self.logging {
            self.log.push(Undo::Opened { node });
        }
        node
    }

    /// Gives up a machine that holds no pods.
    pub(super) fn close(&mut self, node: usize) {
        let site = self.nodes[node].site;
        self.bury(node);
        if self.logging {
            self.log.push(Undo::Closed { node, site });
        }
    }

    /// Makes an empty machine of a vacant place in the list, which the caller has taken off the vacant ones.
    fn revive(&mut self, node: usize, site: Site) {
        if let Site::New { offering, family, .. } = site {
            let at = &mut self.nodes[node];
            at.site = site;
            at.region = self.catalog.families[family].region;
            at.free = self.catalog.offers[offering].room;
            at.host = HostCounts::default();
            self.charge(offering, true);
        }
    }

    fn bury(&mut self, node: usize) {
        if let Site::New { offering, .. } = self.nodes[node].site {
            self.nodes[node].site = Site::Gone;
            self.vacant.push(node);
            self.charge(offering, false);
        }
    }

    fn charge(&mut self, offering: usize, more: bool) {
        let offer = &self.problem.offerings[offering];
        for (left, uses) in self.limits[offer.pool].iter_mut().zip(&offer.uses) {
            *left = if more { left.saturating_sub(*uses) } else { left.saturating_add(*uses) };
        }
        let added = &mut self.added[offer.pool];
        if more {
            (*added, self.added_all) = (*added + 1, self.added_all + 1);
            self.price += offer.price;
        } else {
            (*added, self.added_all) = (*added - 1, self.added_all - 1);
            self.price -= offer.price;
        }
    }

    /// Changes what a new machine will be; the caller knows that its load fits and that limits allow it.
    pub(super) fn become_offering(&mut self, node: usize, offering: usize) {
        let was = self.exchange(node, offering);
        if self.logging && was != offering {
            self.log.push(Undo::Offering { node, was });
        }
    }

    fn exchange(&mut self, node: usize, to: usize) -> usize {
        let Site::New { offering, .. } = &mut self.nodes[node].site else { return to };
        let was = std::mem::replace(offering, to);
        self.charge(was, false);
        self.charge(to, true);
        let at = &mut self.nodes[node];
        at.free = self.catalog.offers[to].room.minus(&at.load);
        was
    }

    /// Makes a new machine as cheap as its load allows. `false`: no offering holds it.
    pub(super) fn shrink(&mut self, node: usize) -> bool {
        let Site::New { family, profile, offering } = self.nodes[node].site else { return false };
        let load = self.nodes[node].load;
        match self.catalog.cheapest(profile, family, &load) {
            Some(best) if self.may_become(offering, best) => {
                self.become_offering(node, best);
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    /// A moment that [`Self::rollback`] returns to. Changes are logged from the first mark on.
    pub(super) fn mark(&mut self) -> usize {
        self.logging = true;
        self.log.len()
    }

    /// Keeps everything and forgets how to take it back.
    pub(super) fn commit(&mut self) {
        self.log.clear();
        self.logging = false;
    }

    /// Takes back everything since `mark`.
    pub(super) fn rollback(&mut self, mark: usize) {
        while self.log.len() > mark {
            match self.log.pop() {
                Some(Undo::Added { node, unit, count, profile }) => {
                    self.lift(node, unit, count);
                    self.units.give(unit, count);
                    if let (Site::New { profile: at, .. }, Some(was)) = (&mut self.nodes[node].site, profile)
                    {
                        *at = was;
                    }
                }
                Some(Undo::Removed { node, unit, count }) => {
                    self.units.take(unit, count);
                    self.put(node, unit, count);
                }
                Some(Undo::Offering { node, was }) => {
                    self.exchange(node, was);
                }
                Some(Undo::Opened { node }) => {
                    self.bury(node);
                }
                Some(Undo::Closed { node, site }) => {
                    self.vacant.pop();
                    self.revive(node, site);
                }
                None => return,
            }
        }
    }
}
