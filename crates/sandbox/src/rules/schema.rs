//! Structural schemas of custom resources.
//!
//! Owns defaulting, pruning and validation by schema. Leaves registering a resource to `rules`.

/// The schema of a custom resource.
#[derive(Clone, Debug)]
pub struct CustomSchema {}
