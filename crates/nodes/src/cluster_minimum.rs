//! The least cpu and memory that the whole cluster keeps.
//!
//! Owns the sums over nodes that stay, and what a removal would take from them. What nodes offer is what pods can use
//! of them.

use crate::fleet::{Fleet, NodeState};
use crate::round::Round;
use model::{Bounds, Node, Reason};

const GIB: u64 = 1 << 30;

/// What there is of one resource, and what must be left.
#[derive(Clone, Copy)]
struct Kept {
    name: &'static str,
    bounds: Bounds,
    /// How many units of the node's own make one of the bounds'.
    unit: u64,
    has: u64,
    of: fn(&Node) -> u64,
}

/// The sums, as removals are taken off them one after the other.
pub(crate) struct ClusterMinimum([Kept; 2]);

impl ClusterMinimum {
    pub(crate) fn of(round: &Round<'_>, fleet: &Fleet) -> Self {
        let ceilings = &round.policies.ceilings;
        let mut kept = [
            Kept { name: "cores", bounds: ceilings.cores, unit: 1000, has: 0, of: |n| n.allocatable.cpu.0 },
            Kept {
                name: "GiB of memory",
                bounds: ceilings.memory_gib,
                unit: GIB,
                has: 0,
                of: |n| n.allocatable.memory.0,
            },
        ];
        if kept.iter().all(|kept| kept.bounds.min == 0) {
            return Self(kept);
        }
        let stays =
            |name| round.ledger.removals.get(name).is_none_or(|r| r.phase == model::RemovalPhase::Undoing);
        for (name, node) in fleet.nodes.iter().filter(|(_, node)| node.state != NodeState::Leaving) {
            if stays(name) {
                for kept in &mut kept {
                    kept.has = kept.has.saturating_add((kept.of)(&node.node));
                }
            }
        }
        Self(kept)
    }

    /// What would be too little without the node.
    pub(crate) fn forbids(&self, node: &Node) -> Option<Reason> {
        let too_little = |kept: &&Kept| {
            let least = kept.bounds.min.saturating_mul(kept.unit);
            least > 0 && kept.has.saturating_sub((kept.of)(node)) < least
        };
        let kept = self.0.iter().find(too_little)?;
        Some(Reason::ClusterMinimum { resource: model::ResourceName::new(kept.name), min: kept.bounds.min })
    }

    pub(crate) fn take(&mut self, node: &Node) {
        for kept in &mut self.0 {
            kept.has = kept.has.saturating_sub((kept.of)(node));
        }
    }
}
