//! `NodeVolumeLimits`: how many volumes each CSI driver attaches to a node.

use super::Ask;
use crate::NodeView;
use model::{Fittings, PoolRejection, VolumeNeeds};
use std::sync::Arc;

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    let needs = ask.shape.volumes.as_deref()?;
    let fittings = node.node().fittings.as_deref();
    if let Some(driver) = missing_driver(needs, fittings) {
        return Some(PoolRejection::CsiDriverMissing { driver: Arc::clone(driver) });
    }
    (node.volumes().capacity(needs, fittings?) == 0).then_some(PoolRejection::VolumeLimitExceeded)
}

/// A driver that must run on the node and does not.
pub(crate) fn missing_driver<'n>(
    needs: &'n VolumeNeeds,
    fittings: Option<&Fittings>,
) -> Option<&'n Arc<str>> {
    let runs = |driver: &str| fittings.is_some_and(|fittings| fittings.drivers.contains_key(driver));
    needs.drivers.iter().find(|driver| !runs(driver))
}
