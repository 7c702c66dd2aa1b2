//! The page of all reasons is equal to what the code says: `UPDATE_GOLDEN=1 cargo test -p model --test reasons`.

mod sample;

use model::{PodBlock, PoolRejection, Reason, RuleReason};
use serde::Serialize;
use std::fmt::{Display, Write as _};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reasons.md");

const HEAD: &str = "\
# Every reason, with what to do

<!-- Written by `UPDATE_GOLDEN=1 cargo test -p model --test reasons`; a test keeps it equal. -->

Each round leaves a reason for every waiting pod, every node, every pool and every rule. `tideline explain`, events, logs
and the page print the sentence; programs read the code (`-o json`, `/api/v1/explain`). Words in capitals, numbers and
times below are examples. Codes stay; sentences may be improved from one version to the next.
";

fn code(reason: &impl Serialize) -> String {
    match serde_json::to_value(reason).unwrap_or_default() {
        serde_json::Value::String(name) => name,
        serde_json::Value::Object(fields) => fields.keys().next().cloned().unwrap_or_default(),
        other => panic!("{other} is no reason"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// A table of one kind of reasons.
fn table<T: Serialize + Display>(
    page: &mut String,
    title: &str,
    about: &str,
    reasons: &[T],
    advice: impl Fn(&T) -> Option<String>,
) {
    let _ = write!(
        page,
        "\n## {title}\n\n{about}\n\n| code | sentence | what changes it |\n| --- | --- | --- |\n"
    );
    for reason in reasons {
        let sentence = cell(&reason.to_string());
        assert!(!sentence.is_empty(), "{} says nothing", code(reason));
        let change = advice(reason).map_or_else(|| "nothing is to be done".to_owned(), |text| cell(&text));
        let _ = writeln!(page, "| `{}` | {sentence} | {change} |", code(reason));
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    let reasons = sample::every::<Reason>();
    let about = "Of pods that wait, of nodes that stay or go, of pools and of whole rounds.";
    table(&mut page, "Pods, nodes, pools", about, &reasons, |one| one.advice().map(Into::into));
    let about = "Why one pool, or one node, cannot take a pod; kube-scheduler's words where it has them.";
    let rejections = sample::every::<PoolRejection>();
    table(&mut page, "Why a pool cannot help", about, &rejections, |one| one.advice().map(Into::into));
    let about = "Why a pod keeps its node.";
    table(&mut page, "What blocks a removal", about, &sample::every::<PodBlock>(), |one| {
        one.advice().map(Into::into)
    });
    let _ = write!(
        page,
        "\n## Rules of node pools\n\nOf a HorizontalNodeAutoscaler ([node-rules.md](node-rules.md) tells what to do).\n\n\
         | code | sentence |\n| --- | --- |\n"
    );
    for reason in sample::every::<RuleReason>() {
        let _ = writeln!(page, "| `{}` | {} |", reason.code(), cell(&reason.to_string()));
    }
    page
}

#[test]
fn the_page_lists_every_reason() {
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(PAGE, page).unwrap();
        return;
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        page == written,
        "docs/reasons.md is not what the code says: UPDATE_GOLDEN=1 cargo test -p model --test reasons"
    );
}
