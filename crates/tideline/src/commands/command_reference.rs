//! `tideline command-reference`: the help texts of all commands as one Markdown page (`docs/reference.md`).

use super::{print, write};
use crate::error::CommandError;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Prints the help texts of all commands as one Markdown page.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write the page to this file instead.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, command: clap::Command) -> Result<(), CommandError> {
    let page = page(command);
    match &arguments.output {
        Some(path) => write(path, &page),
        None => print(&page),
    }
}

fn page(command: clap::Command) -> String {
    // A fixed width, or the page would depend on the terminal that wrote it.
    let mut command = command.term_width(100).disable_help_subcommand(true);
    command.build();
    let mut page = format!(
        "# Command reference\n\nWritten by `cargo xtask generate` from the code; do not edit.\n\n```text\n{}```\n",
        command.render_help()
    );
    for part in command.get_subcommands_mut().filter(|part| !part.is_hide_set()) {
        let help = part.render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        // Writing to a String does not fail.
        let _ = write!(page, "\n## {}\n\n```text\n{}\n```\n", part.get_name(), lines.join("\n").trim_end());
    }
    page
}
