//! What pods are worth, and which makes are worth a look: asked once for all pods that may move.
//!
//! Owns the order that follows from it. A node is the more wasteful the less its pods would cost on the best machines.

use super::{Search, Standing};
use crate::solve::{MachineWorths, worths};
use crate::{ClassIx, Group, SpotIx};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Of a node without a price or whose pods have no worth: by size.
const PERMILLE: u128 = 1000;

impl Search<'_> {
    /// Prices all pods that may move, and keeps the makes that are the best for some pods.
    pub(super) fn value_pods(&mut self) {
        let mut wanted: BTreeMap<u32, Group> = BTreeMap::new();
        for (class, count) in self.world.iter().flat_map(|standing| &standing.moving) {
            let rank = self.rank[class.0 as usize];
            wanted.entry(rank).or_insert(Group { class: *class, count: 0 }).count += count;
        }
        if wanted.is_empty() || self.market.makes.is_empty() {
            return;
        }
        let groups: Vec<Group> = wanted.into_values().collect();
        let mut room = self.blank.clone();
        for standing in self.world.iter().filter(|standing| !standing.may_go()) {
            let spot = room.add(standing.node.clone());
            for (class, count) in &standing.staying {
                room.hold(*class, spot, *count);
            }
        }
        let question = room.question(self.market, &groups);
        let Ok(MachineWorths { worth, choice, useful }) = worths(&question.problem) else { return };
        for ((group, worth), choice) in groups.iter().zip(worth).zip(choice) {
            self.worth[group.class.0 as usize] = worth;
            self.choice[group.class.0 as usize] = choice;
        }
        self.steps += useful.iter().map(|list| list.len() as u64).sum::<u64>() * 8 + groups.len() as u64;
        // A type that is good in one zone is looked at in the pool's others too: pods may be tied to those.
        let mut kinds: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
        for (at, make) in self.market.makes.iter().enumerate() {
            kinds.entry((make.pool, make.machine_type)).or_default().push(at);
        }
        let kind = |at: usize| (self.market.makes[at].pool, self.market.makes[at].machine_type);
        for list in useful {
            let all: BTreeSet<usize> = list.into_iter().flat_map(|at| kinds[&kind(at)].clone()).collect();
            self.goods.push(all.into_iter().collect());
        }
    }

    /// The makes worth a look for some groups, by their numbers in the market.
    pub(super) fn goods_for(&self, groups: &[Group]) -> Vec<usize> {
        let lists: BTreeSet<usize> = groups.iter().map(|group| self.choice[group.class.0 as usize]).collect();
        let lists = lists.into_iter().filter_map(|list| self.goods.get(list));
        let all: BTreeSet<usize> = lists.flatten().copied().collect();
        all.into_iter().collect()
    }

    /// The worth of pods in nano-USD.
    pub(super) fn worth_of(&self, pods: &[(ClassIx, u32)]) -> u128 {
        pods.iter().map(|(class, n)| u128::from(self.worth[class.0 as usize]) * u128::from(*n)).sum()
    }

    /// How little of what a node costs its pods are worth, in thousandths; more than it costs is nothing.
    pub(super) fn waste(&self, standing: &Standing) -> u128 {
        let (of, whole) = match self.worth_of(&standing.moving) {
            worth if standing.price > 0 && (worth > 0 || standing.moving.is_empty()) => {
                (worth, u128::from(standing.price) * 1000)
            }
            _ => {
                let asked = |(class, n): &(ClassIx, u32)| {
                    u128::from(crate::size_units(&self.blank.shape_of(*class).requests)) * u128::from(*n)
                };
                let whole = crate::size_units(&standing.node.allocatable).max(1);
                (standing.moving.iter().map(asked).sum(), u128::from(whole))
            }
        };
        PERMILLE - (of * PERMILLE / whole).min(PERMILLE)
    }

    /// Puts the picture into the order that nodes are filled in: those that stay, then the least wasteful. Only what
    /// nodes are and hold decides, and their names last.
    pub(super) fn sort_world(&mut self) {
        let mut world = std::mem::take(&mut self.world);
        for standing in &mut world {
            standing.moving.sort_by_key(|(class, _)| self.rank[class.0 as usize]);
        }
        let load = |standing: &Standing| -> Vec<(u32, u32)> {
            standing.moving.iter().map(|(class, n)| (self.rank[class.0 as usize], *n)).collect()
        };
        world.sort_by_cached_key(|standing| {
            let place = match standing.origin {
                super::Origin::Fixed(spot) => spot,
                _ => SpotIx(usize::MAX),
            };
            let pods: u32 = standing.moving.iter().map(|(_, n)| *n).sum();
            (
                place,
                self.waste(standing),
                Reverse(pods),
                Reverse(standing.price),
                load(standing),
                standing.node.labels.get("topology.kubernetes.io/zone").cloned(),
                standing.node.name.clone(),
            )
        });
        self.world = world;
    }
}
