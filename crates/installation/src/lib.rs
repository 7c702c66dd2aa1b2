//! What installing Tideline takes: permissions, manifests, the chart, and the checks of a cluster before and after.
//!
//! Owns what is applied to a cluster so that the controller can run there, all of it made from one table of rights.
//! What the controller then does is not its business; definitions (CRDs) are `api`'s.

pub mod doctor;
mod manifests;
pub mod monitoring;
mod permissions;

pub use manifests::{Manifests, chart_roles, rbac};
pub use permissions::{Feature, PERMISSIONS, Permission, Place, Scope};
