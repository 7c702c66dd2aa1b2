//! The table of conformance in `docs/cluster-autoscaler.md` names every row once, and what it names exists.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Rows of each part of the specification's tables: part, numbers.
const ROWS: [(&str, &str); 11] = [
    ("E", "1-7 10-18"),
    ("S", "1 4-8 10 12-16 18-22 24 26-28"),
    ("Y", "1-11"),
    ("B", "1-3 6-14"),
    ("D", "1-3 5-11 13-17 20 21 23 25-29"),
    ("L", "1 2 4-15"),
    ("C", "2 3 5-10 12 15 16 19 23-25 27 28"),
    ("P", "2-13"),
    ("X", "1-8"),
    ("A", "1 3-15"),
    ("H", "1 3-5 7-12"),
];

fn rows() -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for (part, numbers) in ROWS {
        for span in numbers.split(' ') {
            let (first, last) = span.split_once('-').unwrap_or((span, span));
            let span = first.parse::<u32>().unwrap()..=last.parse().unwrap();
            rows.extend(span.map(|number| format!("{part}{number}")));
        }
    }
    rows
}

/// The text of every file of an ending under a folder.
fn texts(folder: &Path, ending: &str, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            texts(&path, ending, into);
        } else if path.extension().is_some_and(|found| found == ending) {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_row_has_its_test_or_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/cluster-autoscaler.md")).unwrap();
    let table = page.split("| rows | shown by |").nth(1).unwrap();
    let (mut sources, mut scenarios) = (String::new(), String::new());
    texts(&root.join("crates"), "rs", &mut sources);
    texts(&root.join("crates/nodes/tests/scenarios"), "txt", &mut scenarios);

    let mut open = rows();
    for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [names, shown, note] = cells[..] else { panic!("three cells: {line}") };
        for name in names.split(", ") {
            assert!(open.remove(name), "{name} is no row, or is there twice");
        }
        assert!(!shown.is_empty() || !note.is_empty(), "neither a test nor a reason: {line}");
        for by in shown.split(", ").filter(|by| !by.is_empty()) {
            if let Some(title) = by.strip_prefix("scenario ") {
                assert!(scenarios.contains(&format!("== {title}: ")), "no scenario {title}");
            } else {
                assert!(sources.contains(&format!("fn {}(", by.trim_matches('`'))), "no test {by}");
            }
        }
    }
    assert!(open.is_empty(), "not in the table: {open:?}");
}
