//! `DynamicResources`: devices that claims ask for, counted by class; claims that are allocated, on their node.

use super::Ask;
use crate::NodeView;
use model::PoolRejection;

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    let requests = &ask.shape.requests;
    if requests.fits(node.free()) {
        return None;
    }
    let short = requests.short_of(node.free());
    // One reason, however many claims: devices that cannot be had come before a claim that is elsewhere.
    let name = short
        .into_iter()
        .filter(model::ResourceName::is_claimed_device)
        .min_by_key(model::ResourceName::is_device_claim)?;
    Some(PoolRejection::Insufficient { resources: vec![name] })
}
