//! The flags that set policies, with Cluster Autoscaler's names and defaults.
//!
//! Owns the translation from flags to [`Policies`], and the list of that program's flags which mean nothing here
//! or are not served yet. A flag that is not given keeps what it is applied to, so that the sandbox can start from
//! defaults of its own.

use crate::duration;
use clap::Args;
use jiff::SignedDuration;
use model::Policies;

/// Reads `0.5` as 50 per cent.
fn share(text: &str) -> Result<u32, String> {
    let share: f64 = text.parse().map_err(|_| format!("\"{text}\" is not a number between 0 and 1"))?;
    if !(0.0..=1.0).contains(&share) {
        return Err(format!("\"{text}\" is not between 0 and 1; write 0.5 for half of a node"));
    }
    Ok((share * 100.0).round() as u32)
}

macro_rules! policy_flags {
    ($($(#[$meta:meta])* $flag:ident: $type:ty => $field:ident),* $(,)?) => {
        /// Policies: what may be bought and removed, and when.
        #[derive(Args, Clone, Debug, Default)]
        #[command(next_help_heading = "Policies (Cluster Autoscaler's names and defaults)")]
        pub(crate) struct PolicyFlags {
            $($(#[$meta])* pub(crate) $flag: Option<$type>,)*
        }

        impl PolicyFlags {
            /// Changes the policies that a flag was given for.
            pub(crate) fn apply(&self, policies: &mut Policies) {
                $(if let Some(value) = self.$flag { policies.$field = value; })*
            }
        }
    };
}

policy_flags! {
    /// Ceiling on all nodes of the cluster, nodes on their way included; 0 is none [default: 0]
    #[arg(long, value_name = "N")]
    max_nodes_total: u32 => max_nodes_total,
    /// Nodes that one round may add to one pool [default: 1000]
    #[arg(long, value_name = "N")]
    max_nodes_per_scaleup: u32 => max_nodes_per_scale_up,
    /// Pods of lower priority neither cause a scale-up nor hold a node [default: -10]
    #[arg(long, value_name = "PRIORITY", allow_negative_numbers = true)]
    expendable_pods_priority_cutoff: i32 => expendable_pods_priority_cutoff,
    /// Whether nodes are removed at all [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    scale_down_enabled: bool => scale_down_enabled,
    /// A node whose requests (the larger share of cpu and memory) are at most this part of it is under-used
    /// [default: 0.5]
    #[arg(long, value_name = "0..1", value_parser = share)]
    scale_down_utilization_threshold: u32 => utilization_threshold_percent,
    /// How long a node must be unneeded before it is removed [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    scale_down_unneeded_time: SignedDuration => unneeded_time,
    /// How long a node must be unready before it is removed, where nothing on it needs to move [default: 20m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    scale_down_unready_time: SignedDuration => unready_time,
    /// No removal for this long after a scale-up [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    scale_down_delay_after_add: SignedDuration => delay_after_add,
    /// No removal for this long after a removal [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    scale_down_delay_after_delete: SignedDuration => delay_after_delete,
    /// No removal for this long after a failed removal [default: 3m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    scale_down_delay_after_failure: SignedDuration => delay_after_failure,
    /// How long a machine may take to become a ready node [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    max_node_provision_time: SignedDuration => max_provision_time,
    /// First wait before a pool that failed to deliver is asked again; doubles each time [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    initial_node_group_backoff_duration: SignedDuration => initial_back_off,
    /// Longest such wait [default: 30m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    max_node_group_backoff_duration: SignedDuration => max_back_off,
    /// A pool that did not fail for this long starts again with the first wait [default: 3h]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    node_group_backoff_reset_timeout: SignedDuration => back_off_reset,
    /// Removals under way at once [default: 10]
    #[arg(long, value_name = "N")]
    max_scale_down_parallelism: u32 => max_scale_down_parallelism,
    /// Removals under way at once that move pods [default: 1]
    #[arg(long, value_name = "N")]
    max_drain_parallelism: u32 => max_drain_parallelism,
    /// Wait between tainting a node and evicting from it [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    node_delete_delay_after_taint: SignedDuration => delay_after_taint,
    /// How long evictions of one drain are retried before it is undone [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    max_pod_eviction_time: SignedDuration => max_pod_eviction_time,
    /// A node found unremovable is looked at again after this [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    unremovable_node_recheck_timeout: SignedDuration => unremovable_recheck,
    /// Keep nodes with kube-system pods that have no budget (DaemonSet pods apart) [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_nodes_with_system_pods: bool => skip_nodes_with_system_pods,
    /// Keep nodes with pods that use local storage [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_nodes_with_local_storage: bool => skip_nodes_with_local_storage,
    /// Keep nodes with pods of controllers that are not Kubernetes' own [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_nodes_with_custom_controller_pods: bool => skip_nodes_with_custom_controller_pods,
    /// kube-system pods without a budget stop blocking at this age; 0 is never (the name is as it is spelt there)
    /// [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    blocking_system_pod_distruption_timeout: SignedDuration => blocking_system_pod_timeout,
    /// Pods of workloads that want fewer replicas than this are not moved [default: 0]
    #[arg(long, value_name = "N")]
    min_replica_count: u32 => min_replica_count,
    /// Cordon a node, besides tainting it, before its pods are evicted [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cordon_node_before_terminating: bool => cordon_node_before_terminating,
    /// Leave DaemonSet pods out when a node's use is computed [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ignore_daemonsets_utilization: bool => ignore_daemonsets_utilization,
    /// Honour what pods merely prefer (affinity, spread, PreferNoSchedule) where that leaves no pod out [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    respect_preferences: bool => respect_preferences,
    /// Leave static pods out when a node's use is computed [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ignore_mirror_pods_utilization: bool => ignore_mirror_pods_utilization,
    /// Removals stop where more than this many per cent of nodes are not ready … [default: 45]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    max_total_unready_percentage: u32 => max_total_unready_percent,
    /// … and more than this many nodes are not ready [default: 3]
    #[arg(long, value_name = "N")]
    ok_total_unready_count: u32 => ok_total_unready_count,
    /// Search for cheaper machines after the first answer, in steps of some ten nanoseconds; counted, not timed, so
    /// that equal input gives equal plans [default: 100000]
    #[arg(long, value_name = "N")]
    optimiser_steps: u64 => optimiser_steps,
    /// Upper bound on the grace period of an evicted pod, in seconds [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_graceful_termination_sec: SignedDuration => max_graceful_termination,
}

fn seconds(text: &str) -> Result<SignedDuration, String> {
    let seconds: u32 = text.parse().map_err(|_| format!("\"{text}\" is not a whole number of seconds"))?;
    Ok(SignedDuration::from_secs(i64::from(seconds)))
}

/// Flags of Cluster Autoscaler that tune how it works inside: taken without effect, with the reason.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("scan-interval", "rounds follow events, not a tick"),
    ("frequent-loops-enabled", "rounds follow events, not a tick"),
    ("logtostderr", "logs always go to standard error"),
    ("alsologtostderr", "logs always go to standard error"),
    ("stderrthreshold", "use -v or RUST_LOG"),
    ("kube-client-qps", "requests are few: the watches carry the state"),
    ("kube-client-burst", "requests are few: the watches carry the state"),
    ("user-agent", "the user agent is tideline"),
    ("estimator", "there is one estimator"),
    ("predicate-parallelism", "planning is fast on one core"),
    ("max-nodegroup-binpacking-duration", "planning is bounded by work, not by time"),
    ("max-binpacking-time", "planning is bounded by work, not by time"),
    ("scale-down-simulation-timeout", "planning is bounded by work, not by time"),
    ("scale-down-non-empty-candidates-count", "every node is a candidate"),
    ("scale-down-candidates-pool-ratio", "every node is a candidate"),
    ("scale-down-candidates-pool-min-count", "every node is a candidate"),
    ("node-info-cache-expire-time", "nothing is cached beyond the watches"),
    ("parallel-scale-up", "several pools grow in one round anyway"),
    ("cluster-name", "no provider here needs it"),
];

/// Expanders that state no wish of the operator's: choosing pools together leaves nothing for them to choose.
const EXPANDER: (&str, &str) = ("expander", "pools are chosen together");
const EXPANDERS_WITHOUT_LOSS: [&str; 2] = ["least-waste", "random"];

/// Flags of Cluster Autoscaler whose meaning would be lost if they were taken silently.
const NOT_SERVED: &[&str] = &[
    "expander",
    "balance-similar-node-groups",
    "balancing-label",
    "balancing-ignore-label",
    "cores-total",
    "memory-total",
    "gpu-total",
    "new-pod-scale-up-delay",
    "enforce-node-group-min-size",
    "startup-taint",
    "startup-taint-prefix",
    "status-taint",
    "ignore-taint",
    "write-status-configmap",
    "status-config-map-name",
    "drain-priority-config",
    "scheduler-config-file",
    "capacity-buffer-controller-enabled",
    "capacity-quotas-enabled",
    "enable-provisioning-requests",
    "grpc-expander-url",
    "scale-down-gpu-utilization-threshold",
    "daemonset-eviction-for-empty-nodes",
    "daemonset-eviction-for-occupied-nodes",
];

/// What became of Cluster Autoscaler's flags that `controller` does not define itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sorted {
    /// The command line without them.
    pub(crate) arguments: Vec<String>,
    /// One sentence for each that was dropped.
    pub(crate) notes: Vec<String>,
    /// Flags, with their values, whose meaning would be lost.
    pub(crate) not_served: Vec<String>,
}

impl Sorted {
    /// `Err` names a flag that is known but not served yet.
    pub(crate) fn all_served(self) -> Result<Self, String> {
        match self.not_served.first() {
            None => Ok(self),
            Some(flag) => Err(format!(
                "{} is a flag of Cluster Autoscaler that Tideline does not serve yet; \
                 remove it if the cluster can do without (docs/controller.md lists what is served)",
                flag.split(['=', ' ']).next().unwrap_or_default()
            )),
        }
    }
}

/// Takes the flags without effect, and those that are not served, out of a command line.
pub(crate) fn sort(arguments: Vec<String>) -> Sorted {
    let mut sorted = Sorted::default();
    let mut rest = arguments.into_iter().peekable();
    while let Some(argument) = rest.next() {
        let name = argument.strip_prefix("--").map(|flag| flag.split('=').next().unwrap_or_default());
        let Some(name) = name else {
            sorted.arguments.push(argument);
            continue;
        };
        let mut without_effect = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name);
        let mut not_served = NOT_SERVED.contains(&name);
        let value = argument.split_once('=').map(|(_, value)| value).or(rest.peek().map(String::as_str));
        if name == EXPANDER.0 && value.is_some_and(|value| EXPANDERS_WITHOUT_LOSS.contains(&value)) {
            (without_effect, not_served) = (Some(&EXPANDER), false);
        }
        if without_effect.is_none() && !not_served {
            sorted.arguments.push(argument);
            continue;
        }
        if let Some((name, why)) = without_effect {
            sorted.notes.push(format!("--{name} has no effect: {why}"));
        }
        let mut whole = argument.clone();
        // `--flag value`: the value goes with it. Boolean flags take theirs with `=` only.
        if !argument.contains('=')
            && let Some(value) = rest.next_if(|next| !next.starts_with('-'))
        {
            whole = format!("{argument} {value}");
        }
        if not_served {
            sorted.not_served.push(whole);
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: PolicyFlags,
    }

    fn policies(arguments: &[&str]) -> Result<Policies, String> {
        let line = Line::try_parse_from([&["x"], arguments].concat()).map_err(|error| error.to_string())?;
        let mut policies = Policies::default();
        line.flags.apply(&mut policies);
        Ok(policies)
    }

    #[test]
    fn every_help_text_names_the_true_default() {
        let mut checked = 0;
        for argument in Line::command().get_arguments().filter(|a| a.get_id() != "help") {
            let name = argument.get_long().unwrap().to_owned();
            let help = argument.get_help().unwrap().to_string();
            let default = help.split("[default: ").nth(1).unwrap().trim_end_matches(']').to_owned();
            let given = policies(&[&format!("--{name}={default}")]).unwrap();
            assert_eq!(given, Policies::default(), "--{name}");
            checked += 1;
        }
        assert_eq!(checked, 32);
    }

    #[test]
    fn flags_change_what_they_name() {
        let given = policies(&[
            "--scale-down-unneeded-time=90s",
            "--scale-down-utilization-threshold",
            "0.65",
            "--skip-nodes-with-local-storage=false",
            "--max-nodes-total=12",
        ])
        .unwrap();
        assert_eq!(given.unneeded_time.as_secs(), 90);
        assert_eq!(given.utilization_threshold_percent, 65);
        assert!(!given.skip_nodes_with_local_storage);
        assert_eq!(given.max_nodes_total, 12);
    }

    #[test]
    fn wrong_values_and_names_are_refused_with_help() {
        for (argument, part) in [
            ("--scale-down-unneeded-time=10", "90s, 10m or 1h30m"),
            ("--scale-down-utilization-threshold=50", "between 0 and 1"),
            ("--scale-down-uneeded-time=10m", "--scale-down-unneeded-time"),
            ("--max-total-unready-percentage=120", "0..=100"),
        ] {
            let message = policies(&[argument]).unwrap_err();
            assert!(message.contains(part), "{argument}: {message}");
        }
    }

    #[test]
    fn foreign_flags_are_dropped_with_a_note_or_refused() {
        let line = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let sorted = sort(line("--scan-interval 5s --max-nodes-total 4 --logtostderr --v=4"));
        assert_eq!(sorted.arguments, line("--max-nodes-total 4 --v=4"));
        assert_eq!(sorted.notes.len(), 2);
        assert!(sorted.all_served().is_ok());
        let sorted = sort(line("--expander priority --v=4"));
        assert_eq!(
            (sorted.not_served.as_slice(), sorted.arguments.len()),
            (&["--expander priority".to_owned()][..], 1)
        );
        assert!(sorted.all_served().unwrap_err().starts_with("--expander is"));
        let sorted = sort(line("--expander=least-waste --expander random --v=4"));
        assert_eq!((sorted.arguments, sorted.notes.len()), (line("--v=4"), 2));
        assert!(sorted.not_served.is_empty());
    }
}
