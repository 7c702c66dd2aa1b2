//! One plan against the cluster, the policies and the ledger that it was made on.
//!
//! Owns the walk over the steps and what holds for each kind alone; purchases as a whole are in `growth`, removals in
//! `removals`.

use crate::{Rule, Violation, ahead, growth, removals};
use jiff::Timestamp;
use model::{
    Buy, Cluster, Decision, Evict, IntentId, Ledger, Lower, MarkNode, Policies, PoolId, Release, Removal,
    RemovalPhase, SoftTaint, Step, UndoNode,
};
use std::collections::BTreeSet;

/// All that a check looks at.
pub(crate) struct Case<'c> {
    pub cluster: &'c Cluster,
    pub policies: &'c Policies,
    pub before: &'c Ledger,
    pub decision: &'c Decision,
    pub now: Timestamp,
    pub found: Vec<Violation>,
}

impl Case<'_> {
    pub(crate) fn wrong(&mut self, rule: Rule, subject: impl std::fmt::Display, detail: impl Into<String>) {
        self.found.push(Violation::new(rule, subject, detail));
    }
}

/// Everything that is wrong with a decision; empty for a sound one.
pub fn check_plan(
    cluster: &Cluster,
    policies: &Policies,
    before: &Ledger,
    decision: &Decision,
    now: Timestamp,
) -> Vec<Violation> {
    let mut case = Case { cluster, policies, before, decision, now, found: Vec::new() };
    let mut seen: BTreeSet<(IntentId, String)> = BTreeSet::new();
    for step in &decision.plan.steps {
        intent_is_durable(&mut case, step);
        if !seen.insert((step.intent().clone(), subject(step))) {
            case.wrong(Rule::Precondition, subject(step), "the same step twice in one plan");
        }
        if in_dry_run(&case, step) {
            case.wrong(Rule::DryRun, subject(step), "it is in dry run");
        }
        match step {
            Step::Buy(buy) => growth::check_buy(&mut case, buy),
            Step::Lower(lower) => growth::check_lower(&mut case, lower),
            Step::MarkNode(mark) => removals::check_mark(&mut case, mark),
            Step::Evict(evict) => removals::check_evict(&mut case, evict),
            Step::Release(release) => removals::check_release(&mut case, release),
            Step::UndoNode(undo) => check_undo(&mut case, undo),
            Step::SoftTaint(step) => removals::check_soft_taint(&mut case, step),
            Step::DeleteNode { node, uid, .. } => {
                let known = cluster.nodes().get(node).filter(|found| found.uid == *uid);
                if known.and_then(|found| cluster.machine_of(found)).is_some() {
                    case.wrong(Rule::Precondition, node, "its machine still exists");
                }
            }
        }
    }
    growth::check_together(&mut case);
    ahead::check_together(&mut case);
    removals::check_together(&mut case);
    if decision.wake_at.is_some_and(|at| at <= now) {
        case.wrong(Rule::Precondition, "the round", "asks to be woken in the past");
    }
    case.found
}

/// Whether a step is about a cluster or a pool that is in dry run.
fn in_dry_run(case: &Case<'_>, step: &Step) -> bool {
    let cluster = case.cluster;
    let of_node = |name| cluster.nodes().get(name).and_then(|node| cluster.machine_of(node));
    let pool = match step {
        Step::Buy(Buy { pool, .. })
        | Step::Lower(Lower { pool, .. })
        | Step::Release(Release { pool, .. }) => Some(pool),
        Step::MarkNode(MarkNode { node, .. })
        | Step::UndoNode(UndoNode { node, .. })
        | Step::Evict(Evict { node, .. })
        | Step::SoftTaint(SoftTaint { node, .. })
        | Step::DeleteNode { node, .. } => of_node(node).map(|machine| &machine.pool),
    };
    let named = |id: &PoolId| {
        let name = cluster.pools().get(id).map(|pool| &*pool.name);
        case.policies.dry_run_pools.iter().any(|entry| entry == id.as_str() || Some(entry.as_str()) == name)
    };
    case.policies.dry_run || pool.is_some_and(named)
}

fn subject(step: &Step) -> String {
    match step {
        Step::Buy(step) => format!("buy {}", step.pool),
        Step::Lower(step) => format!("lower {}", step.pool),
        Step::MarkNode(step) => format!("mark {}", step.node),
        Step::Evict(step) => format!("evict {}", step.pod),
        Step::Release(step) => format!("release {}", step.machine),
        Step::UndoNode(step) => format!("undo {}", step.node),
        Step::DeleteNode { node, .. } => format!("delete {node}"),
        Step::SoftTaint(step) => format!("soft taint of {}", step.node),
    }
}

/// The ledger that is made durable before the plan names every intent of the plan, in the phase of its step.
fn intent_is_durable(case: &mut Case<'_>, step: &Step) {
    let ledger = &case.decision.ledger;
    let removal = |removal: Option<&Removal>, phase: RemovalPhase| {
        removal.is_some_and(|removal| removal.intent == *step.intent() && removal.phase == phase)
    };
    let durable = match step {
        Step::Buy(buy) => ledger
            .scale_ups
            .get(&buy.pool)
            .is_some_and(|order| order.intent == buy.intent && order.to == buy.to && !order.lowering),
        Step::Lower(lower) => ledger
            .scale_ups
            .get(&lower.pool)
            .is_some_and(|order| order.intent == lower.intent && order.to == lower.to && order.lowering),
        Step::MarkNode(mark) => removal(ledger.removals.get(&mark.node), RemovalPhase::Marking),
        Step::Evict(evict) => removal(ledger.removals.get(&evict.node), RemovalPhase::Draining),
        Step::UndoNode(undo) => removal(ledger.removals.get(&undo.node), RemovalPhase::Undoing),
        Step::DeleteNode { node, .. } => removal(ledger.removals.get(node), RemovalPhase::Releasing),
        Step::SoftTaint(step) => ledger
            .soft_taints
            .get(&step.node)
            .is_some_and(|change| change.intent == step.intent && change.put == step.put),
        Step::Release(release) => match &release.node {
            Some(node) => removal(ledger.removals.get(node), RemovalPhase::Releasing),
            None => removal(ledger.orphans.get(&release.machine), RemovalPhase::Releasing),
        },
    };
    if !durable {
        let detail = format!("intent {} is not in the ledger in the phase of its step", step.intent());
        case.wrong(Rule::IntentInLedger, subject(step), detail);
    }
}

fn check_undo(case: &mut Case<'_>, undo: &UndoNode) {
    let cordoned = case.decision.ledger.removals.get(&undo.node).is_some_and(|removal| removal.cordoned);
    if undo.uncordon && !cordoned {
        case.wrong(Rule::Precondition, &undo.node, "uncordons a node that we did not cordon");
    }
}
