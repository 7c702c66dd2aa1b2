//! The behaviour of the Kubernetes API that Tideline relies on, as one suite of cases for any API server.
//!
//! Owns the cases, the kinds of calls they cover and the runner. Leaves starting API servers to its tests: they run
//! the suite against the sandbox and, where asked for, against the real kube-apiserver.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "this crate is used by tests only, and a case fails by a failed assertion"
)]

mod answer;
mod call;
mod cases;
mod client;
mod recorder;
mod stream;
mod suite;
mod world;

pub use answer::Answer;
pub use call::CallKind;
pub use client::client_of;
pub use recorder::{Recorder, Recording};
pub use stream::WatchStream;
pub use suite::{Case, Needs, Report, Server, all, run, run_named};
pub use world::World;

/// What the sandbox does otherwise than the real API server: the case that shows it, and why it stays.
pub const KNOWN_DIFFERENCES: &[(&str, &str)] = &[
    ("items_of_lists_carry_no_kind", "items are sent as they are kept, with their kind; clients take both"),
    ("unknown_fields_are_dropped", "there are no schemas of built-in kinds: what is sent is kept"),
    ("containers_get_defaults_of_running", "fields that matter to running containers only are not filled in"),
    (
        "jobs_orphan_their_pods_unless_told_otherwise",
        "a deletion that does not say what becomes of dependants takes them along, for Jobs as for other kinds",
    ),
    ("new_defaults_show_in_old_objects", "defaults of a changed definition come with the next write"),
];
