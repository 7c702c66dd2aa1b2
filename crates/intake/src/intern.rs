//! Sharing of what many pods have in common: shapes, label texts, owners.
//!
//! A Deployment's thousand pods differ in their names only; kept apart they would cost several kilobytes each.

use model::{Change, Labels, Node, Pod, PodShape};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Entries at which unused ones are first dropped.
const FIRST_SWEEP: usize = 4096;

/// Everything that was shared so far, what nobody else holds dropped now and then.
#[derive(Debug)]
pub struct Interner {
    shapes: BTreeSet<Arc<PodShape>>,
    texts: BTreeSet<Arc<str>>,
    sweep_shapes_at: usize,
    sweep_texts_at: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Self {
            shapes: BTreeSet::new(),
            texts: BTreeSet::new(),
            sweep_shapes_at: FIRST_SWEEP,
            sweep_texts_at: FIRST_SWEEP,
        }
    }
}

impl Interner {
    /// The same change with its parts shared with what was seen before.
    pub fn shared(&mut self, mut change: Change) -> Change {
        match &mut change {
            Change::Pod(key, Some(pod)) => {
                if let Some(pod) = Arc::get_mut(pod) {
                    self.share_pod(pod);
                    *key = pod.key.clone();
                }
            }
            Change::Node(_, Some(node)) => {
                if let Some(node) = Arc::get_mut(node) {
                    self.share_node(node);
                }
            }
            _ => {}
        }
        self.sweep();
        change
    }

    fn share_pod(&mut self, pod: &mut Pod) {
        pod.shape = self.shape(&pod.shape);
        pod.key.namespace = self.text(&pod.key.namespace);
        self.share_labels(&mut pod.labels);
        if let Some(owner) = &mut pod.owner {
            owner.kind = self.text(&owner.kind);
            owner.name = self.text(&owner.name);
        }
    }

    fn share_node(&mut self, node: &mut Node) {
        self.share_labels(&mut node.labels);
    }

    fn share_labels(&mut self, labels: &mut Labels) {
        *labels = std::mem::take(labels)
            .into_iter()
            .map(|(key, value)| (self.text(&key), self.text(&value)))
            .collect();
    }

    fn shape(&mut self, shape: &Arc<PodShape>) -> Arc<PodShape> {
        if let Some(known) = self.shapes.get(shape) {
            return known.clone();
        }
        self.shapes.insert(shape.clone());
        shape.clone()
    }

    fn text(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        self.texts.insert(text.clone());
        text.clone()
    }

    /// Drops what nothing else holds, each time the tables have doubled: the cost is spread over the inserts.
    fn sweep(&mut self) {
        if self.shapes.len() >= self.sweep_shapes_at {
            self.shapes.retain(|shape| Arc::strong_count(shape) > 1);
            self.sweep_shapes_at = (self.shapes.len() * 2).max(FIRST_SWEEP);
        }
        if self.texts.len() >= self.sweep_texts_at {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_texts_at = (self.texts.len() * 2).max(FIRST_SWEEP);
        }
    }
}
