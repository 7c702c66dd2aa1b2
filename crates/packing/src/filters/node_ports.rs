//! `NodePorts`: a host port can be open once.

use super::Ask;
use crate::NodeView;
use model::PoolRejection;

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    let used = node.used_ports();
    ask.shape
        .host_ports
        .iter()
        .any(|port| used.iter().any(|other| other.conflicts_with(port)))
        .then_some(PoolRejection::PortConflict)
}
