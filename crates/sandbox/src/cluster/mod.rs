//! Everything that runs in the embedded cluster: clouds, kubelets, controllers and the scheduler, all simulated.
//!
//! `cloud`, `capi` and `kubelet` use the Kubernetes API only, so that they also run against a real control plane;
//! `controllers` and `scheduler` stand in for that control plane's own processes and work on the store.

pub mod capi;
pub mod cloud;
pub mod controllers;
mod deadlines;
mod delays;
pub mod kubelet;
mod mirror;
mod nodes;
mod scheduler;
mod volumes;

pub use delays::Delays;

#[cfg(test)]
mod tests;
