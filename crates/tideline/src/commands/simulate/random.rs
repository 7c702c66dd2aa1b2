//! Random scenarios, one or thousands: which fault met which phase, and the command that repeats each failure.

use crate::commands::print;
use crate::error::CommandError;
use indicatif::ProgressBar;
use simulator::Report;
use simulator::random::{FaultTable, RandomOptions, run_many, run_random};
use std::path::PathBuf;

/// Seeds that are run before their outcomes are looked at and dropped.
const CHUNK: u64 = 100;
/// Failures that are shown in full; more are only counted.
const SHOWN: u64 = 20;

/// Runs one seed.
pub(super) fn one(seed: u64, days: u32, write_log: Option<PathBuf>) -> Result<Report, CommandError> {
    Ok(run_random(seed, RandomOptions { days, write_log, ..RandomOptions::default() })?.report)
}

/// Runs `count` seeds from `first` on, on all cores, and prints what was met.
pub(super) fn many(first: u64, count: u64, days: u32) -> Result<(), CommandError> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let bar = ProgressBar::new(count);
    let mut table = FaultTable::default();
    let (mut failed, mut rounds, mut pods, mut done) = (0_u64, 0_u64, 0_u64, 0_u64);
    let end = first.saturating_add(count);
    let mut from = first;
    while from < end {
        let to = from.saturating_add(CHUNK).min(end);
        for (seed, outcome) in (from..to)
            .zip(run_many(from..to, threads, |_| RandomOptions { days, ..RandomOptions::default() }))
        {
            done += 1;
            match outcome {
                Ok(outcome) => {
                    table.add(&outcome.hits);
                    rounds += outcome.rounds;
                    pods += outcome.report.pods_seen;
                    if outcome.failed() {
                        failed += 1;
                        if failed <= SHOWN {
                            bar.suspend(|| {
                                eprintln!(
                                    "seed {seed} broke an invariant; repeat it: {}",
                                    outcome.repeat_command()
                                );
                                for violation in &outcome.report.violations {
                                    eprintln!("  {violation}");
                                }
                            });
                        }
                    }
                }
                Err(error) => {
                    failed += 1;
                    bar.suspend(|| eprintln!("seed {seed} could not be run: {error}"));
                }
            }
        }
        bar.set_position(done);
        from = to;
    }
    bar.finish_and_clear();
    let simulated = done * u64::from(days);
    print(&format!("{done} random scenarios, {simulated} days, {rounds} rounds, {pods} pods\n\n{table}\n"))?;
    print(&format!("{} passed, {failed} failed\n", done - failed))?;
    let gaps = table.gaps(done);
    if !gaps.is_empty() {
        return Err(CommandError::Input(format!("the scenarios met too little: {}", gaps.join("; "))));
    }
    if failed > 0 {
        return Err(CommandError::Input(format!("{failed} random scenarios failed")));
    }
    Ok(())
}
