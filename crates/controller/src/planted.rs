//! Bugs of the shell that can be switched on to prove that the simulation's checks find them.
//!
//! Only with the feature `planted-bugs` does a bug exist at all; in a normal build every question answers no and the
//! compiler drops what hangs on it. The planner's own are in `nodes`.

use model::Step;

/// A named mistake of acting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public with the feature only"))]
pub enum PlantedBug {
    /// Evicts by name alone.
    EvictWithoutUid,
    /// Acts before the ledger is stored.
    ActBeforeDurable,
    /// Gives a machine back by making its pool smaller, whichever machine that takes.
    #[cfg_attr(not(feature = "planted-bugs"), expect(dead_code, reason = "asked for with the feature only"))]
    LowerWithoutNaming,
    /// Asks for so many machines more when an order is tried again, instead of for the same size.
    RelativeTarget,
    /// Says that the marks of a failed drain are off, and leaves them.
    ForgottenUndo,
    /// Writes its ledger over one that another leader has written.
    IgnoredEpoch,
}

#[cfg(feature = "planted-bugs")]
impl PlantedBug {
    pub const ALL: [Self; 6] = [
        Self::EvictWithoutUid,
        Self::ActBeforeDurable,
        Self::LowerWithoutNaming,
        Self::RelativeTarget,
        Self::ForgottenUndo,
        Self::IgnoredEpoch,
    ];
}

/// Which bug this controller has, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<PlantedBug>,
}

impl Planted {
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn with(bug: PlantedBug) -> Self {
        Self { bug: Some(bug) }
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

    /// The step as the bug would have it carried out, at its so-manieth attempt.
    pub(crate) fn distort(self, step: &Step, attempt: u32) -> Option<Step> {
        match step {
            Step::Buy(order) if attempt > 0 && self.has(PlantedBug::RelativeTarget) => {
                let mut order = order.clone();
                order.to += order.to.saturating_sub(order.from);
                Some(Step::Buy(order))
            }
            _ => None,
        }
    }
}

/// Makes a pool smaller by one and names nobody.
#[cfg(feature = "planted-bugs")]
pub(crate) async fn shrink(client: &kube::Client, pool: &model::PoolId) -> Result<(), kube::Error> {
    use api::simulated::SimulatedPool;
    use kube::api::{Api, PostParams};
    let pools: Api<SimulatedPool> = Api::all(client.clone());
    let name = pool.as_str().rsplit('/').next().unwrap_or_default();
    let mut pool = pools.get(name).await?;
    pool.spec.replicas -= 1;
    pools.replace(name, &PostParams::default(), &pool).await.map(drop)
}
