//! The messages and both ends of Cluster Autoscaler's protocol for programs that choose among purchases.

#[allow(clippy::all, clippy::pedantic, unreachable_pub, missing_docs, reason = "generated")]
#[rustfmt::skip]
mod generated;

pub use generated::*;
