//! Planted bugs: proof that the invariants find mistakes.
//!
//! Owns the list of mistakes as functions that decide in the planner's place. Only with the feature `planted-bugs`.

use controller::Decide;
use jiff::Timestamp;
use model::{Cluster, Decision, Ledger, Policies};
use nodes::{PlantedBug, decide_with};

macro_rules! planted {
    ($($function:ident = $bug:ident,)*) => {
        $(
            fn $function(cluster: &Cluster, policies: &Policies, ledger: &Ledger, now: Timestamp) -> Decision {
                decide_with(cluster, policies, ledger, now, Some(PlantedBug::$bug))
            }
        )*

        /// Every planted bug, and the function that has it.
        pub const PLANTED: [(PlantedBug, Decide); 10] = [$((PlantedBug::$bug, $function),)*];
    };
}

planted! {
    double_buy = DoubleBuy,
    lost_taint = LostTaint,
    ignored_pdb = IgnoredPdb,
    under_minimum = UnderMinimum,
    over_maximum = OverMaximum,
    ignored_do_not_disrupt = IgnoredDoNotDisrupt,
    forgotten_intent = ForgottenIntent,
    evict_without_marking = EvictWithoutMarking,
    no_place_for_pods = NoPlaceForPods,
    buy_without_demand = BuyWithoutDemand,
}
