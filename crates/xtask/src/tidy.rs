//! The tidy check: the rules of the house that no compiler knows.
//!
//! Owns the rules (which crate stands on which floor, what the pure crates may not touch, how long things may be,
//! which names are banned). Reading Rust source without a parser is `source`'s business. `cargo test` runs it.

mod source;

use source::Source;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The floor of each crate: it may depend only on crates of ours that stand on lower floors.
const FLOORS: &[(&str, u32)] = &[
    ("model", 1),
    ("clock", 1),
    ("calls", 1),
    ("tls", 2),
    ("leadership", 2),
    ("api", 1),
    ("intake", 2),
    ("packing", 2),
    ("cron", 2),
    ("forecast", 2),
    ("checker", 3),
    ("nodes", 3),
    ("workloads", 3),
    ("clouds", 4),
    ("metrics", 4),
    ("sandbox", 4),
    ("admission", 5),
    ("alerts", 5),
    ("claims", 5),
    ("controller", 5),
    ("installation", 5),
    ("scaler", 5),
    ("machines", 6),
    ("simulator", 6),
    ("tideline", 7),
    // Equipment: used by tests and developers only.
    ("testbed", 8),
    ("contract", 8),
    ("doubles", 8),
    ("acceptance", 9),
    ("fidelity", 9),
    ("xtask", 8),
];

/// Crates that decide: no I/O, no clock, no logging, nothing whose order is chance.
const PURE: &[&str] = &["model", "packing", "nodes", "checker", "forecast", "workloads", "cron"];

/// Dependencies that would make a pure crate impure.
const IMPURE_DEPENDENCIES: &[&str] = &[
    "tokio",
    "kube",
    "k8s-openapi",
    "hyper",
    "hyper-util",
    "axum",
    "http",
    "reqwest",
    "tower",
    "tracing",
    "log",
    "rand",
    "clock",
    "api",
    "intake",
];

/// Words that a pure crate's source may not hold outside comments and strings.
const IMPURE_WORDS: &[&str] = &["HashMap", "HashSet", "Instant", "SystemTime", "println", "eprintln"];

/// Names that say nothing of what a file or folder holds.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "manager", "processor", "misc", "stuff"];

/// House style asks for 600 lines a file and 70 a function; a fifth more is where the check fails, so that a fix
/// of three lines never forces a split in the same commit.
const LONGEST_FILE: usize = 720;
const LONGEST_FUNCTION: usize = 84;

/// Checks the whole workspace; each complaint names its file.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let tracked = tracked_files(root)?;
    let mut complaints = Vec::new();
    check_floors(root, &mut complaints)?;
    for path in &tracked {
        check_name(path, &mut complaints);
        // A file that is deleted but not yet committed so, or a binary one, holds no text to check.
        let Ok(text) = fs::read_to_string(root.join(path)) else { continue };
        check_text(path, &text, &mut complaints);
        if path.extension().is_some_and(|extension| extension == "rs") {
            check_source(path, &Source::read(&text), &mut complaints);
        }
    }
    check_licence(root, &mut complaints);
    Ok(complaints)
}

/// Every file that git knows or would add.
fn tracked_files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("could not run git ls-files: {error}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files ended with {}; is this a git checkout?", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

fn check_floors(root: &Path, complaints: &mut Vec<String>) -> Result<(), String> {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let crates = root.join("crates");
    let entries =
        fs::read_dir(&crates).map_err(|error| format!("could not read {}: {error}", crates.display()))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let manifest = crates.join(&name).join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else { continue };
        let Some(floor) = floors.get(name.as_str()) else {
            complaints.push(format!("crates/{name}: give it a floor in crates/xtask/src/tidy.rs"));
            continue;
        };
        for dependency in dependencies(&text) {
            if floors.get(dependency).is_some_and(|below| below >= floor) {
                complaints.push(format!(
                    "crates/{name}/Cargo.toml: depends on {dependency}, which does not stand on a lower floor"
                ));
            }
            if PURE.contains(&name.as_str()) && IMPURE_DEPENDENCIES.contains(&dependency) {
                complaints.push(format!(
                    "crates/{name}/Cargo.toml: a crate that decides may not depend on {dependency}"
                ));
            }
        }
        if !text.contains("license.workspace = true") {
            complaints.push(format!("crates/{name}/Cargo.toml: lacks `license.workspace = true`"));
        }
    }
    Ok(())
}

/// The names under `[dependencies]` of a manifest; equipment under `[dev-dependencies]` is free.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line == "[dependencies]";
            return None;
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        (inside && !name.is_empty() && !name.starts_with('#')).then_some(name)
    })
}

fn check_name(path: &Path, complaints: &mut Vec<String>) {
    for part in path.components() {
        let part = part.as_os_str().to_string_lossy();
        let stem = part.split('.').next().unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            complaints.push(format!("{}: \"{stem}\" does not say what it holds", path.display()));
        }
    }
}

fn check_text(path: &Path, text: &str, complaints: &mut Vec<String>) {
    if path.extension().is_some_and(|extension| extension == "lock" || extension == "sum") {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        if let Some(found) = machine_path(line) {
            complaints.push(format!("{}:{}: path of one machine: {found}", path.display(), index + 1));
        }
        if let Some(host) = registry_host(line) {
            complaints.push(format!("{}:{}: registry host: {host}", path.display(), index + 1));
        }
    }
}

/// A path that exists on somebody's machine only. The folders are spelt in pieces, or this file would be found.
fn machine_path(line: &str) -> Option<String> {
    for folder in ["work", "root", "farm"] {
        let start = format!("/{folder}/");
        for (at, _) in line.match_indices(&start) {
            let before = line[..at].chars().next_back();
            let after = line[at + start.len()..].chars().next();
            let inside_longer_path = before.is_some_and(|c| {
                c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '}' | ')' | '$' | '<' | '>' | '*')
            });
            if !inside_longer_path && after.is_some_and(|c| c.is_ascii_alphabetic() || c == '.') {
                return Some(start);
            }
        }
    }
    None
}

fn registry_host(line: &str) -> Option<String> {
    ["index.crates", "static.crates", "proxy.golang", "registry.npmjs", "sum.golang"]
        .iter()
        .find(|host| line.contains(&format!("{host}.")))
        .map(|host| (*host).to_owned())
}

fn check_source(path: &Path, source: &Source, complaints: &mut Vec<String>) {
    let shown = path.display();
    // Nobody reads or edits it; its definition is what is read.
    if path.file_name().is_some_and(|name| name == "generated.rs")
        && path.starts_with("crates")
        && path.components().any(|part| part.as_os_str() == "src")
    {
        return;
    }
    if !source.opens_with_purpose {
        complaints
            .push(format!("{shown}: opens without `//!`: say what it owns and what it leaves to others"));
    }
    if source.lines > LONGEST_FILE {
        complaints.push(format!("{shown}: {} lines; split it (600 is the aim)", source.lines));
    }
    for function in &source.functions {
        if function.lines > LONGEST_FUNCTION {
            complaints.push(format!(
                "{shown}:{}: fn {} has {} lines; split it (70 is the aim)",
                function.at, function.name, function.lines
            ));
        }
    }
    let krate = path.strip_prefix("crates").ok().and_then(|rest| rest.components().next());
    let pure = krate.is_some_and(|name| PURE.iter().any(|pure| name.as_os_str() == *pure));
    if pure && path.components().any(|part| part.as_os_str() == "src") {
        for (at, word) in source.words(IMPURE_WORDS) {
            complaints.push(format!("{shown}:{at}: {word} in a crate that decides"));
        }
    }
}

fn check_licence(root: &Path, complaints: &mut Vec<String>) {
    let text = fs::read_to_string(root.join("LICENSE")).unwrap_or_default();
    if !text.contains("Apache License") {
        complaints.push("LICENSE: absent, or not the Apache License".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let complaints = check(&crate::run::workspace_root()).unwrap();
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    }

    #[test]
    fn a_machine_path_is_found_but_not_a_part_of_a_longer_one() {
        let home = concat!("cd /ro", "ot/project");
        assert!(machine_path(home).is_some());
        assert!(machine_path("see ./root/thing and a/work/b").is_none());
        assert!(machine_path("").is_none());
    }

    #[test]
    fn dependencies_are_read_from_their_own_section_only() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nmodel.workspace = true\nserde = \"1\"\n\
                        [dev-dependencies]\ntokio.workspace = true\n";
        assert_eq!(dependencies(manifest).collect::<Vec<_>>(), ["model", "serde"]);
    }
}
