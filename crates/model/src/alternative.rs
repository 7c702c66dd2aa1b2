//! What else could have been bought, what it would have cost, and why it was not taken.

use crate::{MicroUsdPerHour, PoolId, PoolRejection};
use std::fmt;

/// One pool in place of those that a round bought from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    pub pool: PoolId,
    /// Machines of it alone; 0 where it cannot serve or was not weighed.
    pub machines: u32,
    /// What they cost together, where that is known.
    pub price: Option<MicroUsdPerHour>,
    pub why: NotTaken,
}

/// Why a pool was not bought from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It cannot grow, or cannot hold what waits.
    Rejected {
        rejection: PoolRejection,
    },
    /// Alone it would leave so many pods without a place.
    LeavesPods {
        left: u32,
    },
    /// Pools of a higher priority come first.
    LowerPriority,
    CostsMore {
        than: MicroUsdPerHour,
    },
    /// Machines are compared by something else than money, and by that it is worse or no better.
    NotPreferred,
    /// It costs the same.
    CostsTheSame,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { rejection } => rejection.fmt(f),
            Self::LeavesPods { left } => write!(f, "alone it would leave {left} pods without a place"),
            Self::LowerPriority => f.write_str("pools of a higher priority come first"),
            Self::CostsMore { than } => write!(f, "it costs more than the {than} of what was chosen"),
            Self::NotPreferred => f.write_str("the expander prefers what was chosen"),
            Self::CostsTheSame => f.write_str("it costs no less than what was chosen"),
        }
    }
}
