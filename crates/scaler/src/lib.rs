//! The shell of workloads: IntelligentHorizontalPodAutoscaler, HorizontalPortrait and ReplicaProfile made true.
//!
//! Owns the watches, the queue of what is to be looked at again and when, and every write: profiles, pods, scales,
//! status, events. What is decided, `workloads` decides; metrics come from `metrics`. Everything that must survive a
//! restart stands in the objects themselves.

mod cache;
mod conditions;
mod config;
mod context;
mod error;
mod exit;
mod figures;
mod ihpa;
mod pictures;
mod portrait;
mod prediction;
mod profile;
mod queue;
mod run;
mod shared;
mod slim;
mod target;
mod triggers;
mod watch;

pub use config::{AlgorithmJobs, Config};
pub use error::ScalerError;
pub use exit::{Handed, hand_back};
pub use figures::{Figures, all_metrics};
pub use pictures::{AutoscalerView, MomentView, Pictures, PointView, PortraitView};
pub use prediction::{Once, OnceError};
pub use run::Scaler;
