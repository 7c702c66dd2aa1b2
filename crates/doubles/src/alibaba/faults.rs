//! What goes wrong on the way, as a test plants it.

use std::collections::VecDeque;

/// One thing that goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused for asking too often.
    Throttle,
    /// The service is ill.
    ServerError,
    /// No answer ever comes, and nothing is done.
    Hang,
    /// It is done, and the answer does not arrive.
    LoseAnswer,
}

/// Faults still to come, each for the next call of its action.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    planted: VecDeque<(String, Fault)>,
}

impl Faults {
    /// The next call of this action (`*`: of any) goes wrong so.
    pub fn plant(&mut self, action: &str, fault: Fault) {
        self.planted.push_back((action.to_owned(), fault));
    }

    pub fn is_empty(&self) -> bool {
        self.planted.is_empty()
    }

    /// How many have not happened yet.
    pub fn left(&self) -> usize {
        self.planted.len()
    }

    /// Everything goes well again.
    pub fn drop_all(&mut self) {
        self.planted.clear();
    }

    pub(crate) fn take(&mut self, action: &str) -> Option<Fault> {
        let at = self.planted.iter().position(|(name, _)| name == action || name == "*")?;
        self.planted.remove(at).map(|(_, fault)| fault)
    }
}
