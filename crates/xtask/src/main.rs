//! `cargo xtask`: the one entry for chores, on a developer's machine and in CI alike.
//!
//! Owns the list of chores and the order in which they run. Each is a plain call of cargo (or git), so that what
//! CI does can be done by hand; the product's own behaviour lives in the other crates.

mod bench;
mod licences;
mod protos;
mod release;
mod run;
mod tidy;

use clap::{Parser, Subcommand};
use run::{Outcome, cargo};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the Tideline workspace")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Formats every crate (`--check` only looks).
    Fmt {
        #[arg(long)]
        check: bool,
    },
    /// Runs clippy on every target, warnings denied.
    Lint,
    /// Runs every test that needs Rust only; arguments go to `cargo test`.
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Rewrites the generated files: CRDs, roles, chart, and the references of commands, metrics and reasons.
    Generate,
    /// Rewrites the code of protocol definitions (gRPC), without protoc.
    Protos,
    /// Builds a static program, and packs it with its list of parts and an image (docs/image.md).
    Release(release::Arguments),
    /// Checks the licences of others' packages and rewrites their page.
    Licences,
    /// Checks the house style: floors, sizes, names, headers.
    Tidy,
    /// Runs the tests that need a real Kubernetes control plane (builds it first, with Go).
    Real,
    /// Compares the scheduler's rules of crate packing with the real kube-scheduler, on random clusters.
    Fidelity {
        /// For what there is to say, see `--help` of the comparison itself: `cargo xtask fidelity -- --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Prints the figures of docs/benchmarks.md, measured on this machine (release build).
    Bench {
        /// Only rows whose name contains this, without the long simulation
        only: Option<String>,
    },
    /// Runs Karpenter's published scenarios on the embedded cluster and prints one table (release build).
    Perf {
        /// Only the scenario of this name.
        only: Option<String>,
    },
    /// Counts the instructions of decisions under valgrind and holds them against tests/instructions.txt (after a build).
    Instructions {
        /// Writes the figures anew.
        #[arg(long)]
        update: bool,
    },
    /// Runs everything that CI runs (`.ci/run`).
    Ci,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Fmt { check: true } => cargo(["fmt", "--all", "--check"]),
        Chore::Fmt { check: false } => cargo(["fmt", "--all"]),
        Chore::Lint => cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        Chore::Test { arguments } => {
            cargo(["test", "--workspace"].into_iter().map(str::to_owned).chain(arguments))
        }
        Chore::Generate => generate(),
        Chore::Protos => protos::generate(&run::workspace_root()),
        Chore::Release(arguments) => release::make(&arguments),
        Chore::Licences => licences::write(&run::workspace_root()),
        Chore::Tidy => tidy(),
        Chore::Real => run::real_control_plane(),
        Chore::Fidelity { arguments } => cargo(
            ["run", "--quiet", "--package", "fidelity", "--"].into_iter().map(str::to_owned).chain(arguments),
        ),
        Chore::Bench { only } => bench::run(only.as_deref()),
        Chore::Perf { only } => cargo(
            ["run", "--quiet", "--release", "--package", "claims", "--example", "perf", "--"]
                .into_iter()
                .map(str::to_owned)
                .chain(only),
        ),
        Chore::Instructions { update } => bench::instructions::run(update),
        Chore::Ci => run::command("bash", [".ci/run"]),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Outcome {
    cargo(["run", "--quiet", "--package", "tideline", "--", "crds", "--dir", "deploy/crds"])?;
    cargo(["run", "--quiet", "--package", "tideline", "--", "manifests", "--dir", "deploy"])?;
    cargo([
        "run",
        "--quiet",
        "--package",
        "tideline",
        "--",
        "command-reference",
        "--output",
        "docs/reference.md",
    ])?;
    run::golden(["--package", "model", "--test", "reasons"])?;
    run::golden(["--package", "tideline", "--test", "generated", "metrics"])?;
    licences::write(&run::workspace_root())
}

fn tidy() -> Outcome {
    let complaints = tidy::check(&run::workspace_root())?;
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if complaints.is_empty() {
        println!("tidy: nothing to complain about");
        return Ok(());
    }
    Err(format!("{} complaints; the rules stand in crates/xtask/src/tidy.rs", complaints.len()))
}
