//! Flags of scaling workloads, and the part of the program that does it.
//!
//! Owns their translation into settings and how the shell of workloads runs beside another; what it does is crate
//! `scaler`'s.

use crate::commands::asked_to_end;
use crate::error::CommandError;
use crate::policy_flags::switch;
use clap::Args;
use clock::Clock;
use controller::Controller;
use jiff::Timestamp;
use kube::Client;
use leadership::LeaderElection;
use metrics::MetricSource;
use scaler::{AlgorithmJobs, Config, Scaler};
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Workloads")]
pub(crate) struct WorkloadFlags {
    /// Scale workloads by IntelligentHorizontalPodAutoscalers, wherever their definitions are installed; off when called
    /// by the name cluster-autoscaler [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    workloads: Option<bool>,
    /// Autoscalers, portraits and profiles worked on at once
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    reconcile_concurrency: u32,
    /// Namespace of the CronJobs of portraits whose algorithm is a job [default: the namespace of the Lease]
    #[arg(long, value_name = "NAMESPACE")]
    algorithm_job_namespace: Option<String>,
    /// Service account of such jobs that name none
    #[arg(long, value_name = "NAME")]
    algorithm_job_default_service_account: Option<String>,
    /// Metrics service that such jobs are told of
    #[arg(long, value_name = "HOST:PORT")]
    algorithm_job_default_metrics_server_addr: Option<String>,
    /// Image of predictive jobs' container `algorithm` that names neither image nor command; ours does what is needed
    #[arg(long, value_name = "IMAGE")]
    algorithm_job_default_image_horizontal_predictive: Option<String>,
    /// For trials of schedules on a cluster that is yours alone: a clock that begins at this time and runs so many times
    /// as fast
    #[arg(long, value_name = "TIME[xRATE]", value_parser = trial_clock, hide = true)]
    trial_clock: Option<(Timestamp, u32)>,
}

impl WorkloadFlags {
    /// Whether workloads are scaled at all.
    pub(crate) fn enabled(&self) -> bool {
        self.workloads.unwrap_or(true)
    }

    /// The clock that schedules follow.
    pub(crate) fn clock(&self) -> Clock {
        self.trial_clock.map_or_else(Clock::system, |(start, rate)| Clock::starting_at(start).at_rate(rate))
    }

    /// The shell of workloads. Its Lease has the peer's name, in this namespace.
    pub(crate) fn scaler(
        &self,
        client: Client,
        namespace: &str,
        election: LeaderElection,
        source: Arc<dyn MetricSource>,
    ) -> Result<Scaler, CommandError> {
        let config = Config {
            namespace: namespace.to_owned(),
            leader_election: LeaderElection { name: api::kapacity::LEASE.to_owned(), ..election },
            concurrency: usize::try_from(self.reconcile_concurrency).unwrap_or(1),
            algorithm_jobs: AlgorithmJobs {
                namespace: Some(self.algorithm_job_namespace.clone().unwrap_or_else(|| namespace.to_owned())),
                service_account: self.algorithm_job_default_service_account.clone(),
                metrics_server: self.algorithm_job_default_metrics_server_addr.clone(),
                image: self.algorithm_job_default_image_horizontal_predictive.clone(),
            },
            ..Config::default()
        };
        Ok(Scaler::new(client, self.clock(), config, source)?)
    }
}

/// Runs the shell of workloads beside that of nodes, until the user asks for the end; where one ends by itself, the
/// other does, too, so that what starts us anew starts both.
pub(crate) async fn beside(scaler: Option<Scaler>, controller: Controller) -> Result<(), CommandError> {
    let Some(scaler) = scaler else { return Ok(Box::pin(controller.run(asked_to_end())).await?) };
    let (end, ended) = watch::channel(false);
    let mut scaling = tokio::spawn(scaler.run(told(ended.clone())));
    let mut controlling = tokio::spawn(controller.run(told(ended)));
    let (mut scaled, mut controlled) = (None, None);
    tokio::select! {
        biased;
        () = asked_to_end() => {}
        outcome = &mut controlling => controlled = Some(outcome),
        outcome = &mut scaling => scaled = Some(outcome),
    }
    let _ = end.send(true);
    let controlled = match controlled {
        Some(outcome) => outcome,
        None => controlling.await,
    };
    let scaled = match scaled {
        Some(outcome) => outcome,
        None => scaling.await,
    };
    let died = |error| CommandError::Input(format!("a part of the program ended unexpectedly: {error}"));
    controlled.map_err(died)??;
    Ok(scaled.map_err(died)??)
}

/// Resolves when the end is told, or nobody is left to tell it.
pub(crate) async fn told(mut ended: watch::Receiver<bool>) {
    let _ = ended.wait_for(|ended| *ended).await;
}

/// `2026-01-01T00:00:00Z`, or the same with `x60` for a minute in a second.
fn trial_clock(text: &str) -> Result<(Timestamp, u32), String> {
    let (time, rate) = text.rsplit_once('x').unwrap_or((text, "1"));
    let time =
        time.parse().map_err(|error| format!("{time:?} is no time such as 2026-01-01T00:00:00Z: {error}"))?;
    let rate = rate.parse().ok().filter(|rate| (1..=3600).contains(rate));
    Ok((time, rate.ok_or_else(|| "the rate behind x must be 1 to 3600".to_owned())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_clocks_are_read() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(trial_clock("2026-01-01T00:00:00Z"), Ok((start, 1)));
        assert_eq!(trial_clock("2026-01-01T00:00:00Zx60"), Ok((start, 60)));
        assert!(trial_clock("noon").unwrap_err().contains("2026-01-01"));
        assert!(trial_clock("2026-01-01T00:00:00Zx0").unwrap_err().contains("1 to 3600"));
    }
}
