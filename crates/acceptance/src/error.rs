//! What can go wrong with a transcript, in words that say what was tried and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// Every failure of this crate.
#[derive(thiserror::Error)]
pub enum Error {
    #[error("{what} {path}: {source}", path = path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is no transcript: {message}", path = path.display())]
    Malformed { path: PathBuf, message: String },
    #[error("{path}, step {step:?}: {message}", path = path.display())]
    Step { path: PathBuf, step: String, message: String },
    #[error("building tideline with cargo failed:\n{0}")]
    Build(String),
    #[error("starting `{command}`: {source}")]
    Spawn { command: String, source: std::io::Error },
    #[error("listening on 127.0.0.1: {0}")]
    Listen(std::io::Error),
    #[error("making node {name}: {said}")]
    Node { name: String, said: String },
    #[error(transparent)]
    Testbed(#[from] testbed::Error),
    #[error("{title}: {count} step(s) are not as their transcript says\n\n{list}")]
    Steps { title: String, count: usize, list: String },
}

/// The message itself: tests unwrap, and a long text on one line with its breaks escaped helps nobody.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Wraps an error of the file system with what was being done to which path.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}
