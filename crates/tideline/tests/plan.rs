//! `tideline plan` on files: golden answers, and what it says to bad input.
//!
//! `TIDELINE_UPDATE=1 cargo test -p tideline --test plan` rewrites the golden files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const AT: &str = "2026-01-31T09:00:00Z";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan")
}

fn plan(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tideline"))
        .arg("plan")
        .args(arguments)
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn golden(name: &str, arguments: &[&str]) {
    let output = plan(&[&["--at", AT], arguments].concat(), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer = String::from_utf8(output.stdout).unwrap();
    let path = folder().join(name);
    if std::env::var_os("TIDELINE_UPDATE").is_some() {
        fs::write(&path, &answer).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(answer == expected, "{name} differs; now it is:\n{answer}");
}

#[test]
fn a_manifest_that_nobody_applied_is_planned_for() {
    golden("web.txt", &["-f", "web.yaml", "pools.yaml"]);
}

#[test]
fn a_cluster_as_kubectl_prints_it_is_planned_for() {
    golden("cluster.txt", &["-f", "cluster.yaml", "pools.yaml"]);
    golden("cluster.json", &["-f", "cluster.yaml", "pools.yaml", "-o", "json"]);
}

/// What comes later is decided as by a controller that runs: as if it had been there, on what the first round left.
#[test]
fn pods_may_come_after_the_cluster_was_decided_about() {
    let all = plan(&["--at", AT, "-o", "json", "-f", "pools.yaml", "web.yaml"], "");
    let later = plan(&["--at", AT, "-o", "json", "-f", "pools.yaml", "--added", "web.yaml"], "");
    assert!(later.status.success(), "{}", String::from_utf8_lossy(&later.stderr));
    assert_eq!(String::from_utf8(all.stdout).unwrap(), String::from_utf8(later.stdout).unwrap());
    let alone = plan(&["--added", "web.yaml"], "");
    assert_eq!(alone.status.code(), Some(2), "{}", String::from_utf8_lossy(&alone.stderr));
}

/// Three types are on offer: a pool that wants a choice of three has it as long as each of them would do, and one that
/// wants four buys nothing unless it is told to do what it can.
#[test]
fn a_minimum_of_values_is_kept_or_said() {
    let ask = |least: u32, cpu: &str, more: &[&str]| {
        let input = format!(
            "apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata: {{name: any}}\nspec: {{template: {{spec: {{requirements: \
             [{{key: node.kubernetes.io/instance-type, operator: Exists, minValues: {least}}}]}}}}}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: default}}\n\
             spec: {{containers: [{{name: c, resources: {{requests: {{cpu: {cpu}}}}}}}]}}\n"
        );
        let arguments = ["--at", AT, "-o", "json", "--offerings", "catalogue.json", "-f", "-"];
        let output = plan(&[&arguments, more].concat(), &input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (answer["newNodes"].as_array().unwrap().len(), answer["unplaced"].to_string())
    };
    assert_eq!(ask(3, "100m", &[]).0, 1);
    for (least, cpu) in [(4, "100m"), (3, "3")] {
        let (bought, unplaced) = ask(least, cpu, &[]);
        assert!(bought == 0 && unplaced.contains("minValues"), "{unplaced}");
        assert_eq!(ask(least, cpu, &["--min-values-policy=BestEffort"]).0, 1);
    }
}

#[test]
fn removal_at_once_is_a_flag_away() {
    golden(
        "removal.txt",
        &["-f", "cluster.yaml", "pools.yaml", "--scale-down-unneeded-time=0s", "--max-drain-parallelism=2"],
    );
}

#[test]
fn a_catalogue_is_one_direct_pool() {
    golden("catalogue.txt", &["-f", "web.yaml", "--offerings", "catalogue.json", "--check"]);
    golden(
        "catalogue-out.json",
        &["-f", "web.yaml", "--offerings", "catalogue.json", "--check", "-o", "json"],
    );
}

#[test]
fn node_pools_say_what_may_be_launched() {
    golden(
        "node-pools.txt",
        &["-f", "web.yaml", "node-pools.yaml", "--offerings", "catalogue.json", "--check"],
    );
    let output = plan(&["--at", AT, "-f", "web.yaml", "node-pools.yaml"], "");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("NodePool arm is left out: give --offerings FILE"), "{message}");
}

#[test]
fn soft_distance_is_kept_on_machines_of_direct_pools_where_it_is_free() {
    golden("soft.txt", &["-f", "soft.yaml", "--offerings", "zones.json", "--check"]);
}

#[test]
fn devices_that_pods_claim_are_counted_or_say_why_not() {
    golden("devices.txt", &["-f", "devices.yaml", "--check"]);
}

#[test]
fn groups_come_from_flags() {
    let template = "workers:cpu=4,memory=16Gi,pods=20,price=0.2,label/topology.kubernetes.io/zone=a";
    golden("groups.txt", &["-f", "web.yaml", "--nodes=0:30:workers", "--node-template", template, "--check"]);
}

#[test]
fn equal_input_gives_equal_bytes() {
    let once = || plan(&["--at", AT, "-f", "cluster.yaml", "pools.yaml", "-o", "json"], "").stdout;
    assert_eq!(once(), once());
}

#[test]
fn bad_input_is_refused_with_place_and_fix() {
    let pod = |quantity: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\n\
             spec: {{containers: [{{name: c, resources: {{requests: {{cpu: '{quantity}'}}}}}}]}}"
        )
    };
    let pool = "apiVersion: tideline.dev/v1alpha1\nkind: SimulatedPool\nmetadata: {name: a}\n\
                spec: {min: 5, max: 2, template: {allocatable: {cpu: '4'}}}";
    let twice = format!("{0}\n---\n{0}", pod("1"));
    let negative_replicas = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n\
                             spec: {replicas: -3, template: {spec: {containers: []}}}";
    let table: &[(&str, &str, &[&str])] = &[
        ("negative quantity", &pod("-1"), &["standard input", "default/p", "cpu"]),
        ("absurd quantity", &pod("1e400"), &["default/p", "cpu"]),
        ("no quantity", &pod("many"), &["default/p", "cpu"]),
        ("min over max", pool, &["SimulatedPool a", "min is 5 and max is 2", "set min to max or less"]),
        ("given twice", &twice, &["Pod default/p was given before", "leave one of them out"]),
        ("negative replicas", negative_replicas, &["Deployment d", "spec.replicas is -3"]),
        (
            "NodePool with a bad weight",
            "apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata: {name: a}\nspec: {weight: 1000}",
            &["NodePool a", "spec.weight", "1 to 100"],
        ),
        ("no name", "apiVersion: v1\nkind: Pod\nspec: {}", &["a Pod has no metadata.name"]),
        ("no kind", "apiVersion: v1", &["has no kind"]),
        ("broken YAML", "kind: [", &["standard input", "YAML"]),
        ("broken JSON", "{\"kind\":\n\"Pod\",}", &["standard input line 2"]),
        ("wrong type", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: 7", &["Pod p"]),
    ];
    for (case, input, parts) in table {
        let output = plan(&["-f", "-"], input);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{case}: {message}");
        assert!(output.stdout.is_empty(), "{case}: an answer besides the error");
        for part in *parts {
            assert!(message.contains(part), "{case}: \"{part}\" is not in: {message}");
        }
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_a_hint() {
    let table: &[(&[&str], &str)] = &[
        (&[], "-f FILE"),
        (&["--scale-down-uneeded-time=5m", "-f", "web.yaml"], "--scale-down-unneeded-time"),
        (&["-f", "web.yaml", "-o", "yaml"], "json"),
        (&["-f", "web.yaml", "--at", "yesterday"], "--at"),
        (&["-f", "web.yaml", "--nodes=5:2:a"], "minimum is more than the maximum"),
        (&["-f", "web.yaml", "--nodes=0:2:a"], "--node-template=a:"),
        (&["-f", "web.yaml", "--node-template=a:cpu=1,memory=1Gi"], "give --nodes=MIN:MAX:a too"),
        (&["-f", "web.yaml", "--nodes=0:2:a", "--node-template=a:cpu=-1,memory=1Gi"], "negative"),
    ];
    for (arguments, part) in table {
        let output = plan(arguments, "");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
    let absent = plan(&["-f", "absent.yaml"], "");
    assert_eq!(absent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("could not read absent.yaml"));
}
