//! What to watch of a running installation: alert rules for Prometheus and a dashboard for Grafana.
//!
//! Owns the table of alerts and the list of panels; both files are written from them. The metrics themselves are the
//! controller's; a test holds every name used here against those it has.

use serde_json::{Value, json};
use std::fmt::Write as _;

/// One alert.
#[derive(Clone, Copy, Debug)]
pub struct Alert {
    pub name: &'static str,
    pub expression: &'static str,
    /// How long it must hold.
    pub lasting: &'static str,
    pub severity: &'static str,
    pub summary: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

/// Alerts, the gravest first.
pub const ALERTS: &[Alert] = &[
    Alert {
        name: "TidelineNobodyLeads",
        expression: "absent(tideline_leader) or max(tideline_leader) < 1",
        lasting: "5m",
        severity: "critical",
        summary: "No replica of Tideline leads: nothing is scaled",
        fix: "kubectl -n kube-system get pods,lease; look at the log of the replicas for the error that ended them",
    },
    Alert {
        name: "TidelinePlanRefused",
        expression: "increase(tideline_errors_total{type=\"planRefused\"}[15m]) > 0",
        lasting: "0m",
        severity: "critical",
        summary: "A plan broke an invariant and was not carried out: this is a mistake of the program",
        fix: "keep the journal and report it; the event PlanRefused names the invariant",
    },
    Alert {
        name: "TidelineInputStale",
        expression: "min by (input) (tideline_input_fresh) < 1",
        lasting: "10m",
        severity: "warning",
        summary: "{{ $labels.input }} cannot be read: nothing is planned that needs them",
        fix: "see the log for the error: a missing right, a throttled API, expired keys",
    },
    Alert {
        name: "TidelinePodsWait",
        expression: "max(tideline_unschedulable_pods_count) > 0",
        lasting: "30m",
        severity: "warning",
        summary: "{{ $value }} pods have waited for a node for half an hour",
        fix: "tideline status, then tideline explain pod for one of them",
    },
    Alert {
        name: "TidelinePoolBacksOff",
        expression: "max by (node_group) (tideline_node_group_backoff_status) > 0",
        lasting: "15m",
        severity: "warning",
        summary: "Pool {{ $labels.node_group }} fails to deliver machines",
        fix: "tideline explain pool {{ $labels.node_group }} names the provider's error",
    },
    Alert {
        name: "TidelineScaleUpsFail",
        expression: "sum by (reason) (increase(tideline_failed_scale_ups_total[1h])) > 3",
        lasting: "0m",
        severity: "warning",
        summary: "Orders of machines fail with {{ $labels.reason }}",
        fix: "see quota, capacity and rights at the provider",
    },
    Alert {
        name: "TidelinePoolFull",
        expression: "max by (node_group) (tideline_node_group_target_count) >= max by (node_group) (tideline_node_group_max_count) and on () max(tideline_unschedulable_pods_count) > 0",
        lasting: "15m",
        severity: "warning",
        summary: "Pool {{ $labels.node_group }} is at its maximum while pods wait",
        fix: "raise its maximum, or see what runs there",
    },
    Alert {
        name: "TidelineEvictionsFail",
        expression: "sum(increase(tideline_evicted_pods_total{eviction_result=\"failed\"}[1h])) > 3",
        lasting: "0m",
        severity: "warning",
        summary: "Drains are held up: evictions fail",
        fix: "tideline status --nodes names the nodes and the pods that hold them",
    },
    Alert {
        name: "TidelinePoisonObjects",
        expression: "increase(tideline_poison_objects_total[15m]) > 0",
        lasting: "0m",
        severity: "warning",
        summary: "Objects of the cluster cannot be read and are left out",
        fix: "the log names object and field",
    },
    Alert {
        name: "TidelineSlow",
        expression: "histogram_quantile(0.99, sum by (le) (rate(tideline_event_to_plan_seconds_bucket[10m]))) > 5",
        lasting: "15m",
        severity: "warning",
        summary: "From a change to its plan takes {{ $value | humanizeDuration }}",
        fix: "give the controller more CPU; see throttling of its container",
    },
    Alert {
        name: "TidelineWorkloadsNobodyLeads",
        expression: "max(tideline_workloads_leader) < 1",
        lasting: "5m",
        severity: "warning",
        summary: "No replica acts on autoscalers of workloads",
        fix: "see who holds the Lease kapacity-manager.kapacitystack.io, and the log of the replicas",
    },
    Alert {
        name: "TidelineWorkloadsStale",
        expression: "max(tideline_workloads_ready) < 1",
        lasting: "10m",
        severity: "warning",
        summary: "Workloads are left as they are: the cluster cannot be watched",
        fix: "see the log for the error: a missing right, a throttled API",
    },
    Alert {
        name: "TidelineAutoscalersInactive",
        expression: "max by (reason) (tideline_workloads_autoscalers_inactive{reason!=\"ScalingPaused\"}) > 0",
        lasting: "15m",
        severity: "warning",
        summary: "{{ $value }} autoscalers do not scale: {{ $labels.reason }}",
        fix: "kubectl get ihpa -A; the condition ScalingActive of each says why",
    },
    Alert {
        name: "TidelinePortraitsFail",
        expression: "max by (reason) (tideline_workloads_portraits{reason=~\"Failed.*\"}) > 0",
        lasting: "15m",
        severity: "warning",
        summary: "{{ $value }} portraits cannot be made: {{ $labels.reason }}",
        fix: "kubectl get hp -A; the condition PortraitGenerated of each names the metric and the fix",
    },
];

/// The rules as a file of Prometheus; a test of promtool's reads the same.
pub fn rules() -> String {
    let mut text = String::from("groups:\n  - name: tideline\n    rules:\n");
    for alert in ALERTS {
        let quoted = |text: &str| Value::from(text).to_string();
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        \
             annotations:\n          summary: {}\n          description: {}\n",
            alert.name,
            quoted(alert.expression),
            alert.lasting,
            alert.severity,
            quoted(alert.summary),
            quoted(alert.fix)
        );
    }
    text
}

/// A panel: title, unit, queries with their legends.
type Panel = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const PANELS: &[Panel] = &[
    ("Nodes by state", "short", &[("max by (state) (tideline_nodes_count)", "{{state}}")]),
    ("Pods that find no node", "short", &[("max(tideline_unschedulable_pods_count)", "unschedulable")]),
    (
        "Pools: asked for and at most",
        "short",
        &[
            ("max by (node_group) (tideline_node_group_target_count)", "{{node_group}}"),
            ("max by (node_group) (tideline_node_group_max_count)", "{{node_group}} max"),
        ],
    ),
    (
        "Machines ordered and given back an hour",
        "short",
        &[
            ("sum(increase(tideline_scaled_up_nodes_total[1h]))", "ordered"),
            ("sum by (reason) (increase(tideline_scaled_down_nodes_total[1h]))", "given back: {{reason}}"),
            ("sum by (reason) (increase(tideline_failed_scale_ups_total[1h]))", "failed: {{reason}}"),
        ],
    ),
    (
        "From a pod's creation to its node",
        "s",
        &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(tideline_pod_pending_to_node_seconds_bucket[30m])))",
                "p50",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(tideline_pod_pending_to_node_seconds_bucket[30m])))",
                "p99",
            ),
        ],
    ),
    (
        "From a change to its plan",
        "s",
        &[
            (
                "histogram_quantile(0.99, sum by (le) (rate(tideline_event_to_plan_seconds_bucket[10m])))",
                "event to plan, p99",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(tideline_decide_seconds_bucket[10m])))",
                "deciding, p99",
            ),
        ],
    ),
    (
        "Why nodes are kept",
        "short",
        &[
            ("max by (reason) (tideline_unremovable_nodes_count)", "{{reason}}"),
            ("max(tideline_unneeded_nodes_count)", "may go"),
            ("max(tideline_pending_node_deletions)", "going"),
        ],
    ),
    (
        "Evictions an hour",
        "short",
        &[("sum by (eviction_result) (increase(tideline_evicted_pods_total[1h]))", "{{eviction_result}}")],
    ),
    (
        "Pools that back off",
        "short",
        &[("max by (node_group) (tideline_node_group_backoff_status)", "{{node_group}}")],
    ),
    (
        "Leader and inputs",
        "short",
        &[("max(tideline_leader)", "somebody leads"), ("min by (input) (tideline_input_fresh)", "{{input}}")],
    ),
    (
        "Autoscalers of workloads",
        "short",
        &[
            ("max by (state) (tideline_workloads_autoscalers_by_state)", "{{state}}"),
            ("max by (reason) (tideline_workloads_autoscalers_inactive)", "inactive: {{reason}}"),
            ("max by (reason) (tideline_workloads_portraits{reason=~\"Failed.*\"})", "portraits: {{reason}}"),
        ],
    ),
    (
        "Replicas of workloads by state",
        "short",
        &[
            ("sum by (state) (max by (namespace, name, state) (tideline_workloads_replicas))", "{{state}}"),
            ("sum(max by (namespace, name) (tideline_workloads_desired_replicas))", "desired"),
        ],
    ),
    (
        "Scales written and pods cut off or brought back, an hour",
        "short",
        &[
            ("sum(increase(tideline_workloads_rescales_total[1h]))", "scales"),
            ("sum(increase(tideline_workloads_pods_touched_total[1h]))", "pods"),
            ("sum(increase(tideline_workloads_failures_total[1h]))", "failures"),
        ],
    ),
    (
        "Forecasts of workloads: error and age",
        "short",
        &[
            (
                "max by (namespace, name) (tideline_workloads_forecast_error_ratio)",
                "error of {{namespace}}/{{name}}",
            ),
            ("max(tideline_workloads_forecast_age_seconds) / 3600", "oldest, hours"),
        ],
    ),
];

const WIDTH: usize = 12;
const HEIGHT: usize = 8;

/// The dashboard as Grafana imports it.
pub fn dashboard() -> String {
    let panel = |(place, (title, unit, queries)): (usize, &Panel)| {
        let target = |(number, (expression, legend)): (usize, &(&str, &str))| {
            json!({
                "refId": char::from(b'A' + u8::try_from(number).unwrap_or(25)).to_string(),
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "expr": expression,
                "legendFormat": legend,
            })
        };
        json!({
            "id": place + 1,
            "type": "timeseries",
            "title": title,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "gridPos": {"x": place % 2 * WIDTH, "y": place / 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": queries.iter().enumerate().map(target).collect::<Vec<_>>(),
        })
    };
    let dashboard = json!({
        "uid": "tideline",
        "title": "Tideline",
        "tags": ["tideline", "autoscaling"],
        "schemaVersion": 39,
        "editable": true,
        "time": {"from": "now-24h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}]},
        "panels": PANELS.iter().enumerate().map(panel).collect::<Vec<_>>(),
    });
    format!("{dashboard:#}\n")
}

/// Every metric that alerts and panels read, by its name in the code: without a counter's or histogram's ending.
pub fn metrics() -> std::collections::BTreeSet<String> {
    let queries = PANELS.iter().flat_map(|(_, _, queries)| queries.iter().map(|(query, _)| *query));
    let all = ALERTS.iter().map(|alert| alert.expression).chain(queries);
    let words =
        all.flat_map(|text| text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_'));
    words
        .filter(|word| word.starts_with("tideline_"))
        .map(|word| word.trim_end_matches("_total").trim_end_matches("_bucket").to_owned())
        .collect()
}
