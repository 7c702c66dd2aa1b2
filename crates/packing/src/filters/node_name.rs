//! `NodeName`: a pod that names its node runs there or nowhere.

use super::Ask;
use crate::NodeView;
use model::PoolRejection;

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    let wanted = ask.node_name?;
    (wanted != node.name()).then_some(PoolRejection::NodeNameMismatch)
}
