//! The sandbox and the controller under virtual time: scenarios and traces in, reports out.
//!
//! One run is one thread with its own runtime on the paused clock: weeks pass in seconds, a seed repeats a run
//! exactly. Owns the scenario format, traces, generators, measuring, the report and the randomised simulation; what
//! is simulated is the sandbox's and what decides is the controller's, the same code as everywhere else.

pub mod compare;
mod engine;
mod error;
mod input;
mod measure;
pub mod random;
mod random_source;
pub mod report;
pub mod scenario;
mod simulate;
pub mod trace;
pub mod workload;

pub use engine::{Alter, Hits, Phase, Progress};
pub use error::SimulatorError;
pub use report::Report;
pub use scenario::Scenario;
pub use simulate::{Options, simulate};
