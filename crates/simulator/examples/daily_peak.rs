//! Pods that wait for machines at a daily peak: `cargo run --release -p simulator --example daily_peak -- 1`.
//!
//! Fourteen days of traffic from a seed. The machine risk is chosen on days seven to ten: the largest with which 99 of
//! 100 pods started at once; what it does on the last four days, which had no part in the choice, is the answer.
//! `LEAST_AT_ONCE` and `MOST_MACHINES` (both in per cent) make it fail where it does less, or costs more.

#![allow(clippy::unwrap_used, reason = "an example ends where something is wrong")]

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use simulator::compare::{Comparison, Measure, OnMachines, PolicyKind, World, usual_capacity};

const DAY: usize = 1_440;
const DAYS: usize = 14;
/// Days that are tried each time.
const TRIED: usize = 4;
const RISK: f64 = 0.01;
/// The cheapest first.
const MACHINE_RISKS: [f64; 6] = [0.02, 0.014, 0.01, 0.007, 0.005, 0.003_5];
const WANTED_PERCENT: f64 = 99.0;

/// About 1,000 requests a minute, 300 more or less by the time of day, eight times that from 9:30 to 11:00 with half an
/// hour's way up and down, and noise of 4 %.
fn traffic(seed: u64) -> Vec<f64> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    (0..DAYS * DAY)
        .map(|minute| {
            let of_day = (minute % DAY) as f64;
            let day = 1_000.0 - 300.0 * (std::f64::consts::TAU * of_day / DAY as f64).cos();
            let up = ((of_day - 540.0) / 30.0).clamp(0.0, 1.0);
            let down = ((690.0 - of_day) / 30.0).clamp(0.0, 1.0);
            // Twelve uniform draws make a normal one.
            let noise: f64 = (0..12).map(|_| dice.random::<f64>()).sum::<f64>() - 6.0;
            (day * (1.0 + 7.0 * up.min(down)) * (1.0 + 0.04 * noise)).round()
        })
        .collect()
}

fn comparison(requests: &[f64], machine_risk: f64) -> Comparison {
    Comparison {
        world: World::default(),
        replica_capacity: usual_capacity(requests),
        target: 0.6,
        test_share: TRIED as f64 * DAY as f64 / requests.len() as f64,
        risk: RISK,
        machine_risk,
        budget: None,
        budget_of: Measure::Oracle,
        machine_price: 0.0,
        policies: vec![PolicyKind::Joined],
    }
}

fn show(name: &str, found: &OnMachines, follower: &OnMachines) -> f64 {
    let more = 100.0 * (found.machine_minutes as f64 / follower.machine_minutes as f64 - 1.0);
    println!(
        "{name:<28} {:>5} pods, {:>4} waited: {:>5.1} % at once; {:>6} machine-minutes ({more:+.1} %)",
        found.pods,
        found.waited,
        found.at_once_percent(),
        found.machine_minutes
    );
    more
}

fn run(requests: &[f64], machine_risk: f64, joined: bool) -> OnMachines {
    comparison(requests, machine_risk).on_machines(requests, PolicyKind::Joined, joined, None).unwrap()
}

fn main() {
    let seed = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1);
    let requests = traffic(seed);
    let earlier = &requests[..(DAYS - TRIED) * DAY];
    println!("seed {seed}; to choose from, days {} to {}:", DAYS - 2 * TRIED + 1, DAYS - TRIED);
    let follower = run(earlier, RISK, false);
    show("follows pods", &follower, &follower);
    let enough = MACHINE_RISKS.into_iter().find(|risk| {
        let found = run(earlier, *risk, true);
        show(&format!("joined, machine risk {risk}"), &found, &follower);
        found.at_once_percent() >= WANTED_PERCENT
    });
    let chosen = enough.unwrap_or(MACHINE_RISKS[MACHINE_RISKS.len() - 1]);

    println!("the last {TRIED} days:");
    let follower = run(&requests, RISK, false);
    show("follows pods", &follower, &follower);
    let found = run(&requests, chosen, true);
    let more = show(&format!("joined, machine risk {chosen}"), &found, &follower);
    let bound = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f64>().ok());
    assert!(bound("LEAST_AT_ONCE").is_none_or(|least| found.at_once_percent() >= least), "too many waited");
    assert!(bound("MOST_MACHINES").is_none_or(|most| more <= most), "{more:.1} % more are too many");
    assert_eq!(found.violations, 0);
}
