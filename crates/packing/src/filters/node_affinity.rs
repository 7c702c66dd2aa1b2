//! `NodeAffinity`: node selector and required node affinity, labels and `matchFields`.

use super::Ask;
use crate::NodeView;
use model::PoolRejection;

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    let labels = node.labels();
    let selected = ask.shape.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let affine = ask
        .shape
        .node_affinity
        .as_ref()
        .is_none_or(|terms| terms.iter().any(|term| term.matches(node.name().as_str(), labels)));
    (!(selected && affine)).then_some(PoolRejection::AffinityMismatch)
}
