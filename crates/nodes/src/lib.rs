//! How many nodes of what: the pure core of Tideline.
//!
//! [`decide`] is one readable function of named steps; each step is a file named for what it decides. It owns every
//! choice about nodes: what demand there is, which pool grows, which node may go, how far a removal has come, which
//! pool is not to be asked again for a while. It leaves to others which pod fits where (`packing`), the making of
//! observations (`intake`, `clouds`) and the carrying out of steps (the controller). No I/O, no clock, no logging:
//! equal input gives equal output, byte for byte.

mod ahead;
mod allowances;
mod alternatives;
mod appraisal;
mod assurance;
mod assured;
mod back_off;
mod balance;
mod binding;
mod budgets;
mod ceiling;
mod claims;
mod cluster_minimum;
mod consultation;
mod decide;
mod deliveries;
mod demand;
mod displaced;
mod disruption;
mod drain_rules;
mod drains;
mod emptying;
mod evictions;
mod exchanges;
mod fleet;
mod freshness;
mod growth;
mod headroom;
mod idle;
mod launches;
mod leftovers;
mod market;
mod outcomes;
mod planner;
mod planted;
mod pool_policy;
mod rehearsal;
mod requests;
mod round;
mod rules;
mod settled;
mod soft_taints;
mod spreading;
mod supply;
mod unready_gate;
mod utilization;
mod waits;
mod worth;

pub use allowances::allowed as disruptions_allowed;
pub use decide::decide;
#[cfg(feature = "planted-bugs")]
pub use decide::decide_with;
pub use planner::Planner;
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
