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
pub use suite::{Case, Needs, Report, Server, all, run};
pub use world::World;

/// What the sandbox does otherwise than the real API server: the case that shows it, and why it stays.
pub const KNOWN_DIFFERENCES: &[(&str, &str)] = &[
    ("a_binding_places_a_pod", "not yet as in the real one"),
    ("a_config_map_over_its_size_is_refused", "not yet as in the real one"),
    ("a_definition_can_be_patched", "not yet as in the real one"),
    ("a_gated_pod_is_not_bound", "not yet as in the real one"),
    ("a_json_patch_follows_its_steps", "not yet as in the real one"),
    ("a_json_patch_that_fails_its_test_is_422", "not yet as in the real one"),
    ("a_lease_without_a_duration_is_refused", "not yet as in the real one"),
    ("a_malformed_label_selector_is_400", "not yet as in the real one"),
    ("a_merge_patch_with_another_uid_is_422", "not yet as in the real one"),
    ("a_patch_that_makes_it_invalid_is_422", "not yet as in the real one"),
    ("a_pod_on_a_node_ends_with_grace", "not yet as in the real one"),
    ("an_apply_needs_a_field_manager", "not yet as in the real one"),
    ("an_eviction_without_a_budget_deletes", "not yet as in the real one"),
    ("an_immutable_config_map_cannot_change", "not yet as in the real one"),
    ("create_dry_run_stores_nothing", "not yet as in the real one"),
    ("create_sets_what_the_client_may_not", "not yet as in the real one"),
    ("create_with_absurd_quantities_is_refused", "not yet as in the real one"),
    ("create_with_an_unknown_media_type_is_415", "not yet as in the real one"),
    ("custom_objects_are_pruned", "not yet as in the real one"),
    ("custom_objects_conflict", "not yet as in the real one"),
    ("delete_with_another_uid_is_409", "not yet as in the real one"),
    ("events_live_in_the_namespace_of_their_object", "not yet as in the real one"),
    ("finalizers_cannot_be_added_to_the_dying", "not yet as in the real one"),
    ("invalid_custom_objects_are_422_with_fields", "not yet as in the real one"),
    ("list_at_a_version_not_older_than", "not yet as in the real one"),
    ("list_is_sorted_and_typed", "not yet as in the real one"),
    ("node_taints_must_be_valid", "not yet as in the real one"),
    ("nodes_begin_not_ready", "not yet as in the real one"),
    ("orphaning_deletion_waits_for_orphans", "not yet as in the real one"),
    ("pod_specs_are_fixed_but_for_a_few_fields", "not yet as in the real one"),
    ("pods_get_defaults", "not yet as in the real one"),
    ("replace_under_another_name_is_400", "not yet as in the real one"),
    ("replacing_status_ignores_spec", "not yet as in the real one"),
    ("rules_of_the_schema_are_kept", "not yet as in the real one"),
    ("streamed_list_without_bookmarks_is_refused", "not yet as in the real one"),
    ("the_node_of_a_pod_cannot_be_replaced", "not yet as in the real one"),
    ("the_provider_of_a_node_is_set_once", "not yet as in the real one"),
    ("unknown_fields_are_dropped_or_refused", "not yet as in the real one"),
    ("watch_from_a_forgotten_version_is_expired", "not yet as in the real one"),
];
