//! Structural schemas of custom resources.
//!
//! Owns defaulting, pruning and validation by schema. Leaves registering a resource to `rules`.

/// The schema of a custom resource.
#[derive(Clone, Debug)]
pub struct CustomSchema {}

impl CustomSchema {
    /// The schema as OpenAPI shows it.
    pub(crate) fn open_api(&self) -> serde_json::Value {
        serde_json::json!({"type": "object"})
    }

    /// The keys by which the list at `path` (`.spec.items`) merges; none when it is one value.
    pub(crate) fn list_keys(&self, _path: &str) -> Option<Vec<String>> {
        None
    }
}
