//! What the shell of workloads is told before it starts.

use crate::ScalerError;
use clouds::watching::WatchSettings;
use leadership::LeaderElection;
use std::time::Duration;

/// The settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the Lease lives.
    pub namespace: String,
    /// The Lease's name is the peer's, so that of two that elect a leader only one acts.
    pub leader_election: LeaderElection,
    /// Objects worked on at once.
    pub concurrency: usize,
    pub call_timeout: Duration,
    pub watch: WatchSettings,
    /// Whether Kubernetes events are written.
    pub events: bool,
    pub algorithm_jobs: AlgorithmJobs,
}

/// What is filled into the CronJobs of portraits whose algorithm is a job.
#[derive(Clone, Debug, Default)]
pub struct AlgorithmJobs {
    /// Where they live; without one such portraits are refused.
    pub namespace: Option<String>,
    pub service_account: Option<String>,
    /// `host:port` of the metrics service.
    pub metrics_server: Option<String>,
    /// Image of a container `algorithm` of a predictive portrait that names none.
    pub image: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namespace: api::kapacity::NAMESPACE.to_owned(),
            leader_election: LeaderElection {
                name: api::kapacity::LEASE.to_owned(),
                ..LeaderElection::default()
            },
            concurrency: 16,
            call_timeout: Duration::from_secs(10),
            watch: WatchSettings::default(),
            events: true,
            algorithm_jobs: AlgorithmJobs::default(),
        }
    }
}

impl Config {
    /// Refuses settings that cannot work.
    pub fn validate(&self) -> Result<(), ScalerError> {
        let wrong = |field: &'static str, problem: &str| {
            Err(ScalerError::Config { field, problem: problem.to_owned() })
        };
        if self.namespace.is_empty() {
            return wrong("namespace", "it is empty; name the namespace of the Lease");
        }
        if !(1..=256).contains(&self.concurrency) {
            return wrong("reconcile-concurrency", "it must be 1 to 256");
        }
        if self.leader_election.enabled
            && self.call_timeout >= Duration::from_secs(u64::from(self.leader_election.lease_seconds))
        {
            return wrong(
                "call timeout",
                "a call must end before the lead may be lost; make it shorter than the lease",
            );
        }
        Ok(())
    }
}
