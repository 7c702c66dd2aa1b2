//! How far the machines of a direct pool may be disturbed: when, how many at once, and for what.
//!
//! Owns the nouns; when a budget is open and what it leaves is `nodes`' business.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which nodes may go because they are not needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Consolidation {
    WhenEmpty,
    #[default]
    WhenEmptyOrUnderutilized,
    /// The same, where the share of the pool's cost that is saved is at least half the share of its pods that move.
    Balanced,
}

/// Why a machine of a direct pool is disturbed, as budgets name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DisruptionReason {
    Empty,
    Underutilized,
    Drifted,
    Expired,
}

/// So many of a pool's nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Share {
    Count(u32),
    /// Rounded up.
    Percent(u32),
}

/// When a budget holds; always where it has no such window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetWindow {
    pub schedule: Arc<str>,
    /// IANA name; empty is UTC.
    #[serde(default)]
    pub time_zone: Arc<str>,
    pub duration: SignedDuration,
}

/// The most nodes that may be on their way out at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    pub nodes: Share,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<BudgetWindow>,
    /// `None`: for every reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<DisruptionReason>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DisruptionPolicy {
    pub consolidation: Consolidation,
    /// How long no pod may have come or gone; `None`: nodes are never taken away for not being needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<SignedDuration>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<DisruptionBudget>,
}
