//! `VolumeRestrictions`: disks that one node may have once, and claims that one pod at a time may use.

use super::Ask;
use crate::NodeView;
use model::PoolRejection;

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    let needs = ask.shape.volumes.as_deref()?;
    if node.volumes().has_conflicting_disk(needs) {
        return Some(PoolRejection::DiskConflict);
    }
    ask.volumes?.are_in_use(needs).then_some(PoolRejection::ExclusiveClaimInUse)
}
