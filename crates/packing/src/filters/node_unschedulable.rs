//! `NodeUnschedulable`: a cordoned node takes only pods that tolerate its cordon.

use super::Ask;
use crate::NodeView;
use model::{Effect, PoolRejection, Taint};

/// The taint that stands for `spec.unschedulable`.
const CORDON: &str = "node.kubernetes.io/unschedulable";

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    if !node.unschedulable() {
        return None;
    }
    let cordon = Taint { key: CORDON.into(), value: "".into(), effect: Effect::NoSchedule };
    let tolerated = ask.shape.tolerations.iter().any(|toleration| toleration.tolerates(&cordon));
    (!tolerated).then_some(PoolRejection::Unschedulable)
}
