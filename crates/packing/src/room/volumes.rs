//! Volumes in a room: what each spot's pods attach, and which open volumes and exclusive claims are used up.
//!
//! Few pods have volumes, so only spots that hold some have an entry. The rules are in `filters`.

use crate::filters::node_volume_limits;
use crate::volumes::{ClusterVolumes, NodeVolumes};
use model::{Node, VolumeName, VolumeNeeds};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub(super) struct RoomVolumes {
    everywhere: ClusterVolumes,
    here: BTreeMap<usize, NodeVolumes>,
    /// Open volumes that the pods of a class at a spot have been given, for each pod.
    given: BTreeMap<(usize, u32), Vec<Vec<VolumeName>>>,
}

impl RoomVolumes {
    pub(super) fn of(everywhere: ClusterVolumes) -> Self {
        Self { everywhere, ..Self::default() }
    }

    pub(super) fn renew(&mut self, open: ClusterVolumes) {
        self.everywhere.renew(open);
        self.given.clear();
    }

    pub(super) fn everywhere(&self) -> &ClusterVolumes {
        &self.everywhere
    }

    pub(super) fn here(&self, spot: usize) -> NodeVolumes {
        self.here.get(&spot).cloned().unwrap_or_default()
    }

    /// Pods come to a spot.
    pub(super) fn hold(&mut self, needs: &VolumeNeeds, class: u32, spot: usize, node: &Node, count: u32) {
        self.here.entry(spot).or_default().add(needs, count);
        if !needs.unbound.is_empty() {
            let given = self.given.entry((spot, class)).or_default();
            for _ in 0..count {
                given.push(self.everywhere.take(needs, node));
            }
        }
    }

    /// Pods leave a spot.
    pub(super) fn remove(&mut self, needs: &VolumeNeeds, class: u32, spot: usize, count: u32) {
        if let Some(here) = self.here.get_mut(&spot) {
            here.remove(needs, count);
            if here.is_empty() {
                self.here.remove(&spot);
            }
        }
        if let Some(given) = self.given.get_mut(&(spot, class)) {
            for _ in 0..count {
                self.everywhere.give_back(&given.pop().unwrap_or_default());
            }
            if given.is_empty() {
                self.given.remove(&(spot, class));
            }
        }
    }

    /// The last spot is gone with what it held.
    pub(super) fn remove_spot(&mut self, spot: usize) {
        self.here.remove(&spot);
        let given: Vec<(usize, u32)> =
            self.given.range((spot, 0)..=(spot, u32::MAX)).map(|(key, _)| *key).collect();
        for key in given {
            for volumes in self.given.remove(&key).unwrap_or_default() {
                self.everywhere.give_back(&volumes);
            }
        }
    }

    /// Pods count among those that use claims, or no longer do where `count` is negative.
    pub(super) fn count(&mut self, needs: &VolumeNeeds, count: i64) {
        let pods = u32::try_from(count.unsigned_abs()).unwrap_or(u32::MAX);
        if count < 0 {
            self.everywhere.free_claims(needs, pods);
        } else {
            self.everywhere.use_claims(needs, pods);
        }
    }

    /// How many pods, up to `most`, find their volumes at a spot while nothing else changes.
    pub(super) fn times(&self, needs: &VolumeNeeds, spot: usize, node: &Node, most: u32) -> u32 {
        let fittings = node.fittings.as_deref();
        if self.everywhere.are_in_use(needs) || node_volume_limits::missing_driver(needs, fittings).is_some()
        {
            return 0;
        }
        let nothing = NodeVolumes::default();
        let here = self.here.get(&spot).unwrap_or(&nothing);
        let attachable = fittings.map_or(most, |fittings| here.capacity(needs, fittings));
        self.everywhere.capacity(needs, node, most.min(attachable).min(here.disk_capacity(needs)))
    }
}
