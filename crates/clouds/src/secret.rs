//! Values that must never be printed.
//!
//! Owns the one type for them: it has no `Debug`, no `Display` and no serialisation, so that no log line, error or
//! journal can hold one by accident. Whoever needs the text asks for it by a name that stands out in a review.

use std::sync::Arc;

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    /// The text itself: for signatures and requests only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}
