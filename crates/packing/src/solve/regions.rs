//! Which pods go to which region, decided before machines are chosen.
//!
//! Owns the split of tied pods: evenest first, then the cheapest region, then the one with the least planned so far.
//! Afterwards every region is a packing problem of its own, coupled only by the pods that may go anywhere.

use super::catalog::Region;
use super::state::State;

/// What the split knows of one variant in one region.
#[derive(Clone, Copy, Debug)]
struct Choice {
    region: Region,
    /// Price of the cheapest machine that holds one pod.
    price: u64,
}

impl<const D: usize> State<'_, D> {
    /// Regions where some available machine of the best possible pool priority holds a pod of the variant.
    fn choices(&mut self, variant: usize) -> Vec<Choice> {
        let (profile, req) = (self.units.variants[variant].profile, self.units.variants[variant].req);
        let mut found: Vec<(i32, Choice)> = Vec::new();
        for family in 0..self.catalog.families.len() {
            let (pool, region) = (self.catalog.families[family].pool, self.catalog.families[family].region);
            let Some(offering) = self.catalog.cheapest(profile, family, &req) else { continue };
            if !self.may_open(offering) {
                continue;
            }
            let price = self.catalog.offers[offering].price;
            found.push((self.problem.pools[pool].priority, Choice { region, price }));
        }
        let best = found.iter().map(|(priority, _)| *priority).max();
        let mut choices: Vec<Choice> = found
            .into_iter()
            .filter(|(priority, _)| Some(*priority) == best)
            .map(|(_, choice)| choice)
            .collect();
        choices.sort_by_key(|choice| (choice.region, choice.price));
        choices.dedup_by_key(|choice| choice.region);
        choices
    }

    /// Whether a new machine could hold a pod of the variant at all.
    pub(super) fn is_buyable(&mut self, variant: usize) -> bool {
        !self.choices(variant).is_empty()
    }

    /// Chooses regions for pods of tied variants, and counts them there. Returns, by variant, the pods without one.
    pub(super) fn assign_regions(&mut self, wants: &[(usize, u32)]) -> Vec<(usize, u32)> {
        let mut planned = vec![0u64; self.catalog.regions.len()];
        let mut waiting = wants.to_vec();
        // Affinity to pods that come later in the list is tried again as long as it helps.
        loop {
            let before: u64 = waiting.iter().map(|(_, n)| u64::from(*n)).sum();
            for (variant, count) in &mut waiting {
                *count -= self.assign(*variant, *count, &mut planned);
            }
            waiting.retain(|(_, n)| *n > 0);
            if waiting.iter().map(|(_, n)| u64::from(*n)).sum::<u64>() == before || waiting.is_empty() {
                return waiting;
            }
        }
    }

    fn assign(&mut self, variant: usize, count: u32, planned: &mut [u64]) -> u32 {
        let choices = self.choices(variant);
        let worth = self.units.buckets[self.units.variants[variant].bucket].worth.max(1);
        let mut done = 0;
        while done < count {
            let best = choices
                .iter()
                .filter(|choice| {
                    let variant = &self.units.variants[variant];
                    self.zones.allows(variant, &self.catalog.regions[choice.region])
                })
                .min_by_key(|choice| {
                    let domains = &self.catalog.regions[choice.region];
                    let lead = self.zones.lead(&self.units.variants[variant], domains);
                    (lead, choice.price, planned[choice.region], choice.region)
                });
            self.steps += choices.len() as u64;
            let Some(best) = best.map(|choice| choice.region) else { break };
            planned[best] += worth;
            let unit = self.units.unit(variant, Some(best));
            self.units.give(unit, 1);
            self.zones.add(&self.units.variants[variant], &self.catalog.regions[best], 1);
            done += 1;
        }
        done
    }
}
