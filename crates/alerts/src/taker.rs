//! Who takes alerts behind the endpoint: the scaler of this crate, or a planner that the program has.
//!
//! Owns the seam only. The endpoint knows neither.

use crate::alert::Alert;
use crate::error::AlertsError;
use crate::scaler::{Scaler, Verdict};
use std::pin::Pin;

/// What becomes of an alert, once it is known.
pub type Taken<'a> = Pin<Box<dyn Future<Output = Result<Verdict, AlertsError>> + Send + 'a>>;

/// Takes alerts. An error means that another delivery of the same alert is safe and useful.
pub trait Taker: Send + Sync {
    fn take<'a>(&'a self, alert: &'a Alert) -> Taken<'a>;

    /// Whether it can take any now.
    fn is_ready(&self) -> bool;
}

impl Taker for Scaler {
    fn take<'a>(&'a self, alert: &'a Alert) -> Taken<'a> {
        Box::pin(Self::take(self, alert))
    }

    fn is_ready(&self) -> bool {
        Self::is_ready(self)
    }
}
