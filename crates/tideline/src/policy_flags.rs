//! The flags that set policies, with Cluster Autoscaler's names and defaults.
//!
//! Owns the translation from flags to [`Policies`]; those of that program's flags that mean nothing here are in
//! `foreign_flags`. A flag that is not given keeps what it is applied to, so that the sandbox can start from defaults
//! of its own.

use crate::duration;
use clap::Args;
use jiff::SignedDuration;
use model::{Bounds, DrainGroup, Expander, MinValuesPolicy, Policies, UnreadyGate};
use std::sync::Arc;

/// Reads `0.5` as 50 per cent.
fn share(text: &str) -> Result<u32, String> {
    let share: f64 = text.parse().map_err(|_| format!("\"{text}\" is not a number between 0 and 1"))?;
    if !(0.0..=1.0).contains(&share) {
        return Err(format!("\"{text}\" is not between 0 and 1; write 0.5 for half of a node"));
    }
    Ok((share * 100.0).round() as u32)
}

/// Reads `0.05` as 50 parts of a thousand.
fn permille(text: &str) -> Result<u32, String> {
    let share: f64 = text.parse().map_err(|_| format!("\"{text}\" is not a number between 0 and 1"))?;
    if !(0.0..=1.0).contains(&share) {
        return Err(format!("\"{text}\" is not between 0 and 1; write 0.05 for a twentieth"));
    }
    Ok((share * 1000.0).round() as u32)
}

/// Reads a switch as Go's flags do.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("\"{text}\" is neither true nor false")),
    }
}

macro_rules! policy_flags {
    ($($(#[$meta:meta])* $flag:ident: $type:ty => $($field:ident).+),* $(,)?) => {
        /// Policies: what may be bought and removed, and when.
        #[derive(Args, Clone, Debug, Default)]
        #[command(next_help_heading = "Policies (Cluster Autoscaler's names and defaults)")]
        pub(crate) struct PolicyFlags {
            $($(#[$meta])* pub(crate) $flag: Option<$type>,)*
            #[command(flatten)]
            lists: ListFlags,
        }

        impl PolicyFlags {
            /// Changes the policies that a flag was given for.
            pub(crate) fn apply(&self, policies: &mut Policies) {
                $(if let Some(value) = &self.$flag { policies.$($field).+.clone_from(value); })*
                self.lists.apply(policies);
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
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
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
    /// Keep nodes with kube-system pods that have no budget (DaemonSet pods apart) [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    skip_nodes_with_system_pods: bool => skip_nodes_with_system_pods,
    /// Keep nodes with pods that use local storage [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    skip_nodes_with_local_storage: bool => skip_nodes_with_local_storage,
    /// Keep nodes with pods of controllers that are not Kubernetes' own [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    skip_nodes_with_custom_controller_pods: bool => skip_nodes_with_custom_controller_pods,
    /// kube-system pods without a budget stop blocking at this age; 0 is never (the name is as it is spelt there)
    /// [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    blocking_system_pod_distruption_timeout: SignedDuration => blocking_system_pod_timeout,
    /// Pods of workloads that want fewer replicas than this are not moved [default: 0]
    #[arg(long, value_name = "N")]
    min_replica_count: u32 => min_replica_count,
    /// Cordon a node, besides tainting it, before its pods are evicted [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    cordon_node_before_terminating: bool => cordon_node_before_terminating,
    /// Leave DaemonSet pods out when a node's use is computed [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    ignore_daemonsets_utilization: bool => ignore_daemonsets_utilization,
    /// Honour what pods merely prefer (affinity, spread, PreferNoSchedule) where that leaves no pod out [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    respect_preferences: bool => respect_preferences,
    /// Leave static pods out when a node's use is computed [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
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
    /// Move pods off a NodePool's machines only where each pod that moves saves this many hundredths of what a pod of
    /// its pool costs on average; pools with `consolidationPolicy: Balanced` ask for 50 [default: 10]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=1000))]
    consolidation_score_percent: u32 => consolidation_score_percent,
    /// Upper bound on the grace period of an evicted pod, in seconds [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_graceful_termination_sec: SignedDuration => max_graceful_termination,
    /// Cores of the whole cluster: removals keep the first number, purchases the second [default: 0:320000]
    #[arg(long, value_name = "MIN:MAX", value_parser = bounds)]
    cores_total: Bounds => ceilings.cores,
    /// GiB of memory of the whole cluster, likewise [default: 0:6400000]
    #[arg(long, value_name = "MIN:MAX", value_parser = bounds)]
    memory_total: Bounds => ceilings.memory_gib,
    /// Whether anything is bought while no node is ready [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    scale_up_from_zero: bool => scale_up_from_zero,
    /// Whether pools under their minimum are raised to it [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    enforce_node_group_min_size: bool => enforce_minimum,
    /// Whether pools whose machines are alike grow evenly [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    balance_similar_node_groups: bool => choice.balance_similar,
    /// By which part the memory of machines may differ that count as alike [default: 0.015]
    #[arg(long, value_name = "0..1", value_parser = permille)]
    memory_difference_ratio: u32 => choice.memory_difference_permille,
    /// By which part what pods may use of machines may differ that count as alike [default: 0.05]
    #[arg(long, value_name = "0..1", value_parser = permille)]
    max_allocatable_difference_ratio: u32 => choice.allocatable_difference_permille,
    /// A pod must be older than this before anything is bought for it; its annotation may lengthen the wait
    /// [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    new_pod_scale_up_delay: SignedDuration => new_pod_scale_up_delay,
    /// How long a node may take to become ready [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    max_node_startup_time: SignedDuration => max_startup_time,
    /// Whether nodes that are not ready are removed [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    scale_down_unready_enabled: bool => scale_down_unready_enabled,
    /// The part of a node's GPUs that makes it under-used; nothing else of such a node is looked at [default: 0.5]
    #[arg(long, value_name = "0..1", value_parser = share)]
    scale_down_gpu_utilization_threshold: u32 => gpu_utilization_threshold_percent,
    /// Whether the three waits after a change hold only for the pool where it happened [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    scale_down_delay_type_local: bool => delay_type_local,
    /// What rests while too many nodes are not ready: removals in the ill zones and pools, or everything in the
    /// whole cluster as in Cluster Autoscaler [default: zone]
    #[arg(long, value_name = "zone|cluster", value_parser = gate)]
    unready_gate: UnreadyGate => unready_gate,
    /// What minValues of a NodePool's requirement means where it cannot be kept: Strict buys no such machine, BestEffort
    /// keeps it as far as it can be [default: Strict]
    #[arg(long, value_name = "Strict|BestEffort", value_parser = min_values)]
    min_values_policy: MinValuesPolicy => choice.min_values,
    /// Give machines that never joined back below the pool's minimum, too [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    force_delete_unregistered_nodes: bool => draining.force_delete_unregistered,
    /// Give machines that failed back below the pool's minimum, too [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    force_delete_failed_nodes: bool => draining.force_delete_failed,
    /// How long annotations delay-deletion.cluster-autoscaler.kubernetes.io/… of a node hold its deletion back
    /// [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    node_deletion_delay_timeout: SignedDuration => draining.deletion_delay_limit,
    /// Evict DaemonSet pods, too, from nodes that hold no others [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    daemonset_eviction_for_empty_nodes: bool => draining.evict_daemon_sets_from_empty,
    /// Evict DaemonSet pods, too, from nodes that hold others [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    daemonset_eviction_for_occupied_nodes: bool => draining.evict_daemon_sets_from_occupied,
    /// Soft taints of unneeded nodes that one round may put on or take off; 0 uses none [default: 10]
    #[arg(long, value_name = "N")]
    max_bulk_soft_taint_count: u32 => draining.soft_taints,
    /// Missing replicas of waiting pods' owners that a round plans for ahead of their creation [default: 5000]
    #[arg(long, value_name = "N")]
    pod_injection_limit: u32 => missing_replicas_limit,
}

/// Flags that may be given more than once, or that hold a list.
#[derive(Args, Clone, Debug, Default)]
struct ListFlags {
    /// A label that may differ between pools that are alike, beside zone, host name and the like; once for each
    #[arg(long, value_name = "KEY", conflicts_with = "balancing_label")]
    balancing_ignore_label: Vec<Arc<str>>,
    /// Pools are alike when these labels are, whatever else differs; once for each
    #[arg(long, value_name = "KEY")]
    balancing_label: Vec<Arc<str>>,
    /// How a purchase is chosen among several: random, most-pods, least-waste, least-nodes, price, priority, grpc, or some
    /// of them in order, with commas between [default: the pools' priority, their price, then least-waste]
    #[arg(long, value_name = "NAMES", value_parser = expanders)]
    expander: Option<Expanders>,
    /// Evict by priority, the lowest first: pods from each priority up are given so many seconds
    #[arg(long, value_name = "PRIORITY:SECONDS,…", value_parser = drain_groups, conflicts_with = "max_graceful_termination_sec", allow_hyphen_values = true)]
    drain_priority_config: Option<DrainGroups>,
    /// A taint that nodes carry while they start, beside those that begin with
    /// startup-taint.cluster-autoscaler.kubernetes.io/; once for each
    #[arg(long, value_name = "KEY", visible_alias = "ignore-taint")]
    startup_taint: Vec<Arc<str>>,
    /// The beginning of such taints; once for each
    #[arg(long, value_name = "PREFIX")]
    startup_taint_prefix: Vec<Arc<str>>,
    /// A taint that says something of a node that counts as ready, beside those that begin with
    /// status-taint.cluster-autoscaler.kubernetes.io/; once for each
    #[arg(long, value_name = "KEY")]
    status_taint: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Expanders(Vec<Expander>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct DrainGroups(Vec<DrainGroup>);

impl ListFlags {
    fn apply(&self, policies: &mut Policies) {
        if let Some(Expanders(expanders)) = &self.expander {
            policies.choice.expanders.clone_from(expanders);
        }
        if let Some(DrainGroups(groups)) = &self.drain_priority_config {
            policies.draining.priority_groups.clone_from(groups);
        }
        let Policies { taints, choice, .. } = policies;
        for (given, kept) in [
            (&self.startup_taint, &mut taints.startup),
            (&self.startup_taint_prefix, &mut taints.startup_prefixes),
            (&self.status_taint, &mut taints.status),
            (&self.balancing_ignore_label, &mut choice.balancing_ignored_labels),
            (&self.balancing_label, &mut choice.balancing_labels),
        ] {
            if !given.is_empty() {
                kept.clone_from(given);
            }
        }
    }
}

fn expanders(text: &str) -> Result<Expanders, String> {
    let mut named: Vec<Expander> = Vec::new();
    for name in text.split(',').map(str::trim) {
        let Some(expander) = Expander::ALL.into_iter().find(|known| known.name() == name) else {
            let known: Vec<_> = Expander::ALL.iter().map(|known| known.name()).collect();
            return Err(format!("\"{name}\" is no expander; write one of {}", known.join(", ")));
        };
        if named.contains(&expander) {
            return Err(format!("{name} is there twice; name each expander once"));
        }
        named.push(expander);
    }
    Ok(Expanders(named))
}

fn drain_groups(text: &str) -> Result<DrainGroups, String> {
    let mut groups: Vec<DrainGroup> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let read = part.split_once(':').and_then(|(priority, grace)| {
            Some((priority.trim().parse().ok()?, grace.trim().parse::<u32>().ok()?))
        });
        let Some((priority, seconds)) = read else {
            return Err(format!("\"{part}\" is not PRIORITY:SECONDS, such as 1000:600"));
        };
        if groups.iter().any(|group| group.priority == priority) {
            return Err(format!("priority {priority} is there twice; name each once"));
        }
        groups.push(DrainGroup { priority, grace: SignedDuration::from_secs(i64::from(seconds)) });
    }
    groups.sort_by_key(|group| group.priority);
    Ok(DrainGroups(groups))
}

fn bounds(text: &str) -> Result<Bounds, String> {
    let read = text
        .split_once(':')
        .and_then(|(min, max)| Some((min.trim().parse().ok()?, max.trim().parse().ok()?)));
    let Some((min, max)) = read else {
        return Err(format!("\"{text}\" is not MIN:MAX, such as 0:320000"));
    };
    if min > max {
        return Err(format!("{min} is over {max}; write the smaller number first"));
    }
    Ok(Bounds { min, max })
}

fn gate(text: &str) -> Result<UnreadyGate, String> {
    match text {
        "zone" => Ok(UnreadyGate::Zone),
        "cluster" => Ok(UnreadyGate::Cluster),
        _ => Err(format!("\"{text}\" is neither zone nor cluster")),
    }
}

fn min_values(text: &str) -> Result<MinValuesPolicy, String> {
    match text {
        "Strict" => Ok(MinValuesPolicy::Strict),
        "BestEffort" => Ok(MinValuesPolicy::BestEffort),
        _ => Err(format!("\"{text}\" is neither Strict nor BestEffort")),
    }
}

fn seconds(text: &str) -> Result<SignedDuration, String> {
    let seconds: u32 = text.parse().map_err(|_| format!("\"{text}\" is not a whole number of seconds"))?;
    Ok(SignedDuration::from_secs(i64::from(seconds)))
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
        let is_list = |name: &str| {
            let lists = [
                "expander",
                "drain-priority-config",
                "startup-taint",
                "startup-taint-prefix",
                "status-taint",
                "balancing-label",
                "balancing-ignore-label",
            ];
            lists.contains(&name)
        };
        let command = Line::command();
        let with_default = |a: &&clap::Arg| a.get_id() != "help" && !a.get_long().is_some_and(is_list);
        for argument in command.get_arguments().filter(with_default) {
            let name = argument.get_long().unwrap().to_owned();
            let help = argument.get_help().unwrap().to_string();
            let default = help.split("[default: ").nth(1).unwrap().trim_end_matches(']').to_owned();
            let given = policies(&[&format!("--{name}={default}")]).unwrap();
            assert_eq!(given, Policies::default(), "--{name}");
            checked += 1;
        }
        assert!(checked >= 50, "only {checked} flags were looked at");
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
        let given = policies(&[
            "--expander=priority,least-waste",
            "--drain-priority-config=1000:60,-5:10",
            "--startup-taint=a",
            "--ignore-taint=b",
            "--cores-total=4:100",
            "--unready-gate=cluster",
            "--scale-down-unready-enabled=F",
        ])
        .unwrap();
        assert_eq!(given.choice.expanders, [Expander::Priority, Expander::LeastWaste]);
        let groups: Vec<_> =
            given.draining.priority_groups.iter().map(|g| (g.priority, g.grace.as_secs())).collect();
        assert_eq!(groups, [(-5, 10), (1000, 60)]);
        assert_eq!(given.taints.startup, [Arc::from("a"), Arc::from("b")]);
        assert_eq!(given.ceilings.cores, Bounds { min: 4, max: 100 });
        assert_eq!(given.unready_gate, UnreadyGate::Cluster);
        assert!(!given.scale_down_unready_enabled);
    }

    #[test]
    fn wrong_values_and_names_are_refused_with_help() {
        for (argument, part) in [
            ("--scale-down-unneeded-time=10", "90s, 10m or 1h30m"),
            ("--scale-down-utilization-threshold=50", "between 0 and 1"),
            ("--scale-down-uneeded-time=10m", "--scale-down-unneeded-time"),
            ("--max-total-unready-percentage=120", "0..=100"),
            ("--expander=random,random", "twice"),
            ("--expander=cheapest", "least-waste"),
            ("--drain-priority-config=10", "1000:600"),
            ("--memory-difference-ratio=2", "0.05"),
            ("--cores-total=9:1", "smaller number first"),
            ("--scale-down-enabled=yes", "neither true nor false"),
        ] {
            let message = policies(&[argument]).unwrap_err();
            assert!(message.contains(part), "{argument}: {message}");
        }
    }
}
