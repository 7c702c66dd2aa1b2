//! What a simulation says at its end: numbers, a page of text, JSON, and one HTML page.
//!
//! Owns the names of the numbers, which scripts rely on. Drawing is `html`'s and `plot`'s.

mod html;
mod plot;

use crate::measure::{Measure, Plots};
use crate::scenario::Scenario;
use jiff::Timestamp;
use serde::Serialize;
use std::fmt::Write as _;

/// Most unplaced pods and violations that are told one by one; their counts are always whole.
pub const MOST_LISTED: usize = 200;

/// The result of one run. Equal scenarios and seeds give equal reports, byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub scenario: String,
    pub seed: u64,
    pub start: Timestamp,
    pub end: Timestamp,
    pub simulated_hours: f64,
    /// Pods that ever existed, those of `DaemonSets` aside.
    pub pods_seen: u64,
    /// Those of them that got a node.
    pub pods_placed: u64,
    /// Those that ran to their end.
    pub pods_succeeded: u64,
    /// Those that were taken back by their owner before they got a node.
    pub pods_withdrawn: u64,
    /// Pods whose share of a GPU was rounded up to a whole one.
    pub shared_gpus_rounded_up: u64,
    /// From creation to a node, of the pods placed.
    pub pod_wait_seconds: Waits,
    /// Hours of all machines, booting and leaving ones included.
    pub machine_hours: f64,
    /// Hours if every machine that the pools allow had run all the time.
    pub machine_hours_always_on: f64,
    pub cost_usd: f64,
    pub cost_usd_always_on: f64,
    /// Orders that raised a pool, and the machines that they asked for.
    pub scale_ups: u64,
    pub machines_bought: u64,
    /// Machines given back.
    pub removals: u64,
    pub peak_nodes: u64,
    pub peak_pending_pods: u64,
    pub invariant_violations: u64,
    pub violations: Vec<String>,
    pub unplaced_pods: u64,
    pub unplaced: Vec<Unplaced>,
    pub pools: Vec<PoolReport>,
    #[serde(skip)]
    pub(crate) plots: Plots,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Waits {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

/// A pod that has no node at the end, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unplaced {
    pub pod: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolReport {
    pub name: String,
    pub min: u32,
    pub max: u32,
    pub price_per_hour_usd: f64,
    pub peak: u32,
    pub machine_hours: f64,
    pub bought: u64,
    pub removed: u64,
}

/// What a run found beside its measurements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) violations: u64,
    pub(crate) listed: Vec<String>,
    pub(crate) unplaced: Vec<Unplaced>,
    pub(crate) shared_gpus: u64,
}

impl Report {
    pub(crate) fn new(scenario: &Scenario, end: Timestamp, mut measure: Measure, findings: Findings) -> Self {
        measure.charge(end);
        let millis = u64::try_from(end.duration_since(scenario.start).as_millis()).unwrap_or(0);
        let hours = millis as f64 / 3_600_000.0;
        let pool = |pool: &crate::measure::PoolMeasure| PoolReport {
            name: pool.name.clone(),
            min: pool.min,
            max: pool.max,
            price_per_hour_usd: pool.price,
            peak: pool.peak,
            machine_hours: rounded(pool.machine_millis as f64 / 3_600_000.0),
            bought: pool.bought,
            removed: pool.removed,
        };
        let sum =
            |value: &dyn Fn(&crate::measure::PoolMeasure) -> f64| measure.pools().iter().map(value).sum();
        let machine_hours: f64 = sum(&|pool| pool.machine_millis as f64 / 3_600_000.0);
        let always_on: f64 = sum(&|pool| f64::from(pool.max) * hours);
        let cost: f64 = sum(&|pool| pool.machine_millis as f64 / 3_600_000.0 * pool.price);
        let cost_always_on: f64 = sum(&|pool| f64::from(pool.max) * hours * pool.price);
        let unplaced_pods = findings.unplaced.len() as u64;
        let mut unplaced = findings.unplaced;
        unplaced.truncate(MOST_LISTED);
        Self {
            scenario: scenario.name.clone(),
            seed: scenario.seed,
            start: scenario.start,
            end,
            simulated_hours: rounded(hours),
            pods_seen: measure.pods_seen,
            pods_placed: measure.pods_placed,
            pods_succeeded: measure.pods_succeeded,
            pods_withdrawn: measure.pods_withdrawn,
            shared_gpus_rounded_up: findings.shared_gpus,
            pod_wait_seconds: waits(&mut measure.waits_millis),
            machine_hours: rounded(machine_hours),
            machine_hours_always_on: rounded(always_on),
            cost_usd: rounded(cost),
            cost_usd_always_on: rounded(cost_always_on),
            scale_ups: measure.scale_ups,
            machines_bought: measure.pools().iter().map(|pool| pool.bought).sum(),
            removals: measure.pools().iter().map(|pool| pool.removed).sum(),
            peak_nodes: measure.nodes_peak as u64,
            peak_pending_pods: measure.pending_peak,
            invariant_violations: findings.violations,
            violations: findings.listed,
            unplaced_pods,
            unplaced,
            pools: measure.pools().iter().map(pool).collect(),
            plots: measure.plots(end),
        }
    }

    /// For scripts: one JSON object.
    pub fn json(&self) -> String {
        // A struct of numbers and texts always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For people at a terminal.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        let mut line = |label: &str, value: String| {
            let _ = writeln!(out, "{label:<22}{value}");
        };
        line("Scenario", format!("{}, seed {}", self.scenario, self.seed));
        line("Simulated", format!("{} to {} ({} h)", self.start, self.end, grouped(self.simulated_hours, 1)));
        line(
            "Pods",
            format!(
                "{} seen, {} placed, {} ran to their end, {} withdrawn unplaced, {} unplaced at the end",
                self.pods_seen,
                self.pods_placed,
                self.pods_succeeded,
                self.pods_withdrawn,
                self.unplaced_pods
            ),
        );
        let wait = &self.pod_wait_seconds;
        line(
            "Waiting for a node",
            format!("p50 {} s, p90 {} s, p99 {} s, longest {} s", wait.p50, wait.p90, wait.p99, wait.max),
        );
        line("Machine-hours", share(self.machine_hours, self.machine_hours_always_on, ""));
        line("Cost", share(self.cost_usd, self.cost_usd_always_on, "$"));
        line(
            "Nodes",
            format!(
                "{} scale-ups for {} machines, {} given back, {} at most at once",
                self.scale_ups, self.machines_bought, self.removals, self.peak_nodes
            ),
        );
        line("Broken invariants", self.invariant_violations.to_string());
        if self.shared_gpus_rounded_up > 0 {
            line(
                "Note",
                format!("{} shares of a GPU were rounded up to one GPU", self.shared_gpus_rounded_up),
            );
        }
        for violation in self.violations.iter().take(10) {
            let _ = writeln!(out, "  violation: {violation}");
        }
        for unplaced in self.unplaced.iter().take(10) {
            let _ = writeln!(out, "  unplaced: {}: {}", unplaced.pod, unplaced.reason);
        }
        if self.unplaced_pods > 10 {
            let _ = writeln!(out, "  … and {} more unplaced pods (see -o json)", self.unplaced_pods - 10);
        }
        out
    }

    /// One page without outside requests.
    pub fn html(&self) -> String {
        html::page(self)
    }
}

fn share(used: f64, always_on: f64, unit: &str) -> String {
    let percent = if always_on > 0.0 { used / always_on * 100.0 } else { 0.0 };
    format!(
        "{unit}{} of {unit}{} if every machine were always on ({percent:.2} %)",
        grouped(used, 1),
        grouped(always_on, 1)
    )
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Nearest-rank percentiles in seconds.
fn waits(millis: &mut [u64]) -> Waits {
    millis.sort_unstable();
    let at = |percent: usize| {
        let rank = (millis.len() * percent).div_ceil(100).max(1);
        millis.get(rank - 1).map_or(0.0, |value| *value as f64 / 1000.0)
    };
    Waits { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
}

/// A number with thin separators between thousands.
pub(crate) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (int, fraction) = text.split_once('.').map_or((text.as_str(), None), |(i, f)| (i, Some(f)));
    let (sign, int) = int.strip_prefix('-').map_or(("", int), |rest| ("-", rest));
    let mut out = String::from(sign);
    for (at, digit) in int.chars().enumerate() {
        if at > 0 && (int.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut millis: Vec<u64> = (1..=200).map(|n| n * 1000).rev().collect();
        assert_eq!(waits(&mut millis), Waits { p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 });
        assert_eq!(waits(&mut []), Waits::default());
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.891, 1), "1,234,567.9");
        assert_eq!(grouped(12.0, 0), "12");
    }
}
