//! The commands, one file each.

pub(crate) mod command_reference;
pub(crate) mod crds;

use crate::error::CommandError;
use std::io::Write as _;
use std::path::Path;

/// Writes a command's answer to standard output.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Output)
}

/// Writes a file, making its folder where that is missing.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| CommandError::Write { path: folder.to_owned(), source })?;
    }
    std::fs::write(path, text).map_err(|source| CommandError::Write { path: path.to_owned(), source })
}
