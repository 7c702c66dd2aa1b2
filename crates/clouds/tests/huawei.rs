//! The Huawei Cloud provider against a stand-in of CCE that verifies signatures and permissions itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

#[path = "huawei/faults.rs"]
mod faults;
#[path = "huawei/flow.rs"]
mod flow;
#[path = "shared/in_process.rs"]
mod in_process;
#[path = "huawei/oracle.rs"]
mod oracle;
#[path = "huawei/world.rs"]
mod world;
