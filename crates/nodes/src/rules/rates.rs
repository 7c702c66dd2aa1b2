//! Allocation rates of pools: what pods ask for of what nodes offer.
//!
//! Owns the sums and the arithmetic of how many nodes bring a rate under a threshold. Pods count as in the scheduler's
//! accounting: those of DaemonSets do, those that have ended do not.

use crate::fleet::{Fleet, NodeState, PoolAccount};
use crate::round::Round;
use crate::supply::{self, Supply};
use model::{RateMetric, Resources, RuleReason};

/// One resource of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub requested: u64,
    pub allocatable: u64,
    /// What one more node offers, and what its DaemonSets take of that.
    pub one: u64,
    pub overhead: u64,
}

/// Sums of a pool.
pub(super) struct PoolSums {
    pub nodes: u32,
    requested: Resources,
    allocatable: Resources,
    /// What the smallest of its nodes offers; of each resource on its own.
    smallest: (u64, u64),
}

impl PoolSums {
    /// Why a pool has no rate, or its sums.
    pub(super) fn of(round: &Round<'_>, fleet: &Fleet, account: &PoolAccount) -> Result<Self, RuleReason> {
        let mut sums = Self {
            nodes: 0,
            requested: Resources::default(),
            allocatable: Resources::default(),
            smallest: (u64::MAX, u64::MAX),
        };
        let promised = account.pool.template.as_ref().map(|template| &template.allocatable);
        for (name, node) in &fleet.nodes {
            let ours = node.machine.as_ref().is_some_and(|machine| machine.pool == account.pool.id);
            if !ours || node.state == NodeState::Leaving {
                continue;
            }
            if promised.is_some_and(|promised| lacks_devices(&node.node.allocatable, promised)) {
                return Err(RuleReason::DriverMissing { node: name.clone() });
            }
            sums.nodes += 1;
            sums.allocatable.add(&node.node.allocatable);
            let (cpu, memory) = (node.node.allocatable.cpu.0, node.node.allocatable.memory.0);
            sums.smallest = (sums.smallest.0.min(cpu), sums.smallest.1.min(memory));
            for pod in round.cluster.pods_on(name).filter(|pod| pod.occupies()) {
                sums.requested.add(&pod.shape.requests);
            }
        }
        if sums.nodes == 0 { Err(RuleReason::PoolEmpty) } else { Ok(sums) }
    }

    /// The rate of one resource; what a new node is like is the template's word where there is one.
    pub(super) fn rate(
        &self,
        round: &Round<'_>,
        account: &PoolAccount,
        supply: &mut Supply,
        metric: RateMetric,
    ) -> Result<Rate, RuleReason> {
        let part = |of: &Resources| match metric {
            RateMetric::Cpu => of.cpu.0,
            RateMetric::Memory => of.memory.0,
        };
        let smallest = match metric {
            RateMetric::Cpu => self.smallest.0,
            RateMetric::Memory => self.smallest.1,
        };
        let (mut one, mut overhead) = (smallest, 0);
        if let Some(template) = supply::template(round, account, &mut supply.room) {
            one = part(&template.node.allocatable);
            let shapes = template.overhead.iter().map(|class| &supply.room.shape_of(*class).requests);
            overhead = shapes.map(part).fold(0, u64::saturating_add);
        }
        let (requested, allocatable) = (part(&self.requested), part(&self.allocatable));
        if allocatable == 0 || one == 0 {
            return Err(RuleReason::NothingAllocatable);
        }
        Ok(Rate { requested, allocatable, one, overhead })
    }
}

/// Whether a node does not show a device that nodes of its pool have: its driver is not installed yet.
fn lacks_devices(seen: &Resources, promised: &Resources) -> bool {
    promised.extended.iter().any(|(name, amount)| {
        let device = name.0.contains('/');
        device && *amount > 0 && seen.extended.get(name).copied().unwrap_or(0) == 0
    })
}

impl Rate {
    /// In whole percent, rounded down, for people.
    pub(super) fn percent(self) -> u32 {
        let percent = u128::from(self.requested) * 100 / u128::from(self.allocatable.max(1));
        u32::try_from(percent).unwrap_or(u32::MAX)
    }

    pub(super) fn is_over(self, threshold_percent: u32) -> bool {
        hundredfold(self.requested) > bar(threshold_percent, self.allocatable)
    }

    pub(super) fn is_under(self, threshold_percent: u32) -> bool {
        hundredfold(self.requested) < bar(threshold_percent, self.allocatable)
    }

    /// The smallest number of new nodes that brings the rate strictly under the threshold, the pods that
    /// DaemonSets run on them counted: with alike nodes and without DaemonSets it is
    /// `floor(requested / (one × threshold)) − nodes + 1`. None where no number does.
    pub(super) fn nodes_to_get_under(self, threshold_percent: u32) -> Option<u32> {
        if self.is_under(threshold_percent) {
            return Some(0);
        }
        let excess = hundredfold(self.requested) - bar(threshold_percent, self.allocatable);
        let gain = bar(threshold_percent, self.one).checked_sub(hundredfold(self.overhead))?;
        u32::try_from(excess.checked_div(gain)? + 1).ok()
    }

    /// How many nodes, up to so many, may go with the rate still strictly under the threshold.
    pub(super) fn nodes_to_spare(self, threshold_percent: u32, most: u32) -> u32 {
        let spare = |nodes: u64| {
            let left = self.allocatable.checked_sub(nodes.saturating_mul(self.one))?;
            (hundredfold(self.requested) < bar(threshold_percent, left)).then_some(())
        };
        // The more go the higher the rate: the last number that works.
        let (mut works, mut fails) = (0_u64, u64::from(most) + 1);
        while fails - works > 1 {
            let middle = works.midpoint(fails);
            if spare(middle).is_some() { works = middle } else { fails = middle }
        }
        u32::try_from(works).unwrap_or(most)
    }
}

fn bar(threshold_percent: u32, allocatable: u64) -> u128 {
    u128::from(threshold_percent) * u128::from(allocatable)
}

fn hundredfold(amount: u64) -> u128 {
    u128::from(amount) * 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(rate: Rate, nodes: u32) -> Rate {
        let more = |one: u64| one * u64::from(nodes);
        Rate {
            requested: rate.requested + more(rate.overhead),
            allocatable: rate.allocatable + more(rate.one),
            ..rate
        }
    }

    #[test]
    fn the_documents_formula() {
        // 10 nodes of 4 cores, 32 cores asked for, 70 %: floor(32 / (4 × 0.7)) − 10 + 1.
        let rate = Rate { requested: 32_000, allocatable: 40_000, one: 4000, overhead: 0 };
        assert_eq!(rate.nodes_to_get_under(70), Some(2));
        assert_eq!(rate.percent(), 80);
        let exact = Rate { requested: 28_000, ..rate };
        assert!(!exact.is_over(70) && !exact.is_under(70));
        assert_eq!(exact.nodes_to_get_under(70), Some(1));
        assert_eq!(Rate { overhead: 2800, ..rate }.nodes_to_get_under(70), None);
        assert_eq!(rate.nodes_to_spare(90, 10), 1);
    }

    proptest! {
        #[test]
        fn the_computed_count_is_the_smallest_that_gets_under(
            requested in 1_u64..2_000_000, nodes in 1_u64..500, one in 1_u64..100_000,
            overhead in 0_u64..30_000, threshold in 1_u32..=100,
        ) {
            let rate = Rate { requested, allocatable: nodes * one, one, overhead };
            match rate.nodes_to_get_under(threshold) {
                Some(count) => {
                    prop_assert!(after(rate, count).is_under(threshold));
                    prop_assert!(count == 0 || !after(rate, count - 1).is_under(threshold));
                }
                None => {
                    for count in [1, 2, 100, 100_000] {
                        prop_assert!(!after(rate, count).is_under(threshold));
                    }
                }
            }
            if overhead == 0 && rate.is_over(threshold) {
                let formula = u128::from(requested) * 100 / (u128::from(one) * u128::from(threshold)) + 1;
                prop_assert_eq!(u128::from(rate.nodes_to_get_under(threshold).unwrap()), formula - u128::from(nodes));
            }
        }

        #[test]
        fn what_is_spared_leaves_the_rate_under_and_one_more_would_not(
            requested in 0_u64..100_000, nodes in 1_u32..50, one in 1_u64..10_000, threshold in 1_u32..=100,
            most in 0_u32..60,
        ) {
            let rate = Rate { requested, allocatable: u64::from(nodes) * one, one, overhead: 0 };
            let spared = rate.nodes_to_spare(threshold, most);
            prop_assert!(spared <= most);
            let left = |gone: u32| Rate { allocatable: rate.allocatable - u64::from(gone) * one, ..rate };
            if spared > 0 {
                prop_assert!(left(spared).is_under(threshold));
            }
            if spared < most.min(nodes) {
                prop_assert!(!left(spared + 1).is_under(threshold));
            }
        }
    }
}
