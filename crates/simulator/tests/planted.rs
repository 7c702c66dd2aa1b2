//! Each planted bug is caught by the invariants within a few random scenarios.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use controller::Controller;
use nodes::{PlantedBug as Planned, decide_with};
use simulator::random::{RandomOptions, run_random};

/// Scenarios that a bug may hide in. Seed 0 is left out: a course of direct pools, which costs many times the others.
const SEEDS: u64 = 100;

/// A named bug, and what plants it in a controller.
type Planted = (&'static str, fn(Controller) -> Controller);

/// Bugs of the planner decide in its place; bugs of the shell act in its place.
macro_rules! planted {
    (planner [$($planned:ident,)*] shell [$($acting:ident,)*]) => {
        const PLANTED: &[Planted] = &[
            $((stringify!($planned), |controller| controller.with_decide(|cluster, policies, ledger, now| {
                decide_with(cluster, policies, ledger, now, Some(Planned::$planned))
            })),)*
            $((stringify!($acting), |controller| controller.with_planted(controller::PlantedBug::$acting)),)*
        ];
    };
}

planted! {
    planner [
        DoubleBuy,
        LostTaint,
        IgnoredPdb,
        UnderMinimum,
        OverMaximum,
        IgnoredDoNotDisrupt,
        ForgottenIntent,
        EvictWithoutMarking,
        NoPlaceForPods,
        BuyWithoutDemand,
    ]
    shell [
        EvictWithoutUid,
        ActBeforeDurable,
        LowerWithoutNaming,
        RelativeTarget,
        ForgottenUndo,
        IgnoredEpoch,
    ]
}

#[test]
fn every_planted_bug_is_caught() {
    assert_eq!(PLANTED.len(), Planned::ALL.len() + controller::PlantedBug::ALL.len());
    let caught = |plant: fn(Controller) -> Controller| {
        (1..=SEEDS).find_map(|seed| {
            let outcome =
                run_random(seed, RandomOptions { alter: Some(plant), ..Default::default() }).unwrap();
            // What fails without the bug as well proves nothing.
            let clean = || !run_random(seed, RandomOptions::default()).unwrap().failed();
            (outcome.failed() && clean()).then(|| (seed, outcome.report.violations[0].clone()))
        })
    };
    let workers = std::thread::available_parallelism().map_or(2, NonZero::get);
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((bug, plant)) = PLANTED.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match caught(*plant) {
                        Some((seed, violation)) => println!("{bug:<24} seed {seed}: {violation}"),
                        None => missed.lock().unwrap().push(*bug),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not caught within {SEEDS} scenarios: {missed:?}");
}
