//! Steps and their outcomes in words, for events, logs, the page and the list of decisions alike.
//!
//! Reasons have their sentences in `model`; these are the sentences of acting, with Cluster Autoscaler's wording
//! where users know it.

use model::{Cluster, Outcome, OutcomeKind, PoolId, RemovalCause, Served, Serves, Step};

/// Pods named in one sentence; the rest is a number.
const MOST_NAMED: usize = 3;

/// A pool as people call it.
pub(crate) fn pool_name<'a>(cluster: &'a Cluster, id: &'a PoolId) -> &'a str {
    cluster.pools().get(id).map_or(id.as_str(), |pool| &*pool.name)
}

/// What kind of step it is, in one word.
pub(crate) fn verb(step: &Step) -> &'static str {
    match step {
        Step::Buy(_) => "buy",
        Step::Lower(_) => "lower",
        Step::MarkNode(_) => "mark",
        Step::Evict(_) => "evict",
        Step::Release(_) => "release",
        Step::UndoNode(_) => "undo",
        Step::DeleteNode { .. } => "delete-node",
        Step::SoftTaint(_) => "soft-taint",
    }
}

/// What the step does and why.
pub(crate) fn sentence(cluster: &Cluster, step: &Step) -> String {
    match step {
        Step::Buy(order) if !order.launches.is_empty() => format!(
            "launch {} machines of pool {} for {}",
            order.to.saturating_sub(order.from),
            pool_name(cluster, &order.pool),
            served(&order.serves)
        ),
        Step::Buy(order) => format!(
            "grow pool {} {}->{} (max: {}) for {}",
            pool_name(cluster, &order.pool),
            order.from,
            order.to,
            order.max,
            served(&order.serves)
        ),
        Step::Lower(order) => format!(
            "lower pool {} {}->{}: machines that were asked for never came",
            pool_name(cluster, &order.pool),
            order.from,
            order.to
        ),
        Step::MarkNode(mark) => format!("mark node {} for removal", mark.node),
        Step::Evict(evict) => {
            format!("evict pod {} from node {}, which is being removed", evict.pod, evict.node)
        }
        Step::Release(release) => {
            let what = release
                .node
                .as_ref()
                .map_or_else(|| format!("machine {}", release.machine), |node| format!("node {node}"));
            format!("give {what} of pool {} back: {}", pool_name(cluster, &release.pool), release.cause)
        }
        Step::UndoNode(undo) => format!("keep node {} after all: take our marks off", undo.node),
        Step::DeleteNode { node, .. } => format!("delete the object of node {node}, whose machine is gone"),
        Step::SoftTaint(soft) if soft.put => format!("taint node {} softly: it is not needed", soft.node),
        Step::SoftTaint(soft) => format!("take the soft taint off node {}: it is needed again", soft.node),
    }
}

fn served(serves: &Serves) -> String {
    let mut parts: Vec<String> = serves
        .iter()
        .take(MOST_NAMED)
        .map(|one| match one {
            Served::Pod(pod) => format!("pod {pod}"),
            Served::Missing { workload, replicas } => format!("{replicas} pods that {workload} still wants"),
            Served::Rule { set, rule, nodes } => format!("{nodes} nodes by rule {rule} of {set}"),
            Served::Ahead(demand) => {
                let (due, replicas) = (demand.due, demand.replicas);
                format!("{replicas} replicas that {} tells of for {due:.0}, ahead of time", demand.outlook)
            }
        })
        .collect();
    if serves.len() > MOST_NAMED {
        parts.push(format!("{} more", serves.len() - MOST_NAMED));
    }
    if parts.is_empty() { "its minimum".to_owned() } else { parts.join(", ") }
}

/// How it ended, in one word for counters.
pub(crate) fn outcome_word(kind: &OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Done => "done",
        OutcomeKind::Obsolete { .. } => "obsolete",
        OutcomeKind::Deferred { .. } => "deferred",
        OutcomeKind::Failed { .. } => "failed",
    }
}

pub(crate) fn outcome_sentence(outcome: &Outcome) -> String {
    match &outcome.kind {
        OutcomeKind::Done => "done".to_owned(),
        OutcomeKind::Obsolete { why } => format!("no longer needed: {why}"),
        OutcomeKind::Deferred { until, why } => format!("put off until {until}: {why}"),
        OutcomeKind::Failed { code, message } => format!("failed with {code}: {message}"),
    }
}

pub(crate) fn cause_word(cause: RemovalCause) -> &'static str {
    match cause {
        RemovalCause::Empty => "empty",
        RemovalCause::UnderUsed => "underutilized",
        RemovalCause::Unready => "unready",
        RemovalCause::NeverJoined => "never-joined",
        RemovalCause::Drifted => "drifted",
        RemovalCause::Expired => "expired",
    }
}
