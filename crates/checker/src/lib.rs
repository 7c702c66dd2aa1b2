//! An independent check of plans, and of what came of them.
//!
//! Owns the invariants of `ARCHITECTURE.md` as checks over one plan ([`check_plan`]) and over time ([`Watcher`]). It
//! is written without any code of the planner or of its packing: where it needs to know whether a pod fits, it asks in
//! its own, simpler way, and only ever says "wrong" where there is a witness. A sound plan is never refused.

mod ahead;
mod arrangement;
mod drains;
mod fit;
mod growth;
mod placement;
mod plan;
mod removals;
mod rules;
mod time;
mod violation;
mod volumes;

pub use arrangement::check_arrangement;
pub use placement::{Misplaced, Site, check_placement};
pub use plan::check_plan;
pub use time::Watcher;
pub use violation::{Rule, Violation};
