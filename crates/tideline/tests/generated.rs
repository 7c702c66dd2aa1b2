//! Committed files that are written from the code are equal to what the code writes now.
//!
//! `cargo xtask generate` rewrites them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn tideline(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_tideline")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn crds_are_fresh() {
    let folder = tempfile::tempdir().unwrap();
    tideline(&["crds", "--dir", folder.path().to_str().unwrap()]);
    let (written, committed) = (files(folder.path()), files(&root().join("deploy/crds")));
    assert!(!written.is_empty());
    assert!(written == committed, "deploy/crds is stale: run `cargo xtask generate`");
}

#[test]
fn the_command_reference_is_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("reference.md");
    tideline(&["command-reference", "--output", page.to_str().unwrap()]);
    let committed = fs::read_to_string(root().join("docs/reference.md")).unwrap_or_default();
    assert!(
        fs::read_to_string(page).unwrap() == committed,
        "docs/reference.md is stale: run `cargo xtask generate`"
    );
}

#[test]
fn rights_and_the_chart_are_fresh() {
    let folder = tempfile::tempdir().unwrap();
    tideline(&["manifests", "--dir", folder.path().to_str().unwrap()]);
    let deploy = root().join("deploy");
    for file in [
        "rbac.yaml",
        "chart/templates/roles.yaml",
        "monitoring/rules.yaml",
        "monitoring/dashboard.json",
        "chart/files/rules.yaml",
        "chart/files/dashboard.json",
        "chart/files/prometheus-metrics-config.yaml",
    ] {
        let read = |folder: &Path| fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(read(folder.path()) == read(&deploy), "deploy/{file} is stale: run `cargo xtask generate`");
    }
    let crds = Path::new("chart/crds");
    assert!(
        files(&folder.path().join(crds)) == files(&deploy.join(crds)),
        "deploy/chart/crds is stale: run `cargo xtask generate`"
    );
}

const METRICS_HEAD: &str = "\
# Metrics

<!-- Written by `cargo xtask generate`; a test keeps it equal. -->

On `/metrics` of the controller's port. A counter's samples end in `_total`, a histogram's in `_bucket`, `_sum` and `_count`.
With `--peer-metrics` those with a name in the last column appear under it as well.

| metric | kind | what | Cluster Autoscaler's name |
| --- | --- | --- | --- |
";

/// Name, kind and help of every metric of a text.
fn metrics_of(text: &str) -> BTreeMap<String, (String, String)> {
    let mut all: BTreeMap<String, (String, String)> = BTreeMap::new();
    let counted = |name: &str| name.trim_end_matches("_total").to_owned();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.trim_end_matches('.').clone_into(&mut all.entry(counted(name)).or_default().1);
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut all.entry(counted(name)).or_default().0);
        }
    }
    all
}

#[test]
fn the_page_of_metrics_is_fresh() {
    let peers = metrics_of(&controller::all_metrics(true));
    let mut rows = metrics_of(&controller::all_metrics(false));
    rows.extend(metrics_of(&scaler::all_metrics()));
    let mut page = METRICS_HEAD.to_owned();
    for (name, (kind, help)) in &rows {
        let peer = name.replacen("tideline_", "cluster_autoscaler_", 1);
        let peer = if peers.contains_key(&peer) { format!("`{peer}`") } else { String::new() };
        writeln!(page, "| `{name}` | {kind} | {help} | {peer} |").unwrap();
    }
    let path = root().join("docs/metrics.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(page == committed, "docs/metrics.md is stale: run `cargo xtask generate`");
}

#[test]
fn alerts_and_panels_read_metrics_that_there_are() {
    let mut there = metrics_of(&controller::all_metrics(false));
    there.extend(metrics_of(&scaler::all_metrics()));
    let there: Vec<String> = there.into_keys().collect();
    let read = installation::monitoring::metrics();
    assert!(read.len() > 10, "{read:?}");
    let unknown: Vec<&String> = read.iter().filter(|name| !there.contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no metrics of the controller: {there:?}");
}

#[test]
fn shells_and_manuals_know_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    tideline(&["man", "--dir", folder.path().to_str().unwrap()]);
    let pages = files(folder.path());
    assert!(pages["tideline.1"].contains("tideline\\-explain(1)"), "{}", pages["tideline.1"]);
    assert!(pages["tideline-explain.1"].contains("journal"), "{}", pages["tideline-explain.1"]);
    for shell in ["bash", "zsh", "fish"] {
        tideline(&["completion", shell]);
    }
}
