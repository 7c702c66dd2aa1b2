//! `cargo xtask bench`: one run that prints the figures of `docs/benchmarks.md`.
//!
//! Owns which commands are measured; the figures themselves are printed by the commands.

use crate::run::{Outcome, cargo};
use std::path::Path;

/// Builds the release binary, then runs what `docs/benchmarks.md` lists.
pub(crate) fn run() -> Outcome {
    cargo(["build", "--release", "--package", "tideline"])?;
    let trace = Path::new("../shared/traces/openb-pods.csv.gz");
    if !crate::run::workspace_root().join(trace).exists() {
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
