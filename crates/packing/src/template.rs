//! What is asked for and what a pool would make: pods of one class with a count, a node as it will be, and one number
//! for how large either is.
//!
//! Which machines to buy for them is `Room::question`'s and `solve`'s.

use crate::ClassIx;
use model::{Node, Resources};
use std::sync::Arc;

/// Memory that weighs as much as one thousandth of a core: 4 GiB a core, the usual machine.
const BYTES_PER_MILLI_CPU: u64 = (4 << 30) / 1000;
/// Weight of one unit of an extended resource: they are scarce, so they outweigh a large machine's cores.
const UNITS_PER_EXTENDED: u64 = 64_000;

/// Pods of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub class: ClassIx,
    pub count: u32,
}

/// A node as a pool would make it.
#[derive(Clone, Debug)]
pub struct Template {
    pub node: Arc<Node>,
    /// What will run there from the beginning.
    pub overhead: Vec<ClassIx>,
}

/// One number for how large a request is whatever machine it runs on, in thousandths of a core.
pub fn size_units(requests: &Resources) -> u64 {
    let extended = requests.extended.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    requests
        .cpu
        .0
        .saturating_add(requests.memory.0 / BYTES_PER_MILLI_CPU)
        .saturating_add(extended.min(1 << 20).saturating_mul(UNITS_PER_EXTENDED))
}
