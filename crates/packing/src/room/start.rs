//! The state that a room is used from again and again: its nodes and what is on them, before anything is placed.
//!
//! Owns the proof that taking back all that was placed brings exactly that state back. Whoever answers from a room that
//! was used before answers as from a new one; where that is not certain, the room is not used again.

use super::{Mark, Room};

/// Shapes met under new addresses are remembered by address; this many more are too many.
const MOST_NEW_ADDRESSES: usize = 10_000;

/// How much of everything the room had numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    classes: [usize; 5],
    sites: [usize; 6],
    topology: [usize; 5],
}

#[derive(Clone, Debug)]
pub(super) struct Start {
    mark: Mark,
    spots: usize,
    addresses: usize,
    sizes: Sizes,
    /// Something was done since that is not undone exactly.
    left: bool,
}

impl Room {
    /// Notes the present state as the one to come back to.
    pub fn begin_here(&mut self) {
        let (mark, spots, sizes) = (self.mark(), self.len(), self.sizes());
        let addresses = self.classes.addresses();
        self.start = Some(Start { mark, spots, addresses, sizes, left: false });
    }

    /// Takes back everything since [`Room::begin_here`]; false where the room is not certain to be as it was then.
    #[must_use = "a room that is not as it was must not be used as if it were"]
    pub fn start_again(&mut self) -> bool {
        let Some(start) = self.start.clone().filter(|start| !start.left) else { return false };
        self.rollback(start.mark);
        let few = self.classes.addresses() <= start.addresses + MOST_NEW_ADDRESSES;
        few && self.len() == start.spots && self.sizes() == start.sizes
    }

    /// Something was done to a spot that a rollback does not undo, or not in the same order.
    pub(super) fn note_lasting_change(&mut self, spot: usize) {
        if let Some(start) = &mut self.start {
            start.left |= spot < start.spots;
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes { classes: self.classes.sizes(), sites: self.sites.sizes(), topology: self.topology.sizes() }
    }
}
