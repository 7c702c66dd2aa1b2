//! `NodeResourcesFit`: every requested resource, and the kubelet's number of pods.

use super::Ask;
use crate::NodeView;
use model::PoolRejection;

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    if ask.shape.requests.fits(node.free()) {
        return None;
    }
    Some(PoolRejection::Insufficient { resources: ask.shape.requests.short_of(node.free()) })
}
