//! The embedded cluster: an in-memory Kubernetes API with workload controllers, scheduler, kubelets and a cloud.

pub mod api;
pub mod cluster;
pub mod fault;
pub mod load;
pub mod rules;
mod sandbox;
pub mod store;

pub use sandbox::{Options, Sandbox, SandboxError};
