//! Room that is there already, used before anything is bought.
//!
//! Owns the order in which pods take it: high priority first, then those with topology rules, then the largest.

use super::state::State;
use std::cmp::Reverse;

impl<const D: usize> State<'_, D> {
    /// Places what it can of the units on existing nodes.
    pub(super) fn use_existing(&mut self, units: &[usize]) {
        let spots = self.problem.spots.len();
        if spots == 0 {
            return;
        }
        let mut total = [0u128; D];
        for node in &self.nodes[..spots] {
            for (sum, free) in total.iter_mut().zip(&node.free.0) {
                *sum += u128::from(*free);
            }
        }
        let mut order = units.to_vec();
        order.sort_by_cached_key(|unit| {
            let variant = self.units.variant_of(*unit);
            let part =
                variant.req.0.iter().zip(&total).map(|(req, all)| (u128::from(*req) << 64) / (*all).max(1));
            let rules = variant.zone_rules.len() + variant.host_rules.len();
            let priority = self.problem.classes[variant.class].priority;
            (Reverse(priority), Reverse(rules), Reverse(part.max()), *unit)
        });
        for unit in order {
            if self.units.variant_of(unit).is_tied() {
                self.use_existing_tied(unit);
            } else {
                self.use_existing_free(unit);
            }
        }
    }

    fn use_existing_free(&mut self, unit: usize) {
        for node in 0..self.problem.spots.len() {
            let left = self.units.all[unit].left;
            if left == 0 {
                return;
            }
            let room = self.room_for(unit, node).min(left);
            if room > 0 {
                self.add(node, unit, room);
            }
        }
    }

    /// Pod by pod, the evenest region first; in each region nodes in order.
    fn use_existing_tied(&mut self, unit: usize) {
        let variant = self.units.all[unit].variant;
        let mut regions: Vec<usize> = self.catalog.spot_regions.clone();
        regions.sort_unstable();
        regions.dedup();
        let mut cursors = vec![0; self.catalog.regions.len()];
        while self.units.all[unit].left > 0 {
            let mut order: Vec<(u32, usize)> = Vec::new();
            for &region in &regions {
                let domains = &self.catalog.regions[region];
                if cursors[region] < self.problem.spots.len()
                    && self.zones.allows(&self.units.variants[variant], domains)
                {
                    order.push((self.zones.lead(&self.units.variants[variant], domains), region));
                }
            }
            order.sort_unstable();
            if !order.into_iter().any(|(_, region)| self.use_region(unit, region, &mut cursors[region])) {
                return;
            }
        }
    }

    /// Puts one pod on the first node of a region that takes it; the cursor skips those that do not.
    fn use_region(&mut self, unit: usize, region: usize, cursor: &mut usize) -> bool {
        while *cursor < self.problem.spots.len() {
            if self.catalog.spot_regions[*cursor] == region && self.room_for(unit, *cursor) > 0 {
                let variant = self.units.all[unit].variant;
                let tied = self.units.unit(variant, Some(region));
                self.units.take(unit, 1);
                self.units.give(tied, 1);
                self.add(*cursor, tied, 1);
                self.zones.add(&self.units.variants[variant], &self.catalog.regions[region], 1);
                return true;
            }
            *cursor += 1;
        }
        false
    }
}
