//! `TaintToleration`: the first taint that the pod does not put up with refuses it.

use super::Ask;
use crate::NodeView;
use model::{Effect, PoolRejection};

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    let repels = |effect| matches!(effect, Effect::NoSchedule | Effect::NoExecute);
    node.taints()
        .iter()
        .filter(|taint| repels(taint.effect))
        .find(|taint| !ask.shape.tolerations.iter().any(|toleration| toleration.tolerates(taint)))
        .map(|taint| PoolRejection::UntoleratedTaint { taint: taint.clone() })
}
