//! The sandbox and the controller under virtual time: scenarios and traces in, reports out.

mod error;
mod input;
mod measure;
mod random_source;
pub mod report;
pub mod scenario;
pub mod trace;
pub mod workload;

pub use error::SimulatorError;
