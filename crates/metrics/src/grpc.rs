//! The gRPC service `io.kapacitystack.metric.ProviderService`: values for algorithms and other clients of Kapacity.
//!
//! Owns the service and its client. The wire form is fixed by `proto/provider.proto`, the values are the source's.

mod client;
#[allow(clippy::all, clippy::pedantic, unreachable_pub, missing_docs, reason = "generated")]
#[rustfmt::skip]
mod generated;
mod server;
mod wire;

pub use client::{ProviderClient, ProviderClientSettings};
pub use server::{Access, ServeError, serve};
