//! The kinds of Karpenter: pools that launch single machines, the claims for them, and what was before those.
//!
//! Owns their schema with the peer's field names, defaults and rules, so that existing manifests are served as they
//! are, and the names that nodes, pods and dashboards know. What the kinds mean is the crate `claims`' business.

mod ec2;
mod node_claim;
mod node_overlay;
mod node_pool;
mod simulated_class;
pub mod v1alpha5;

pub use ec2::*;
pub use node_claim::*;
pub use node_overlay::*;
pub use node_pool::*;
pub use simulated_class::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Group of NodePools, NodeClaims and what came before them.
pub const GROUP: &str = "karpenter.sh";
/// Group of what AWS adds.
pub const AWS_GROUP: &str = "karpenter.k8s.aws";

/// Labels of nodes and claims.
pub const NODE_POOL: &str = "karpenter.sh/nodepool";
pub const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
pub const REGISTERED: &str = "karpenter.sh/registered";
pub const INITIALIZED: &str = "karpenter.sh/initialized";
pub const DO_NOT_SYNC_TAINTS: &str = "karpenter.sh/do-not-sync-taints";
/// The pool's name under v1alpha5, still selected on by old pods.
pub const PROVISIONER_NAME: &str = "karpenter.sh/provisioner-name";
/// The capacity type before version 0.5.
pub const OLD_CAPACITY_TYPE: &str = "node.k8s.aws/capacity-type";
/// Load balancers leave out nodes that carry it.
pub const EXCLUDE_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Annotations.
pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
pub const POOL_HASH: &str = "karpenter.sh/nodepool-hash";
pub const POOL_HASH_VERSION: &str = "karpenter.sh/nodepool-hash-version";
pub const TERMINATION_TIMESTAMP: &str = "karpenter.sh/nodeclaim-termination-timestamp";
/// Of ours, on a claim: what the plan that made it counts on.
pub const PLANNED: &str = "tideline.dev/planned";
/// Of ours, on a claim: the order that made it.
pub const ORDER: &str = "tideline.dev/order";
/// Of ours, on a claim: the class as it was when the machine was launched.
pub const CLASS_HASH: &str = "tideline.dev/nodeclass-hash";

/// Taints.
pub const DISRUPTED: &str = "karpenter.sh/disrupted";
pub const UNREGISTERED: &str = "karpenter.sh/unregistered";

/// On claims: the overlay whose price, and the one whose capacity, the machine was bought with.
pub const PRICE_OVERLAY: &str = "karpenter.sh/price-overlay-applied";
pub const CAPACITY_OVERLAY: &str = "karpenter.sh/capacity-overlay-applied";

/// Finalizer of claims and their nodes.
pub const TERMINATION: &str = "karpenter.sh/termination";
/// The version of the pools' hash.
pub const HASH_VERSION: &str = "tideline-v1";

/// What a label of a node must be.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRequirement {
    #[schemars(length(max = 316))]
    pub key: String,
    pub operator: RequirementOperator,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// A launch must leave so many values of the key to choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub min_values: Option<i32>,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequirementOperator {
    #[default]
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
    Gte,
    Lte,
}

/// A taint of a pool's nodes.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTaint {
    #[schemars(length(min = 1))]
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    #[schemars(regex(pattern = "^(NoSchedule|PreferNoSchedule|NoExecute)$"))]
    pub effect: String,
}

/// The class that says how machines are made.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeClassRef {
    #[schemars(length(min = 1), regex(pattern = "^[^/]*$"))]
    pub group: String,
    #[schemars(length(min = 1))]
    pub kind: String,
    #[schemars(length(min = 1))]
    pub name: String,
}

/// The CRDs of these groups.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        NodePool::crd(),
        NodeClaim::crd(),
        NodeOverlay::crd(),
        SimulatedNodeClass::crd(),
        Ec2NodeClass::crd(),
        v1alpha5::Provisioner::crd(),
        v1alpha5::Machine::crd(),
        v1alpha5::AwsNodeTemplate::crd(),
    ]
}
