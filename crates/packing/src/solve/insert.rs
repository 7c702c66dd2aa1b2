//! Single pods into the cheapest place: what patterns left over, and what local search took out.
//!
//! Owns the choice by price increment: free room costs nothing, a larger offering costs the difference, a new machine
//! costs its price. Ties go to the tightest fit, then to the first node.

use super::state::{Site, State};

/// Where one pod would go, and at what price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    increment: u64,
    /// Room that would stay free, as a tie key.
    slack: u64,
    node: usize,
    offering: Option<usize>,
}

impl<const D: usize> State<'_, D> {
    /// Places what is left of a unit, pod by pod. Returns how many found a place.
    pub(super) fn insert(&mut self, unit: usize) -> u32 {
        let mut done = 0;
        while self.units.all[unit].left > 0 {
            let Some(place) = self.cheapest_place(unit) else { break };
            done += self.take_place(unit, place);
        }
        done
    }

    fn take_place(&mut self, unit: usize, place: Place) -> u32 {
        let node = if place.node < self.nodes.len() {
            if let Some(offering) = place.offering {
                self.become_offering(place.node, offering);
            }
            place.node
        } else {
            let Some(offering) = place.offering else { return 0 };
            self.open(offering)
        };
        let count = self.room_for(unit, node).min(self.units.all[unit].left).min(1);
        self.add(node, unit, count);
        count
    }

    fn cheapest_place(&mut self, unit: usize) -> Option<Place> {
        let mut best: Option<Place> = None;
        for node in 0..self.nodes.len() {
            let limit = best.map_or(u64::MAX, |place| place.increment);
            if let Some(place) = self.place_on(unit, node, limit)
                && best.is_none_or(|old| place < old)
            {
                best = Some(place);
            }
        }
        if best.is_some_and(|place| place.increment == 0) {
            return best;
        }
        match self.place_new(unit) {
            Some(new) if best.is_none_or(|old| new.increment < old.increment) => Some(new),
            _ => best,
        }
    }

    /// The place on one node, if it costs at most `limit`.
    fn place_on(&mut self, unit: usize, node: usize, limit: u64) -> Option<Place> {
        if self.room_for(unit, node) > 0 {
            let req = self.units.variant_of(unit).req;
            let slack =
                self.nodes[node].free.minus(&req).0.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
            return Some(Place { increment: 0, slack, node, offering: None });
        }
        let Site::New { family, profile, offering } = self.nodes[node].site else { return None };
        if limit == 0 {
            return None;
        }
        let variant = self.units.variant_of(unit);
        let at = &self.nodes[node];
        if self.units.all[unit].region.is_some_and(|region| region != at.region)
            || at.host.allowed(variant, &self.totals) == 0
        {
            return None;
        }
        let load = at.load.plus(&variant.req);
        let profile = self.catalog.meet(profile, variant.profile);
        let to = self.catalog.cheapest(profile, family, &load)?;
        if !self.may_become(offering, to) {
            return None;
        }
        let (now, then) = (self.catalog.offers[offering].price, self.catalog.offers[to].price);
        let slack =
            self.catalog.offers[to].room.minus(&load).0.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        Some(Place { increment: then.saturating_sub(now), slack, node, offering: Some(to) })
    }

    /// A new machine for one pod, in the pools of the highest priority that can.
    fn place_new(&mut self, unit: usize) -> Option<Place> {
        let (region, variant) = (self.units.all[unit].region, self.units.variant_of(unit));
        let (profile, req) = (variant.profile, variant.req);
        if super::host::HostCounts::default().allowed(variant, &self.totals) == 0 {
            return None;
        }
        let mut best: Option<(std::cmp::Reverse<i32>, u64, usize)> = None;
        for family in 0..self.catalog.families.len() {
            let (pool, at) = (self.catalog.families[family].pool, self.catalog.families[family].region);
            if region.is_some_and(|region| region != at) {
                continue;
            }
            let Some(offering) = self.catalog.cheapest(profile, family, &req) else { continue };
            if !self.may_open(offering) {
                continue;
            }
            let priority = std::cmp::Reverse(self.problem.pools[pool].priority);
            let key = (priority, self.catalog.offers[offering].price, offering);
            best = Some(best.map_or(key, |old| old.min(key)));
        }
        let (_, price, offering) = best?;
        Some(Place { increment: price, slack: 0, node: self.nodes.len(), offering: Some(offering) })
    }
}
