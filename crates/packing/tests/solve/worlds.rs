//! Small problems for the tests of the optimiser.

use packing::solve::{Answer, BitSet, Class, NO_DOMAIN, Offering, Pool, Problem, Rule, Spot, Tally};
use proptest::prelude::*;

/// Pods of one resource besides their number.
pub(crate) fn class(count: u32, cpu: u64) -> Class {
    Class {
        count,
        requests: vec![cpu, 1],
        offerings: BitSet::full(64),
        kinds: BitSet::full(64),
        ..Class::default()
    }
}

pub(crate) fn spot(cpu: u64, zone: u32) -> Spot {
    Spot { kind: 0, free: vec![cpu, 110], domains: vec![NO_DOMAIN, zone] }
}

fn offering(pool: usize, cpu: u64, price: u64, zone: u32) -> Offering {
    Offering {
        pool,
        room: vec![cpu, 110],
        price,
        available: true,
        domains: vec![NO_DOMAIN, zone],
        ..Offering::default()
    }
}

/// One pool in one zone with types of (cpu, price).
pub(crate) fn problem(types: &[(u64, u64)], classes: Vec<Class>) -> Problem {
    Problem {
        resources: 2,
        keys: vec![0, 3],
        classes,
        pools: vec![Pool::default()],
        offerings: types.iter().map(|(cpu, price)| offering(0, *cpu, *price, 0)).collect(),
        ..Problem::default()
    }
}

/// A pool in each of three zones and one class, with one tally over the zone.
pub(crate) fn three_zones(types: &[(u64, u64)], count: u32) -> Problem {
    let mut problem = problem(&[], vec![class(count, 1)]);
    problem.pools = vec![Pool::default(); 3];
    problem.tallies = vec![Tally { key: 1, ..Tally::default() }];
    for zone in 0..3 {
        problem
            .offerings
            .extend(types.iter().map(|(cpu, price)| offering(zone as usize, *cpu, *price, zone)));
    }
    problem
}

prop_compose! {
    fn any_class(tallies: usize)(
        count in 1u32..7,
        cpu in 1u64..6,
        rule in prop::option::weighted(0.6, (0..tallies, 0u8..4, 1u32..3)),
        member in prop::option::of(0..tallies),
        own in any::<bool>(),
        offerings in prop::option::weighted(0.2, 0usize..12),
    ) -> Class {
        let mut class = class(count, cpu);
        class.counts_in.extend(member);
        if let Some((tally, kind, max_skew)) = rule {
            if own {
                class.counts_in.push(tally);
            }
            class.rules.push(match kind {
                0 | 1 => Rule::Spread { tally, max_skew, min_domains: 1 },
                2 => Rule::Affinity { tally },
                _ => Rule::Anti { tally },
            });
        }
        class.counts_in.sort_unstable();
        class.counts_in.dedup();
        if let Some(without) = offerings {
            class.offerings = (0..64).filter(|ix| *ix != without).collect();
        }
        class
    }
}

prop_compose! {
    /// Up to five classes, three zones, two pools, a few types.
    pub fn any_problem()(
        classes in prop::collection::vec(any_class(4), 1..6),
        types in prop::collection::vec((2u64..12, 50u64..400), 1..4),
        maxima in prop::collection::vec(prop::option::weighted(0.3, 0u32..4), 2),
        priorities in prop::collection::vec(0i32..2, 2),
        choices in prop::collection::vec(prop::option::weighted(0.2, 2u32..4), 2),
    ) -> Problem {
        let mut problem = problem(&[], classes);
        problem.tallies = [0, 0, 1, 1].map(|key| Tally { key, ..Tally::default() }).to_vec();
        problem.pools = maxima.into_iter().zip(priorities)
            .map(|(max_new, priority)| Pool { max_new, priority, ..Pool::default() }).collect();
        for (pool, least) in problem.pools.iter_mut().zip(&choices) {
            (pool.min_values, pool.keeps_choice) = (least.iter().copied().collect(), least.is_some());
        }
        for zone in 0..3 {
            for (pool, least) in choices.iter().enumerate() {
                let of_type = |(number, (cpu, price)): (u32, &(u64, u64))| Offering {
                    values: least.iter().map(|_| number).collect(),
                    ..offering(pool, *cpu, *price + u64::from(zone), zone)
                };
                problem.offerings.extend((0..).zip(&types).map(of_type));
            }
        }
        problem
    }
}

prop_compose! {
    /// Up to seven pods in one zone, with rules on hostname; every pod fits somewhere.
    pub(crate) fn small_problem()(
        pods in prop::collection::vec(
            (1u64..6, 1u32..3, prop::option::weighted(0.4, 0u8..2), any::<bool>(), 0u64..8), 1..4),
        types in prop::collection::vec((2u64..12, 50u64..400), 0..3),
    ) -> Problem {
        let last = types.len();
        let classes = pods.into_iter().map(|(cpu, count, rule, member, allowed)| {
            let mut class = class(count, cpu);
            // Each class may have offerings of its own; all may have the last.
            class.offerings = (0..64).filter(|ix| *ix >= last || allowed >> ix & 1 == 1).collect();
            class.counts_in.extend(member.then_some(0));
            class.rules.extend(rule.map(|kind| match kind {
                0 => Rule::Anti { tally: 0 },
                _ => Rule::Spread { tally: 0, max_skew: 1, min_domains: 2 },
            }));
            class
        });
        let mut all = types;
        all.push((6, 200));
        let mut problem = problem(&all, classes.collect());
        problem.tallies = vec![Tally::default()];
        problem
    }
}

prop_compose! {
    /// Pods without rules, a pool that may be too small, and perhaps a node.
    pub(crate) fn plain_problem()(
        pods in prop::collection::vec((1u64..6, 1u32..9), 1..4),
        types in prop::collection::vec((2u64..12, 50u64..400), 1..4),
        max_new in prop::option::of(0u32..5),
        there in prop::collection::vec(1u64..8, 0..3),
    ) -> Problem {
        let mut problem = problem(&types, pods.into_iter().map(|(cpu, count)| class(count, cpu)).collect());
        problem.pools[0].max_new = max_new;
        problem.spots = there.into_iter().map(|cpu| spot(cpu, 0)).collect();
        problem
    }
}

/// The problem after a plan was carried out: its machines exist, and only what had no place still waits.
pub(crate) fn applied(problem: &Problem, answer: &Answer) -> Problem {
    let mut after = problem.clone();
    let less = |free: &[u64], class: usize, count: u32| -> Vec<u64> {
        let ask = &problem.classes[class].requests;
        free.iter().zip(ask).map(|(free, ask)| free - ask * u64::from(count)).collect()
    };
    for placed in &answer.existing {
        after.spots[placed.spot].free = less(&after.spots[placed.spot].free, placed.class, placed.count);
    }
    for machine in &answer.machines {
        let offering = &problem.offerings[machine.offering];
        let mut free = offering.room.clone();
        for (class, count) in &machine.pods {
            free = less(&free, *class, *count);
        }
        after.spots.push(Spot { kind: 0, free, domains: offering.domains.clone() });
        if let Some(max) = &mut after.pools[offering.pool].max_new {
            *max -= 1;
        }
    }
    for (at, class) in after.classes.iter_mut().enumerate() {
        class.count = answer.unplaced.iter().filter(|u| u.class == at).map(|u| u.count).sum();
    }
    after
}
