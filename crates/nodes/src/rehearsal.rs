//! Dry run: what would be done is said and not done, for the whole cluster or for single pools.
//!
//! Owns what becomes of a decision that is not to be acted on. Deciding itself does not know of it: a rehearsed plan
//! is the plan that would be carried out, and nothing of it enters the ledger.

use crate::round::after;
use jiff::{SignedDuration, Timestamp};
use model::{Cluster, Decision, Ledger, Plan, Policies, Pool, Step};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a pool in dry run is left alone by the plan that is carried out.
const FROZEN: &str = "in dry run: what would be done is said and not done";

/// How soon a rehearsal is repeated that only time can change. What is said and not done is said again by each round,
/// so it must not ask for the next one at the pace of steps that are carried out.
const REPEATED: SignedDuration = SignedDuration::from_secs(10);

/// One round as `decide` makes it, without looking at dry run.
pub(crate) type Rule<'a> = &'a mut dyn FnMut(&Cluster, &Ledger) -> Decision;

/// Decides with the dry run that the policies ask for.
pub(crate) fn apply(
    cluster: &Cluster,
    policies: &Policies,
    ledger: &Ledger,
    now: Timestamp,
    rule: Rule<'_>,
) -> Decision {
    if policies.dry_run {
        return of_all(rule(cluster, ledger), ledger, now);
    }
    if !is_of_pools(cluster, policies) {
        return rule(cluster, ledger);
    }
    of_pools(cluster, ledger, &|pool| is_rehearsed(policies, pool), rule)
}

/// Whether single pools are in dry run and the others are not.
pub(crate) fn is_of_pools(cluster: &Cluster, policies: &Policies) -> bool {
    !policies.dry_run && cluster.pools().values().any(|pool| is_rehearsed(policies, pool))
}

fn is_rehearsed(policies: &Policies, pool: &Pool) -> bool {
    policies.dry_run_pools.iter().any(|name| is_named(pool, name))
}

/// A pool is named by its id or by its name.
fn is_named(pool: &Pool, name: &str) -> bool {
    pool.id.as_str() == name || &*pool.name == name
}

/// The whole plan is rehearsed. Waits go on as they would, so that a node is said to go when it would go; intents,
/// and the cool-downs that acting begins, are forgotten again.
fn of_all(decision: Decision, before: &Ledger, now: Timestamp) -> Decision {
    let Decision { plan, ledger: decided, verdicts, growth, wake_at, .. } = decision;
    let mut ledger = before.clone();
    ledger.back_offs = decided.back_offs;
    // A time of a schedule comes once, rehearsed or not.
    ledger.rules = decided.rules;
    // How long machines take is seen, whoever ordered them; nothing was bought ahead.
    ledger.ahead = model::AheadMemory { bought: BTreeMap::new(), ..decided.ahead };
    ledger.unremovable = decided.unremovable;
    ledger.searched = decided.searched.clone();
    // A node whose removal begins has no wait any more: it stays due.
    let due = before.unneeded_since.iter().filter(|(node, _)| decided.removals.contains_key(*node));
    ledger.unneeded_since = due.map(|(node, since)| (node.clone(), *since)).collect();
    ledger.unneeded_since.extend(decided.unneeded_since);
    let soonest = if plan.is_empty() { now } else { after(now, REPEATED) };
    let wake_at = wake_at.map(|at| at.max(soonest));
    Decision { plan: Plan::default(), rehearsed: plan, ledger, verdicts, growth, wake_at }
}

/// Single pools are rehearsed: they are left alone by the plan that is carried out, which so plans for their pods
/// elsewhere, and a second plan that knows of no dry run says what they would do.
fn of_pools(
    cluster: &Cluster,
    ledger: &Ledger,
    rehearsed: &dyn Fn(&Pool) -> bool,
    rule: Rule<'_>,
) -> Decision {
    let mut without = cluster.clone();
    for pool in cluster.pools().values().filter(|pool| rehearsed(pool)) {
        let mut frozen = (**pool).clone();
        frozen.frozen = Some(Arc::from(FROZEN));
        without.apply(model::Change::Pool(pool.id.clone(), Some(Arc::new(frozen))));
    }
    let mut decision = rule(&without, ledger);
    let mut steps = rule(cluster, ledger).plan.steps;
    steps.retain(|step| pool_of(cluster, step).is_some_and(rehearsed));
    decision.rehearsed = Plan { steps };
    decision
}

/// The pool that a step is about.
fn pool_of<'a>(cluster: &'a Cluster, step: &Step) -> Option<&'a Pool> {
    let of_node = |name| cluster.nodes().get(name).and_then(|node| cluster.pool_of(node));
    let pool = match step {
        Step::Buy(order) => cluster.pools().get(&order.pool),
        Step::Lower(order) => cluster.pools().get(&order.pool),
        Step::Release(order) => cluster.pools().get(&order.pool),
        Step::MarkNode(mark) => of_node(&mark.node),
        Step::UndoNode(undo) => of_node(&undo.node),
        Step::Evict(evict) => of_node(&evict.node),
        Step::SoftTaint(soft) => of_node(&soft.node),
        Step::DeleteNode { node, .. } => of_node(node),
    };
    pool.map(|pool| &**pool)
}
