//! `NodeResourcesFit`: every requested resource, and the kubelet's number of pods.

use super::Ask;
use crate::NodeView;
use model::PoolRejection;

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    if ask.shape.requests.fits(node.free()) {
        return None;
    }
    let mut resources = ask.shape.requests.short_of(node.free());
    // Devices of claims are a filter of their own.
    resources.retain(|name| !name.is_claimed_device());
    (!resources.is_empty()).then_some(PoolRejection::Insufficient { resources })
}
