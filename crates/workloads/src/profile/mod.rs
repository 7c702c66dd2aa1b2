//! Replica profiles: which pods are online, cut off, on standby, or go, so that counts come true.
//!
//! Owns the state of each pod and the number that the workload is scaled to. The choice is deterministic: `order` says
//! who goes first, `states` moves pods between states, `plan` decides what may be done now.

mod order;
mod plan;
mod states;

pub use order::Ordering;
pub use plan::{AllowedDirection, Hold, Population, ProfilePlan, ProfileSpec, Touch, plan};

use jiff::Timestamp;
use std::sync::Arc;

/// What a pod is for traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodState {
    #[default]
    Online,
    /// Warm, out of every Service.
    Cutoff,
    /// Out of every Service, may sleep.
    Standby,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    #[default]
    Pending,
    Unknown,
    Running,
}

/// A pod that is neither deleted nor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: Arc<str>,
    pub phase: Phase,
    pub node: Option<Arc<str>>,
    pub ready: bool,
    pub ready_since: Option<Timestamp>,
    pub restarts: u32,
    pub created: Timestamp,
    /// As its label says.
    pub state: PodState,
    /// As its condition says; none where it has none.
    pub serving: Option<bool>,
    /// Whether its readiness depends on the condition.
    pub gated: bool,
    /// The user's own deletion cost.
    pub cost: i32,
    /// Whether it carries our mark to be deleted first.
    pub marked: bool,
}
