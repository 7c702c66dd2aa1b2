//! `VolumeZone`: the zone and region labels of bound volumes agree with the node's.

use super::Ask;
use crate::NodeView;
use model::{PoolRejection, VolumeZone};

/// Zone and region labels, the old spelling of each beside the new one.
const SPELLINGS: [(&str, &str); 2] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
];

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    let needs = ask.shape.volumes.as_deref()?;
    let labels = node.labels();
    let zoned = SPELLINGS.iter().any(|(old, new)| labels.contains_key(*old) || labels.contains_key(*new));
    if !zoned {
        // A cluster in one zone may have no such labels at all.
        return None;
    }
    let agrees = |zone: &VolumeZone| {
        let new = SPELLINGS.iter().find(|(old, _)| **old == *zone.key).map_or(&*zone.key, |(_, new)| new);
        let value = labels.get(&zone.key).or_else(|| labels.get(new));
        value.is_some_and(|value| zone.values.contains(value))
    };
    (!needs.zones.iter().all(agrees)).then_some(PoolRejection::VolumeZoneMismatch)
}
