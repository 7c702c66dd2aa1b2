//! `tideline report`: what a journal says, as one page to look at or to pass on.
//!
//! Owns the arguments. The page is the controller's own with the recorded state in it; nothing is asked of any server.

use super::{print, write};
use crate::error::CommandError;
use crate::page;
use controller::journal;
use jiff::Timestamp;
use std::path::PathBuf;

/// Writes a journal as one HTML page: pools, nodes, waiting pods and decisions at a moment, sizes up to it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A journal's directory, or one of its files
    #[arg(value_name = "JOURNAL")]
    journal: PathBuf,
    /// The moment, such as 2026-05-04T09:30:00Z [default: the journal's end]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Where the page is written
    #[arg(long, value_name = "FILE", default_value = "tideline-report.html")]
    output: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let reached = journal::moment(&arguments.journal, arguments.at, nodes::decide)?;
    let recorded = serde_json::json!({ "state": reached.state(), "history": reached.history });
    write(&arguments.output, &page::recorded(&recorded))?;
    let damage = reached
        .damage
        .as_ref()
        .map_or_else(String::new, |why| format!("It ends where a record is damaged: {why}\n"));
    print(&format!(
        "{} as of {:.0}, after round {}: {} nodes, {} decisions\n{damage}",
        arguments.output.display(),
        reached.now,
        reached.round,
        reached.cluster.nodes().len(),
        reached.decisions.len()
    ))
}
