//! The kinds of Kapacity, group `autoscaling.kapacitystack.io`: what scales workloads.
//!
//! Owns their schema: the same fields, so that existing objects are served as they are; what the original took and
//! then choked on is refused on entry. Fields of ours are marked so. Names shared with pods and charts stand here.

mod ihpa;
mod portrait;
mod replica_profile;

pub use ihpa::*;
pub use portrait::*;
pub use replica_profile::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// Group of the three kinds.
pub const GROUP: &str = "autoscaling.kapacitystack.io";
/// On all three kinds; taken off by whoever cleaned up.
pub const FINALIZER: &str = "kapacitystack.io/finalizer";
/// On a pod: its state; absent means online.
pub const POD_STATE: &str = "kapacitystack.io/pod-state";
/// Readiness gate and pod condition: False takes the pod out of its Services.
pub const ONLINE: &str = "kapacitystack.io/online";
/// On a pod template: `"true"` asks the webhook for the gate.
pub const INJECT_GATE: &str = "kapacitystack.io/inject-pod-readiness-gate";
/// The peer's Lease, Deployment and namespace, which the chart keeps.
pub const LEASE: &str = "kapacity-manager.kapacitystack.io";
pub const DEPLOYMENT: &str = "kapacity-manager";
pub const NAMESPACE: &str = "kapacity-system";
/// Components that events are from.
pub const IHPA_COMPONENT: &str = "ihpa_controller";
pub const PROFILE_COMPONENT: &str = "replica_profile_controller";
pub const PORTRAIT_COMPONENT: &str = "horizontal_portrait_controller";

/// The CRDs of this group.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![IntelligentHorizontalPodAutoscaler::crd(), HorizontalPortrait::crd(), ReplicaProfile::crd()]
}
