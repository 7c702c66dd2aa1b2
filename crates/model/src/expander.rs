//! A choice that a program outside makes: what it is asked, and its answer, which reaches a round with the policies.
//!
//! A round that lacks the answer buys nothing for the pods in question and leaves the question in its growth; whoever
//! runs the rounds asks, and the next round has the answer.

use crate::{PodNames, PoolId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What one pool alone would do for the pods that wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpanderOption {
    pub pool: PoolId,
    /// The pool as the program knows it.
    pub name: Arc<str>,
    pub machines: u32,
    pub pods: PodNames,
}

/// Which of these pools shall grow?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpanderQuestion {
    /// The same for the same options: an answer belongs to it.
    pub digest: u64,
    /// By pool.
    pub options: Vec<ExpanderOption>,
}

/// These, until the question counts as a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpanderAnswer {
    pub digest: u64,
    pub pools: Vec<PoolId>,
    pub until: Timestamp,
}
