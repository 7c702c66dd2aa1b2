//! Namespaces into the model: their labels, which pods' affinity terms may ask for.

use crate::selector::labels;
use crate::slim;
use model::Labels;
use std::sync::Arc;

/// A namespace's name and labels.
pub fn namespace(namespace: &slim::Namespace) -> (Arc<str>, Labels) {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    (Arc::from(name), labels(namespace.metadata.labels.as_ref()))
}
