//! Settings of growing: ceilings of the whole cluster, how a choice among pools is made, which pools count as one.

use crate::PoolOptions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The least and the most of something in the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Bounds {
    pub min: u64,
    pub max: u64,
}

impl Bounds {
    /// From nothing to so much.
    pub fn at_most(max: u64) -> Self {
        Self { min: 0, max }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { min: 0, max: u64::MAX }
    }
}

/// Bounds on the whole cluster, nodes that are not ours and machines on their way included. Removal keeps the least,
/// growth the most; Cluster Autoscaler's own defaults are so high that they mean none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Ceilings {
    pub cores: Bounds,
    pub memory_gib: Bounds,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self { cores: Bounds::at_most(320_000), memory_gib: Bounds::at_most(6_400_000) }
    }
}

/// How one of several possible purchases is chosen; several narrow the choice one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expander {
    Random,
    MostPods,
    LeastWaste,
    LeastNodes,
    Price,
    Priority,
    /// A program outside.
    Grpc,
}

impl Expander {
    pub const ALL: [Self; 7] = [
        Self::Random,
        Self::MostPods,
        Self::LeastWaste,
        Self::LeastNodes,
        Self::Price,
        Self::Priority,
        Self::Grpc,
    ];

    /// The name in flags and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::MostPods => "most-pods",
            Self::LeastWaste => "least-waste",
            Self::LeastNodes => "least-nodes",
            Self::Price => "price",
            Self::Priority => "priority",
            Self::Grpc => "grpc",
        }
    }
}

/// The choice among pools that could serve the same pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Choice {
    /// Empty: by the pools' own priority and price, and least waste where neither is known.
    pub expanders: Vec<Expander>,
    /// For the expander `priority`: patterns of pool names, the highest number first. Follows the ConfigMap
    /// `cluster-autoscaler-priority-expander` while it runs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub priorities: BTreeMap<i32, Vec<Arc<str>>>,
    /// The last word of the expander `grpc`; whoever asks it keeps it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<crate::ExpanderAnswer>,
    /// Seed of the expander `random`.
    pub seed: u64,
    /// Whether pools whose machines are alike grow evenly.
    pub balance_similar: bool,
    /// Labels that may differ between pools that are alike, beside zone, host name and the like.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub balancing_ignored_labels: Vec<Arc<str>>,
    /// Where given, pools are alike when these labels are, and nothing else is compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub balancing_labels: Vec<Arc<str>>,
    pub min_values: MinValuesPolicy,
    /// Parts of a thousand by which memory, and by which what pods may use, can differ between pools that are alike.
    pub memory_difference_permille: u32,
    pub allocatable_difference_permille: u32,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            expanders: Vec::new(),
            priorities: BTreeMap::new(),
            answer: None,
            seed: 0,
            balance_similar: false,
            balancing_ignored_labels: Vec::new(),
            balancing_labels: Vec::new(),
            min_values: MinValuesPolicy::default(),
            memory_difference_permille: 15,
            allocatable_difference_permille: 50,
        }
    }
}

/// What a minimum of values (`minValues` of a NodePool's requirement) means where it cannot be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MinValuesPolicy {
    /// Such a machine is not bought.
    #[default]
    Strict,
    /// The minimum is kept as far as it can be.
    BestEffort,
}

/// What the cluster's policy says of one pool, whatever its provider says: bounds only ever become narrower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PoolPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Higher is tried first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Settings that go before the pool's own.
    pub options: PoolOptions,
}

/// How far too many nodes that are not ready reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnreadyGate {
    /// Removals rest in the zones and pools that are ill; everything else goes on.
    #[default]
    Zone,
    /// As in Cluster Autoscaler: neither growth nor removal anywhere.
    Cluster,
}
