//! The Alibaba Cloud provider against a stand-in of the service that verifies signatures and permissions itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

#[path = "alibaba/faults.rs"]
mod faults;
#[path = "alibaba/flow.rs"]
mod flow;
#[path = "alibaba/identity.rs"]
mod identity;
#[path = "shared/in_process.rs"]
mod in_process;
#[path = "alibaba/oracle.rs"]
mod oracle;
#[path = "alibaba/reading.rs"]
mod reading;
#[path = "alibaba/world.rs"]
mod world;
