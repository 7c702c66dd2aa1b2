//! Which pod fits where: the scheduler's filters, free room, and first-fit packing.
//!
//! Owns the answer to "does this pod fit on that node, and if not, why" ([`FILTERS`], the same table for the planner
//! and for the sandbox's scheduler), a snapshot of free room that can be tried on and taken back ([`Room`]), and the
//! choice of new machines for what has no room ([`Room::question`], [`solve`]). It knows nothing of pools' policies, of
//! time, or of why a pod is to be placed.

mod consolidation;
mod filters;
mod intern;
mod message;
mod room;
pub mod solve;
mod template;
mod view;
mod vocabulary;
mod volumes;
mod wishes;

pub use consolidation::{Consolidation, Declined, Exchange, Hurdle, Leaver, Replacement, Terms};
pub use filters::{Around, Ask, FILTERS, Filter, first_lasting_rejection, first_rejection, rejections};
pub use message::{FailedScheduling, named_nodes};
pub use room::{ClassIx, Distance, Make, Mark, Market, Placed, Question, Room, SpotIx};
pub use template::{Group, Template, size_units};
pub use view::NodeView;
pub use vocabulary::Vocabulary;
pub use volumes::{ClusterVolumes, NodeVolumes};
pub use wishes::{Wish, wishes};
