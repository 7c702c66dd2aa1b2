//! `cargo xtask bench`: one run that prints the figures of `docs/benchmarks.md`.
//!
//! Owns how a row is measured: the release binary's own clocks, several runs each, the median told; one more run has
//! the independent checker look at the answer.

mod generate;
pub(crate) mod instructions;
mod table;

use crate::run::{Outcome, cargo, workspace_root};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::{Expected, Input, Row};

/// Runs of each row of which the median counts.
const RUNS: usize = 5;

/// The row that is no plan: machines of direct pools that make way for cheaper ones.
const CONSOLIDATION: &str = "consolidation, 700 nodes of 20 pools";

/// The rows that are no plan either: learning, a point, a forecast, many workloads.
const FORECASTS: &str = "forecasts";

/// What one run of `tideline plan` told of itself.
struct Run {
    decide_ms: f64,
    load_ms: f64,
    peak_mb: f64,
    answer: Value,
}

/// Builds the release binary, then measures every row whose name contains `only`, and at last the long simulation.
pub(crate) fn run(only: Option<&str>) -> Outcome {
    cargo(["build", "--release", "--package", "tideline"])?;
    let binary = target_folder().join("release/tideline");
    let folder = target_folder().join("bench");
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("could not make {}: {error}", folder.display()))?;
    println!(
        "| work | target | decide, median of {RUNS} | load | peak memory | price ÷ bound | result | checked |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let wanted = |row: &&Row| only.is_none_or(|part| row.work.contains(part));
    for (number, row) in table::rows().iter().enumerate().filter(|(_, row)| wanted(row)) {
        match measure(&binary, &folder, number, row) {
            Ok(line) => println!("{line}"),
            Err(why) => println!("| {} | | | | | | {why} | |", row.work),
        }
    }
    if only.is_none_or(|part| CONSOLIDATION.contains(part)) {
        println!(
            "\n{CONSOLIDATION} (aim: 200 ms with topology rules, 95 % of what a search without a limit saves):"
        );
        cargo(["run", "--release", "--quiet", "--package", "packing", "--example", "consolidation_cost"])?;
    }
    if only.is_none_or(|part| FORECASTS.contains(part)) {
        println!(
            "\n{FORECASTS} (aims: 50 ms, 50 µs, 10 µs, 200 kB a workload, and 10,000 workloads a minute on one core):"
        );
        cargo(["run", "--release", "--quiet", "--package", "forecast", "--example", "speed"])?;
    }
    if only.is_some() { Ok(()) } else { long_simulation() }
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

fn measure(binary: &Path, folder: &Path, number: usize, row: &Row) -> Result<String, String> {
    let (arguments, scratch) = arguments(folder, number, row)?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(plan(binary, &arguments, false)?);
    }
    // The time of its steps is the slowest part of a checked run, so that one is not timed.
    let checked = plan(binary, &arguments, true);
    for file in scratch {
        let _ = std::fs::remove_file(file);
    }
    let median = |value: fn(&Run) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(value).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let answer = &runs[0].answer;
    let (price, bound) = (number_at(answer, "pricePerHour"), number_at(answer, "boundPerHour"));
    let ratio = if bound > 0.0 { Some(price / bound) } else { None };
    let (decide, peak) = (median(|run| run.decide_ms), median(|run| run.peak_mb));
    let (result, right) = result(answer, row.expected);
    let reached = decide <= row.most_ms
        && right
        && row.most_ratio.is_none_or(|most| ratio.is_some_and(|ratio| ratio <= most))
        && row.most_memory_mb.is_none_or(|most| peak <= most);
    let ratio_target = row.most_ratio.map_or_else(String::new, |most| format!(", ≤ {most} × bound"));
    let memory_target = row.most_memory_mb.map_or_else(String::new, |most| format!(", ≤ {most} MB"));
    Ok(format!(
        "| {} | ≤ {} ms{ratio_target}{memory_target} | {decide:.2} ms{} | {:.0} ms | {peak:.0} MB | {} | {result} | {} |",
        row.work,
        row.most_ms,
        if reached { "" } else { " (not reached)" },
        median(|run| run.load_ms),
        ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.4} (${price:.2})")),
        match checked {
            Ok(_) => "yes".to_owned(),
            Err(why) => why,
        },
    ))
}

/// The arguments of `tideline plan`, and the files made for them.
fn arguments(folder: &Path, number: usize, row: &Row) -> Result<(Vec<String>, Vec<PathBuf>), String> {
    let write = |name: String, text: fn() -> String| {
        let path = folder.join(name);
        std::fs::write(&path, text())
            .map_err(|error| format!("could not write {}: {error}", path.display()))?;
        Ok::<PathBuf, String>(path)
    };
    let (file, scratch) = match row.input {
        Input::Shared(file) => (table::shared(file), Vec::new()),
        Input::Generated(text) => {
            let path = write(format!("{number}.json"), text)?;
            (path.display().to_string(), vec![path])
        }
        Input::Added(before, then) => {
            let (path, added) =
                (write(format!("{number}.json"), before)?, write(format!("{number}-added.json"), then)?);
            (path.display().to_string(), vec![path, added])
        }
    };
    let mut arguments: Vec<String> =
        ["plan", "--timings", "-o", "json", "-f", &file].map(str::to_owned).into();
    if let Some(added) = scratch.get(1) {
        arguments.extend(["--added".to_owned(), added.display().to_string()]);
    }
    if let Some(catalogue) = row.catalogue {
        arguments.extend(["--offerings".to_owned(), catalogue.to_owned()]);
    }
    arguments.extend(row.arguments.iter().map(|argument| (*argument).to_owned()));
    for path in std::iter::once(file.as_str()).chain(row.catalogue) {
        if !workspace_root().join(path).exists() {
            return Err(format!("left out: {path} is absent"));
        }
    }
    Ok((arguments, scratch))
}

fn plan(binary: &Path, arguments: &[String], check: bool) -> Result<Run, String> {
    let output = Command::new(binary)
        .args(arguments)
        .args(check.then_some("--check"))
        .current_dir(workspace_root())
        .output()
        .map_err(|error| format!("could not start {}: {error}", binary.display()))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(message.lines().last().unwrap_or("no answer").replace('|', "/"));
    }
    let answer: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("the answer is no JSON: {error}"))?;
    Ok(Run {
        decide_ms: number_at(&answer, "decideMs"),
        load_ms: number_at(&answer, "loadMs"),
        peak_mb: number_at(&answer, "peakMb"),
        answer,
    })
}

fn number_at(answer: &Value, field: &str) -> f64 {
    answer.get(field).and_then(Value::as_f64).unwrap_or(0.0)
}

/// The answer in a word, and whether it is the right one.
fn result(answer: &Value, expected: Expected) -> (String, bool) {
    let count = |field: &str| answer.get(field).and_then(Value::as_array).map_or(0, Vec::len);
    let nodes = count("newNodes");
    let unplaced = count("unplaced");
    let on_existing = answer.get("placedOnExisting").and_then(Value::as_array).into_iter().flatten();
    let on_existing: usize =
        on_existing.map(|placement| placement["pods"].as_array().map_or(0, Vec::len)).sum();
    let removals = count("removals");
    match expected {
        Expected::Anything => (format!("{nodes} nodes, {unplaced} pods left"), true),
        Expected::NodesAtMost(most) => {
            (format!("{nodes} nodes"), nodes <= most && nodes > 0 && unplaced == 0)
        }
        Expected::Removals(right) => (format!("{removals} removed"), removals == right),
        Expected::Unplaced(right) => (format!("{nodes} nodes, {unplaced} pods left"), unplaced == right),
        Expected::OnExisting(right) => (format!("{on_existing} on nodes that exist"), on_existing == right),
    }
}

/// The trace of docs/benchmarks.md, where it lies beside the checkout.
fn long_simulation() -> Outcome {
    let trace = Path::new("../shared/traces/openb-pods.csv.gz");
    if !workspace_root().join(trace).exists() {
        println!("bench: ../shared/traces is absent, so the openb trace is left out");
        return Ok(());
    }
    cargo([
        "run",
        "--release",
        "--package",
        "tideline",
        "--",
        "simulate",
        "examples/scenarios/openb.yaml",
        "--trace",
        "../shared/traces/openb-pods.csv.gz",
        "--nodes",
        "../shared/traces/openb-nodes.csv.gz",
        "-o",
        "json",
    ])
}
