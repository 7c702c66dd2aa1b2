//! Test equipment: the documents that Tideline must serve, as transcripts that run.
//!
//! Owns the transcripts' format, their runner on a real control plane, and the table of their state in
//! `docs/seeds.md`. The transcripts are data, in `tests/seeds`; the control plane is the test bed's.
//! End-to-end tests of Tideline as a whole live beside it, in this crate's `tests`.

mod containers;
mod error;
mod machines;
mod program;
pub mod prometheus;
mod runner;
mod shown;
mod site;
mod table;
mod transcript;

pub use error::Error;
pub use machines::{Cloud, Machines};
pub use program::{tideline, tideline_with};
pub use runner::run;
pub use shown::matches;
pub use site::{POOL, Process, Site};
pub use table::table;
pub use transcript::{Action, Capabilities, Capability, Post, Start, State, Step, Transcript};

use std::path::PathBuf;

/// The folder at the top of the source tree.
pub fn source_root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root.pop();
    root
}
