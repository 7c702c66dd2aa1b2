//! `tideline simulate`: the same controller against the same embedded cluster, weeks in seconds.
//!
//! Owns the command's arguments, the progress bar and where the report goes; running is the simulator's business.

mod compare;
mod random;

use super::{print, write};
use crate::error::CommandError;
use indicatif::{ProgressBar, ProgressStyle};
use simulator::{Options, Progress, Report, Scenario, simulate};
use std::path::{Path, PathBuf};

/// Runs a scenario under virtual time and reports what it cost, how long pods waited, and what was left undone.
///
/// A scenario names pools, policies, faults and a workload (docs/simulate.md). The same seed gives the same bytes.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// The scenario, a YAML file
    #[arg(value_name = "SCENARIO", required_unless_present = "random")]
    scenario: Option<PathBuf>,
    /// Pods of a trace, a CSV file (gzip or not)
    #[arg(long, value_name = "FILE", requires = "scenario")]
    trace: Option<PathBuf>,
    /// Nodes of a trace, a CSV file (gzip or not); a pool is made for each shape of machine
    #[arg(long, value_name = "FILE", requires = "scenario")]
    nodes: Option<PathBuf>,
    /// Seed that replaces the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// How to print the report
    #[arg(short, long, value_enum, default_value_t = Output::Summary)]
    output: Output,
    /// Write the report as one self-contained HTML page with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write every applied write of the API to this file, one line each
    #[arg(long, value_name = "FILE")]
    write_log: Option<PathBuf>,
    /// Run a scenario made from this seed, with faults, and check the invariants after each step
    #[arg(long, value_name = "SEED", conflicts_with_all = ["scenario", "seed"])]
    random: Option<u64>,
    /// With --random: run this many scenarios, of that seed and those that follow it
    #[arg(long, value_name = "N", requires = "random", default_value_t = 1, conflicts_with_all = ["report", "write_log"])]
    count: u64,
    /// With --random: days on end in each scenario, one cluster's life with faults on each day
    #[arg(long, value_name = "N", requires = "random", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

#[derive(clap::Subcommand)]
enum Mode {
    Compare(Box<compare::Arguments>),
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Summary,
    Json,
    Html,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    if let Some(Mode::Compare(arguments)) = &arguments.mode {
        return compare::run(arguments);
    }
    let report = match (arguments.random, &arguments.scenario) {
        (Some(seed), _) if arguments.count != 1 => {
            return random::many(seed, arguments.count, arguments.days);
        }
        (Some(seed), _) => random::one(seed, arguments.days, arguments.write_log.clone())?,
        (None, Some(path)) => of_scenario(path, arguments)?,
        (None, None) => {
            return Err(CommandError::Usage("simulate needs a scenario file, or --random SEED".into()));
        }
    };
    if let Some(path) = &arguments.report {
        write(path, &report.html())?;
    }
    let text = match arguments.output {
        Output::Summary => report.summary(),
        Output::Json => report.json(),
        Output::Html => report.html(),
    };
    print(text.trim_end())?;
    print("\n")?;
    if report.invariant_violations > 0 {
        return Err(CommandError::Input(format!(
            "{} invariants were broken; the report names them",
            report.invariant_violations
        )));
    }
    Ok(())
}

fn of_scenario(path: &Path, arguments: &Arguments) -> Result<Report, CommandError> {
    let scenario = Scenario::read(path)?;
    // Nothing is drawn where standard error is no terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  {eta} left") {
        bar.set_style(style);
    }
    let report = simulate(
        &scenario,
        Options {
            alter: None,
            trace: arguments.trace.clone(),
            nodes: arguments.nodes.clone(),
            seed: arguments.seed,
            write_log: arguments.write_log.clone(),
            on_progress: Box::new(|progress: Progress| {
                bar.set_length(progress.total_seconds);
                bar.set_position(progress.simulated_seconds);
                let day = progress.simulated_seconds / 86_400 + 1;
                bar.set_message(format!("day {day}, {} pods placed", progress.pods_placed));
            }),
        },
    );
    bar.finish_and_clear();
    Ok(report?)
}
