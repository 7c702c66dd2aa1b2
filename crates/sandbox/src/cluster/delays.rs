//! How long simulated things take.
//!
//! Owns the defaults; boot times of simulated machines are in their pool's own specification.

use std::time::Duration;

/// Times of kubelets, clouds and node controllers.
#[derive(Clone, Debug)]
pub struct Delays {
    /// From the Node object's creation to its Ready condition.
    pub node_ready: Duration,
    /// From a pod's binding to Running, where `tideline.dev/start-seconds` does not say otherwise.
    pub pod_start: Duration,
    /// From a pod's deletion to its end, where `tideline.dev/stop-seconds` does not; never over its grace period.
    pub pod_stop: Duration,
    /// How long a machine is shown as Deleting.
    pub machine_delete: Duration,
    /// From a machine that vanished to the removal of its Node object, as a cloud's node controller does it.
    pub vanished_node_cleanup: Duration,
    /// How long a silent kubelet is believed to be alive.
    pub node_monitor_grace: Duration,
    /// Boot time range of Cluster API machines, which have no field for it.
    pub cluster_api_boot: (Duration, Duration),
    /// Pause before a failed write or watch is tried again.
    pub retry: Duration,
    /// Whether kubelets write the short-lived `ContainerCreating` status; long simulations save the write.
    pub report_creating: bool,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            node_ready: Duration::from_secs(5),
            pod_start: Duration::from_secs(2),
            pod_stop: Duration::from_secs(1),
            machine_delete: Duration::from_secs(3),
            vanished_node_cleanup: Duration::from_mins(1),
            node_monitor_grace: Duration::from_secs(40),
            cluster_api_boot: (Duration::from_secs(20), Duration::from_secs(40)),
            retry: Duration::from_secs(1),
            report_creating: true,
        }
    }
}
