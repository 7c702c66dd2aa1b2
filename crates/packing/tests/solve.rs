//! The optimiser against a slow check of its answers.

#[path = "solve/exhaust.rs"]
mod exhaust;
#[path = "solve/verify.rs"]
mod verify;
#[path = "solve/worlds.rs"]
mod worlds;

use packing::solve::{Effort, Problem, Refusal, Rule, solve};
use proptest::prelude::*;
use verify::faults;
use worlds::{class, problem, spot};

const FIRST: Effort = Effort { steps: 0, close_permille: 0 };
const SEARCH: Effort = Effort { steps: 10_000, close_permille: 0 };

#[test]
fn pods_share_the_cheapest_machines_that_hold_them() {
    // Two types: 4 cpu for 100, 8 cpu for 190.
    let problem = problem(&[(4, 100), (8, 190)], vec![class(7, 1)]);
    let answer = solve(&problem, Effort::default()).expect("solvable");
    assert_eq!(faults(&problem, &answer), [""; 0]);
    assert_eq!((answer.price, answer.machines.len()), (190, 1));
    assert!(answer.bound <= 190 && answer.bound >= 160, "{}", answer.bound);
}

/// Two pods that spread over hosts may share one once every host has one: the bound must not count on two machines.
#[test]
fn hostname_spread_forces_no_machines_on_the_bound() {
    let mut problem = problem(&[(6, 200)], vec![class(1, 1), class(2, 1)]);
    problem.tallies = vec![packing::solve::Tally::default()];
    for (class, rule) in [Rule::Anti { tally: 0 }, Rule::Spread { tally: 0, max_skew: 1, min_domains: 2 }]
        .into_iter()
        .enumerate()
    {
        problem.classes[class].counts_in = vec![0];
        problem.classes[class].rules = vec![rule];
    }
    let answer = solve(&problem, FIRST).expect("solvable");
    assert_eq!(exhaust::cheapest(&problem), 400);
    assert!(answer.bound <= 400, "{}", answer.bound);
}

/// A pod that wants to be near one that finds no place is not placed either.
#[test]
fn nobody_is_placed_near_pods_that_are_left_out() {
    let mut problem = worlds::three_zones(&[(4, 100)], 1);
    problem.tallies = [0, 1].map(|key| packing::solve::Tally { key, ..Default::default() }).to_vec();
    problem.classes.push(problem.classes[0].clone());
    problem.classes[0].rules = vec![Rule::Affinity { tally: 1 }];
    problem.classes[1].rules = vec![Rule::Affinity { tally: 0 }];
    problem.classes[1].counts_in = vec![1];
    let answer = solve(&problem, FIRST).expect("solvable");
    assert_eq!(faults(&problem, &answer), [""; 0]);
    assert_eq!((answer.price, answer.unplaced.len()), (0, 2));
}

#[test]
fn existing_room_is_used_first() {
    let mut problem = problem(&[(4, 100)], vec![class(5, 1)]);
    problem.spots = vec![spot(2, 0), spot(2, 1)];
    let answer = solve(&problem, Effort::default()).expect("solvable");
    assert_eq!(faults(&problem, &answer), [""; 0]);
    assert_eq!(answer.existing.iter().map(|p| p.count).sum::<u32>(), 4);
    assert_eq!(answer.machines.len(), 1);
}

/// Machines are only so full that as many types as their pool wants would still do.
#[test]
fn a_pool_that_wants_a_choice_of_types_keeps_it() {
    let types: Vec<(u64, u64)> = (1..=8).map(|cpu| (cpu, cpu * 100)).collect();
    let mut problem = problem(&types, vec![class(20, 1), class(1, 7)]);
    for (number, offering) in (0..).zip(&mut problem.offerings) {
        offering.values = vec![number];
    }
    (problem.pools[0].min_values, problem.pools[0].flexible) = (vec![3], true);
    let lenient = solve(&problem, SEARCH).expect("solvable");
    assert_eq!((faults(&problem, &lenient), lenient.unplaced.len()), (vec![], 0));

    problem.pools[0].keeps_choice = true;
    let strict = solve(&problem, SEARCH).expect("solvable");
    assert_eq!(faults(&problem, &strict), [""; 0]);
    assert!(strict.machines.iter().all(|machine| machine.options.len() >= 3), "{strict:?}");
    assert_eq!(strict.machines.iter().flat_map(|machine| &machine.pods).map(|(_, n)| n).sum::<u32>(), 20);
    assert_eq!(strict.unplaced[0].refusals.pools, [(0, Refusal::TooLittleChoice)]);
}

#[test]
fn a_zonal_spread_over_three_group_pools_is_one_plan() {
    let mut problem = worlds::three_zones(&[(4, 100)], 9);
    problem.classes[0].rules = vec![Rule::Spread { tally: 0, max_skew: 1, min_domains: 1 }];
    problem.classes[0].counts_in = vec![0];
    let answer = solve(&problem, Effort::default()).expect("solvable");
    assert_eq!(faults(&problem, &answer), [""; 0]);
    let zones: Vec<u32> = answer.machines.iter().map(|m| problem.offerings[m.offering].domains[1]).collect();
    assert_eq!(zones, [0, 1, 2]);
    assert!(answer.machines.iter().all(|m| m.pods == [(0, 3)]));
}

#[test]
fn anti_affinity_on_hostname_takes_a_machine_each() {
    let mut problem = worlds::three_zones(&[(4, 100)], 5);
    problem.tallies[0].key = 0;
    problem.classes[0].rules = vec![Rule::Anti { tally: 0 }];
    problem.classes[0].counts_in = vec![0];
    let answer = solve(&problem, Effort::default()).expect("solvable");
    assert_eq!(faults(&problem, &answer), [""; 0]);
    assert_eq!((answer.machines.len(), answer.bound), (5, 500));
}

#[test]
fn what_fits_nowhere_is_left_with_its_reason() {
    let mut problem = problem(&[(4, 100)], vec![class(3, 5), class(9, 4)]);
    problem.pools[0].max_new = Some(2);
    let answer = solve(&problem, Effort::default()).expect("solvable");
    assert_eq!(faults(&problem, &answer), [""; 0]);
    let left: Vec<_> = answer.unplaced.iter().map(|u| (u.class, u.count, u.refusals.pools[0].1)).collect();
    assert_eq!(left, [(0, 3, Refusal::TooSmall { resource: 0 }), (1, 7, Refusal::MaxReached)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_keeps_every_rule(problem in worlds::any_problem()) {
        for effort in [FIRST, SEARCH] {
            let answer = solve(&problem, effort).expect("solvable");
            prop_assert_eq!(faults(&problem, &answer), Vec::<String>::new());
        }
    }

    #[test]
    fn more_work_is_never_dearer(problem in worlds::any_problem()) {
        let first = solve(&problem, FIRST).expect("solvable");
        let second = solve(&problem, SEARCH).expect("solvable");
        prop_assert!(second.price <= first.price);
        prop_assert_eq!(second.bound, first.bound);
    }

    #[test]
    fn the_bound_is_below_every_plan(problem in worlds::small_problem()) {
        let best = exhaust::cheapest(&problem);
        let answer = solve(&problem, SEARCH).expect("solvable");
        prop_assert!(answer.unplaced.is_empty());
        prop_assert!(answer.bound <= best, "bound {} over {}", answer.bound, best);
        prop_assert!(answer.price >= best, "price {} under {}", answer.price, best);
    }

    #[test]
    fn more_room_leaves_no_more_out(problem in worlds::plain_problem(), cpu in 1u64..8) {
        let left = |problem: &Problem| -> u32 {
            let answer = solve(problem, FIRST).expect("solvable");
            answer.unplaced.iter().map(|u| u.count).sum()
        };
        let before = left(&problem);
        let mut roomier = problem.clone();
        roomier.spots.push(spot(cpu, 0));
        // Pods of different sizes: what fits beside others is a packing question, the pods in all are not.
        let largest = problem.classes.iter().map(|c| c.requests[0]).max().unwrap_or(1);
        let smallest = problem.classes.iter().map(|c| c.requests[0]).min().unwrap_or(1);
        prop_assert!(largest != smallest || left(&roomier) <= before);
    }

    #[test]
    fn a_plan_applied_is_planned_no_more(problem in worlds::plain_problem()) {
        for effort in [FIRST, SEARCH, Effort { steps: 10 * SEARCH.steps, ..SEARCH }] {
            let answer = solve(&problem, effort).expect("solvable");
            let again = solve(&worlds::applied(&problem, &answer), effort).expect("solvable");
            prop_assert_eq!((again.machines, again.existing), (vec![], vec![]));
        }
    }
}
