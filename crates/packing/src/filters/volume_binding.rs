//! `VolumeBinding`: bound volumes can be used on the node, and unbound ones can be bound or made there.

use super::Ask;
use crate::{ClusterVolumes, NodeView};
use model::{Labels, NodeSelectorTerm, PoolRejection, VolumeConflict, VolumeNeeds};

pub(super) fn check(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    let needs = ask.shape.volumes.as_deref()?;
    if let Some(why) = &needs.refused {
        return Some(PoolRejection::VolumesRefused { why: why.clone() });
    }
    let mut conflicts = Vec::new();
    if !are_usable(needs, node.labels()) {
        conflicts.push(VolumeConflict::NodeAffinity);
    }
    let nothing = ClusterVolumes::default();
    conflicts.extend(ask.volumes.unwrap_or(&nothing).conflict(needs, node.node()));
    if needs.volume_missing {
        conflicts.push(VolumeConflict::NotFound);
    }
    (!conflicts.is_empty()).then_some(PoolRejection::VolumeConflicts { conflicts })
}

/// Whether a node's labels are those that the bound volumes ask for. A volume's affinity speaks of labels only.
fn are_usable(needs: &VolumeNeeds, labels: &Labels) -> bool {
    let usable = |terms: &Vec<NodeSelectorTerm>| terms.iter().any(|term| term.matches("", labels));
    needs.bound.iter().all(usable)
}
