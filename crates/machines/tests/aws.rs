//! EC2 as a cloud of single machines: the real SDK over HTTP against moto's server, the embedded cluster, the whole
//! controller and keeper; the tests play the machines' kubelets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

#[path = "aws/interruptions.rs"]
mod interruptions;
#[path = "aws/launches.rs"]
mod launches;
#[path = "aws/world.rs"]
mod world;
