//! Why pods found no place, counted.
//!
//! Owns the numeric reasons by pool; existing nodes are explained by the filters, which know their words.

use super::state::State;
use super::units::Variant;

/// What refused the pods of a class in one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No offering of the pool passes the lasting filters.
    Incompatible,
    /// Offerings pass, but none is available.
    Unavailable,
    /// The largest available offering that passes lacks this resource.
    TooSmall { resource: usize },
    /// Too few values of what the pool wants a choice of would be left.
    TooLittleChoice,
    /// The pool, or the round, may not add more machines.
    MaxReached,
    /// One of the pool's resource limits would be exceeded.
    LimitReached,
    /// A topology rule (index into the class's rules) holds everywhere in the pool.
    Topology { rule: usize },
}

/// Refusals by pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    pub pools: Vec<(usize, Refusal)>,
}

impl<const D: usize> State<'_, D> {
    /// Asks every pool why one more pod of the variant cannot be bought for.
    pub(super) fn refusals(&self, variant: &Variant<D>) -> Refusals {
        let pools = (0..self.problem.pools.len()).map(|pool| (pool, self.refusal(variant, pool))).collect();
        Refusals { pools }
    }

    fn refusal(&self, variant: &Variant<D>, pool: usize) -> Refusal {
        let passing: Vec<usize> = (0..self.problem.offerings.len())
            .filter(|ix| {
                self.problem.offerings[*ix].pool == pool && self.catalog.allows(variant.profile, *ix)
            })
            .collect();
        if passing.is_empty() {
            return Refusal::Incompatible;
        }
        let available: Vec<usize> =
            passing.into_iter().filter(|ix| self.problem.offerings[*ix].available).collect();
        if available.is_empty() {
            return Refusal::Unavailable;
        }
        let large: Vec<usize> =
            available.iter().copied().filter(|ix| variant.req.fits(&self.catalog.offers[*ix].room)).collect();
        if large.is_empty() {
            return self.too_small(variant, &available);
        }
        let mut families =
            (0..self.catalog.families.len()).filter(|ix| self.catalog.families[*ix].pool == pool);
        if !families.any(|family| self.catalog.leaves_choice(variant.profile, family, &variant.req)) {
            return Refusal::TooLittleChoice;
        }
        if let Some(refusal) = self.exhausted(pool, &large) {
            return refusal;
        }
        Refusal::Topology { rule: self.broken_rule(variant) }
    }

    fn too_small(&self, variant: &Variant<D>, offerings: &[usize]) -> Refusal {
        // The resource that the fewest offerings have enough of; the first of them at a tie.
        let enough = |at: &usize| {
            offerings.iter().filter(|ix| variant.req.0[*at] <= self.catalog.offers[**ix].room.0[*at]).count()
        };
        let resource = (0..self.problem.resources).min_by_key(|at| (enough(at), *at)).unwrap_or(0);
        Refusal::TooSmall { resource }
    }

    fn exhausted(&self, pool: usize, offerings: &[usize]) -> Option<Refusal> {
        let max = self.problem.pools[pool].max_new;
        let full = max.is_some_and(|max| self.added[pool] >= max)
            || self.problem.max_new.is_some_and(|max| self.added_all >= max);
        if full {
            return Some(Refusal::MaxReached);
        }
        (!offerings.iter().any(|ix| self.may_open(*ix))).then_some(Refusal::LimitReached)
    }

    /// The first rule that no region keeps; the first of all if each is kept somewhere.
    fn broken_rule(&self, variant: &Variant<D>) -> usize {
        let rules = &self.problem.classes[variant.class].rules;
        let broken = |rule: &super::problem::Rule| {
            variant.zone_rules.contains(rule)
                && !self.catalog.regions.iter().any(|domains| self.zones.keeps(*rule, variant, domains))
        };
        rules.iter().position(broken).unwrap_or(0)
    }
}
