//! A mark that two moments of a cluster share exactly while nothing but waiting pods has changed between them.
//!
//! Owns the comparison. It says nothing of budgets, workloads, rules and outcomes, which are few and looked at anew in
//! each round; what it covers is what a round would have to walk all nodes and their pods for.

use crate::Pod;
use std::sync::Arc;

/// Renewed by each change of what stands. A copy of a cluster shares it until one of the two changes.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<()>);

impl Standing {
    /// Whether nothing that stands has changed between the two moments.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn renew(&mut self) {
        // Whoever remembers the old one keeps it, so that its address is not given out again.
        self.0 = Arc::new(());
    }
}

/// Equal clusters are equal however they became so.
impl PartialEq for Standing {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Standing {}

/// Whether a pod stands as it stood: still waiting, or on the same node with all that counts there.
pub(super) fn stands_alike(old: &Pod, new: &Pod) -> bool {
    if old.node.is_none() && new.node.is_none() {
        return old.claims.is_none() && new.claims.is_none();
    }
    let flags = |pod: &Pod| (pod.occupies(), pod.deletion_at.is_some(), pod.daemon, pod.mirror);
    old.node == new.node
        && old.claims.is_none()
        && new.claims.is_none()
        && flags(old) == flags(new)
        && old.owner == new.owner
        && (Arc::ptr_eq(&old.shape, &new.shape) || old.shape == new.shape)
        && old.labels == new.labels
}
