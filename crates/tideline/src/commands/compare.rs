//! `tideline compare`: what a dry run would have done beside what the autoscaler of that time did.
//!
//! Owns the arguments and the table; the comparison is the journal's.

use super::print;
use crate::error::CommandError;
use crate::table::Table;
use clap::ValueEnum;
use controller::journal::{self, Comparison, Doer};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Compares what a dry run would have done with what the present autoscaler did, from the dry run's journal.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The journal of a controller with --dry-run (--journal-dir)
    #[arg(value_name = "JOURNAL")]
    journal: PathBuf,
    /// Rows of the table at most, the latest
    #[arg(long, default_value_t = 50)]
    rows: usize,
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let comparison = journal::compare(&arguments.journal, nodes::decide)?;
    match arguments.output {
        Output::Table => print(&text(&comparison, arguments.rows)),
        Output::Json => {
            let text = serde_json::to_string_pretty(&comparison).map_err(|error| CommandError::Encode {
                what: "the comparison".into(),
                why: error.to_string(),
            })?;
            print(&(text + "\n"))
        }
    }
}

fn text(comparison: &Comparison, rows: usize) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    if let (Some(from), Some(to)) = (comparison.from, comparison.to) {
        let _ = writeln!(text, "{from:.0} to {to:.0}, {} rounds\n", comparison.rounds);
    }
    let mut table = Table::new(&["TIME", "PRESENT AUTOSCALER", "TIDELINE WOULD"]);
    let skipped = comparison.deeds.len().saturating_sub(rows);
    for deed in comparison.deeds.iter().skip(skipped) {
        let at = deed.at.strftime("%m-%d %H:%M:%S").to_string();
        match deed.by {
            Doer::Present => table.row([at, deed.what.clone(), String::new()]),
            Doer::Tideline => table.row([at, String::new(), deed.what.clone()]),
        }
    }
    if table.is_empty() {
        text.push_str("Neither did anything.\n");
    } else {
        text.push_str(&table.text());
    }
    if skipped > 0 {
        let _ = writeln!(text, "{skipped} earlier rows are left out (--rows)");
    }
    let (present_more, present_fewer) = comparison.machines(Doer::Present);
    let (more, fewer) = comparison.machines(Doer::Tideline);
    let mut sums = Table::new(&["", "PRESENT", "TIDELINE"]);
    sums.row(["machines added".to_owned(), present_more.to_string(), more.to_string()]);
    sums.row(["machines taken away".to_owned(), present_fewer.to_string(), fewer.to_string()]);
    let answers = |pick: fn(&journal::Episode) -> Option<i64>| {
        let mut all: Vec<i64> = comparison.episodes.iter().filter_map(pick).collect();
        all.sort_unstable();
        let median = all.get(all.len() / 2).map_or_else(|| "-".to_owned(), |median| format!("{median} s"));
        format!("{median} ({} of {})", all.len(), comparison.episodes.len())
    };
    sums.row([
        "first answer to waiting pods, median".to_owned(),
        answers(|episode| episode.present_answered_after_seconds),
        answers(|episode| episode.tideline_answered_after_seconds),
    ]);
    let _ = write!(text, "\n{}", sums.text());
    let hours = comparison.idle_machine_seconds / 36;
    let _ = writeln!(
        text,
        "\nNodes that Tideline would have given back ran for {}.{:02} machine-hours more{}.",
        hours / 100,
        hours % 100,
        match comparison.idle_micro_usd {
            0 => String::new(),
            micro => format!(", {}.{:02} USD", micro / 1_000_000, micro % 1_000_000 / 10_000),
        }
    );
    text.push_str(
        "What would have followed from its own decisions is not in here: for that, `tideline simulate`.\n",
    );
    if let Some(why) = &comparison.damage {
        let _ = writeln!(text, "A record is damaged, so some is missing: {why}");
    }
    text
}
