//! Settings of removing nodes: marks, the order of evictions, what else has to go.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Pods from this priority up, to the next group's, are evicted together and given this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainGroup {
    pub priority: i32,
    pub grace: SignedDuration,
}

/// How a node is emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Draining {
    /// By priority, lowest first; each group is evicted when the one before it is gone. Empty: all at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<DrainGroup>,
    /// Whether DaemonSet pods are evicted, too: from nodes that hold others, from nodes that hold none. Nobody waits
    /// for them, and the annotation `enable-ds-eviction` of a pod goes before this.
    pub evict_daemon_sets_from_occupied: bool,
    pub evict_daemon_sets_from_empty: bool,
    /// How long annotations `delay-deletion.cluster-autoscaler.kubernetes.io/…` of a node hold its deletion back.
    pub deletion_delay_limit: SignedDuration,
    /// Soft taints of unneeded nodes that one round may put on or take off; 0 = none are used.
    pub soft_taints: u32,
    /// Whether machines that never joined, or failed, are given back below the pool's minimum, too.
    pub force_delete_unregistered: bool,
    pub force_delete_failed: bool,
}

impl Default for Draining {
    fn default() -> Self {
        Self {
            priority_groups: Vec::new(),
            evict_daemon_sets_from_occupied: true,
            evict_daemon_sets_from_empty: false,
            deletion_delay_limit: SignedDuration::from_mins(2),
            soft_taints: 10,
            force_delete_unregistered: false,
            force_delete_failed: false,
        }
    }
}

/// Taints that do not describe what a node is for, beside those with Cluster Autoscaler's prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NodeTaints {
    /// A node that carries one is still starting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub startup: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub startup_prefixes: Vec<Arc<str>>,
    /// They say something of a node that counts as ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Arc<str>>,
}

impl NodeTaints {
    const STARTUP_PREFIXES: [&str; 2] =
        ["startup-taint.cluster-autoscaler.kubernetes.io/", "ignore-taint.cluster-autoscaler.kubernetes.io/"];
    const STATUS_PREFIX: &str = "status-taint.cluster-autoscaler.kubernetes.io/";

    /// Whether a node with this taint is still starting.
    pub fn is_startup(&self, key: &str) -> bool {
        let prefixes = self.startup_prefixes.iter().map(|prefix| &**prefix);
        self.startup.iter().any(|known| **known == *key)
            || prefixes.chain(Self::STARTUP_PREFIXES).any(|prefix| key.starts_with(prefix))
    }

    /// Whether a new node would not have this taint although this one does.
    pub fn is_passing(&self, key: &str) -> bool {
        self.is_startup(key)
            || self.status.iter().any(|known| **known == *key)
            || key.starts_with(Self::STATUS_PREFIX)
    }
}
