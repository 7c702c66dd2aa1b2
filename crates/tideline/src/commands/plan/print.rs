//! An answer as text for a terminal: the steps first, then what happens to pods and nodes, then the reasons.
//!
//! Owns the layout. Pods with one fate are shown on one line, so that a thousand of them can be read.

use super::answer::{Answer, NewNode};
use crate::table::Table;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Pods that a line names before it only counts.
const NAMED_PODS: usize = 3;

pub(super) fn text(answer: &Answer) -> String {
    let mut text = String::new();
    section(&mut text, "Steps now", &steps(answer), "Nothing to do now.");
    section(&mut text, "New nodes", &new_nodes(&answer.new_nodes), "");
    section(&mut text, "Pods that fit on nodes that exist", &placed(answer), "");
    section(&mut text, "Pods that wait for machines on their way", &on_coming(answer), "");
    section(&mut text, "Pods left waiting", &unplaced(answer), "");
    section(&mut text, "Nodes that go", &removals(answer), "");
    section(&mut text, "Nodes", &reasons("NODE", &answer.nodes), "");
    section(&mut text, "Pools", &reasons("POOL", &answer.pools), "");
    for sentence in &answer.round {
        let _ = writeln!(text, "{sentence}");
    }
    if answer.price_per_hour > 0.0 {
        let _ = write!(text, "New nodes cost ${:.4} an hour", answer.price_per_hour);
        if answer.bound_per_hour > 0.0 {
            let ratio = answer.price_per_hour / answer.bound_per_hour;
            let _ = write!(text, ", {ratio:.3} times the least that any plan could cost");
        }
        text.push_str(".\n");
    }
    if let Some(found) = &answer.violations {
        for violation in found {
            let _ = writeln!(text, "Fault: {violation}");
        }
        if found.is_empty() {
            text.push_str("Checked: every rule holds.\n");
        }
    }
    if let (Some(load), Some(decide)) = (answer.load_ms, answer.decide_ms) {
        let _ = writeln!(text, "Loaded in {load} ms, decided in {decide} ms.");
    }
    text
}

fn section(text: &mut String, title: &str, table: &Table, otherwise: &str) {
    if table.is_empty() {
        if !otherwise.is_empty() {
            let _ = write!(text, "{otherwise}\n\n");
        }
        return;
    }
    let _ = write!(text, "{title}\n{}\n", table.text());
}

fn steps(answer: &Answer) -> Table {
    let mut table = Table::new(&["STEP", "REASON"]);
    for step in &answer.steps {
        table.row([step.what.clone(), step.reason.clone()]);
    }
    table
}

/// What new nodes have in common: pool, type, zone, capacity type, and how many pods each gets, most first.
type Alike<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>, std::cmp::Reverse<usize>);

/// New nodes that are alike on one line.
fn new_nodes(nodes: &[NewNode]) -> Table {
    let mut table =
        Table::new(&["POOL", "TYPE", "ZONE", "CAPACITY", "NODES", "PODS EACH", "PRICE EACH", "FOR EXAMPLE"]);
    let mut groups: BTreeMap<Alike<'_>, Vec<&NewNode>> = BTreeMap::new();
    for node in nodes {
        let pods = std::cmp::Reverse(node.pods.len());
        let key = (
            node.pool.as_str(),
            node.machine_type.as_deref(),
            node.zone.as_deref(),
            node.capacity_type.as_deref(),
            pods,
        );
        groups.entry(key).or_default().push(node);
    }
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    for ((pool, machine_type, zone, capacity_type, pods), group) in groups {
        let first = group[0];
        let price =
            if first.price_per_hour > 0.0 { format!("${:.4}/h", first.price_per_hour) } else { "-".into() };
        table.row([
            pool.to_owned(),
            or_dash(machine_type),
            or_dash(zone),
            or_dash(capacity_type),
            group.len().to_string(),
            pods.0.to_string(),
            price,
            some(first.pods.iter()),
        ]);
    }
    table
}

fn placed(answer: &Answer) -> Table {
    let mut table = Table::new(&["NODE", "PODS", "WHICH"]);
    for placement in &answer.placed_on_existing {
        table.row([
            placement.node.to_string(),
            placement.pods.len().to_string(),
            some(placement.pods.iter()),
        ]);
    }
    table
}

fn on_coming(answer: &Answer) -> Table {
    let mut table = Table::new(&["POOL", "PODS", "WHICH"]);
    for coming in &answer.placed_on_coming {
        table.row([coming.pool.clone(), coming.pods.len().to_string(), some(coming.pods.iter())]);
    }
    table
}

fn unplaced(answer: &Answer) -> Table {
    let mut groups: BTreeMap<String, Vec<&model::PodKey>> = BTreeMap::new();
    for pod in &answer.unplaced {
        groups.entry(pod.reasons.join("; ")).or_default().push(&pod.pod);
    }
    let mut table = Table::new(&["PODS", "REASON", "WHICH"]);
    for (reason, pods) in groups {
        table.row([pods.len().to_string(), reason, some(pods.into_iter())]);
    }
    table
}

fn removals(answer: &Answer) -> Table {
    let mut table = Table::new(&["NODE", "CAUSE", "WHEN", "PODS TO MOVE"]);
    for removal in &answer.removals {
        let when = removal.not_before.map_or_else(|| "now".to_owned(), |at| format!("from {at}"));
        let pods = if removal.pods.is_empty() { "none".to_owned() } else { some(removal.pods.iter()) };
        table.row([removal.node.to_string(), removal.cause.clone(), when, pods]);
    }
    table
}

/// Names with one reason on one line.
fn reasons(header: &str, all: &BTreeMap<String, String>) -> Table {
    let mut groups: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for (name, reason) in all {
        groups.entry(reason).or_default().push(name);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, names)| names[0]);
    let mut table = Table::new(&[header, "REASON"]);
    for (reason, names) in groups {
        table.row([some(names.into_iter()), reason.to_owned()]);
    }
    table
}

/// `a, b, c and 12 more`.
fn some<T: ToString>(names: impl ExactSizeIterator<Item = T>) -> String {
    let count = names.len();
    let shown: Vec<String> = names.take(NAMED_PODS).map(|name| name.to_string()).collect();
    let mut text = shown.join(", ");
    if count > NAMED_PODS {
        let _ = write!(text, " and {} more", count - NAMED_PODS);
    }
    text
}
