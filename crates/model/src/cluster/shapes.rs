//! The shapes in use that name labels: what a round needs to know before it looks at any pod.
//!
//! Owns the counting. Most pods have shapes that name nothing; they are not in it.

use crate::PodShape;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shapes with selectors or terms, by address, with how many pods share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes(BTreeMap<usize, (Arc<PodShape>, u32)>);

/// It follows from the pods, and addresses differ from cluster to cluster.
impl PartialEq for Shapes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Shapes {}

impl Shapes {
    /// Whether it is the first of its kind.
    pub(super) fn add(&mut self, shape: &Arc<PodShape>) -> bool {
        if !shape.names_labels() {
            return false;
        }
        let known = self.0.entry(Arc::as_ptr(shape) as usize);
        let (_, count) = known.or_insert_with(|| (Arc::clone(shape), 0));
        *count += 1;
        *count == 1
    }

    /// Whether it was the last of its kind.
    pub(super) fn remove(&mut self, shape: &Arc<PodShape>) -> bool {
        let address = Arc::as_ptr(shape) as usize;
        let Some((_, count)) = self.0.get_mut(&address) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.0.remove(&address);
        }
        last
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Each of them once, in no order that means anything.
    pub(super) fn all(&self) -> impl Iterator<Item = &PodShape> {
        self.0.values().map(|(shape, _)| &**shape)
    }
}
