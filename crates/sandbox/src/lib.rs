//! The embedded cluster: an in-memory Kubernetes API with workload controllers, scheduler, kubelets and a cloud.

pub mod api;
pub mod fault;
pub mod rules;
pub mod store;
