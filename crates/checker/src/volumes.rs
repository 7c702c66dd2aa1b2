//! Where a pod's volumes allow it to run, as far as one node and its labels tell.
//!
//! Volumes that are shared, that only one pod may use, or that have to be found among existing ones are beyond it:
//! pods with such fit nowhere here, and no finding rests on them.

use model::{Fittings, Labels, VolumeNeeds};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Attachments of a machine: the most of each driver, and those in use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attachments {
    fittings: Option<Arc<Fittings>>,
    used: BTreeMap<Arc<str>, u32>,
}

impl Attachments {
    pub(crate) fn of(fittings: Option<&Arc<Fittings>>) -> Self {
        let used = fittings.map(|fittings| fittings.left_attached.clone()).unwrap_or_default();
        Self { fittings: fittings.cloned(), used }
    }

    pub(crate) fn put(&mut self, needs: &VolumeNeeds) {
        let shared = needs.shared.iter().map(|source| (&source.driver, 1));
        for (driver, count) in needs.attaches.iter().map(|(driver, count)| (driver, *count)).chain(shared) {
            *self.used.entry(Arc::clone(driver)).or_default() += count;
        }
    }

    fn take(&self, needs: &VolumeNeeds) -> bool {
        let Some(fittings) = &self.fittings else { return needs.drivers.is_empty() };
        let limit = |driver: &str| fittings.drivers.get(driver).copied().flatten();
        let used = |driver: &str| self.used.get(driver).copied().unwrap_or(0);
        needs.drivers.iter().all(|driver| fittings.drivers.contains_key(driver))
            && needs.attaches.iter().all(|(driver, count)| {
                limit(driver).is_none_or(|limit| used(driver).saturating_add(*count) <= limit)
            })
    }
}

/// Whether one node and its labels decide about these volumes.
pub(crate) fn are_plain(needs: &VolumeNeeds) -> bool {
    needs.shared.is_empty()
        && needs.exclusive.is_empty()
        && needs.disks.is_empty()
        && needs
            .unbound
            .iter()
            .all(|volume| volume.provisionable && volume.selected_node.is_none() && volume.room_on.is_none())
}

/// Whether a machine with these labels and attachments can have the volumes.
pub(crate) fn suit(needs: &VolumeNeeds, labels: &Labels, attachments: &Attachments) -> bool {
    let zone_agrees = |zone: &model::VolumeZone| {
        let new = zone.key.replace("failure-domain.beta.kubernetes.io", "topology.kubernetes.io");
        let value = labels.get(&zone.key).or_else(|| labels.get(new.as_str()));
        value.is_some_and(|value| zone.values.contains(value))
    };
    let zoned = labels.keys().any(|key| {
        key.starts_with("topology.kubernetes.io/") || key.starts_with("failure-domain.beta.kubernetes.io/")
    });
    are_plain(needs)
        && needs.refused.is_none()
        && !needs.volume_missing
        && needs.bound.iter().all(|terms| terms.iter().any(|term| term.matches("", labels)))
        && needs.unbound.iter().all(|volume| {
            let allowed = &volume.allowed_topologies;
            allowed.is_empty() || allowed.iter().any(|term| term.matches("", labels))
        })
        && (!zoned || needs.zones.iter().all(zone_agrees))
        && attachments.take(needs)
}
