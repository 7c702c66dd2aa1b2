//! The Kubernetes surface: our CRD types, well-known labels, taints, annotations and event reasons.
//!
//! Owns names and shapes that others rely on; it holds no behaviour. A name of a peer system stands here once,
//! with the system that it comes from.

pub mod annotations;
#[expect(unreachable_pub, reason = "the schema derive writes a private copy of the public struct")]
#[expect(clippy::duplicated_attributes, reason = "each printer column names its own type and path")]
pub mod capacity;
pub mod events;
#[expect(unreachable_pub, reason = "the schema derive writes private copies of public structs")]
#[expect(clippy::duplicated_attributes, reason = "each printer column names its own type and path")]
pub mod kapacity;
#[expect(unreachable_pub, reason = "the schema derive writes private copies of public structs")]
#[expect(clippy::duplicated_attributes, reason = "each printer column names its own type and path")]
pub mod karpenter;
pub mod labels;
#[expect(unreachable_pub, reason = "the schema derive writes private copies of public structs")]
#[expect(clippy::duplicated_attributes, reason = "each printer column names its own type and path")]
pub mod node_rules;
#[expect(unreachable_pub, reason = "the schema derive writes a private copy of the public struct")]
#[expect(clippy::duplicated_attributes, reason = "each printer column names its own type and path")]
pub mod simulated;
pub mod taints;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// Group of every kind that is Tideline's own.
pub const GROUP: &str = "tideline.dev";

/// Every CRD that Tideline serves, in the order in which they are printed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut all = vec![simulated::SimulatedPool::crd(), simulated::SimulatedMachine::crd()];
    all.push(node_rules::HorizontalNodeAutoscaler::crd());
    all.extend(capacity::crds());
    all.extend(kapacity::crds());
    all.extend(karpenter::crds());
    all
}
