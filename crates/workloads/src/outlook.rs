//! When the replica count is next expected to change, as far as portraits tell ahead of time.
//!
//! Owns the walk over the moments at which any source may say something else.

use crate::autoscaler::Autoscaler;
use crate::portrait::{earlier, read};
use jiff::Timestamp;

/// Moments looked at: portraits that repeat a count for longer are told as "not known".
const MOST_MOMENTS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextChange {
    pub at: Timestamp,
    /// Within the bounds; none where no source will have a value.
    pub replicas: Option<u32>,
}

/// The first moment after now at which another count is chosen than the present one.
pub(crate) fn next_change(
    autoscaler: &Autoscaler,
    present: Option<u32>,
    now: Timestamp,
) -> Option<NextChange> {
    let mut at = now;
    for _ in 0..MOST_MOMENTS {
        at = autoscaler
            .sources
            .iter()
            .map(|source| read(source, at).wake_at)
            .fold(None, earlier)
            .filter(|next| *next > at)?;
        let replicas = autoscaler.wanted(at);
        if replicas != present {
            return Some(NextChange { at, replicas });
        }
    }
    None
}
