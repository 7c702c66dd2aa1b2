//! What may still be bought before the whole cluster has as much as it may have.
//!
//! Owns the sums of cpu and memory over all nodes, ours or not, and over machines on their way. What a node offers is
//! what pods can use of it.

use crate::fleet::{Fleet, NodeState};
use crate::round::Round;
use model::{Ceilings, Resources};

const GIB: u64 = 1 << 30;

/// What is left under the ceilings; `None` = there are none that could be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ceiling(Option<Left>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    milli_cpu: u64,
    memory_bytes: u64,
}

impl Ceiling {
    pub(crate) fn of(round: &Round<'_>, fleet: &Fleet) -> Self {
        let ceilings = &round.policies.ceilings;
        if *ceilings == Ceilings::default() {
            return Self(None);
        }
        let mut left = Left {
            milli_cpu: ceilings.cores.max.saturating_mul(1000),
            memory_bytes: ceilings.memory_gib.max.saturating_mul(GIB),
        };
        for node in fleet.nodes.values().filter(|node| node.state != NodeState::Leaving) {
            left.take(&node.node.allocatable, 1);
        }
        for account in fleet.pools.values() {
            if let Some(template) = &account.pool.template {
                left.take(&template.allocatable, account.without_node());
            }
        }
        Self(Some(left))
    }

    /// Whether one more machine like this keeps the cluster under its ceilings.
    pub(crate) fn allows(self, machine: &Resources) -> bool {
        self.0.is_none_or(|left| left.milli_cpu >= machine.cpu.0 && left.memory_bytes >= machine.memory.0)
    }

    pub(crate) fn take(&mut self, machine: &Resources, count: u32) {
        if let Some(left) = &mut self.0 {
            left.take(machine, count);
        }
    }

    /// Takes one machine where the ceilings allow it.
    pub(crate) fn admits(&mut self, machine: &Resources) -> bool {
        let allowed = self.allows(machine);
        if allowed {
            self.take(machine, 1);
        }
        allowed
    }

    /// What is left, as limits of a pool in the market: that of the whole cluster binds each.
    pub(crate) fn rows(self) -> Vec<u64> {
        self.0.map_or_else(Vec::new, |left| vec![left.milli_cpu, left.memory_bytes])
    }

    /// What one machine takes of each of them.
    pub(crate) fn uses(self, machine: &Resources) -> Vec<u64> {
        self.0.map_or_else(Vec::new, |_| vec![machine.cpu.0, machine.memory.0])
    }
}

impl Left {
    fn take(&mut self, each: &Resources, count: u32) {
        let all = |one: u64| one.saturating_mul(u64::from(count));
        self.milli_cpu = self.milli_cpu.saturating_sub(all(each.cpu.0));
        self.memory_bytes = self.memory_bytes.saturating_sub(all(each.memory.0));
    }
}
