//! What a program says of a group's nodes to come: what they look like, what they cost, and the group's own settings.
//!
//! Owns the reading of those answers and how long they are believed. A call that the program leaves out leaves out
//! that fact; an answer that makes no sense is said, with the field, and counts as none.

use super::Shared;
use super::connection::shown;
use super::protocol as wire;
use crate::calls::Failure;
use crate::protobuf;
use jiff::SignedDuration;
use model::{MicroUsdPerHour, NodeTemplate, PoolOptions};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long facts are believed: templates change with the group's configuration, prices with the hour.
const FRESH: Duration = Duration::from_mins(2);
/// Dearest machine that is believed, in dollars an hour.
const DEAREST: f64 = 1e6;

/// The facts of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) template: Option<NodeTemplate>,
    pub(super) options: PoolOptions,
    pub(super) price: MicroUsdPerHour,
    /// Why the group must be left alone.
    pub(super) frozen: Option<String>,
    /// What makes no sense in the answers.
    pub(super) complaints: Vec<String>,
    read: Option<Instant>,
}

impl Facts {
    pub(super) fn are_fresh(&self) -> bool {
        self.read.is_some_and(|read| read.elapsed() < FRESH)
    }
}

impl Shared {
    /// Asks for everything that can be known of a group's new nodes.
    pub(super) async fn facts(&self, group: &str) -> Result<Facts, Failure> {
        let mut facts = Facts { read: Some(Instant::now()), ..Facts::default() };
        match self.asked.template(group).await? {
            None => {}
            Some((bytes, devices)) => {
                match protobuf::template(&bytes) {
                    Ok(template) => facts.template = Some(template),
                    Err(why) => facts.complaints.push(format!("the template of {group}: {}", shown(&why))),
                }
                if devices {
                    let why = format!("devices in the template of {group} (ResourceSlices) are not counted");
                    facts.complaints.push(why);
                }
            }
        }
        let defaults = written(&self.defaults);
        if let Some(given) = self.asked.options(group, &defaults).await? {
            read_options(group, &given, &defaults, &mut facts);
        }
        if let Some(template) = &facts.template {
            let pairs = template.labels.iter();
            let labels: HashMap<String, String> =
                pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect();
            match self.asked.price(group, &labels, self.clock.now()).await? {
                None => {}
                Some(price) if (0.0..=DEAREST).contains(&price) => {
                    facts.price = MicroUsdPerHour((price * 1e6).round() as u64);
                }
                Some(price) => facts.complaints.push(format!("{price} is no price of a node of {group}")),
            }
        }
        Ok(facts)
    }
}

fn seconds(wait: SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: wait.as_secs(), nanos: wait.subsec_nanos() }
}

/// The cluster's settings as the program is told them, in old fields and new.
fn written(defaults: &PoolOptions) -> wire::NodeGroupAutoscalingOptions {
    let old = |wait: Option<SignedDuration>| {
        wait.and_then(|wait| i64::try_from(wait.as_nanos()).ok())
            .map(|nanoseconds| wire::OldDuration { nanoseconds })
    };
    let share = |percent: Option<u32>| f64::from(percent.unwrap_or(0)) / 100.0;
    wire::NodeGroupAutoscalingOptions {
        scale_down_utilization_threshold: share(defaults.utilization_threshold_percent),
        scale_down_gpu_utilization_threshold: share(defaults.gpu_utilization_threshold_percent),
        ignore_daemon_sets_utilization: defaults.ignore_daemonsets_utilization.unwrap_or(false),
        scale_down_unneeded_time: old(defaults.unneeded_time),
        scale_down_unready_time: old(defaults.unready_time),
        max_node_provision_time: old(defaults.max_provision_time),
        scale_down_unneeded_duration: defaults.unneeded_time.map(seconds),
        scale_down_unready_duration: defaults.unready_time.map(seconds),
        max_node_provision_duration: defaults.max_provision_time.map(seconds),
        max_node_startup_duration: defaults.max_startup_time.map(seconds),
        ..wire::NodeGroupAutoscalingOptions::default()
    }
}

/// Takes what differs from what the program was told: a program that echoes its defaults says nothing, and the
/// cluster's settings go on holding when they change.
fn read_options(
    group: &str,
    given: &wire::NodeGroupAutoscalingOptions,
    told: &wire::NodeGroupAutoscalingOptions,
    facts: &mut Facts,
) {
    let mut complaints = Vec::new();
    let mut share = |field: &str, given: f64, told: f64| {
        let changed = Some(given).filter(|given| given.to_bits() != told.to_bits())?;
        if !(0.0..=1.0).contains(&changed) {
            complaints.push(format!("{field} of {group} is {changed}; give 0 to 1"));
            return None;
        }
        Some((changed * 100.0).round() as u32)
    };
    facts.options.utilization_threshold_percent = share(
        "scaleDownUtilizationThreshold",
        given.scale_down_utilization_threshold,
        told.scale_down_utilization_threshold,
    );
    facts.options.gpu_utilization_threshold_percent = share(
        "scaleDownGpuUtilizationThreshold",
        given.scale_down_gpu_utilization_threshold,
        told.scale_down_gpu_utilization_threshold,
    );
    let ignores = given.ignore_daemon_sets_utilization;
    facts.options.ignore_daemonsets_utilization =
        (ignores != told.ignore_daemon_sets_utilization).then_some(ignores);
    let mut wait = |field: &str,
                    new: [Option<prost_types::Duration>; 2],
                    old: [Option<wire::OldDuration>; 2]| {
        let changed = if new[0] == new[1] { None } else { new[0] };
        let changed = changed.map(|given| {
            SignedDuration::from_secs(given.seconds)
                .checked_add(SignedDuration::from_nanos(i64::from(given.nanos)))
        });
        let old = if old[0] == old[1] { None } else { old[0] };
        let changed = changed.or(old.map(|given| Some(SignedDuration::from_nanos(given.nanoseconds))))?;
        let read = changed.filter(|wait| !wait.is_negative());
        if read.is_none() {
            complaints.push(format!("{field} of {group} is negative or too long; give a time of 0 or more"));
        }
        read
    };
    facts.options.unneeded_time = wait(
        "scaleDownUnneededDuration",
        [given.scale_down_unneeded_duration, told.scale_down_unneeded_duration],
        [given.scale_down_unneeded_time, told.scale_down_unneeded_time],
    );
    facts.options.unready_time = wait(
        "scaleDownUnreadyDuration",
        [given.scale_down_unready_duration, told.scale_down_unready_duration],
        [given.scale_down_unready_time, told.scale_down_unready_time],
    );
    facts.options.max_provision_time = wait(
        "MaxNodeProvisionDuration",
        [given.max_node_provision_duration, told.max_node_provision_duration],
        [given.max_node_provision_time, told.max_node_provision_time],
    );
    facts.options.max_startup_time = wait(
        "maxNodeStartupDuration",
        [given.max_node_startup_duration, told.max_node_startup_duration],
        [None, None],
    );
    if given.zero_or_max_node_scaling {
        facts.frozen = Some(format!(
            "{group} may only have all of its nodes or none (zeroOrMaxNodeScaling), which is not served"
        ));
    }
    facts.complaints.append(&mut complaints);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_a_program_echoes_are_the_clusters() {
        let minutes = SignedDuration::from_mins;
        let defaults = PoolOptions {
            utilization_threshold_percent: Some(35),
            unneeded_time: Some(minutes(3)),
            unready_time: Some(minutes(20)),
            max_provision_time: Some(minutes(15)),
            ..PoolOptions::default()
        };
        let told = written(&defaults);
        let read = |change: fn(&mut wire::NodeGroupAutoscalingOptions)| {
            let mut given = told;
            change(&mut given);
            let mut facts = Facts::default();
            read_options("g", &given, &told, &mut facts);
            facts
        };
        assert_eq!(read(|_| {}).options, PoolOptions::default());
        let facts = read(|given| {
            given.scale_down_utilization_threshold = 0.42;
            given.scale_down_unneeded_duration = Some(seconds(SignedDuration::from_secs(90)));
            given.scale_down_unready_time = Some(wire::OldDuration { nanoseconds: 1_000_000_000 });
        });
        assert_eq!(facts.options.utilization_threshold_percent, Some(42));
        assert_eq!(facts.options.unneeded_time, Some(SignedDuration::from_secs(90)));
        assert_eq!(facts.options.unready_time, Some(SignedDuration::from_secs(1)));
        assert_eq!((facts.options.max_provision_time, facts.complaints.len()), (None, 0));
        let wrong = read(|given| {
            given.scale_down_utilization_threshold = f64::NAN;
            given.max_node_provision_duration = Some(seconds(SignedDuration::from_secs(-1)));
            given.zero_or_max_node_scaling = true;
        });
        assert_eq!((wrong.options.clone(), wrong.complaints.len()), (PoolOptions::default(), 2));
        assert!(wrong.frozen.is_some_and(|why| why.contains("zeroOrMaxNodeScaling")));
    }
}
