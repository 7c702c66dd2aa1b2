//! Flags of status, probe and metrics, with Cluster Autoscaler's names where it has one.
//!
//! Owns their translation into the controller's settings. Called by that program's name, the metrics have its names,
//! because its dashboards are there.

use crate::duration;
use crate::policy_flags::switch;
use clap::Args;
use controller::Config;
use jiff::SignedDuration;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Status, probe and metrics")]
pub(crate) struct ShellFlags {
    /// Keep the ConfigMap with the status [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    write_status_configmap: Option<bool>,
    /// Name of that ConfigMap [default: cluster-autoscaler-status]
    #[arg(long, value_name = "NAME")]
    status_config_map_name: Option<String>,
    /// Show metrics under Cluster Autoscaler's names, too; on when called by the name cluster-autoscaler
    /// [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    peer_metrics: Option<bool>,
    /// /health-check fails when the loop has not answered for this long [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    max_inactivity: Option<SignedDuration>,
    /// … and when no round could be carried out for this long [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    max_failing_time: Option<SignedDuration>,
    /// The same before the first one [default: 20m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    max_startup_time: Option<SignedDuration>,
}

impl ShellFlags {
    /// Changes the settings that a flag was given for.
    pub(crate) fn apply(&self, config: &mut Config) {
        let set = |place: &mut bool, given: Option<bool>| *place = given.unwrap_or(*place);
        set(&mut config.status.enabled, self.write_status_configmap);
        set(&mut config.peer_metrics, self.peer_metrics);
        if let Some(name) = &self.status_config_map_name {
            config.status.config_map.clone_from(name);
        }
        let health = &mut config.health;
        for (place, given) in [
            (&mut health.inactivity_seconds, self.max_inactivity),
            (&mut health.failing_seconds, self.max_failing_time),
            (&mut health.start_seconds, self.max_startup_time),
        ] {
            if let Some(wait) = given {
                *place = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
            }
        }
    }
}
