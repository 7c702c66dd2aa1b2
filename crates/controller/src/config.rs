//! What the controller is told: one serialisable value, checked before anything starts.
//!
//! Owns the settings of the shell; the settings of deciding are `model::Policies`, carried in here as they are.

use crate::ControllerError;
use crate::capacity::{Terms, served_requests};
use clouds::watching::WatchSettings;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use kube::Client;
use leadership::LeaderElection;
use model::{Policies, ProviderKind};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The controller's settings. Times are in the unit that their name ends with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Config {
    /// Where the ledger, the Lease and the status live.
    pub namespace: String,
    pub policies: Policies,
    pub providers: Vec<ProviderKind>,
    pub leader_election: LeaderElection,
    /// Address of `/healthz`, `/readyz`, `/metrics` and the read-only API; `None` opens no socket.
    pub listen: Option<SocketAddr>,
    pub batch: Batch,
    pub watch: Watch,
    pub calls: Calls,
    pub status: Status,
    pub ledger: LedgerPlace,
    /// Whether a decision is checked against the invariants before anything of it is done.
    pub check_plans: bool,
    /// Whether Kubernetes events are written.
    pub events: bool,
    /// Whether metrics that Cluster Autoscaler has appear under its names, too.
    pub peer_metrics: bool,
    pub health: Health,
    pub journal: Option<JournalConfig>,
    pub capacity_buffers: CapacityBuffers,
    pub provisioning_requests: ProvisioningRequests,
    /// Seed of every wait that is spread at random.
    pub seed: u64,
}

/// When the changes that were heard become a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Batch {
    /// A round begins after this long without news,
    pub quiet_milliseconds: u32,
    /// and after this long at the latest.
    pub longest_milliseconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Watch {
    /// Seconds after which a stream is opened anew; 0 = never, for simulations.
    pub timeout_seconds: u32,
    /// How long a watch may be broken before nothing is planned on what it brought.
    pub stale_after_seconds: u32,
    pub streaming_lists: bool,
}

/// Limits on outgoing calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Calls {
    pub timeout_seconds: u32,
    /// Attempts of one step before it is put off or given up.
    pub attempts: u32,
    /// Steps under way at once.
    pub concurrent: u32,
    /// Orders to one provider in a second; 0 = no limit.
    pub provider_orders_per_second: u32,
    /// Failures in a row after which a pool's provider is left alone for a while.
    pub breaker_failures: u32,
    /// For how long.
    pub breaker_seconds: u32,
}

/// Which object holds the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LedgerPlace {
    /// A ConfigMap of its own.
    #[default]
    Own,
    /// The status ConfigMap: the only one that a Cluster Autoscaler's role lets us write.
    WithStatus,
}

/// The status ConfigMap in Cluster Autoscaler's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Status {
    pub enabled: bool,
    pub config_map: String,
    /// At most one write in this time.
    pub interval_seconds: u32,
}

/// Whether `CapacityBuffer`s are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CapacityBuffers {
    /// What each comes to is worked out and said in its status.
    pub controller: bool,
    /// Room is kept for them, too.
    pub pod_injection: bool,
}

impl CapacityBuffers {
    pub(crate) fn enabled(self) -> bool {
        self.controller || self.pod_injection
    }
}

/// Whether and how `ProvisioningRequest`s are served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProvisioningRequests {
    pub enabled: bool,
    /// The wait before a request for which there was no room is tried again; the longest of these waits.
    pub initial_back_off_seconds: u32,
    pub max_back_off_seconds: u32,
    /// The name by which checks ask for this autoscaler; empty where they name none.
    pub instance: String,
}

impl Default for ProvisioningRequests {
    fn default() -> Self {
        Self {
            enabled: false,
            initial_back_off_seconds: 60,
            max_back_off_seconds: 600,
            instance: String::new(),
        }
    }
}

impl ProvisioningRequests {
    pub(crate) async fn terms(&self, client: &Client) -> Terms {
        let seconds = |seconds: u32| SignedDuration::from_secs(i64::from(seconds));
        Terms {
            resource: if self.enabled { Some(served_requests(client).await) } else { None },
            back_off: (seconds(self.initial_back_off_seconds), seconds(self.max_back_off_seconds)),
            instance: self.instance.clone(),
        }
    }
}

/// When `/health-check` says that the controller should be started anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Health {
    /// So long after the loop last answered.
    pub inactivity_seconds: u32,
    /// So long without a round that was carried out, while rounds were tried.
    pub failing_seconds: u32,
    /// The same before the first one, and before all inputs were heard.
    pub start_seconds: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { inactivity_seconds: 600, failing_seconds: 900, start_seconds: 1200 }
    }
}

/// The record of rounds on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JournalConfig {
    pub directory: PathBuf,
    /// A segment is closed at this many bytes before compression.
    #[serde(default = "default_segment_bytes")]
    pub segment_bytes: u64,
    /// The oldest segments go when all together are larger than this.
    #[serde(default = "default_total_bytes")]
    pub total_bytes: u64,
}

impl JournalConfig {
    /// A journal in this directory, of the usual size.
    pub fn at(directory: PathBuf) -> Self {
        Self { directory, segment_bytes: default_segment_bytes(), total_bytes: default_total_bytes() }
    }
}

fn default_segment_bytes() -> u64 {
    16 << 20
}

fn default_total_bytes() -> u64 {
    256 << 20
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namespace: "kube-system".into(),
            policies: Policies::default(),
            providers: vec![ProviderKind::Simulated, ProviderKind::ClusterApi],
            leader_election: LeaderElection::default(),
            listen: None,
            batch: Batch::default(),
            watch: Watch::default(),
            calls: Calls::default(),
            status: Status::default(),
            ledger: LedgerPlace::default(),
            check_plans: true,
            events: true,
            peer_metrics: false,
            health: Health::default(),
            journal: None,
            capacity_buffers: CapacityBuffers::default(),
            provisioning_requests: ProvisioningRequests::default(),
            seed: 0,
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { quiet_milliseconds: 100, longest_milliseconds: 2000 }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self { timeout_seconds: 290, stale_after_seconds: 30, streaming_lists: true }
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            timeout_seconds: 5,
            attempts: 4,
            concurrent: 64,
            provider_orders_per_second: 20,
            breaker_failures: 5,
            breaker_seconds: 60,
        }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self { enabled: true, config_map: "cluster-autoscaler-status".into(), interval_seconds: 10 }
    }
}

impl Config {
    /// Settings for a simulation: no socket, no Lease, no status, no periodic work. Only the simulated provider: a
    /// watch on kinds that the embedded cluster does not have would ask for them again and again.
    #[must_use]
    pub fn for_simulation(policies: Policies, seed: u64) -> Self {
        Self {
            policies,
            seed,
            providers: vec![ProviderKind::Simulated],
            leader_election: LeaderElection { enabled: false, ..Default::default() },
            watch: Watch { timeout_seconds: 0, ..Default::default() },
            calls: Calls { provider_orders_per_second: 0, ..Default::default() },
            status: Status { enabled: false, ..Default::default() },
            ..Default::default()
        }
    }

    /// Refuses settings that cannot work; the error names the field and the fix.
    pub fn validate(&self) -> Result<(), ControllerError> {
        let wrong =
            |field: &str, problem: String| Err(ControllerError::Config { field: field.to_owned(), problem });
        let names = [
            ("namespace", &self.namespace),
            ("leaderElection.name", &self.leader_election.name),
            ("status.configMap", &self.status.config_map),
        ];
        for (field, name) in names {
            if !is_name(name) {
                let problem =
                    format!("\"{name}\" is no Kubernetes name; use small letters, digits, \"-\" and \".\"");
                return wrong(field, problem);
            }
        }
        if self.providers.is_empty() {
            return wrong("providers", "the list is empty; name simulated, cluster-api or both".into());
        }
        let positive = [
            ("batch.longestMilliseconds", self.batch.longest_milliseconds),
            ("calls.timeoutSeconds", self.calls.timeout_seconds),
            ("calls.attempts", self.calls.attempts),
            ("calls.concurrent", self.calls.concurrent),
            ("calls.breakerFailures", self.calls.breaker_failures),
            ("leaderElection.retrySeconds", self.leader_election.retry_seconds),
            ("status.intervalSeconds", self.status.interval_seconds),
        ];
        for (field, value) in positive {
            if value == 0 {
                return wrong(field, "is 0; set it to 1 or more".into());
            }
        }
        validate_policies(&self.policies)?;
        if self.batch.quiet_milliseconds > self.batch.longest_milliseconds {
            let problem = format!(
                "{} is over batch.longestMilliseconds of {}; lower it",
                self.batch.quiet_milliseconds, self.batch.longest_milliseconds
            );
            return wrong("batch.quietMilliseconds", problem);
        }
        let lease = &self.leader_election;
        if !(lease.retry_seconds < lease.renew_deadline_seconds
            && lease.renew_deadline_seconds < lease.lease_seconds)
        {
            let problem = format!(
                "retrySeconds ({}) < renewDeadlineSeconds ({}) < leaseSeconds ({}) must hold",
                lease.retry_seconds, lease.renew_deadline_seconds, lease.lease_seconds
            );
            return wrong("leaderElection", problem);
        }
        if lease.enabled && self.calls.timeout_seconds >= lease.lease_seconds {
            let problem = format!(
                "{} s is not under leaderElection.leaseSeconds of {}: no call could ever be made safely",
                self.calls.timeout_seconds, lease.lease_seconds
            );
            return wrong("calls.timeoutSeconds", problem);
        }
        if let Some(journal) = &self.journal
            && (journal.segment_bytes == 0 || journal.total_bytes < journal.segment_bytes)
        {
            return wrong("journal", "segmentBytes must be positive and totalBytes at least as large".into());
        }
        Ok(())
    }

    /// Whether ledger and status lie in one object.
    pub(crate) fn shares_status(&self) -> bool {
        self.ledger == LedgerPlace::WithStatus
    }

    /// How watches are held, for whatever runs beside the controller.
    pub fn watch_settings(&self) -> WatchSettings {
        WatchSettings {
            timeout_seconds: self.watch.timeout_seconds,
            stale_after: SignedDuration::from_secs(i64::from(self.watch.stale_after_seconds)),
            streaming_lists: self.watch.streaming_lists,
            seed: self.seed,
            ..Default::default()
        }
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.calls.timeout_seconds))
    }
}

/// Shares over the whole and waits that go backwards cannot be meant.
fn validate_policies(policies: &Policies) -> Result<(), ControllerError> {
    let wrong = |field: &str, problem: String| {
        Err(ControllerError::Config { field: format!("policies.{field}"), problem })
    };
    for (field, percent) in [
        ("utilizationThresholdPercent", policies.utilization_threshold_percent),
        ("maxTotalUnreadyPercent", policies.max_total_unready_percent),
        ("ahead.leastConfidencePercent", policies.ahead.least_confidence_percent),
        ("ahead.leadPercent", policies.ahead.lead_percent),
        ("ahead.mostSharePercent", policies.ahead.most_share_percent),
    ] {
        if percent > 100 {
            return wrong(field, format!("is {percent}; set it to 100 or less"));
        }
    }
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(policies) else { return Ok(()) };
    for (field, value) in &fields {
        let wait = value.as_str().and_then(|text| text.parse::<SignedDuration>().ok());
        if wait.is_some_and(|wait| wait.is_negative()) {
            return wrong(field, format!("is {value}, which is negative; set it to 0s or more"));
        }
    }
    let ahead = &policies.ahead;
    for (field, wait) in [
        ("ahead.unknownLead", ahead.unknown_lead),
        ("ahead.margin", ahead.margin),
        ("ahead.patience", ahead.patience),
        ("ahead.keepFor", ahead.keep_for),
        ("ahead.removalCost", ahead.removal_cost),
    ] {
        if wait.is_negative() {
            return wrong(field, format!("is {wait:#}, which is negative; set it to 0s or more"));
        }
    }
    for (field, bounds) in
        [("ceilings.cores", policies.ceilings.cores), ("ceilings.memoryGib", policies.ceilings.memory_gib)]
    {
        if bounds.min > bounds.max {
            return wrong(
                field,
                format!("has a min of {} over its max of {}; lower it", bounds.min, bounds.max),
            );
        }
    }
    for (name, pool) in &policies.pools {
        if let (Some(min), Some(max)) = (pool.min, pool.max)
            && min > max
        {
            return wrong(
                &format!("pools.{name}"),
                format!("has a min of {min} over its max of {max}; lower it"),
            );
        }
    }
    if let Err(error) = cron::time_zone(&policies.rules_time_zone, &TimeZone::UTC) {
        return wrong("rulesTimeZone", error.to_string());
    }
    if !(1..=100).contains(&policies.rules_default_target_percent) {
        let problem = format!("is {}; set it from 1 to 100", policies.rules_default_target_percent);
        return wrong("rulesDefaultTargetPercent", problem);
    }
    let groups = &policies.draining.priority_groups;
    if !groups.is_sorted_by(|a, b| a.priority < b.priority) {
        let problem = "must rise by priority, each named once; put the lowest first".to_owned();
        return wrong("draining.priorityGroups", problem);
    }
    if policies.initial_back_off > policies.max_back_off {
        return wrong(
            "initialBackOff",
            "is longer than policies.maxBackOff; lower it or raise the other".into(),
        );
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !name.is_empty()
        && name.len() <= 253
        && name.chars().all(fits)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Break = fn(&mut Config);

    #[test]
    fn defaults_hold_and_each_mistake_names_its_field() {
        Config::default().validate().unwrap();
        Config::for_simulation(Policies::default(), 1).validate().unwrap();
        let broken: [(&str, Break); 9] = [
            ("policies.unneededTime", |c| c.policies.unneeded_time = SignedDuration::from_secs(-1)),
            ("policies.utilizationThresholdPercent", |c| c.policies.utilization_threshold_percent = 101),
            ("policies.initialBackOff", |c| c.policies.initial_back_off = SignedDuration::from_hours(9)),
            ("namespace", |c| c.namespace = "Kube System".into()),
            ("providers", |c| c.providers.clear()),
            ("batch.quietMilliseconds", |c| c.batch.quiet_milliseconds = 5000),
            ("calls.attempts", |c| c.calls.attempts = 0),
            ("leaderElection", |c| c.leader_election.retry_seconds = 60),
            ("calls.timeoutSeconds", |c| c.calls.timeout_seconds = 15),
        ];
        for (field, break_it) in broken {
            let mut config = Config::default();
            break_it(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = serde_json::from_str::<Config>(r#"{"namespce": "x"}"#).unwrap_err();
        assert!(error.to_string().contains("namespce"));
    }
}
