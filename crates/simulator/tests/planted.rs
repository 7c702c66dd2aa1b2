//! Each planted bug is caught by the invariants within a few random scenarios.

use simulator::random::{PLANTED, RandomOptions, run_random};

/// Scenarios that a bug may hide in.
const SEEDS: u64 = 30;

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for (bug, decide) in PLANTED {
        let caught = (0..SEEDS).find_map(|seed| {
            let outcome =
                run_random(seed, RandomOptions { decide: Some(decide), ..Default::default() }).unwrap();
            // What fails without the bug as well proves nothing.
            let clean = || !run_random(seed, RandomOptions::default()).unwrap().failed();
            (outcome.failed() && clean()).then_some((seed, outcome))
        });
        match caught {
            Some((seed, outcome)) => {
                println!("{:<24} seed {seed}: {}", bug.name(), outcome.report.violations[0]);
            }
            None => missed.push(bug.name()),
        }
    }
    assert!(missed.is_empty(), "not caught within {SEEDS} scenarios: {missed:?}");
}
