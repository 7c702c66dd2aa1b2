//! Licences of everything that is compiled in or used to build and test: only those that may be, listed in one page.
//!
//! Owns the list of licences that may be and the page; what a released program contains is `release`'s list of parts.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Licences that a program under Apache-2.0 may bring along without further duties than to name them.
const ALLOWED: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

const PAGE: &str = "docs/licences.md";
const HEAD: &str = "\
# Licences of others' packages

<!-- Written by `cargo xtask licences`; a test keeps it equal. -->

Tideline is under the Apache License 2.0. Everything that it is built from, and what only builds or tests it, is here; which of
them are inside a released program, with versions and sums, stands in the list of parts beside it ([image.md](image.md)).

| licence | packages |
| --- | --- |
";

/// Writes the page.
pub(crate) fn write(root: &Path) -> Result<(), String> {
    std::fs::write(root.join(PAGE), page(root)?).map_err(|error| format!("{PAGE}: {error}"))
}

fn page(root: &Path) -> Result<String, String> {
    let mut by_licence: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, licence) in packages(root)? {
        if !satisfied(&licence) {
            return Err(format!(
                "package {name} is under \"{licence}\", which is not among those that may be (crates/xtask/src/licences.rs)"
            ));
        }
        by_licence.entry(licence).or_default().insert(name);
    }
    let mut text = HEAD.to_owned();
    for (licence, names) in by_licence {
        let names: Vec<String> = names.into_iter().collect();
        writeln!(text, "| {licence} | {} |", names.join(", ")).map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// Packages of others with the expression of their licence.
fn packages(root: &Path) -> Result<Vec<(String, String)>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--all-features"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    let others = metadata["packages"].as_array().into_iter().flatten().filter(|one| !one["source"].is_null());
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    Ok(others.map(|one| (text(one, "name"), spaced(&text(one, "license")))).collect())
}

/// The expression with one space between words, and the old way of writing OR replaced.
fn spaced(expression: &str) -> String {
    expression.replace('/', " OR ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the expression (`OR`, `AND`, brackets) can be met by licences that may be; none at all cannot.
fn satisfied(expression: &str) -> bool {
    let words = expression.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut at = 0;
    let met = either(&words, &mut at);
    met && at == words.len()
}

fn either(words: &[&str], at: &mut usize) -> bool {
    let mut met = both(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        // Read on in any case.
        met |= both(words, at);
    }
    met
}

fn both(words: &[&str], at: &mut usize) -> bool {
    let mut met = single(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= single(words, at);
    }
    met
}

fn single(words: &[&str], at: &mut usize) -> bool {
    let Some(first) = words.get(*at) else { return false };
    *at += 1;
    if *first == "(" {
        let met = either(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return ALLOWED.contains(&format!("{first} WITH {exception}").as_str());
    }
    ALLOWED.contains(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(file: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)).unwrap()
    }

    #[test]
    fn cargo_deny_is_told_of_the_same_licences() {
        let text = text_of("deny.toml");
        let list = text.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
        let listed: Vec<&str> = list
            .lines()
            .map(|line| line.trim().trim_matches(['"', ',']))
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(listed, ALLOWED);
    }

    #[test]
    fn packages_come_from_one_registry_with_their_sums() {
        for package in text_of("Cargo.lock").split("[[package]]").skip(1) {
            let sources: Vec<&str> = package.lines().filter(|line| line.starts_with("source = ")).collect();
            assert!(
                sources
                    .iter()
                    .all(|line| line.contains("registry+https://github.com/rust-lang/crates.io-index")),
                "{package}"
            );
            let sum = package.lines().any(|line| line.starts_with("checksum = "));
            assert_eq!(sum, !sources.is_empty(), "{package}");
        }
    }

    #[test]
    fn expressions_are_met_or_not() {
        for (expression, met) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("ISC AND (Apache-2.0 OR GPL-3.0) AND MIT", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0 WITH Classpath-exception", false),
            ("(MIT", false),
            ("", false),
        ] {
            assert_eq!(satisfied(expression), met, "{expression}");
        }
    }

    #[test]
    fn every_licence_may_be_and_the_page_lists_it() {
        let root = crate::run::workspace_root();
        let committed = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
        assert!(page(&root).unwrap() == committed, "{PAGE} is stale: run `cargo xtask licences`");
    }
}
