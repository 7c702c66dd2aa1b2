//! The words for what is known ahead.

use crate::Reason;
use std::fmt;

impl Reason {
    /// Of replicas that are known to come, and of nodes that they need.
    pub(super) fn fmt_ahead(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AheadNothingDue => f.write_str("no more are known to come than live"),
            Self::AheadNotDue { due, replicas } => {
                write!(f, "{replicas} more due at {due:.0}: too far off to do anything for now")
            }
            Self::AheadReady { due, replicas } => {
                write!(f, "{replicas} more due at {due:.0}: there is room for them, or it is on its way")
            }
            Self::AheadOrdered { due, replicas, pool } => {
                write!(f, "{replicas} more due at {due:.0}: machines of pool {pool} are ordered for them")
            }
            Self::AheadLater { due, replicas, order_at } => {
                write!(
                    f,
                    "{replicas} more due at {due:.0}: machines for them are looked for at {order_at:.0}"
                )
            }
            Self::AheadRefused { due, replicas, rejections } => {
                let why = super::counted(rejections.values());
                write!(f, "{replicas} more due at {due:.0}: no machine for them: {why}")
            }
            Self::AheadUnsure { confidence_percent, least_percent } => write!(
                f,
                "nothing is bought ahead: its source is {confidence_percent} % sure, under the {least_percent} % asked for"
            ),
            Self::AheadShapeUnknown => {
                f.write_str("nothing is bought ahead: no pod of it lives that would show what the next needs")
            }
            Self::NeededAgain { outlook, due } => {
                write!(f, "kept: {outlook} needs it again at {due:.0}")
            }
            _ => Ok(()),
        }
    }
}
