//! Which kinds of calls were made: what the contract suite must cover.
//!
//! Owns the counts. Leaves comparing them with the suite to its test.

use std::collections::BTreeMap;

/// The kind of a call: everything but the names in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct CallShape {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// `pods`, `deployments.apps`.
    pub resource: String,
    pub subresource: String,
    /// The media type of a patch.
    pub patch_type: String,
    /// Whether labels were selected by.
    pub label_selector: bool,
    /// Fields that were selected by, comma-separated, without their values.
    pub field_selector: String,
    /// First token of the user agent.
    pub actor: String,
}

/// How often each kind of call was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census(BTreeMap<CallShape, u64>);

/// Kinds of calls that are told apart; a client with random user agents cannot grow the map without end.
const MOST_SHAPES: usize = 4096;

impl Census {
    pub(crate) fn count(&mut self, shape: CallShape) {
        if self.0.len() < MOST_SHAPES || self.0.contains_key(&shape) {
            *self.0.entry(shape).or_insert(0) += 1;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&CallShape, u64)> {
        self.0.iter().map(|(shape, count)| (shape, *count))
    }
}
