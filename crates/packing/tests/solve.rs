//! The optimiser against a slow check of its answers.

#[path = "solve/verify.rs"]
mod verify;
#[path = "solve/worlds.rs"]
mod worlds;

use packing::solve::{Effort, Refusal, Rule, solve};
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

#[test]
fn existing_room_is_used_first() {
    let mut problem = problem(&[(4, 100)], vec![class(5, 1)]);
    problem.spots = vec![spot(2, 0), spot(2, 1)];
    let answer = solve(&problem, Effort::default()).expect("solvable");
    assert_eq!(faults(&problem, &answer), [""; 0]);
    assert_eq!(answer.existing.iter().map(|p| p.count).sum::<u32>(), 4);
    assert_eq!(answer.machines.len(), 1);
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
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

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
}
