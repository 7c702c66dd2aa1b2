//! Cluster Autoscaler's flags that set nothing here: taken, and named once at start with the reason.
//!
//! Owns the two lists and taking their flags out of a command line. A flag that neither stands here nor is defined is
//! an error, with the nearest name.

/// Flags that tune how that program works inside.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("scan-interval", "rounds follow events, not a tick"),
    ("frequent-loops-enabled", "rounds follow events, not a tick"),
    ("pending-pods-batching-timeout", "news is gathered for two seconds at most"),
    ("logtostderr", "logs always go to standard error"),
    ("alsologtostderr", "logs always go to standard error"),
    ("legacy-stderr-threshold-behavior", "logs always go to standard error"),
    ("stderrthreshold", "use -v or RUST_LOG"),
    ("vmodule", "use RUST_LOG"),
    ("log-dir", "logs always go to standard error"),
    ("log-file", "logs always go to standard error"),
    ("log-file-max-size", "logs always go to standard error"),
    ("log-flush-frequency", "logs are not held back"),
    ("log-backtrace-at", "logs are JSON"),
    ("logging-format", "logs are JSON"),
    ("log-json-split-stream", "logs always go to standard error"),
    ("log-json-info-buffer-size", "logs are not held back"),
    ("log-text-split-stream", "logs are JSON"),
    ("log-text-info-buffer-size", "logs are JSON"),
    ("add-dir-header", "logs are JSON"),
    ("skip-headers", "logs are JSON"),
    ("skip-log-headers", "logs are JSON"),
    ("one-output", "logs always go to standard error"),
    ("kube-api-content-type", "the client chooses"),
    ("kube-client-qps", "requests are few: the watches carry the state"),
    ("kube-client-burst", "requests are few: the watches carry the state"),
    ("user-agent", "the user agent is tideline"),
    ("estimator", "there is one estimator"),
    ("predicate-parallelism", "planning is fast on one core"),
    ("max-nodegroup-binpacking-duration", "planning is bounded by work, not by time"),
    ("max-binpacking-time", "planning is bounded by work, not by time"),
    ("fastpath-binpacking-enabled", "pods that are alike are always packed together"),
    ("salvo-scale-up", "all pools are decided on together in one round"),
    ("salvo-scale-up-budget", "all pools are decided on together in one round"),
    ("scale-down-simulation-timeout", "planning is bounded by work, not by time"),
    ("scale-down-non-empty-candidates-count", "every node is a candidate"),
    ("scale-down-candidates-pool-ratio", "every node is a candidate"),
    ("scale-down-candidates-pool-min-count", "every node is a candidate"),
    ("unremovable-node-recheck-timeout", "nodes are looked at again when something on them changes"),
    ("node-info-cache-expire-time", "nothing is cached beyond the watches"),
    (
        "max-free-difference-ratio",
        "pools are alike by what their machines offer, not by what is free there now",
    ),
    ("parallel-scale-up", "several pools grow in one round anyway"),
    ("async-node-groups", "no provider here makes pools"),
    ("node-autoprovisioning-enabled", "no provider here makes pools"),
    ("max-autoprovisioned-node-group-count", "no provider here makes pools"),
    (
        "enable-proactive-scaleup",
        "missing replicas are always planned for; --pod-injection-limit bounds them",
    ),
    ("force-ds", "DaemonSet pods that are still to come are always counted"),
    ("scale-from-unschedulable", "a cordon is never part of what a new node looks like"),
    ("enable-graceful-degradation", "neither growth nor removal can starve the other"),
    ("enable-csi-node-aware-scheduling", "attach limits are always looked at"),
    (
        "node-deletion-batcher-interval",
        "machines are given back by name, several in one call where the provider can",
    ),
    ("dynamic-node-delete-delay-after-taint-enabled", "the mark is waited for until the watch shows it"),
    ("max-bulk-soft-taint-time", "--max-bulk-soft-taint-count bounds the writes of a round"),
    ("node-deletion-candidate-ttl", "since when nodes are unneeded is kept in the ledger"),
    ("emit-per-nodegroup-metrics", "metrics name the pools anyway"),
    ("record-duplicated-events", "a repeat raises the count of its event"),
    ("debugging-snapshot-enabled", "/api/v1/state shows what is seen and why"),
    ("profiling", "there is no profiler"),
    ("capacity-buffer-pod-dry-run-enabled", "pods of buffers are never made, not even for a trial"),
    ("provisioning-request-max-backoff-cache-size", "waits are read from the requests' conditions"),
    ("check-capacity-batch-processing", "every round looks at all checks of capacity"),
    ("check-capacity-provisioning-request-max-batch-size", "every round looks at all checks of capacity"),
    ("check-capacity-provisioning-request-batch-timebox", "every round looks at all checks of capacity"),
    ("kubernetes", "use --kubeconfig"),
    ("leader-elect-resource-lock", "the lock is always a Lease"),
    ("leader-elect-resource-namespace", "the Lease is in --namespace"),
];

/// Flags whose meaning is lost: the cluster has to do without.
const NOT_SERVED: &[(&str, &str)] = &[
    ("gpu-total", "bound the pools with GPUs by their maxima"),
    ("scheduler-config-file", "the default scheduler's filters are planned with"),
    ("bypassed-scheduler-names", "only what the scheduler has refused is bought for"),
    ("allowed-scheduler-names", "pods of every scheduler are bought for"),
    ("capacity-quotas-enabled", "use --max-nodes-total, --cores-total and --memory-total"),
    ("enable-dynamic-resource-allocation", "pods with resource claims are left to the scheduler"),
];

/// What became of Cluster Autoscaler's flags that `controller` does not define itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sorted {
    /// The command line without them.
    pub(crate) arguments: Vec<String>,
    /// One sentence for each that was dropped.
    pub(crate) notes: Vec<String>,
}

/// The name of a flag, with the underscores of klog's flags as the dashes that they stand for.
fn name_of(argument: &str) -> Option<String> {
    let flag = argument.strip_prefix("--")?;
    let name = flag.split('=').next().unwrap_or_default();
    (!name.is_empty()).then(|| name.replace('_', "-"))
}

/// Takes the flags that set nothing out of a command line.
pub(crate) fn sort(arguments: Vec<String>) -> Sorted {
    let mut sorted = Sorted::default();
    let mut rest = arguments.into_iter().peekable();
    while let Some(argument) = rest.next() {
        let Some(name) = name_of(&argument) else {
            sorted.arguments.push(argument);
            continue;
        };
        let listed =
            |list: &[(&'static str, &'static str)]| list.iter().find(|(known, _)| *known == name).copied();
        let note = match (listed(WITHOUT_EFFECT), listed(NOT_SERVED)) {
            (Some((name, why)), _) => format!("--{name} has no effect: {why}"),
            (None, Some((name, why))) => format!("--{name} is not served: {why}"),
            (None, None) => {
                let value =
                    argument.split_once('=').map(|(_, value)| format!("={value}")).unwrap_or_default();
                sorted.arguments.push(format!("--{name}{value}"));
                continue;
            }
        };
        if !sorted.notes.contains(&note) {
            sorted.notes.push(note);
        }
        // `--flag value`: the value goes with it. Boolean flags take theirs with `=` only.
        if !argument.contains('=') {
            let _value = rest.next_if(|next| !next.starts_with('-'));
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn foreign_flags_are_dropped_with_a_note_each() {
        let sorted = sort(line("--scan-interval 5s --max-nodes-total 4 --logtostderr --log_dir=/x --v=4"));
        assert_eq!(sorted.arguments, line("--max-nodes-total 4 --v=4"));
        assert_eq!(sorted.notes.len(), 3);
        let sorted = sort(line("--gpu-total a:1:2 --gpu-total=b:1:2 --v=4"));
        assert_eq!((sorted.arguments, sorted.notes.len()), (line("--v=4"), 1));
        assert!(sorted.notes[0].starts_with("--gpu-total is not served"));
    }

    #[test]
    fn underscores_are_dashes_in_names_and_stay_in_values() {
        let sorted = sort(line("--max_nodes_total=4 --startup-taint=a_b"));
        assert_eq!(sorted.arguments, line("--max-nodes-total=4 --startup-taint=a_b"));
    }
}
