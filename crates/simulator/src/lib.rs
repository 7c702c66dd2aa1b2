//! The sandbox and the controller under virtual time: scenarios and traces in, reports out.

mod error;
mod input;
pub mod scenario;

pub use error::SimulatorError;
