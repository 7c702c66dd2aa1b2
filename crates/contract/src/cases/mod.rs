//! The cases by theme.
//!
//! Owns the form in which they are listed. Each file owns one theme.

mod binding;
mod controllers;
mod creating;
mod custom;
mod deleting;
mod evicting;
mod fixtures;
mod following;
mod ours;
mod patching;
mod reading;
mod replacing;
mod scaling;
mod serving;
mod watching;

use crate::suite::Case;

/// Lists cases: the name of the function that is the case, and the kinds of calls whose behaviour it asserts.
macro_rules! cases {
    ($needs:ident, $($name:ident: [$($covers:literal),* $(,)?];)*) => {
        pub(super) fn cases() -> Vec<crate::suite::Case> {
            vec![$(crate::suite::Case {
                name: stringify!($name),
                needs: crate::suite::Needs::$needs,
                covers: &[$($covers),*],
                run: |world| Box::pin($name(world)),
            }),*]
        }
    };
}
pub(crate) use cases;

pub(crate) fn all() -> Vec<Case> {
    [
        reading::cases(),
        watching::cases(),
        creating::cases(),
        replacing::cases(),
        patching::cases(),
        deleting::cases(),
        evicting::cases(),
        binding::cases(),
        custom::cases(),
        ours::cases(),
        following::cases(),
        serving::cases(),
        controllers::cases(),
        scaling::cases(),
    ]
    .concat()
}
