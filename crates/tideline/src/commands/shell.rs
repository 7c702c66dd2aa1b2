//! `tideline completion` and `tideline man`: what a shell and a manual know of the commands, made from their own help.

use super::{print, write};
use crate::error::CommandError;
use clap_complete::Shell;
use std::path::PathBuf;

/// Prints a script that completes commands and flags in a shell.
///
/// For bash: `source <(tideline completion bash)`; zsh, fish, elvish and powershell likewise.
#[derive(clap::Args)]
pub(crate) struct CompletionArguments {
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the manual pages: one for the program, one for each command.
#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Folder to write to, such as /usr/local/share/man/man1
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
}

pub(crate) fn completion(
    arguments: &CompletionArguments,
    mut command: clap::Command,
) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "tideline", &mut script);
    print(&text("the completion", script)?)
}

pub(crate) fn man(arguments: &ManArguments, command: clap::Command) -> Result<(), CommandError> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = 1;
    page(arguments, "tideline", command.clone())?;
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        let name = format!("tideline-{}", part.get_name());
        page(arguments, &name, part.clone())?;
        pages += 1;
    }
    print(&format!("{pages} pages in {}\n", arguments.dir.display()))
}

fn page(arguments: &ManArguments, name: &str, command: clap::Command) -> Result<(), CommandError> {
    let mut page = Vec::new();
    let encode = |error: std::io::Error| CommandError::Encode {
        what: format!("the manual page {name}"),
        why: error.to_string(),
    };
    clap_mangen::Man::new(command).render(&mut page).map_err(encode)?;
    write(&arguments.dir.join(format!("{name}.1")), &text(name, page)?)
}

fn text(what: &str, bytes: Vec<u8>) -> Result<String, CommandError> {
    String::from_utf8(bytes)
        .map_err(|error| CommandError::Encode { what: what.to_owned(), why: error.to_string() })
}
