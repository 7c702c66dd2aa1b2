//! What the replica count is expected to be, as far as portraits tell ahead of time.
//!
//! Owns the walk over the moments at which any source may say something else.

use crate::autoscaler::{Autoscaler, clamp};
use crate::portrait::{Provider, earlier, read};
use jiff::{SignedDuration, Timestamp};

/// Moments looked at: portraits that repeat a count for longer are told as "not known".
const MOST_MOMENTS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextChange {
    pub at: Timestamp,
    /// Within the bounds; none where no source will have a value.
    pub replicas: Option<u32>,
}

/// Changes that are told of; those further off are told when they are nearer.
const MOST_POINTS: usize = 16;
/// What is further off helps nobody.
const FARTHEST: SignedDuration = SignedDuration::from_hours(12);

/// A value that will be followed from a moment on, within the bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub at: Timestamp,
    pub replicas: u32,
    pub provider: Provider,
}

/// The values that will be followed after now, as far as they are told: changes of the count only.
pub(crate) fn outlook(autoscaler: &Autoscaler, present: Option<u32>, now: Timestamp) -> Vec<Expected> {
    let mut points: Vec<Expected> = Vec::new();
    let (mut at, mut last) = (now, present);
    for _ in 0..MOST_MOMENTS {
        let moments = autoscaler.sources.iter().map(|source| read(source, at).wake_at);
        let Some(next) = moments.fold(None, earlier).filter(|next| *next > at) else { break };
        if next.duration_since(now) > FARTHEST || points.len() == MOST_POINTS {
            break;
        }
        at = next;
        let Some(value) = autoscaler.followed(at) else { continue };
        let (replicas, _) = clamp(value.replicas, autoscaler.min, autoscaler.max);
        if last != Some(replicas) {
            points.push(Expected { at, replicas, provider: value.provider });
        }
        last = Some(replicas);
    }
    points
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
