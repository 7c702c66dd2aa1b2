//! What a machine counts as when machines are chosen: the seam at which ways of choosing differ.
//!
//! Owns the two numbers that the joint solve goes by. Pools of a higher tier are used up before others are looked at;
//! among those of one tier the sum of what the machines count as is made as small as it can be. A way of choosing is
//! therefore a way of filling in these numbers: by price, by size (so that the least is left over), or one for each
//! machine (the fewest machines). Which machines serve the pods is the solve's, whatever they count as.
//!
//! Cluster Autoscaler's expanders are such ways. Those that look at what is bought (least-waste, least-nodes, price) say
//! what a machine counts as; those that look at pools (priority, random) say their tiers. `most-pods` says nothing: a
//! joint solve serves as many as can be served anyway; `grpc` leaves pools out, which is `consultation`'s. What a pool's
//! own priority says goes before all of them.

use model::{Choice, Expander, Flavour, Pool, PoolId};
use packing::{Template, size_units};
use regex::Regex;
use std::collections::BTreeMap;

/// By what machines are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    /// Micro-USD an hour.
    Price,
    /// How large a machine is: whatever is bought, the least is left over.
    Size,
    /// Each counts as one: the fewest machines.
    One,
}

/// How the machines of one round are compared.
pub(crate) struct Appraisal {
    basis: Basis,
    tiers: BTreeMap<PoolId, i32>,
}

impl Appraisal {
    /// By price, unless only groups take part and one of them has none (a machine without a price is not one that is
    /// free), or an expander says otherwise. `salt` makes the expander `random` choose anew in each purchase.
    pub(crate) fn of<'p>(choice: &Choice, salt: u64, pools: impl Iterator<Item = &'p Pool>) -> Self {
        let pools: Vec<&Pool> = pools.collect();
        let direct = pools.iter().any(|pool| pool.direct().is_some());
        let unpriced = pools.iter().any(|pool| pool.direct().is_none() && pool.price.0 == 0);
        let usual = if unpriced && !direct { Basis::Size } else { Basis::Price };
        let basis = choice.expanders.iter().find_map(|expander| match expander {
            Expander::LeastWaste => Some(Basis::Size),
            Expander::LeastNodes => Some(Basis::One),
            Expander::Price => Some(usual),
            Expander::Random | Expander::MostPods | Expander::Priority | Expander::Grpc => None,
        });
        Self { basis: basis.unwrap_or(usual), tiers: tiers(choice, salt, &pools) }
    }

    /// Whether what machines count as is money.
    pub(crate) fn is_price(&self) -> bool {
        self.basis == Basis::Price
    }

    /// Pools of a higher tier are used up first.
    pub(crate) fn tier(&self, pool: &Pool) -> i32 {
        self.tiers.get(&pool.id).copied().unwrap_or(pool.priority)
    }

    /// What one machine of a group counts as.
    pub(crate) fn of_group(&self, pool: &Pool, template: &Template) -> u64 {
        match self.basis {
            Basis::One => 1,
            Basis::Price if pool.price.0 > 0 => pool.price.0,
            // Beside direct pools its size stands in, which is far less than any price: groups are there to be used.
            Basis::Price | Basis::Size => size_units(&template.node.allocatable),
        }
    }

    /// What one machine of a direct pool counts as.
    pub(crate) fn of_flavour(&self, flavour: &Flavour) -> u64 {
        match self.basis {
            Basis::Price => flavour.price.0,
            Basis::Size => size_units(&flavour.template.allocatable),
            Basis::One => 1,
        }
    }
}

/// The order of pools by their own priority, then by each expander that looks at pools; `None` where none does.
fn tiers(choice: &Choice, salt: u64, pools: &[&Pool]) -> BTreeMap<PoolId, i32> {
    let looks_at_pools = |expander: &&Expander| matches!(expander, Expander::Priority | Expander::Random);
    let deciding: Vec<Expander> = choice.expanders.iter().filter(looks_at_pools).copied().collect();
    if deciding.is_empty() {
        return BTreeMap::new();
    }
    let patterns = compiled(choice);
    let rank = |pool: &Pool| -> Vec<i64> {
        let own = i64::from(pool.priority);
        let of_each = deciding.iter().map(|expander| match expander {
            Expander::Priority => highest(&patterns, pool).map_or(i64::MIN, i64::from),
            _ => lot(choice.seed, salt, &pool.id),
        });
        std::iter::once(own).chain(of_each).collect()
    };
    let mut ranks: Vec<(Vec<i64>, PoolId)> = pools.iter().map(|pool| (rank(pool), pool.id.clone())).collect();
    ranks.sort();
    let (mut tiers, mut tier, mut before) = (BTreeMap::new(), 0, None);
    for (rank, pool) in ranks {
        tier += i32::from(before.as_ref().is_some_and(|before| *before != rank));
        tiers.insert(pool, tier);
        before = Some(rank);
    }
    tiers
}

/// Patterns with their numbers; those that are no patterns match nothing, which whoever read them has said.
fn compiled(choice: &Choice) -> Vec<(i32, Regex)> {
    let all =
        choice.priorities.iter().flat_map(|(number, patterns)| patterns.iter().map(|text| (*number, text)));
    all.filter_map(|(number, text)| Some((number, Regex::new(text).ok()?))).collect()
}

/// The highest number of which a pattern is found in the pool's name; pools without one come after all others.
fn highest(patterns: &[(i32, Regex)], pool: &Pool) -> Option<i32> {
    patterns.iter().filter(|(_, pattern)| pattern.is_match(&pool.name)).map(|(number, _)| *number).max()
}

/// A number drawn for a pool from a seed.
fn lot(seed: u64, salt: u64, pool: &PoolId) -> i64 {
    let mut state = seed ^ salt.rotate_left(32);
    for byte in pool.as_str().bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // The last rounds of splitmix64, so that near seeds lead far apart.
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    i64::try_from((state ^ (state >> 31)) >> 1).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{MicroUsdPerHour, PoolKind, PoolOptions, Profile, ProviderKind};

    fn pool(name: &str, price: u64) -> Pool {
        Pool {
            id: PoolId::from(format!("simulated/{name}")),
            name: name.into(),
            provider: ProviderKind::Simulated,
            profile: Profile::ClusterAutoscaler,
            min: 0,
            max: 9,
            target: 0,
            template: None,
            priority: 0,
            price: MicroUsdPerHour(price),
            options: PoolOptions::default(),
            frozen: None,
            kind: PoolKind::default(),
        }
    }

    /// The pools of the highest tier, of those that are there.
    fn first(choice: &Choice, salt: u64, names: &[&str]) -> Vec<String> {
        let pools: Vec<Pool> = names.iter().map(|name| pool(name, 1)).collect();
        let appraisal = Appraisal::of(choice, salt, pools.iter());
        let best = pools.iter().map(|pool| appraisal.tier(pool)).max().unwrap();
        pools.iter().filter(|pool| appraisal.tier(pool) == best).map(|pool| pool.name.to_string()).collect()
    }

    fn by_priority(lists: &[(i32, &[&str])]) -> Choice {
        let priorities = lists
            .iter()
            .map(|(number, patterns)| (*number, patterns.iter().map(|text| (*text).into()).collect()))
            .collect();
        Choice { expanders: vec![Expander::Priority], priorities, ..Choice::default() }
    }

    /// X1 to X6, and negative numbers, which never win in Cluster Autoscaler.
    #[test]
    fn the_highest_pattern_that_matches_wins() {
        let table = by_priority(&[
            (5, &["t2\\.micro"]),
            (10, &["t2\\.large", "t3\\.large"]),
            (50, &["m4\\.4xlarge"]),
        ]);
        for (options, best) in [
            (&["t2.large"][..], &["t2.large"][..]),
            (&["t2.large", "m4.4xlarge"], &["m4.4xlarge"]),
            (&["t2.large", "t3.large", "t2.micro"], &["t2.large", "t3.large"]),
            (&["other", "another"], &["other", "another"]),
            (&["other", "t2.micro"], &["t2.micro"]),
        ] {
            assert_eq!(first(&table, 0, options), best, "{options:?}");
        }
        let broad = by_priority(&[(5, &[".*"]), (10, &["t2\\.large"])]);
        assert_eq!(first(&broad, 0, &["t2.large", "other"]), ["t2.large"]);
        assert_eq!(first(&by_priority(&[]), 0, &["a", "b"]), ["a", "b"]);
        assert_eq!(first(&by_priority(&[(-3, &["b"]), (-7, &["a"])]), 0, &["a", "b"]), ["b"]);
        assert_eq!(first(&by_priority(&[(1, &["("])]), 0, &["a", "b"]), ["a", "b"]);
    }

    #[test]
    fn lots_are_drawn_anew_each_time_and_the_same_from_one_seed() {
        let names = ["a", "b", "c", "d"];
        let choice = Choice { expanders: vec![Expander::Random], ..Choice::default() };
        let drawn: Vec<_> = (0..40).map(|salt| first(&choice, salt, &names)).collect();
        assert!(drawn.iter().all(|best| best.len() == 1));
        for name in names {
            assert!(drawn.iter().any(|best| best[0] == name), "{name} never wins");
        }
        let again: Vec<_> = (0..40).map(|salt| first(&choice, salt, &names)).collect();
        assert_eq!(drawn, again);
    }

    #[test]
    fn expanders_say_what_a_machine_counts_as() {
        let pools = [pool("a", 100), pool("b", 7)];
        let basis = |expanders: &[Expander], pools: &[Pool]| {
            let choice = Choice { expanders: expanders.to_vec(), ..Choice::default() };
            Appraisal::of(&choice, 0, pools.iter()).basis
        };
        assert_eq!(basis(&[], &pools), Basis::Price);
        assert_eq!(basis(&[Expander::LeastWaste], &pools), Basis::Size);
        assert_eq!(basis(&[Expander::MostPods, Expander::LeastNodes], &pools), Basis::One);
        assert_eq!(basis(&[Expander::Price, Expander::LeastWaste], &pools), Basis::Price);
        assert_eq!(basis(&[Expander::Price], &[pool("a", 0)]), Basis::Size);
    }
}
