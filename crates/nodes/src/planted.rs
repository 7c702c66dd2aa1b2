//! Bugs that can be switched on to prove that the checks find them.
//!
//! Only with the feature `planted-bugs` does a bug exist at all; in a normal build every question answers no and the
//! compiler drops what hangs on it.

/// A named mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public with the feature only"))]
pub enum PlantedBug {
    /// Buys without counting machines on their way.
    DoubleBuy,
    /// Forgets a removal whose node is marked, instead of finishing it or undoing its taint.
    LostTaint,
    /// Evicts whatever the disruption budgets say.
    IgnoredPdb,
    /// Removes nodes of a pool that is at its minimum.
    UnderMinimum,
    /// Grows a pool over its maximum.
    OverMaximum,
    /// Takes pods that forbid eviction for movable.
    IgnoredDoNotDisrupt,
    /// Plans a purchase without writing its intent into the ledger.
    ForgottenIntent,
    /// Evicts from a node that was not marked.
    EvictWithoutMarking,
    /// Removes a node although its pods fit nowhere else.
    NoPlaceForPods,
    /// Buys a node that nobody asked for.
    BuyWithoutDemand,
}

#[cfg(feature = "planted-bugs")]
impl PlantedBug {
    pub const ALL: [Self; 10] = [
        Self::DoubleBuy,
        Self::LostTaint,
        Self::IgnoredPdb,
        Self::UnderMinimum,
        Self::OverMaximum,
        Self::IgnoredDoNotDisrupt,
        Self::ForgottenIntent,
        Self::EvictWithoutMarking,
        Self::NoPlaceForPods,
        Self::BuyWithoutDemand,
    ];

    /// The bug of a name such as `double-buy`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::DoubleBuy => "double-buy",
            Self::LostTaint => "lost-taint",
            Self::IgnoredPdb => "ignored-pdb",
            Self::UnderMinimum => "under-minimum",
            Self::OverMaximum => "over-maximum",
            Self::IgnoredDoNotDisrupt => "ignored-do-not-disrupt",
            Self::ForgottenIntent => "forgotten-intent",
            Self::EvictWithoutMarking => "evict-without-marking",
            Self::NoPlaceForPods => "no-place-for-pods",
            Self::BuyWithoutDemand => "buy-without-demand",
        }
    }
}

/// Which bug this round has, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<PlantedBug>,
}

impl Planted {
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn with(bug: Option<PlantedBug>) -> Self {
        Self { bug }
    }

    #[cfg(feature = "planted-bugs")]
    pub(crate) fn has(self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "the same call with and without the feature")]
    pub(crate) fn has(self, _bug: PlantedBug) -> bool {
        false
    }
}
