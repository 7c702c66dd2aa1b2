//! How many replicas a workload should have, and which of its pods are online, cut off, on standby, or go.
//!
//! Owns the decisions: what portraits say now and when that changes, which of them counts, bounds, stabilisation,
//! change in steps, the algorithm of the Kubernetes HPA, and the state of each pod. Everything is a pure function of
//! what is passed in, the time included; reading objects and making decisions true is the shell's business.

mod autoscaler;
mod behavior;
mod gray;
mod outlook;
mod portrait;
mod profile;
pub mod reactive;
mod stability;
mod trend;

pub use autoscaler::{Autoscaler, Decision, Direction, Limit, Problem, State, clamp, decide};
pub use behavior::{Behavior, History, Policy, PolicyAmount, Rules, Select};
pub use gray::{Counts, GrayState, Session, Step, Strategies, Strategy, step};
pub use outlook::{Expected, NextChange};
pub use portrait::{
    Content, Generated, Point, Portrait, Provider, Reading, Rule, Source, Value, choose, read,
};
pub use profile::{
    AllowedDirection, Hold, Ordering, Phase, Pod, PodState, Population, ProfilePlan, ProfileSpec, Touch, plan,
};
pub use stability::{Held, Relation, StabilityAction};
pub use trend::{Trend, trend};
