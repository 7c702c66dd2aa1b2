//! The accident of the Redis clusters: under-used nodes whose pods have no cheaper place stay where they are.
//!
//! The control is a planner that removes under-used nodes although their pods fit nowhere else, as the operators of the
//! story saw it: it buys the machines again and again. Ours buys once.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use controller::Controller;
use nodes::{PlantedBug, decide_with};
use serde_json::json;
use simulator::{Options, Report, Scenario, simulate};
use std::path::Path;

fn scenario() -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scenarios/redis.yaml");
    Scenario::read(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn run(scenario: &Scenario, alter: Option<fn(Controller) -> Controller>) -> Report {
    simulate(scenario, Options { alter, ..Options::default() }).unwrap()
}

/// Nodes go when they are under-used, wherever their pods are to go.
fn naive(controller: Controller) -> Controller {
    controller.with_decide(|cluster, policies, ledger, now| {
        decide_with(cluster, policies, ledger, now, Some(PlantedBug::NoPlaceForPods))
    })
}

#[test]
fn a_naive_rule_removes_and_buys_the_same_machines_for_ever() {
    let report = run(&scenario(), Some(naive));
    assert!(report.removals >= 9, "{}", report.summary());
    assert!(report.machines_bought >= report.removals + 8, "{}", report.summary());
    assert!(report.pods_seen >= 18, "every Redis is restarted: {}", report.summary());
}

#[test]
fn ours_leaves_pods_that_fit_nowhere_else_alone() {
    let report = run(&scenario(), None);
    assert_eq!((report.machines_bought, report.removals), (9, 0), "{}", report.summary());
    assert_eq!(report.pods_seen, 9, "none is restarted");
    assert_eq!(report.violations, Vec::<String>::new());
}

/// Where only pods of one Redis keep apart, pods of two of them share one machine.
#[test]
fn pods_share_machines_where_their_rules_let_them() {
    let mut scenario = scenario();
    for object in &mut scenario.workload.objects {
        let own = object["spec"]["selector"]["matchLabels"].clone();
        object["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            [0]["labelSelector"] = json!({"matchLabels": own});
    }
    let report = run(&scenario, None);
    assert!(report.machines_bought <= 6 && report.removals == 0, "{}", report.summary());
    assert_eq!(report.pods_seen, 9, "none is restarted");
}
