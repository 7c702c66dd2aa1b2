//! Texts that many objects have in common, kept once: namespaces, nodes, owners, containers.
//!
//! Bounded by what is in use: what nobody holds any more is let go as new texts come.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Texts before the first look for those that nobody holds.
const FIRST_LOOK: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    kept: BTreeSet<Arc<str>>,
    next_look: usize,
}

impl Shared {
    /// The one copy of a text.
    pub(crate) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.kept.get(text) {
            return known.clone();
        }
        if self.kept.len() >= self.next_look.max(FIRST_LOOK) {
            self.kept.retain(|text| Arc::strong_count(text) > 1);
            self.next_look = self.kept.len() * 2;
        }
        let new: Arc<str> = Arc::from(text);
        self.kept.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_only_while_it_is_held() {
        let mut shared = Shared::default();
        let held = shared.text("node");
        assert!(Arc::ptr_eq(&held, &shared.text("node")));
        for number in 0..10 * FIRST_LOOK {
            shared.text(&number.to_string());
        }
        assert!(shared.kept.len() <= FIRST_LOOK + 1, "{}", shared.kept.len());
        assert!(Arc::ptr_eq(&held, &shared.text("node")));
    }
}
