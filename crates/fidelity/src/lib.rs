//! Test equipment: the rules of crate `packing` against the real kube-scheduler, on random clusters.
//!
//! Owns the random clusters, the control plane that is asked about them, the comparison, and making a disagreement
//! small. The rules themselves are `packing`'s, and reading objects is `intake`'s. How it works and what it has found
//! is in `docs/fidelity.md`.

mod course;
mod dice;
mod error;
mod extender;
mod generate;
mod ours;
mod plane;
mod shrink;
mod situation;
mod suite;
mod watched;

pub use error::Error;
pub use suite::{Suite, run};
