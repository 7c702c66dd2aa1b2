//! The table of `docs/karpenter-conformance.md` has every row once, and the tests that it names exist.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rows of the specification's tables of scheduling, topology, disruption, budgets, lifecycle, and the rest.
const ROWS: &str = "41-43 45-49 52-61 63-69 71-82 83-91 93-94 98-111 112-114 116-117 119-120 122-122 124-126 128-138 \
    140-142 144-149 150-153 155-159 162-163 165-167 169-177 179-181 184-188 190-197 199-201 204-206";

fn numbers(spans: &str, between: char) -> Vec<u32> {
    let span = |span: &str| {
        let (first, last) = span.trim().split_once('-').unwrap_or((span.trim(), span.trim()));
        first.parse::<u32>().unwrap()..=last.parse().unwrap()
    };
    spans.split(between).flat_map(span).collect()
}

fn sources(folder: PathBuf) -> String {
    let (mut all, mut open) = (String::new(), vec![folder]);
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("rs") => all.push_str(&std::fs::read_to_string(&path).unwrap()),
                None if path.is_dir() => open.push(path),
                _ => {}
            }
        }
    }
    all
}

#[test]
fn each_row_has_a_test_or_says_what_is_otherwise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/karpenter-conformance.md")).unwrap();
    let sources = sources(root.join("crates"));
    let mut left: BTreeSet<u32> = numbers(ROWS, ' ').into_iter().collect();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    for row in rows.skip_while(|row| !row.starts_with("---")).skip(1) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [named, shown, otherwise] = cells[..] else { panic!("three cells: {row}") };
        for number in numbers(named, ',') {
            assert!(left.remove(&number), "{number} is no row, or is there twice");
        }
        assert!(!shown.trim().is_empty() || !otherwise.trim().is_empty(), "neither test nor reason: {row}");
        for test in shown.split(',').map(|test| test.trim().trim_matches('`')).filter(|test| !test.is_empty())
        {
            assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
        }
    }
    assert!(left.is_empty(), "not in the table: {left:?}");
}
