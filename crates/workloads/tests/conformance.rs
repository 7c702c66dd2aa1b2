//! The tables of `docs/kapacity.md` name every row once, and what they name exists.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Rows of each part of the specification's tables: part, how many.
const ROWS: [(&str, u32); 10] = [
    ("C", 18),
    ("P", 10),
    ("M", 8),
    ("G", 8),
    ("S", 13),
    ("Q", 21),
    ("J", 11),
    ("E", 4),
    ("K", 10),
    ("B", 31),
];

/// The text of every source under a folder.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|found| found == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_row_and_every_defect_has_its_test_or_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/kapacity.md")).unwrap();
    let mut all = String::new();
    sources(&root.join("crates"), &mut all);
    let mut open: BTreeSet<String> = ROWS
        .iter()
        .flat_map(|(part, count)| (1..=*count).map(move |number| format!("{part}{number}")))
        .collect();
    for table in page.split("| rows | shown by | note |").skip(1) {
        for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line[1..line.len() - 1].split('|').map(str::trim).collect();
            let [names, shown, note] = cells[..] else { panic!("three cells: {line}") };
            for name in names.split(", ") {
                assert!(open.remove(name), "{name} is no row, or is there twice");
            }
            assert!(!shown.is_empty() || !note.is_empty(), "neither a test nor a reason: {line}");
            let ticked =
                |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            // A note may name other things as well, none of them like a test.
            let noted = ticked(note).into_iter().filter(|by| by.contains('_'));
            for by in ticked(shown).into_iter().chain(noted) {
                assert!(all.contains(&format!("fn {by}(")), "no test {by}");
            }
        }
    }
    assert!(open.is_empty(), "not in the tables: {open:?}");
}
