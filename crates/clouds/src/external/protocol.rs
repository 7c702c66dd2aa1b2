//! The messages and both ends of Cluster Autoscaler's externalgrpc protocol, for us and for other programs that speak it.

#[allow(clippy::all, clippy::pedantic, unreachable_pub, missing_docs, reason = "generated")]
#[rustfmt::skip]
mod generated;

pub use generated::*;
