//! What must hold after every change, whatever went wrong.
//!
//! Owns collecting what was broken; the invariants themselves are the checker's.

use jiff::Timestamp;
use sandbox::store::Change;

/// Broken invariants that are told one by one.
const MOST_LISTED: usize = 100;

/// The invariants of one run so far.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) violations: u64,
    pub(crate) listed: Vec<String>,
}

impl Checks {
    pub(crate) fn new(_policies: &model::Policies) -> Self {
        Self::default()
    }

    pub(super) fn observe(&mut self, _now: Timestamp, _change: &Change) {}

    pub(super) fn round(&mut self, _round: &controller::Round<'_>) {}

    /// Notes a broken invariant.
    pub(crate) fn broken(&mut self, now: Timestamp, what: &str) {
        self.violations += 1;
        if self.listed.len() < MOST_LISTED {
            self.listed.push(format!("{now}: {what}"));
        }
    }
}
