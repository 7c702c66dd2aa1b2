//! Why a pod fits on no node, in kube-scheduler's words.

use model::PodShape;
use packing::{Ask, FailedScheduling, NodeView, first_rejection};

/// The message of the `PodScheduled` condition.
pub(super) fn message<'a>(shape: &PodShape, nodes: impl Iterator<Item = &'a NodeView>) -> String {
    let ask = Ask::of(shape);
    let mut message = FailedScheduling::of(shape);
    for node in nodes {
        if let Some(rejection) = first_rejection(&ask, node) {
            message.refused_by(node.name(), &rejection);
        }
    }
    message.to_string()
}
