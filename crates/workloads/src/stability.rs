//! Checks of a change in steps: metrics that must not stand in a stated relation to a bound while pods come or go.
//!
//! Owns the comparison, and what a check that failed does to the change. Reading the metrics is the shell's business.

use crate::gray::{Counts, Session};
use jiff::Timestamp;

/// How a value stands to its bound where something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

impl Relation {
    pub fn holds(self, value: i64, bound: i64) -> bool {
        match self {
            Self::Equal => value == bound,
            Self::Greater => value > bound,
            Self::Less => value < bound,
            Self::GreaterOrEqual => value >= bound,
            Self::LessOrEqual => value <= bound,
        }
    }
}

/// What becomes of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StabilityAction {
    /// It stands still.
    Pause,
    /// It is taken back to where it began.
    Rollback,
}

/// A change that a check holds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub action: StabilityAction,
    /// When it may go on.
    pub until: Timestamp,
    /// Online replicas before the change, and after it.
    pub from: u32,
    pub to: u32,
}

impl Held {
    /// What a failed check makes of a session at a moment.
    pub fn of(session: &Session, action: StabilityAction, until: Timestamp) -> Self {
        Self { action, until, from: session.from, to: session.to }
    }

    fn is_down(self) -> bool {
        self.to <= self.from
    }

    /// The target as far as it may be followed: a change that was taken back is not begun again yet.
    pub(crate) fn bounded(self, target: u32) -> u32 {
        match (self.action, self.is_down()) {
            (StabilityAction::Pause, _) => target,
            (StabilityAction::Rollback, true) => target.max(self.from),
            (StabilityAction::Rollback, false) => target.min(self.from),
        }
    }

    /// Whether the next step is one of those that stand still. The way back is always open.
    pub(crate) fn stops(self, target: u32, planned: Counts) -> bool {
        let further = if self.is_down() { target <= planned.online } else { target >= planned.online };
        self.action == StabilityAction::Pause && further
    }
}
