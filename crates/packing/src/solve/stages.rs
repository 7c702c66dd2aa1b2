//! The stages of one solve around the search: what is wanted, what exists, what is left.
//!
//! Owns in which form pods enter each stage. A class enters with all its preferences; those that would leave pods
//! out are given up one by one, in the class's order, and only for the pods that they would leave out.

use super::answer::Unplaced;
use super::problem::Rule;
use super::state::State;

impl<const D: usize> State<'_, D> {
    /// Existing nodes that suit all preferences first, then any: the scheduler would use them just so.
    pub(super) fn place_on_existing(&mut self) {
        let problem = self.problem;
        let most = problem.classes.iter().map(|class| class.softs.len()).max().unwrap_or(0);
        let mut units: Vec<usize> = Vec::new();
        for (ix, class) in problem.classes.iter().enumerate() {
            let variant = self.units.variant(problem, &mut self.catalog, ix, 0);
            units.push(self.units.unit(variant, None));
            self.units.give(units[ix], class.count);
        }
        if problem.spots.is_empty() {
            return;
        }
        self.use_existing(&units);
        for dropped in 1..=most {
            let weaker: Vec<usize> = (0..units.len())
                .filter(|ix| {
                    dropped <= problem.classes[*ix].softs.len() && self.units.all[units[*ix]].left > 0
                })
                .collect();
            for class in &weaker {
                units[*class] = self.weaken(units[*class]);
            }
            let weaker: Vec<usize> = weaker.into_iter().map(|class| units[class]).collect();
            self.use_existing(&weaker);
        }
        // For new machines all preferences count again.
        for (class, unit) in units.into_iter().enumerate() {
            let left = self.units.all[unit].left;
            if self.units.all[unit].variant != class && left > 0 {
                self.units.take(unit, left);
                let first = self.units.unit(class, None);
                self.units.give(first, left);
            }
        }
    }

    /// Moves what is left of a unit to the same class with one preference fewer, in any region.
    fn weaken(&mut self, unit: usize) -> usize {
        let left = self.units.all[unit].left;
        let variant = self.units.variant_of(unit);
        let (class, dropped) = (variant.class, variant.dropped + 1);
        let weaker = self.weaker_variant(class, dropped);
        let to = self.units.unit(weaker, None);
        self.units.take(unit, left);
        self.units.give(to, left);
        to
    }

    /// A class with only the preferences after the first `dropped`.
    pub(super) fn weaker_variant(&mut self, class: usize, dropped: usize) -> usize {
        let known = |v: &super::units::Variant<D>| v.class == class && v.dropped == dropped;
        // Variants beyond the first of each class are rare and were made last.
        let first_weaker = self.problem.classes.len();
        if let Some(at) = self.units.variants[first_weaker..].iter().position(known) {
            return first_weaker + at;
        }
        self.units.variant(self.problem, &mut self.catalog, class, dropped)
    }

    /// Splits tied pods over regions; preferences that no machine could ever meet are given up first.
    pub(super) fn split(&mut self) {
        let mut tied: Vec<(usize, u32)> = Vec::new();
        for class in 0..self.problem.classes.len() {
            let mut unit = self.units.unit(class, None);
            while self.units.all[unit].left > 0
                && self.units.variant_of(unit).dropped < self.problem.classes[class].softs.len()
                && !self.is_buyable(self.units.all[unit].variant)
            {
                unit = self.weaken(unit);
            }
            let left = self.units.all[unit].left;
            if left > 0 && self.units.variant_of(unit).is_tied() {
                tied.push((self.units.all[unit].variant, left));
            }
        }
        // Carriers of rules go before pods that merely count, so that these can even out; high priority first.
        tied.sort_by_key(|(variant, _)| {
            let variant = &self.units.variants[*variant];
            let priority = self.problem.classes[variant.class].priority;
            (std::cmp::Reverse(priority), std::cmp::Reverse(variant.zone_rules.len()), variant.class)
        });
        let without = self.assign_regions(&tied);
        for (variant, count) in tied {
            let left = without.iter().find(|(v, _)| *v == variant).map_or(0, |(_, n)| *n);
            let unit = self.units.unit(variant, None);
            self.units.take(unit, count - left);
        }
    }

    /// Everything that is still left, pod by pod; then with fewer and fewer preferences.
    pub(super) fn place_rest(&mut self) {
        let problem = self.problem;
        let most = problem.classes.iter().map(|class| class.softs.len()).max().unwrap_or(0);
        for _ in 0..=most {
            self.insert_all();
            let returned = self.return_regions();
            self.settle_zones();
            if returned {
                self.even_out();
            }
            self.insert_tied();
            let mut any = false;
            for unit in 0..self.units.all.len() {
                let variant = self.units.variant_of(unit);
                let more = variant.dropped < problem.classes[variant.class].softs.len();
                if more && self.units.all[unit].left > 0 {
                    self.weaken(unit);
                    any = true;
                }
            }
            if !any {
                return;
            }
        }
    }

    fn insert_all(&mut self) {
        let mut order: Vec<usize> = (0..self.units.all.len())
            .filter(|unit| {
                let tied = self.units.variant_of(*unit).is_tied();
                self.units.all[*unit].left > 0 && (!tied || self.units.all[*unit].region.is_some())
            })
            .collect();
        order.sort_by_key(|unit| {
            let variant = self.units.variant_of(*unit);
            let priority = self.problem.classes[variant.class].priority;
            let worth = self.units.buckets[variant.bucket].worth;
            (std::cmp::Reverse(priority), std::cmp::Reverse(worth), *unit)
        });
        for unit in order {
            self.insert(unit);
        }
    }

    /// Pods that found no place in their region are no longer counted there. `true` if there were any.
    fn return_regions(&mut self) -> bool {
        let mut any = false;
        for unit in 0..self.units.all.len() {
            let (left, variant) = (self.units.all[unit].left, self.units.all[unit].variant);
            let Some(region) = self.units.all[unit].region else { continue };
            if left > 0 {
                self.zones.remove(&self.units.variants[variant], &self.catalog.regions[region], left);
                let anywhere = self.units.unit(variant, None);
                self.units.take(unit, left);
                self.units.give(anywhere, left);
                any = true;
            }
        }
        any
    }

    /// From here on only regions with nodes count as domains, as they will for the scheduler.
    fn settle_zones(&mut self) {
        let used: std::collections::BTreeSet<usize> =
            self.nodes.iter().filter(|node| !node.pods.is_empty()).map(|node| node.region).collect();
        let regions: Vec<&Vec<u32>> = used.into_iter().map(|region| &self.catalog.regions[region]).collect();
        self.zones.settle(self.problem, &regions);
    }

    /// Pods without a place are missed where others spread by them or want to be near them: those are taken back
    /// until every rule holds.
    fn even_out(&mut self) {
        loop {
            let uneven = self.nodes.iter().enumerate().find_map(|(at, node)| {
                let breaks = |(unit, _): &&(usize, u32)| {
                    let variant = self.units.variant_of(*unit);
                    let alone = |rule: &Rule| {
                        matches!(rule, Rule::Affinity { tally } if node.host.count(*tally) == 0)
                    };
                    variant.host_rules.iter().any(alone)
                        || self.units.all[*unit].region.is_some()
                            && self.zones.breaks(variant, &self.catalog.regions[node.region])
                };
                node.pods.iter().find(breaks).map(|(unit, _)| (at, *unit))
            });
            let Some((node, unit)) = uneven else { return };
            self.remove(node, unit, 1);
            if self.nodes[node].pods.is_empty() && self.nodes[node].site.is_new() {
                self.close(node);
            } else {
                self.shrink(node);
            }
            self.return_regions();
        }
    }

    /// Tied pods without a region, one by one, wherever their rules allow.
    fn insert_tied(&mut self) {
        for unit in 0..self.units.all.len() {
            let variant = self.units.all[unit].variant;
            if self.units.all[unit].region.is_some() || !self.units.variants[variant].is_tied() {
                continue;
            }
            while self.units.all[unit].left > 0 {
                let mut order: Vec<(u32, usize)> = (0..self.catalog.regions.len())
                    .filter(|region| {
                        self.zones.allows(&self.units.variants[variant], &self.catalog.regions[*region])
                    })
                    .map(|region| {
                        let domains = &self.catalog.regions[region];
                        (self.zones.lead(&self.units.variants[variant], domains), region)
                    })
                    .collect();
                order.sort_unstable();
                if !order.into_iter().any(|(_, region)| self.insert_in(unit, variant, region)) {
                    break;
                }
            }
        }
    }

    fn insert_in(&mut self, unit: usize, variant: usize, region: usize) -> bool {
        let tied = self.units.unit(variant, Some(region));
        self.units.take(unit, 1);
        self.units.give(tied, 1);
        if self.insert(tied) == 1 {
            self.zones.add(&self.units.variants[variant], &self.catalog.regions[region], 1);
            return true;
        }
        self.units.take(tied, 1);
        self.units.give(unit, 1);
        false
    }

    /// What found no place, by class, with the reasons of its least demanding form.
    pub(super) fn unplaced(&mut self) -> Vec<Unplaced> {
        let mut counts = std::collections::BTreeMap::<usize, (u32, usize)>::new();
        for (ix, unit) in self.units.all.iter().enumerate().filter(|(_, unit)| unit.left > 0) {
            let entry = counts.entry(self.units.variant_of(ix).class).or_default();
            *entry = (entry.0 + unit.left, unit.variant);
        }
        let one = |(class, (count, variant))| Unplaced {
            class,
            count,
            refusals: self.refusals(&self.units.variants[variant]),
        };
        counts.into_iter().map(one).collect()
    }
}
