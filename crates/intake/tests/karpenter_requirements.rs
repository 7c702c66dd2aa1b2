//! Karpenter's tables of requirements: what two on one key leave, and which pods a pool with one can serve.
//!
//! Each row is asked of a pool as a manifest declares it, over machine types that differ in one label only; the table in
//! `docs/karpenter-scheduling.md` names every row once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use model::{Operator, Pool, Requirement};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const KEY: &str = "example.com/size";
/// Values of the label, one machine type each; the last type has no such label.
const VALUES: [&str; 10] = ["A", "B", "-1", "0", "1", "2", "8", "9", "10", "none"];

/// A pool with these requirements, each `OPERATOR VALUE,VALUE`, over the types.
fn pool(key: &str, requirements: &[&str]) -> Pool {
    let requirements: Vec<_> = requirements
        .iter()
        .map(|text| {
            let (operator, values) = text.split_once(' ').unwrap_or((text, ""));
            let values: Vec<&str> = values.split(',').filter(|value| !value.is_empty()).collect();
            json!({"key": key, "operator": operator, "values": values})
        })
        .collect();
    let declared = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "main"},
        "spec": {"template": {"spec": {"requirements": requirements}}},
    });
    let types: Vec<_> = VALUES
        .iter()
        .map(|value| {
            let label = json!({"key": KEY, "operator": "In", "values": [value]});
            json!({
                "name": value, "allocatable": {"cpu": "4"},
                "requirements": if *value == "none" { json!([]) } else { json!([label]) },
                "offerings": [{"zone": "a", "capacityType": "on-demand", "price": 1, "available": true}],
            })
        })
        .collect();
    let catalogue = intake::catalogue(&json!(types).to_string()).unwrap();
    intake::node_pool(&declared).unwrap().over(Arc::new(catalogue), BTreeMap::new())
}

/// The types that are left.
fn left(requirements: &[&str]) -> Vec<String> {
    let pool = pool(KEY, requirements);
    pool.direct()
        .unwrap()
        .flavours()
        .iter()
        .filter_map(|f| f.instance_type.as_ref().map(ToString::to_string))
        .collect()
}

#[test]
fn two_requirements_on_one_key_leave_what_both_allow() {
    let table: &[(u32, &[&str], &[&str])] = &[
        (2, &["Exists", "DoesNotExist"], &[]),
        (3, &["Exists", "In A"], &["A"]),
        (5, &["In A", "In B"], &[]),
        (6, &["In A,B", "In A"], &["A"]),
        (7, &["In A", "NotIn A"], &[]),
        (8, &["In A,B", "NotIn A"], &["B"]),
        (9, &["NotIn A", "NotIn 1,2"], &["B", "-1", "0", "8", "9", "10", "none"]),
        (11, &["In 1,9", "Gt 1"], &["9"]),
        (12, &["In 9", "Gt 9"], &[]),
        (14, &["In 1", "Lt 1"], &[]),
        (15, &["Gt 1", "Gt 9"], &["10"]),
        (17, &["Gt 9", "Lt 1"], &[]),
        (18, &["NotIn 1,2", "Gt 1"], &["8", "9", "10"]),
        (19, &["NotIn 1,2", "Lt 1"], &["-1", "0"]),
        (20, &["NotIn A", "Gt 9"], &["10"]),
        (21, &["Gte 2", "Lte 8"], &["2", "8"]),
        (22, &["Gte 2"], &["2", "8", "9", "10"]),
        (22, &["Gt 1"], &["2", "8", "9", "10"]),
        (22, &["Lte 8"], &["-1", "0", "1", "2", "8"]),
        (22, &["Lt 9"], &["-1", "0", "1", "2", "8"]),
        (23, &["Gte 5", "Gt 5"], &["8", "9", "10"]),
        (24, &["Gt 9223372036854775807"], &[]),
        (25, &["Gte 0"], &["0", "1", "2", "8", "9", "10"]),
        (25, &["Lte 0"], &["-1", "0"]),
    ];
    for (row, requirements, expected) in table {
        assert_eq!(left(requirements), *expected, "row {row}: {requirements:?}");
    }
}

#[test]
fn old_names_of_labels_mean_the_new_ones() {
    let key = "failure-domain.beta.kubernetes.io/zone";
    assert_eq!(pool(key, &["In a"]).direct().unwrap().flavours().len(), VALUES.len());
    assert_eq!(pool(key, &["In b"]).direct().unwrap().flavours().len(), 0);
    let nodes = pool(KEY, &[]).direct().unwrap().nodes().to_vec();
    assert!(nodes.iter().all(|node| node.labels.get(key).is_some_and(|zone| &**zone == "a")));
}

/// Whether a pool with the requirements can make a node for a pod that asks `pod` of the key.
fn serves(key: &str, requirements: &[&str], pod: &str) -> bool {
    let (operator, values) = pod.split_once(' ').unwrap_or((pod, ""));
    let operator = match operator {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        _ => Operator::Lt,
    };
    let values = values.split(',').filter(|value| !value.is_empty()).map(Arc::from).collect();
    let asked = Requirement { key: key.into(), operator, values };
    pool(key, requirements).direct().unwrap().nodes().iter().any(|node| asked.matches(&node.labels))
}

#[test]
fn pods_are_served_where_their_requirement_and_the_pools_have_something_in_common() {
    let table: &[(u32, &[&str], &str, bool)] = &[
        (29, &[], "In A", true),
        (29, &[], "NotIn A", true),
        (29, &[], "Exists", true),
        (29, &[], "DoesNotExist", true),
        (29, &[], "Gt 1", true),
        (29, &[], "Lt 9", true),
        (30, &["Exists"], "DoesNotExist", false),
        (31, &["DoesNotExist"], "NotIn A", true),
        (32, &["DoesNotExist"], "In A", false),
        (32, &["DoesNotExist"], "Exists", false),
        (32, &["DoesNotExist"], "Gt 1", false),
        (33, &["NotIn A"], "DoesNotExist", true),
        (34, &["In A"], "In A,B", true),
        (35, &["In A"], "NotIn A", false),
        (36, &["In 1"], "Gt 1", false),
        (36, &["In 1"], "Lt 9", true),
        (37, &["In 9"], "Lt 9", false),
        (38, &["NotIn A"], "Gt 1", true),
        (38, &["NotIn A"], "Lt 9", true),
        (39, &["Gt 1"], "In 1", false),
        (39, &["Gt 1"], "In 1,9", true),
    ];
    for (row, requirements, asked, expected) in table {
        assert_eq!(serves(KEY, requirements, asked), *expected, "row {row}: {requirements:?} and {asked}");
    }
}

/// A label that no machine type has comes from the pool alone, where the pool lists its values.
#[test]
fn labels_of_the_pool_alone_serve_those_who_ask_for_them() {
    let own = "example.com/team";
    let table: &[(u32, &[&str], &str, bool)] = &[
        (29, &[], "In A", false),
        (29, &[], "Exists", false),
        (29, &[], "Gt 1", false),
        (29, &[], "Lt 9", false),
        (29, &[], "NotIn A", true),
        (29, &[], "DoesNotExist", true),
        (31, &["DoesNotExist"], "NotIn A", true),
        (32, &["DoesNotExist"], "In A", false),
        (32, &["DoesNotExist"], "Exists", false),
        (32, &["DoesNotExist"], "Gt 1", false),
        (33, &["NotIn A"], "DoesNotExist", true),
        (34, &["In A"], "In A,B", true),
        (35, &["In A"], "NotIn A", false),
        (36, &["In 1"], "Gt 1", false),
        (36, &["In 1"], "Lt 9", true),
        (37, &["In 9"], "Lt 9", false),
    ];
    for (row, requirements, asked, expected) in table {
        assert_eq!(serves(own, requirements, asked), *expected, "row {row}: {requirements:?} and {asked}");
    }
}

/// Rows of sections 9.1 and 9.2 of the specification.
const ROWS: [u32; 34] = [
    2, 3, 5, 6, 7, 8, 9, 11, 12, 14, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 29, 30, 31, 32, 33, 34,
    35, 36, 37, 38, 39, 40,
];

#[test]
fn every_row_has_its_test_or_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/karpenter-scheduling.md")).unwrap();
    let tests = std::fs::read_to_string(root.join("crates/intake/tests/karpenter_requirements.rs")).unwrap();
    let table = page.split("| rows | shown by | otherwise |").nth(1).unwrap();
    let mut open: BTreeSet<u32> = ROWS.into();
    for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [rows, shown, note] = cells[..] else { panic!("three cells: {line}") };
        assert!(!shown.is_empty() || !note.is_empty(), "neither a test nor a reason: {line}");
        for by in shown.split(", ").filter(|by| !by.is_empty()) {
            assert!(tests.contains(&format!("fn {}(", by.trim_matches('`'))), "no test {by}");
        }
        for span in rows.split(", ") {
            let (first, last) = span.split_once('-').unwrap_or((span, span));
            for row in first.parse::<u32>().unwrap()..=last.parse().unwrap() {
                assert!(open.remove(&row) || !ROWS.contains(&row), "row {row} is there twice");
            }
        }
    }
    assert!(open.is_empty(), "not in the table: {open:?}");
}
