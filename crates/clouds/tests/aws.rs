//! The provider of AWS: the real SDK over HTTP against moto's server, with a door in front of it where calls go wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

#[path = "aws/faults.rs"]
mod faults;
#[path = "aws/flow.rs"]
mod flow;
#[path = "aws/permissions.rs"]
mod permissions;
#[path = "aws/template.rs"]
mod template;
#[path = "aws/world.rs"]
mod world;
