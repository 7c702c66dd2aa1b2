//! Pools: where nodes come from, and the machines that they own.

use crate::{
    DirectMachine, DirectPool, Fittings, Flavour, Labels, MachineId, MicroUsdPerHour, NodeName, PoolId,
    PoolOptions, Profile, Resources, Taint,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which provider serves a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderKind {
    Simulated,
    ClusterApi,
    /// Alibaba Cloud's Auto Scaling; the name is Cluster Autoscaler's.
    Alicloud,
    /// Auto Scaling groups of AWS.
    Aws,
    /// Node pools of Huawei Cloud's CCE; the name is Cluster Autoscaler's.
    Huaweicloud,
    /// Groups of a program that is asked by Cluster Autoscaler's gRPC protocol.
    ExternalGrpc,
    /// Single machines of NodePools, claimed by NodeClaims.
    Karpenter,
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
    /// CSI drivers with their attach limits, as the pool's nodes show them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fittings: Option<Arc<Fittings>>,
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
    /// Other names by which a node may be known to be this machine (private address, host name), in small letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Arc<str>>,
    /// Of a machine that was launched by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<Arc<DirectMachine>>,
}

/// How a pool gets its machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PoolKind {
    /// Resized by a number. The template is what planning counts on; where the provider picks among several kinds of
    /// machines, they are listed, and the template is the least that any of them gives.
    Group {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        flavours: Vec<Flavour>,
    },
    /// Launches single machines of a type, zone and capacity type that are ours to choose.
    Direct(Arc<DirectPool>),
}

impl Default for PoolKind {
    fn default() -> Self {
        Self::Group { flavours: Vec::new() }
    }
}

impl PoolKind {
    /// Whether it is a group of one kind of machine, as most are.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Group { flavours } if flavours.is_empty())
    }
}

/// Where nodes come from: a group that is resized by a number, or single machines of many types.
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
    /// The size that the provider is asked for now; of a direct pool, the machines that it has.
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
    #[serde(default, skip_serializing_if = "PoolKind::is_plain")]
    pub kind: PoolKind,
}

impl Pool {
    /// The direct pool that this is; `None` for a group.
    pub fn direct(&self) -> Option<&Arc<DirectPool>> {
        match &self.kind {
            PoolKind::Direct(direct) => Some(direct),
            PoolKind::Group { .. } => None,
        }
    }
}
