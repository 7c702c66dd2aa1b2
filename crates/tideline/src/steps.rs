//! Steps of a plan as one line each: what is done, and why.
//!
//! `plan` prints them ahead, the sandbox while they happen.

use model::{Cluster, Decision, NodeName, PoolId, Serves, Step};
use std::fmt::Write as _;

/// Names that a line holds before it is cut.
const SHOWN: usize = 3;

/// A step in words.
pub(crate) struct Words {
    pub(crate) what: String,
    pub(crate) reason: String,
}

/// The name that people use for a pool.
pub(crate) fn pool_name(cluster: &Cluster, id: &PoolId) -> String {
    cluster.pools().get(id).map_or_else(|| id.to_string(), |pool| pool.name.to_string())
}

/// What a step does, and why.
pub(crate) fn words(step: &Step, cluster: &Cluster, decision: &Decision) -> Words {
    let cause_of = |node: &NodeName| {
        decision.ledger.removals.get(node).map_or_else(
            || "it carries a mark of ours that no removal stands behind".to_owned(),
            |removal| format!("{}, {}", removal.cause, removal.phase),
        )
    };
    let (what, reason) = match step {
        Step::Buy(buy) if !buy.launches.is_empty() => (
            format!(
                "launch {} machines of pool {}",
                buy.to.saturating_sub(buy.from),
                pool_name(cluster, &buy.pool)
            ),
            serves(&buy.serves),
        ),
        Step::Buy(buy) => (
            format!("grow pool {} {}->{} (max {})", pool_name(cluster, &buy.pool), buy.from, buy.to, buy.max),
            serves(&buy.serves),
        ),
        Step::Lower(lower) => (
            format!("lower pool {} {}->{}", pool_name(cluster, &lower.pool), lower.from, lower.to),
            "machines that were asked for never came".to_owned(),
        ),
        Step::MarkNode(mark) => (format!("taint node {}", mark.node), cause_of(&mark.node)),
        Step::Evict(evict) => (format!("evict pod {}", evict.pod), format!("drain of node {}", evict.node)),
        Step::Release(release) => {
            let node = release.node.as_ref().map_or_else(String::new, |node| format!(" (node {node})"));
            (format!("give back machine {}{node}", release.machine), release.cause.to_string())
        }
        Step::UndoNode(undo) => (format!("take our marks off node {}", undo.node), cause_of(&undo.node)),
        Step::SoftTaint(soft) if soft.put => {
            (format!("taint node {} softly", soft.node), "it is not needed".to_owned())
        }
        Step::SoftTaint(soft) => {
            (format!("take the soft taint off node {}", soft.node), "it is needed again".to_owned())
        }
        Step::DeleteNode { node, .. } => {
            (format!("delete Node object {node}"), "its machine is gone".to_owned())
        }
    };
    Words { what, reason }
}

/// `for 3 pods (a, b, c) and 5 replicas to come`, long lists cut.
fn serves(all: &Serves) -> String {
    if let Some((set, rule, nodes)) = all.rules.first() {
        return format!("{nodes} node(s) by rule {rule} of {set}");
    }
    let pods: Vec<String> = all.pods.iter().take(SHOWN).map(ToString::to_string).collect();
    let count = all.pods.len();
    let missing: u32 = all.missing.iter().map(|(_, replicas)| replicas).sum();
    let more = if count > SHOWN { ", …" } else { "" };
    let noun = if count == 1 { "pod" } else { "pods" };
    let mut text = format!("for {count} {noun} ({}{more})", pods.join(", "));
    if missing > 0 {
        // Writing to a String does not fail.
        let _ = write!(text, " and {missing} replicas that their owners have not made yet");
    }
    text
}
