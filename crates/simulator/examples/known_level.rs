//! What knowing the level of traffic would be worth: `cargo run -p simulator --example known_level -- requests.csv.gz 0.01`.
//!
//! A half oracle: of every minute it knows the mean of the minutes on both sides, but not the minute itself; replicas
//! are there at once; and the one headroom that it keeps is the best that could have been chosen for the tried part,
//! afterwards. What it loses at the cost of the HPA is what remains when nothing but single minutes is unknown, so a
//! policy that looks only back does not easily lose less.

#![allow(clippy::unwrap_used, reason = "an example ends where something is wrong")]

use flate2::read::GzDecoder;
use simulator::compare::{Comparison, Measure, PolicyKind, World, usual_capacity};
use std::io::Read as _;

/// Minutes known on each side.
const SIDES: [usize; 4] = [3, 5, 10, 30];

fn read(path: &str) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap();
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    let value = |line: &str| line.split(',').nth(1).unwrap().parse().unwrap();
    text.lines().skip(1).filter(|line| !line.is_empty()).map(value).collect()
}

struct HalfOracle<'a> {
    tried: &'a [f64],
    /// Roots of the known levels, in replicas at full use.
    roots: Vec<f64>,
    capacity: f64,
}

impl HalfOracle<'_> {
    /// Replica-minutes and the share of requests lost. Counts are about equally restless in their roots.
    fn outcome(&self, headroom: f64) -> (f64, f64) {
        let (mut cost, mut lost) = (0.0, 0.0);
        for (came, root) in self.tried.iter().zip(&self.roots) {
            let replicas = (root + headroom).powi(2).ceil().max(1.0);
            cost += replicas;
            lost += (came - replicas * self.capacity).max(0.0);
        }
        (cost, lost / self.tried.iter().sum::<f64>())
    }

    /// The least headroom with which something holds that holds from some headroom on.
    fn least(&self, holds: impl Fn((f64, f64)) -> bool) -> (f64, f64) {
        let (mut low, mut high) = (0.0, 8.0);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if holds(self.outcome(middle)) { high = middle } else { low = middle }
        }
        self.outcome(high)
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (requests, aim) = (read(&words[0]), words[1].parse::<f64>().unwrap() / 100.0);
    let capacity = usual_capacity(&requests);
    let about = Comparison {
        world: World::default(),
        replica_capacity: capacity,
        target: 0.6,
        test_share: 0.3,
        risk: 0.001,
        machine_risk: 0.001,
        budget: None,
        budget_of: Measure::Oracle,
        machine_price: 0.0,
        policies: vec![PolicyKind::Hpa, PolicyKind::Oracle],
    };
    let compared = about.run(&requests).unwrap();
    let [hpa, oracle] = [0, 1].map(|at: usize| compared.rows[at].outcome.replica_minutes as f64);
    println!("the HPA pays {:.3} of the oracle's replica-minutes", hpa / oracle);
    for side in SIDES {
        let level = |minute: usize| {
            let around = minute - side..=(minute + side).min(requests.len() - 1);
            let known: Vec<f64> = around.filter(|at| *at != minute).map(|at| requests[at]).collect();
            (known.iter().sum::<f64>() / known.len() as f64 / capacity).sqrt()
        };
        let half = HalfOracle {
            tried: &requests[compared.from..compared.to],
            roots: (compared.from..compared.to).map(level).collect(),
            capacity,
        };
        let (_, lost) = half.least(|(cost, _)| cost >= hpa);
        let (cost, reached) = half.least(|(_, lost)| lost <= aim);
        println!(
            "{side:>2} minutes known on each side: {:.4} % lost at the HPA's cost; {:.4} % at {:.3}",
            100.0 * lost,
            100.0 * reached,
            cost / oracle
        );
    }
}
