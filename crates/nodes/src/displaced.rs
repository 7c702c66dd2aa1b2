//! Pods of machines of direct pools that go: a place for all of them at once.
//!
//! Owns where they are counted: on nodes that are there, then on machines that are coming, first on those that were
//! bought for their like, and what needs machines yet. All of them are looked at together, as they were when the machines
//! were bought: one node after the other they would lie otherwise, and more would be bought for the same pods.

use crate::demand::DemandGroup;
use crate::disruption::moving;
use crate::fleet::{Fleet, NodeState};
use crate::round::Round;
use crate::supply::{Supply, Unmet, class_of};
use model::{NodeName, PodNames};
use packing::{ClassIx, size_units};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Where the pods of machines that go are to be.
pub(crate) struct Settlement {
    /// Machines that wait for their pods' room: all of theirs is on nodes that are there.
    pub free_to_go: Vec<NodeName>,
    /// Pods that nothing is coming for.
    pub unserved: Vec<Unmet>,
}

/// Machines that go, with the kinds of pods on each, and those pods by their kind.
#[derive(Default)]
struct Batch {
    needs: Vec<(NodeName, BTreeMap<ClassIx, u32>)>,
    groups: BTreeMap<ClassIx, DemandGroup>,
}

/// Keeps room for the pods of machines that are going, then for those of machines that are being replaced.
pub(crate) fn settle(round: &mut Round<'_>, fleet: &Fleet, supply: &mut Supply) -> Settlement {
    let (mut going, mut replaced) = (Batch::default(), Batch::default());
    for (name, node) in fleet.direct_nodes() {
        if node.state == NodeState::Leaving {
            going.add(round, supply, name);
        } else if round.ledger.replacing.contains_key(name)
            && let Some(spot) = supply.spot(name)
        {
            supply.room.close(spot);
            replaced.add(round, supply, name);
        }
    }
    let (mut left, _) = going.keep_here(supply);
    let (rest, here) = replaced.keep_here(supply);
    left.extend(rest);
    let coming = supply.keep_coming(round, &left);
    for (group, count) in left.iter_mut().zip(coming) {
        let _served = group.pods.take_first(count as usize);
    }
    left.retain(|group| !group.is_empty());
    let unmet = |group: DemandGroup| Unmet {
        class: group.class,
        shape: group.shape,
        pods: group.pods,
        missing: Vec::new(),
    };
    Settlement { free_to_go: replaced.free_to_go(here), unserved: left.into_iter().map(unmet).collect() }
}

impl Batch {
    fn add(&mut self, round: &Round<'_>, supply: &mut Supply, name: &NodeName) {
        let mut needs: BTreeMap<ClassIx, u32> = BTreeMap::new();
        for pod in moving(round, name) {
            let class = class_of(&mut supply.room, &pod);
            *needs.entry(class).or_default() += 1;
            let group = self.groups.entry(class).or_insert_with(|| DemandGroup {
                class,
                shape: pod.shape.clone(),
                pods: PodNames::default(),
                keeping_room: 0,
                missing: Vec::new(),
            });
            group.pods.append(PodNames::one(pod.key.clone()));
        }
        self.needs.push((name.clone(), needs));
    }

    /// Places what fits on nodes that are there, those of high priority first, then the largest. Returns what is left,
    /// and how many of each kind have a place.
    fn keep_here(&mut self, supply: &mut Supply) -> (Vec<DemandGroup>, BTreeMap<ClassIx, u32>) {
        let mut groups: Vec<DemandGroup> = std::mem::take(&mut self.groups).into_values().collect();
        groups.sort_by(|a, b| {
            let key = |group: &DemandGroup| {
                (Reverse(group.shape.priority), Reverse(size_units(&group.shape.requests)))
            };
            key(a).cmp(&key(b)).then_with(|| a.shape.cmp(&b.shape)).then(a.class.cmp(&b.class))
        });
        let counts = supply.keep_here(&groups);
        let mut here = BTreeMap::new();
        for (group, count) in groups.iter_mut().zip(counts) {
            let _served = group.pods.take_first(count as usize);
            here.insert(group.class, count);
        }
        groups.retain(|group| !group.is_empty());
        (groups, here)
    }

    /// The machines all of whose pods have a place, as far as places go round, in name order.
    fn free_to_go(self, mut here: BTreeMap<ClassIx, u32>) -> Vec<NodeName> {
        let mut free = Vec::new();
        for (name, needs) in self.needs {
            let has = |(class, count): (&ClassIx, &u32)| here.get(class).is_some_and(|left| left >= count);
            if needs.iter().all(has) {
                for (class, count) in &needs {
                    here.entry(*class).and_modify(|left| *left -= count);
                }
                free.push(name);
            }
        }
        free
    }
}
