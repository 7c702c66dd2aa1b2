//! Reads Kubernetes objects into the model.
//!
//! Owns the slim object types (only the fields that are used are decoded), quantities and durations as Kubernetes
//! and Go write them, the conversions into the model's nouns, and reading objects from files. It decides nothing.
//! An object that cannot be understood is an error that names the object, the field and the fix; the caller
//! leaves that object out and says so.

mod capacity;
mod catalogue;
mod devices;
mod disruption;
mod duration;
mod error;
pub mod files;
mod intern;
mod namespace;
mod node;
mod node_pool;
mod node_rules;
mod outlook;
mod placement;
mod pod;
mod provisioning;
pub mod quantity;
mod requests;
mod selector;
mod simulated;
pub mod slim;
pub mod stream;
mod volumes;
mod workload;

pub use capacity::{Buffer, BufferOf, PodKind, buffer, buffer_key, pod_kind};
pub use catalogue::catalogue;
pub use devices::{device_claim, device_class, device_slice, device_template};
pub use duration::go_duration;
pub use error::IntakeError;
pub use intern::Interner;
pub use namespace::namespace;
pub use node::{node, taint};
pub use node_pool::{NodePool, node_pool};
pub use node_rules::rule_set;
pub use outlook::{outlook_key, portraits_outlook, scaled, schedule_outlook};
pub use pod::{pod, shape_of_template};
pub use provisioning::{Request, request};
pub use quantity::{micro_usd, resources};
pub use selector::label_selector;
pub use simulated::{simulated_machine, simulated_pool};
pub use volumes::{
    attachment, csi_driver, node_drivers, persistent_volume, storage_capacity, storage_change, storage_class,
    volume_claim,
};
pub use workload::{daemon_set, job, pdb, replica_set, replication_controller, stateful_set};
