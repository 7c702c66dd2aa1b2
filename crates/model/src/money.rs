//! Money as an integer, so that sums do not depend on their order.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Millionths of a US dollar an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsdPerHour(pub u64);

impl MicroUsdPerHour {
    /// Price of `count` machines, saturating.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(u64::from(count)))
    }
}

impl fmt::Display for MicroUsdPerHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:04}/h", self.0 / 1_000_000, self.0 % 1_000_000 / 100)
    }
}
