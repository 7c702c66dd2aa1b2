//! Each planted bug is caught by the invariants within a few random scenarios.

use controller::Decide;
use jiff::Timestamp;
use model::{Cluster, Decision, Ledger, Policies};
use nodes::{PlantedBug, decide_with};
use simulator::random::{RandomOptions, run_random};

/// Scenarios that a bug may hide in.
const SEEDS: u64 = 30;

macro_rules! planted {
    ($($function:ident = $bug:ident,)*) => {
        $(
            fn $function(cluster: &Cluster, policies: &Policies, ledger: &Ledger, now: Timestamp) -> Decision {
                decide_with(cluster, policies, ledger, now, Some(PlantedBug::$bug))
            }
        )*

        /// Every planted bug, and the function that decides with it in the planner's place.
        const PLANTED: [(PlantedBug, Decide); 10] = [$((PlantedBug::$bug, $function),)*];
    };
}

planted! {
    double_buy = DoubleBuy,
    lost_taint = LostTaint,
    ignored_pdb = IgnoredPdb,
    under_minimum = UnderMinimum,
    over_maximum = OverMaximum,
    ignored_do_not_disrupt = IgnoredDoNotDisrupt,
    forgotten_intent = ForgottenIntent,
    evict_without_marking = EvictWithoutMarking,
    no_place_for_pods = NoPlaceForPods,
    buy_without_demand = BuyWithoutDemand,
}

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
