//! Pools: where nodes come from, and the machines that they own.

use crate::{Labels, MachineId, MicroUsdPerHour, NodeName, PoolId, PoolOptions, Profile, Resources, Taint};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which provider serves a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderKind {
    Simulated,
    ClusterApi,
}

/// What a new node of a pool will look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTemplate {
    #[serde(default)]
    pub labels: Labels,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    pub allocatable: Resources,
}

/// Where a machine is in its life, by its provider's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum MachineState {
    Creating,
    Running,
    Deleting,
    /// Will never become a node. `code` is the provider's own error code.
    Failed {
        code: Arc<str>,
        message: Arc<str>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    pub id: MachineId,
    pub pool: PoolId,
    pub state: MachineState,
    /// When the provider began to make it.
    pub created_at: Timestamp,
    /// The node that it became, where the provider knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

/// A pool that is resized by a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    pub id: PoolId,
    /// The name that people use for it; the id where the provider has no shorter one.
    pub name: Arc<str>,
    pub provider: ProviderKind,
    pub profile: Profile,
    pub min: u32,
    pub max: u32,
    /// The size that the provider is asked for now.
    pub target: u32,
    /// `None` while the provider cannot say what a node would look like: the pool then cannot grow from zero.
    pub template: Option<NodeTemplate>,
    /// Higher is tried first.
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub price: MicroUsdPerHour,
    #[serde(default)]
    pub options: PoolOptions,
    /// Set while the provider must not be asked to change the pool (paused, rolling out): why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Arc<str>>,
}
