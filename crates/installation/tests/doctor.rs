//! What doctor says of clusters that have something wrong with them, and of one that has not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use installation::doctor::{Access, Facts, Finding, Level, examine};
use serde_json::{Value, json};

fn well() -> Facts {
    Facts { version: (1, 33), skew_seconds: Some(1), subject: "tideline".into(), ..Facts::default() }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// The findings that are not well, as `level check: what` lines.
fn complaints(facts: &Facts) -> Vec<String> {
    let bad = |finding: &&Finding| finding.level != Level::Ok;
    let line = |finding: &Finding| {
        assert!(!finding.fix.is_empty(), "a finding without a fix: {finding:?}");
        format!("{:?} {}: {}", finding.level, finding.check, finding.what)
    };
    examine(facts).iter().filter(bad).map(line).collect()
}

fn deployment(name: &str, image: &str, replicas: u32) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"replicas": replicas, "selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}},
    })
}

#[test]
fn a_well_cluster_has_nothing_to_complain_about() {
    assert_eq!(complaints(&well()), Vec::<String>::new());
}

#[test]
fn old_servers_wrong_clocks_and_missing_rights_are_problems() {
    let facts = Facts {
        version: (1, 24),
        skew_seconds: Some(-90),
        access: vec![
            Access { what: "list pods".into(), allowed: true },
            Access { what: "update nodes".into(), allowed: false },
        ],
        ..well()
    };
    assert_eq!(
        complaints(&facts),
        [
            "Problem clock: the API server's clock and this machine's are 90 s apart",
            "Problem permissions: tideline lacks 1 of the 2 rights that it needs: nodes: update",
            "Problem version: Kubernetes 1.24",
        ]
    );
}

#[test]
fn another_autoscaler_is_a_problem_unless_it_is_stopped_or_us() {
    let mut facts = well();
    facts.deployments = vec![
        read(deployment("cluster-autoscaler", "registry.k8s.io/autoscaling/cluster-autoscaler:v1.33.0", 1)),
        read(deployment("karpenter", "public.ecr.aws/karpenter/controller:1.13", 0)),
        read(deployment("cluster-autoscaler-2", "example/tideline:0.1", 2)),
    ];
    assert_eq!(
        complaints(&facts),
        [
            "Problem autoscalers: Cluster Autoscaler runs as deployment kube-system/cluster-autoscaler and changes nodes"
        ]
    );
}

#[test]
fn two_scalers_of_one_workload_fight() {
    let mut facts = well();
    facts.scalers = vec![
        ("deployment default/web".into(), "HPA web".into()),
        ("deployment default/api".into(), "HPA api".into()),
        ("deployment default/web".into(), "IHPA web-ahead".into()),
    ];
    assert_eq!(
        complaints(&facts),
        ["Problem targets: deployment default/web is scaled by HPA web and by IHPA web-ahead"]
    );
}

#[test]
fn budgets_that_never_allow_anything_are_told_from_those_that_wait() {
    let budget = |name: &str, spec: Value, healthy: u32, desired: u32, expected: u32| {
        read(json!({
            "metadata": {"name": name, "namespace": "default"}, "spec": spec,
            "status": {"currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
                       "disruptionsAllowed": healthy.saturating_sub(desired)},
        }))
    };
    let mut facts = well();
    facts.budgets = vec![
        budget("never", json!({"maxUnavailable": 0}), 3, 3, 3),
        budget("all", json!({"minAvailable": "100%"}), 3, 3, 3),
        budget("ill", json!({"minAvailable": 2}), 2, 2, 3),
        budget("well", json!({"maxUnavailable": 1}), 3, 2, 3),
        budget("empty", json!({"maxUnavailable": 0}), 0, 0, 0),
    ];
    assert_eq!(
        complaints(&facts),
        [
            "Problem budgets: budget default/all never allows an eviction: minAvailable is 100% of 3 pods",
            "Problem budgets: budget default/never never allows an eviction: maxUnavailable is 0 of 3 pods",
            "Warning budgets: budget default/ill allows no eviction now: 2 of 3 pods are healthy, 2 must be",
        ]
    );
}

#[test]
fn pods_that_hold_their_nodes_are_named_by_reason() {
    let pod = |name: &str, annotations: Value, owner: Option<&str>, volumes: Value| {
        let owners: Vec<Value> = owner
            .map(|kind| json!({"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": true}))
            .into_iter()
            .collect();
        read(json!({
            "metadata": {"name": name, "namespace": "default", "annotations": annotations, "ownerReferences": owners},
            "spec": {"nodeName": "n", "containers": [], "volumes": volumes},
        }))
    };
    let mut facts = well();
    facts.pods = vec![
        pod("bare", json!({}), None, json!([])),
        pod(
            "bare-but-marked",
            json!({"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}),
            None,
            json!([]),
        ),
        pod("held", json!({"karpenter.sh/do-not-disrupt": "true"}), Some("ReplicaSet"), json!([])),
        pod("local", json!({}), Some("ReplicaSet"), json!([{"name": "v", "emptyDir": {}}])),
        pod(
            "in-memory",
            json!({}),
            Some("ReplicaSet"),
            json!([{"name": "v", "emptyDir": {"medium": "Memory"}}]),
        ),
        pod("daemon", json!({}), Some("DaemonSet"), json!([{"name": "v", "hostPath": {"path": "/"}}])),
    ];
    assert_eq!(
        complaints(&facts),
        [
            "Warning pods: an annotation forbids the eviction of: default/held; their nodes are never removed",
            "Warning pods: nothing would make them again: default/bare; their nodes are never removed",
            "Warning pods: they keep data on their node: default/local; their nodes are never removed",
        ]
    );
}

#[test]
fn pools_that_cannot_do_what_they_say_are_named() {
    let pool = |name: &str, annotations: Value| {
        read(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "MachineDeployment",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        }))
    };
    let (min, max) = (
        "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size",
        "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size",
    );
    let mut facts = well();
    facts.machine_deployments = vec![
        pool("a-half", json!({min: "1"})),
        pool("b-over", json!({min: "3", max: "2"})),
        pool("c-text", json!({min: "one", max: "2"})),
        pool("d-zero", json!({min: "0", max: "2"})),
        pool("e-well", json!({min: "0", max: "2", "capacity.cluster-autoscaler.kubernetes.io/cpu": "4"})),
        pool("f-none", json!({})),
    ];
    let said = complaints(&facts);
    assert_eq!(said.len(), 4, "{said:?}");
    for (line, part) in said.iter().zip([
        "a-half has one of two size annotations",
        "b-over: minimum 3 is over maximum 2",
        "c-text: sizes \"one\" and \"2\"",
        "d-zero may shrink to 0",
    ]) {
        assert!(line.contains(part), "{line}");
    }
}
