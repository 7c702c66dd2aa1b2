//! Taints that Tideline reads or writes.

/// Cluster Autoscaler's mark of a node that is being removed; the value is the unix time.
pub const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// Cluster Autoscaler's soft mark of an unneeded node.
pub const DELETION_CANDIDATE: &str = "DeletionCandidateOfClusterAutoscaler";

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
pub const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
pub const SHUTDOWN: &str = "node.cloudprovider.kubernetes.io/shutdown";

/// Prefixes of taints that a node carries while it starts up; the last is the deprecated name.
pub const STARTUP_PREFIXES: [&str; 2] =
    ["startup-taint.cluster-autoscaler.kubernetes.io/", "ignore-taint.cluster-autoscaler.kubernetes.io/"];
/// Prefix of taints that say something about a node's status without making it unready.
pub const STATUS_PREFIX: &str = "status-taint.cluster-autoscaler.kubernetes.io/";

/// Whether a taint tells of a node's passing state and so is not part of what a new node would look like.
pub fn is_transient(key: &str) -> bool {
    const KEYS: [&str; 11] = [
        TO_BE_DELETED,
        DELETION_CANDIDATE,
        NOT_READY,
        UNREACHABLE,
        UNSCHEDULABLE,
        MEMORY_PRESSURE,
        DISK_PRESSURE,
        PID_PRESSURE,
        NETWORK_UNAVAILABLE,
        UNINITIALIZED,
        SHUTDOWN,
    ];
    KEYS.contains(&key)
        || key.starts_with(STATUS_PREFIX)
        || STARTUP_PREFIXES.iter().any(|p| key.starts_with(p))
}
