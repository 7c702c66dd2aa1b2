//! Room that is to be there for pods that do not exist: a buffer, or what was promised to a request.
//!
//! Owns the noun and what became of it in a round. Who wants headroom, how much and for how long is worked out
//! outside; real pods always go before it, and take its place where they come.

use crate::{Labels, PodShape, PoolChange, Reason, WorkloadKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What headroom is for. What stands first here is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// Promised to pods that are about to be made: held as far as it is there, and not bought again.
    Booking,
    /// Asked for as a whole, out of what is there or on its way.
    Check,
    /// Asked for as a whole: all of it is there or is bought, or none of it.
    Whole,
    /// Kept at all times, as much of it as can be had.
    Buffer,
}

impl Purpose {
    /// Whether all of it or none is to be had.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Check | Self::Whole)
    }

    /// Whether machines are bought for it.
    pub fn buys(self) -> bool {
        matches!(self, Self::Whole | Self::Buffer)
    }
}

/// The key of a request that pods name when they use its room.
pub fn request_key(namespace: &str, name: &str) -> WorkloadKey {
    WorkloadKey::new("ProvisioningRequest", namespace, name)
}

/// Pods of one kind that headroom is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadroomPart {
    pub shape: Arc<PodShape>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    pub count: u32,
}

/// Room for pods that do not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Headroom {
    /// The object that asks for it; its namespace is that of the pods.
    pub key: WorkloadKey,
    pub purpose: Purpose,
    /// Not before this, if anything: when machines for it may be bought at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Not from this on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    pub parts: Vec<HeadroomPart>,
}

impl Headroom {
    /// Pods that it is for.
    pub fn count(&self) -> u32 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.count))
    }

    /// Whether it counts at a moment.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// What became of headroom in a round, in pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeadroomVerdict {
    pub wanted: u32,
    /// That are there by now, and have used the room or are about to.
    #[serde(skip_serializing_if = "is_none")]
    pub taken: u32,
    /// With room on nodes that are ready.
    pub ready: u32,
    /// With room on machines that are on their way.
    pub coming: u32,
    /// With room on machines that this round buys, and what it buys.
    pub bought: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PoolChange>,
    /// Why the others have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Reason>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(count: &u32) -> bool {
    *count == 0
}

impl HeadroomVerdict {
    /// Whether all of it has room somewhere.
    pub fn is_served(&self) -> bool {
        self.short() == 0
    }

    /// Pods without room.
    pub fn short(&self) -> u32 {
        let served = [self.taken, self.ready, self.coming, self.bought];
        served.into_iter().fold(self.wanted, u32::saturating_sub)
    }
}
