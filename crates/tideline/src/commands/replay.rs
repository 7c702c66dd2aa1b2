//! `tideline replay`: decides the rounds of a journal again and says whether the answers are the same.

use super::print;
use crate::error::CommandError;
use controller::journal::{self, ReplayReport};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Decides the rounds of a journal again and compares the answers, byte for byte.
///
/// Ends with 1 where a decision differs or a record is damaged.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A journal's directory, or one of its files
    #[arg(value_name = "JOURNAL")]
    journal: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let report = journal::open(&arguments.journal, nodes::decide)?;
    let text = if arguments.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| CommandError::Encode { what: "the report".into(), why: error.to_string() })?;
        text + "\n"
    } else {
        text(&report)
    };
    print(&text)?;
    if report.rounds == 0 && report.damage.is_empty() {
        return Err(CommandError::Input(format!(
            "{} holds no rounds; give the directory that --journal-dir named",
            arguments.journal.display()
        )));
    }
    if report.is_same() && report.damage.is_empty() {
        return Ok(());
    }
    Err(CommandError::Input(format!(
        "{} of {} rounds were decided otherwise, {} records are damaged",
        report.rounds - report.same,
        report.rounds,
        report.damage.len()
    )))
}

fn text(report: &ReplayReport) -> String {
    let mut text = format!(
        "{} rounds from {} checkpoints, {} steps: {} decided the same.\n",
        report.rounds, report.checkpoints, report.steps, report.same
    );
    for difference in &report.differences {
        let what = if difference.same_plan {
            "the same plan, but another ledger, verdict or wake-up".to_owned()
        } else {
            format!(
                "{} steps were recorded, {} are decided now",
                difference.recorded.steps.len(),
                difference.decided.steps.len()
            )
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "round {} at {}: {what}", difference.round, difference.now);
    }
    for damage in &report.damage {
        let _ = writeln!(text, "damaged: {damage}");
    }
    text
}
