//! Dense vectors of resources, of one width for a whole solve.
//!
//! Owns comparing and adding them. What the places stand for, and their units, is the caller's: requests are rounded
//! up and room is rounded down before they come here.

/// Amounts of each resource in the problem's order; places beyond the problem's resources are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amounts<const D: usize>(pub(super) [u64; D]);

impl<const D: usize> Amounts<D> {
    pub(super) const ZERO: Self = Self([0; D]);

    /// Takes over a slice that is not longer than `D`.
    pub(super) fn of(slice: &[u64]) -> Self {
        let mut out = Self::ZERO;
        for (to, from) in out.0.iter_mut().zip(slice) {
            *to = *from;
        }
        out
    }

    #[inline]
    pub(super) fn fits(&self, room: &Self) -> bool {
        let mut fits = true;
        for at in 0..D {
            fits &= self.0[at] <= room.0[at];
        }
        fits
    }

    #[inline]
    #[must_use]
    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut out = *self;
        for at in 0..D {
            out.0[at] = out.0[at].saturating_add(other.0[at]);
        }
        out
    }

    /// What is left after `other` was taken, at least zero.
    #[inline]
    #[must_use]
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut out = *self;
        for at in 0..D {
            out.0[at] = out.0[at].saturating_sub(other.0[at]);
        }
        out
    }

    #[must_use]
    pub(super) fn times(&self, by: u32) -> Self {
        let mut out = *self;
        for at in 0..D {
            out.0[at] = out.0[at].saturating_mul(u64::from(by));
        }
        out
    }

    /// How often these amounts fit into `room`.
    #[inline]
    pub(super) fn times_in(&self, room: &Self) -> u32 {
        let mut most = u64::from(u32::MAX);
        for at in 0..D {
            most = most.min(room.0[at].checked_div(self.0[at]).unwrap_or(u64::MAX));
        }
        most as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stays_within_its_range() {
        let (one, room) = (Amounts::<4>::of(&[3, 1]), Amounts::<4>::of(&[10, 2, 5]));
        assert!(one.fits(&room) && !room.fits(&one));
        assert_eq!(one.times_in(&room), 2);
        assert_eq!(Amounts::<4>::ZERO.times_in(&room), u32::MAX);
        assert_eq!(room.minus(&one.times(4)).0, [0, 0, 5, 0]);
        assert_eq!(Amounts::<4>::of(&[u64::MAX]).plus(&one).0[0], u64::MAX);
    }
}
