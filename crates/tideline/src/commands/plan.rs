//! `tideline plan`: what would be done for a cluster that is given as files or read from a kubeconfig.
//!
//! Owns the command's arguments and its order: gather, decide once, answer. It changes nothing. Reading objects is
//! `gather`'s, what the answer holds `answer`'s, how it looks in a terminal `print`'s business.

mod answer;
mod gather;
mod groups;
mod manifest;
mod offerings;
mod print;
mod seen;
mod storage;

use crate::error::CommandError;
use crate::policy_flags::PolicyFlags;
use answer::Answer;
use clock::Clock;
use gather::Gathered;
use jiff::Timestamp;
use model::{Ledger, Policies};
use offerings::OfferingFlags;
use std::path::PathBuf;
use std::time::Duration;

/// Prints what would be done now, and why, for each pod and node. Changes nothing.
///
/// Give it what `kubectl get nodes,pods,pdb,replicasets,daemonsets,simulatedpools -A -o json` prints, manifests that
/// are not applied yet, or a kubeconfig.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kubernetes objects as JSON or YAML (lists, several documents, gzip); `-` is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Pods that come after everything else: it is decided without them first, then with them, as a controller would
    /// that runs, and the second decision is printed
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "files")]
    added: Vec<PathBuf>,
    /// Read the cluster that this kubeconfig names (read-only)
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    offerings: OfferingFlags,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Print how long loading and deciding took
    #[arg(long)]
    timings: bool,
    /// Check the plan once more, by rules written apart from the planner; the command fails where one is broken
    #[arg(long)]
    check: bool,
    /// Decide as if it were this moment, such as 2026-01-31T09:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    #[command(flatten)]
    policies: PolicyFlags,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

/// How long the two halves took.
#[derive(Clone, Copy)]
pub(crate) struct Timings {
    pub(crate) load: Duration,
    pub(crate) decide: Duration,
    pub(crate) peak_mb: Option<f64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let now = arguments.at.unwrap_or_else(|| whole_seconds(Clock::system().now()));
    let started = stopwatch();
    let gathered = gathered(arguments, now)?;
    let load = started.elapsed();

    let mut policies = Policies::default();
    arguments.policies.apply(&mut policies);
    let mut planner = nodes::Planner::default();
    let before = gathered.before.as_ref().map_or_else(Ledger::default, |earlier| {
        planner.decide(earlier, &policies, &Ledger::default(), now).ledger
    });
    let started = stopwatch();
    let decision = match &gathered.before {
        Some(_) => planner.decide(&gathered.cluster, &policies, &before, now),
        None => nodes::decide(&gathered.cluster, &policies, &before, now),
    };
    let decide = started.elapsed();

    let timings = arguments.timings.then(|| Timings { load, decide, peak_mb: peak_mb() });
    let mut answer = Answer::of(&gathered.cluster, &decision, timings);
    if arguments.check {
        let mut found = checker::check_plan(&gathered.cluster, &policies, &before, &decision, now);
        found.extend(checker::check_arrangement(&gathered.cluster, &decision));
        answer.violations = Some(found.iter().map(ToString::to_string).collect());
    }
    for note in &gathered.notes {
        eprintln!("tideline: {note}");
    }
    let text = match arguments.output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&answer).map_err(|error| CommandError::Encode {
                what: "the plan".to_owned(),
                why: error.to_string(),
            })?;
            text + "\n"
        }
        Output::Table => print::text(&answer),
    };
    super::print(&text)?;
    match answer.violations.map_or(0, |found| found.len()) {
        0 => Ok(()),
        count => Err(CommandError::Input(format!(
            "the check found {count} faults in this plan, listed above; please report them with the input"
        ))),
    }
}

fn gathered(arguments: &Arguments, now: Timestamp) -> Result<Gathered, CommandError> {
    if let Some(kubeconfig) = &arguments.kubeconfig {
        return gather::from_cluster(kubeconfig, &arguments.offerings, now);
    }
    if arguments.files.is_empty() {
        return Err(CommandError::Usage(
            "plan needs objects to look at: give -f FILE (or -f - for standard input) or --kubeconfig FILE"
                .into(),
        ));
    }
    gather::from_files(&arguments.files, &arguments.added, &arguments.offerings, now)
}

/// Fractions of a second would only make the answer harder to read.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The most memory that this process has held, as Linux counts it.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kilobytes / 1000.0).round())
}

/// Elapsed time for `--timings`; it never reaches a decision.
fn stopwatch() -> std::time::Instant {
    std::time::Instant::now()
}
