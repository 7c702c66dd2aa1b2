//! What the operator asked for: limits, thresholds and waits, with Cluster Autoscaler's defaults.

mod ahead;
mod draining;
mod growing;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use ahead::Ahead;
pub use draining::{DrainGroup, Draining, NodeTaints};
pub use growing::{Bounds, Ceilings, Choice, Expander, MinValuesPolicy, PoolPolicy, UnreadyGate};

/// Whose defaults and drain rules a pool follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    #[default]
    ClusterAutoscaler,
    NodePolicy,
    Karpenter,
    Alert,
}

/// Settings of one pool that override the cluster's; `None` keeps the cluster's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilization_threshold_percent: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_utilization_threshold_percent: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_daemonsets_utilization: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unneeded_time: Option<SignedDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unready_time: Option<SignedDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_provision_time: Option<SignedDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_startup_time: Option<SignedDuration>,
    /// A node that a scale-up made is not removed before it is this old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cool_down: Option<SignedDuration>,
}

impl PoolOptions {
    /// These settings where they are given, the others' where not.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            utilization_threshold_percent: self
                .utilization_threshold_percent
                .or(other.utilization_threshold_percent),
            gpu_utilization_threshold_percent: self
                .gpu_utilization_threshold_percent
                .or(other.gpu_utilization_threshold_percent),
            ignore_daemonsets_utilization: self
                .ignore_daemonsets_utilization
                .or(other.ignore_daemonsets_utilization),
            unneeded_time: self.unneeded_time.or(other.unneeded_time),
            unready_time: self.unready_time.or(other.unready_time),
            max_provision_time: self.max_provision_time.or(other.max_provision_time),
            max_startup_time: self.max_startup_time.or(other.max_startup_time),
            cool_down: self.cool_down.or(other.cool_down),
        }
    }
}

/// The cluster-wide settings. Every default is that of Cluster Autoscaler (`--help` names the flag of each).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Policies {
    /// Everything is planned, explained and recorded, and nothing is done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Pools, by name or id, for which that holds while the others are acted on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run_pools: Vec<String>,
    /// Whose rules hold for group pools: `cluster-autoscaler`, or `node-policy` for those of a cluster-wide policy,
    /// whose defaults [`Policies::of`] gives.
    pub profile: Profile,
    /// Off: only rules buy, not pods that wait.
    pub scale_up_enabled: bool,
    pub scale_down_enabled: bool,
    /// Off: nothing is bought while no node is ready.
    pub scale_up_from_zero: bool,
    /// Whether pools under their minimum are raised to it.
    pub enforce_minimum: bool,
    pub ceilings: Ceilings,
    pub choice: Choice,
    pub draining: Draining,
    pub taints: NodeTaints,
    pub unready_gate: UnreadyGate,
    /// What goes before the pools' own settings, by the pool's name or id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<Arc<str>, PoolPolicy>,
    /// Ceiling on all nodes of the cluster, ours or not, those on their way included. 0 = none.
    pub max_nodes_total: u32,
    /// Nodes that one round may add to one pool.
    pub max_nodes_per_scale_up: u32,
    /// A pod must be older than this before it may cause a scale-up; its annotation may lengthen the wait.
    pub new_pod_scale_up_delay: SignedDuration,
    /// Pods of lower priority neither cause a scale-up nor hold a node.
    pub expendable_pods_priority_cutoff: i32,
    /// A node whose larger share (cpu or memory requests of allocatable) is at or under this is under-used.
    pub utilization_threshold_percent: u32,
    /// The same of a node with GPUs, of which only those are looked at.
    pub gpu_utilization_threshold_percent: u32,
    /// Whether nodes that are not ready are removed at all.
    pub scale_down_unready_enabled: bool,
    pub unneeded_time: SignedDuration,
    pub unready_time: SignedDuration,
    pub delay_after_add: SignedDuration,
    pub delay_after_delete: SignedDuration,
    pub delay_after_failure: SignedDuration,
    /// Whether the three waits hold for the pool where it happened, and not for all.
    pub delay_type_local: bool,
    /// How long a machine may take to become a node.
    pub max_provision_time: SignedDuration,
    /// How long a node may take to become ready.
    pub max_startup_time: SignedDuration,
    pub initial_back_off: SignedDuration,
    pub max_back_off: SignedDuration,
    pub back_off_reset: SignedDuration,
    /// Removals in flight at once, and those of them that move pods.
    pub max_scale_down_parallelism: u32,
    pub max_drain_parallelism: u32,
    /// Between tainting a node and evicting from it, so that the scheduler has seen the taint.
    pub delay_after_taint: SignedDuration,
    /// Upper bound on the grace period that an evicted pod is given, and on waiting for it.
    pub max_graceful_termination: SignedDuration,
    /// How long evictions of one drain are retried before it is undone.
    pub max_pod_eviction_time: SignedDuration,
    pub skip_nodes_with_system_pods: bool,
    pub skip_nodes_with_local_storage: bool,
    pub skip_nodes_with_custom_controller_pods: bool,
    /// kube-system pods without a budget stop blocking at this age. 0 = they always block.
    pub blocking_system_pod_timeout: SignedDuration,
    pub min_replica_count: u32,
    pub cordon_node_before_terminating: bool,
    pub ignore_daemonsets_utilization: bool,
    pub ignore_mirror_pods_utilization: bool,
    pub max_total_unready_percent: u32,
    pub ok_total_unready_count: u32,
    /// Whether preferences of pods (preferred affinity, `ScheduleAnyway`, `PreferNoSchedule`) are honoured where that
    /// leaves no pod out, or not looked at at all.
    pub respect_preferences: bool,
    /// Missing replicas of pending pods' owners that a round plans for ahead of their creation.
    pub missing_replicas_limit: u32,
    /// Time zone of the schedules of rules, by its IANA name; empty is UTC.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rules_time_zone: String,
    /// How long after its time a rule may still run where nobody was there or the pool could not grow.
    pub rules_missed_deadline: SignedDuration,
    /// The rate that a rule without a threshold keeps a pool under.
    pub rules_default_target_percent: u32,
    /// Search for cheaper machines after the first answer, in steps of some ten nanoseconds.
    pub optimiser_steps: u64,
    /// What moving a pod must save, in hundredths of what a pod of its direct pool costs on average.
    pub consolidation_score_percent: u32,
    /// Machines for replicas that are known to come.
    #[serde(skip_serializing_if = "is_default")]
    pub ahead: Ahead,
}

/// Left out of records where nobody asked for it.
fn is_default(ahead: &Ahead) -> bool {
    *ahead == Ahead::default()
}

impl Default for Policies {
    fn default() -> Self {
        let minutes = SignedDuration::from_mins;
        let seconds = SignedDuration::from_secs;
        Self {
            dry_run: false,
            dry_run_pools: Vec::new(),
            profile: Profile::ClusterAutoscaler,
            scale_up_enabled: true,
            scale_down_enabled: true,
            scale_up_from_zero: true,
            enforce_minimum: false,
            ceilings: Ceilings::default(),
            choice: Choice::default(),
            draining: Draining::default(),
            taints: NodeTaints::default(),
            unready_gate: UnreadyGate::default(),
            pools: BTreeMap::new(),
            max_nodes_total: 0,
            max_nodes_per_scale_up: 1000,
            new_pod_scale_up_delay: seconds(0),
            expendable_pods_priority_cutoff: -10,
            utilization_threshold_percent: 50,
            gpu_utilization_threshold_percent: 50,
            scale_down_unready_enabled: true,
            unneeded_time: minutes(10),
            unready_time: minutes(20),
            delay_after_add: minutes(10),
            delay_after_delete: seconds(0),
            delay_after_failure: minutes(3),
            delay_type_local: false,
            max_provision_time: minutes(15),
            max_startup_time: minutes(15),
            initial_back_off: minutes(5),
            max_back_off: minutes(30),
            back_off_reset: SignedDuration::from_hours(3),
            max_scale_down_parallelism: 10,
            max_drain_parallelism: 1,
            delay_after_taint: seconds(5),
            max_graceful_termination: seconds(600),
            max_pod_eviction_time: minutes(2),
            skip_nodes_with_system_pods: true,
            skip_nodes_with_local_storage: true,
            skip_nodes_with_custom_controller_pods: true,
            blocking_system_pod_timeout: SignedDuration::from_hours(1),
            min_replica_count: 0,
            cordon_node_before_terminating: true,
            ignore_daemonsets_utilization: false,
            ignore_mirror_pods_utilization: false,
            max_total_unready_percent: 45,
            ok_total_unready_count: 3,
            respect_preferences: true,
            missing_replicas_limit: 5000,
            rules_time_zone: String::new(),
            rules_missed_deadline: minutes(5),
            rules_default_target_percent: 70,
            optimiser_steps: 100_000,
            consolidation_score_percent: 10,
            ahead: Ahead::default(),
        }
    }
}

impl Policies {
    /// The defaults of a profile.
    pub fn of(profile: Profile) -> Self {
        let ten_minutes = SignedDuration::from_mins(10);
        match profile {
            Profile::NodePolicy => Self {
                profile,
                scale_down_enabled: false,
                delay_after_delete: ten_minutes,
                // A pod of kube-system holds its node however old it is.
                blocking_system_pod_timeout: SignedDuration::ZERO,
                ..Self::default()
            },
            Profile::ClusterAutoscaler | Profile::Karpenter | Profile::Alert => {
                Self { profile, ..Self::default() }
            }
        }
    }
}
