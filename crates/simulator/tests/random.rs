//! Random scenarios with faults: nothing that must hold is ever broken, and every scenario converges.
//!
//! Optimised builds run two thousand, others a few; `TIDELINE_RANDOM_SCENARIOS` sets the number. The table of which
//! fault met which phase is printed with `--nocapture`.

use simulator::random::{FaultTable, RandomOptions, run_many, run_random};
use std::time::Instant;

fn scenarios() -> u64 {
    let asked = std::env::var("TIDELINE_RANDOM_SCENARIOS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if cfg!(debug_assertions) { 8 } else { 2000 })
}

#[test]
fn random_scenarios_hold_every_invariant() {
    let count = scenarios();
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(4));
    let begun = Instant::now();
    let mut table = FaultTable::default();
    let mut failures = Vec::new();
    for outcome in run_many(0..count, threads, |_| RandomOptions::default()) {
        let outcome = outcome.unwrap();
        table.add(&outcome.hits);
        if outcome.failed() {
            let first = outcome.report.violations.iter().take(3).cloned().collect::<Vec<_>>().join("\n    ");
            failures.push(format!("seed {}: {}\n    {first}", outcome.seed, outcome.repeat_command()));
        }
    }
    println!("{count} scenarios in {:.1} s on {threads} threads\n{table}", begun.elapsed().as_secs_f64());
    assert_eq!(table.gaps(count), Vec::<String>::new(), "faults that met too little");
    assert!(failures.is_empty(), "{} of {count} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_seed_repeats_a_scenario_exactly() {
    let folder = std::env::temp_dir().join(format!("tideline-random-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let run = |name: &str| {
        let log = folder.join(name);
        let outcome =
            run_random(3, RandomOptions { write_log: Some(log.clone()), ..Default::default() }).unwrap();
        (outcome, std::fs::read(log).unwrap())
    };
    let (first, second) = (run("first"), run("second"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(!first.1.is_empty());
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1, "the logs of writes differ");
}

/// A leader whose clock is a minute behind takes over a node that was empty by the clock of the one before it.
#[test]
fn a_node_is_given_back_only_when_it_is_empty_by_the_clock_of_whoever_gives_it_back() {
    let outcome = run_random(4203, RandomOptions::default()).unwrap();
    assert_eq!(outcome.report.violations, Vec::<String>::new());
}

/// The time of an order is over while the call that gives it is still on its way.
#[test]
fn an_order_whose_call_is_out_is_not_given_up() {
    let outcome = run_random(25, RandomOptions::default()).unwrap();
    assert_eq!(outcome.report.violations, Vec::<String>::new());
}
