//! Removals: marked before drained, drained before released, nothing protected touched, limits kept.

use crate::Rule;
use crate::drains::{allowance, belongs_to_node, budgets_over, counts_against, movable_on, protection};
use crate::fit::Bin;
use crate::plan::Case;
use model::{
    Evict, MarkNode, Node, NodeName, PdbKey, Pod, PodKey, PoolId, Release, RemovalCause, RemovalPhase,
    SoftTaint, Step,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

fn is_new(case: &Case<'_>, node: &NodeName) -> bool {
    let intent = case.decision.ledger.removals.get(node).map(|removal| &removal.intent);
    case.before.removals.get(node).is_none_or(|removal| Some(&removal.intent) != intent)
}

pub(crate) fn check_mark(case: &mut Case<'_>, mark: &MarkNode) {
    let Some(node) = case.cluster.nodes().get(&mark.node).filter(|node| node.uid == mark.uid).cloned() else {
        case.wrong(Rule::Precondition, &mark.node, "marks a node that is not there");
        return;
    };
    if mark.cordon && node.unschedulable && is_new(case, &mark.node) {
        case.wrong(Rule::Precondition, &mark.node, "would take someone else's cordon for ours");
    }
    if !is_new(case, &mark.node) {
        return;
    }
    if case.cluster.pool_of(&node).is_none() {
        case.wrong(Rule::Precondition, &mark.node, "marks a node of no pool of ours");
    }
    let stays_by_annotation = node.annotations.iter().any(|(key, value)| {
        let keeps = ["cluster-autoscaler.kubernetes.io/scale-down-disabled", "karpenter.sh/do-not-disrupt"];
        keeps.contains(&&**key) && &**value == "true"
    });
    if stays_by_annotation {
        case.wrong(Rule::DrainRules, &mark.node, "its annotation forbids scale-down");
    }
    let pods: Vec<Arc<Pod>> =
        movable_on(case.cluster, &mark.node, case.now).into_iter().map(Arc::clone).collect();
    for pod in pods {
        if let Some(why) = protection(case.cluster, case.policies, &pod, case.now) {
            case.wrong(Rule::DrainRules, &mark.node, format!("holds {}: {why}", pod.key));
        }
        check_place(case, &mark.node, &pod);
    }
}

/// Some node that stays could take the pod, were it the only one that moves.
fn check_place(case: &mut Case<'_>, from: &NodeName, pod: &Pod) {
    let cutoff = case.policies.expendable_pods_priority_cutoff;
    let intricate = pod.shape.volumes.as_ref().is_some_and(|needs| !crate::volumes::are_plain(needs));
    let spared = intricate
        || !pod.shape.unmodelled.is_empty()
        || pod.shape.priority < cutoff
        || pod.deletion_at.is_some();
    if spared {
        return;
    }
    let leaves = |node: &Node| {
        let removal = case.decision.ledger.removals.get(&node.name);
        node.name == *from || removal.is_some_and(|removal| removal.phase != RemovalPhase::Undoing)
    };
    let mut others =
        case.cluster.nodes().values().filter(|node| node.is_ready() && !node.deleting && !leaves(node));
    let placed =
        others.any(|node| !node.unschedulable && Bin::standing(case.cluster, node, cutoff).takes(&pod.shape));
    if !placed {
        case.wrong(Rule::PlaceElsewhere, from, format!("{} fits on no other node", pod.key));
    }
}

pub(crate) fn check_evict(case: &mut Case<'_>, evict: &Evict) {
    let Some(pod) = case.cluster.pods().get(&evict.pod).filter(|pod| pod.uid == evict.uid).cloned() else {
        case.wrong(Rule::Precondition, &evict.pod, "evicts a pod that is not there");
        return;
    };
    if pod.node.as_ref() != Some(&evict.node) {
        case.wrong(Rule::Precondition, &evict.pod, format!("is not on {}", evict.node));
    }
    if belongs_to_node(case.policies, &pod) {
        case.wrong(Rule::DrainRules, &evict.pod, "belongs to its node");
    } else if pod.daemon {
        // Its DaemonSet does without it; only budgets protect it.
    } else if let Some(why) = protection(case.cluster, case.policies, &pod, case.now) {
        case.wrong(Rule::DrainRules, &evict.pod, why);
    }
    let cordoned = case.decision.ledger.removals.get(&evict.node).is_some_and(|removal| removal.cordoned);
    let marked = case
        .cluster
        .nodes()
        .get(&evict.node)
        .is_some_and(|node| node.has_taint(TO_BE_DELETED) && (node.unschedulable || !cordoned));
    if !marked {
        case.wrong(Rule::MarkedBeforeEvicted, &evict.node, format!("{} is evicted from it", evict.pod));
    }
}

/// A soft taint speaks of nodes of ours that are not needed, and of no others.
pub(crate) fn check_soft_taint(case: &mut Case<'_>, step: &SoftTaint) {
    let Some(node) = case.cluster.nodes().get(&step.node).filter(|node| node.uid == step.uid).cloned() else {
        case.wrong(Rule::Precondition, &step.node, "taints a node that is not there");
        return;
    };
    if case.cluster.pool_of(&node).is_none() {
        case.wrong(Rule::Precondition, &step.node, "taints a node of no pool of ours");
    }
    let unneeded = case.decision.ledger.unneeded_since.contains_key(&step.node);
    if step.put && !unneeded {
        case.wrong(Rule::Precondition, &step.node, "says that a needed node is not");
    }
    if &*step.taint.key != "DeletionCandidateOfClusterAutoscaler" {
        case.wrong(Rule::Precondition, &step.node, format!("{} is no soft taint", step.taint.key));
    }
}

pub(crate) fn check_release(case: &mut Case<'_>, release: &Release) {
    let machine = case.cluster.machines().get(&release.machine);
    if machine.is_some_and(|machine| machine.pool != release.pool) {
        case.wrong(Rule::Precondition, &release.machine, format!("is not a machine of {}", release.pool));
    }
    let draining = &case.policies.draining;
    let forced =
        release.node.is_none() && (draining.force_delete_failed || draining.force_delete_unregistered);
    if let Some(pool) = case.cluster.pools().get(&release.pool)
        && release.min < pool.min
        && !forced
    {
        let detail = format!("is released with a minimum of {}, which is {}", release.min, pool.min);
        case.wrong(Rule::Minimum, &release.pool, detail);
    }
    match &release.node {
        None => {
            let joined =
                case.cluster.nodes().values().any(|node| node.machine.as_ref() == Some(&release.machine));
            if joined || release.cause != RemovalCause::NeverJoined {
                case.wrong(Rule::Precondition, &release.machine, "is released without a look at its node");
            }
        }
        Some(node) => {
            // A claimed machine is drained by its claim.
            if machine.is_some_and(|machine| machine.direct.is_some()) {
                return;
            }
            let left: Vec<PodKey> =
                movable_on(case.cluster, node, case.now).iter().map(|pod| pod.key.clone()).collect();
            if let Some(pod) = left.first() {
                case.wrong(Rule::EmptyBeforeRelease, node, format!("{pod} is still on it"));
            }
        }
    }
}

pub(crate) fn check_together(case: &mut Case<'_>) {
    check_parallelism(case);
    check_minimum(case);
    check_budgets(case);
}

fn check_parallelism(case: &mut Case<'_>) {
    let new =
        case.decision.ledger.removals.keys().any(|node| {
            is_new(case, node) && case.decision.ledger.removals[node].phase == RemovalPhase::Marking
        });
    if !new {
        return;
    }
    let active = |phases: &[RemovalPhase], drains: bool| {
        let removals = case.decision.ledger.removals.values();
        removals.filter(|r| phases.contains(&r.phase) && (r.drains || !drains)).count() as u32
    };
    let (marking, draining, releasing) =
        (RemovalPhase::Marking, RemovalPhase::Draining, RemovalPhase::Releasing);
    let all = active(&[marking, draining, releasing], false);
    let drains = active(&[marking, draining], true);
    let policies = case.policies;
    if all > policies.max_scale_down_parallelism || drains > policies.max_drain_parallelism {
        case.wrong(Rule::Parallelism, "the plan", format!("{all} removals, {drains} of them moving pods"));
    }
}

/// What would be left of each pool that this plan takes from, were all open removals done.
fn check_minimum(case: &mut Case<'_>) {
    let mut touched: BTreeSet<PoolId> = BTreeSet::new();
    for step in &case.decision.plan.steps {
        match step {
            Step::Release(release) => {
                touched.insert(release.pool.clone());
            }
            Step::MarkNode(mark) => {
                touched.extend(case.decision.ledger.removals.get(&mark.node).map(|r| r.pool.clone()));
            }
            _ => {}
        }
    }
    if case.policies.draining.force_delete_failed || case.policies.draining.force_delete_unregistered {
        // Machines that never joined may go below it then.
        return;
    }
    for id in touched {
        let Some(pool) = case.cluster.pools().get(&id).cloned() else { continue };
        let ledger = &case.decision.ledger;
        let of_nodes = ledger.removals.values().filter(|r| r.phase != RemovalPhase::Undoing);
        let of_machines = ledger.orphans.values().filter(|r| r.asked.is_some());
        let open = of_nodes.chain(of_machines).filter(|r| r.pool == id && !r.released).count() as u32;
        let least = pool.min.max(crate::rules::floor(case, &pool));
        // A floor that has just risen does not call back what is going already.
        let begins = |step: &Step| {
            let Step::MarkNode(mark) = step else { return false };
            let removal = case.decision.ledger.removals.get(&mark.node);
            is_new(case, &mark.node) && removal.is_some_and(|removal| removal.pool == id)
        };
        let begun = case.decision.plan.steps.iter().any(begins);
        let least = if begun { least } else { pool.min };
        if pool.target.saturating_sub(open) < least && open > 0 {
            let detail = format!("{} machines, {open} of them going, at least {least}", pool.target);
            case.wrong(Rule::Minimum, &id, detail);
        }
    }
}

/// Evictions of this plan and those that the budgets' status may not show yet, against what the budgets allow.
/// Whether the eviction of this pod was answered with a refusal for now.
fn put_off(case: &Case<'_>, uid: &model::Uid) -> bool {
    case.cluster.outcomes().iter().any(|outcome| {
        matches!(&outcome.step, Step::Evict(step) if step.uid == *uid)
            && matches!(outcome.kind, model::OutcomeKind::Deferred { .. })
    })
}

fn check_budgets(case: &mut Case<'_>) {
    let mut pods: BTreeSet<PodKey> = BTreeSet::new();
    let mut now_evicted = false;
    for step in &case.decision.plan.steps {
        if let Step::Evict(evict) = step {
            pods.insert(evict.pod.clone());
            now_evicted = true;
        }
    }
    if !now_evicted {
        return;
    }
    let fresh = pods.clone();
    for removal in case.before.removals.values() {
        for (key, eviction) in &removal.evictions {
            // What came back put off takes nothing from the budget any more.
            let pending = eviction.asked.is_some() && !put_off(case, &eviction.uid);
            // A StatefulSet gives its next pod the same name.
            let same = case.cluster.pods().get(key).is_some_and(|pod| pod.uid == eviction.uid);
            if !same {
                continue;
            }
            if eviction.accepted_at.is_some() || pending {
                pods.insert(key.clone());
            }
        }
    }
    let mut used: BTreeMap<PdbKey, (u32, u32)> = BTreeMap::new();
    for key in &pods {
        let Some(pod) = case.cluster.pods().get(key) else { continue };
        for pdb in budgets_over(case.cluster, pod) {
            if counts_against(pdb, pod) {
                let entry = used.entry(pdb.key.clone()).or_default();
                entry.0 += 1;
                entry.1 += u32::from(fresh.contains(key));
            }
        }
    }
    for (key, (count, new)) in used {
        let allowed = case.cluster.pdbs().get(&key).map_or(0, |pdb| allowance(pdb));
        if new > 0 && count > allowed {
            case.wrong(Rule::DisruptionBudget, key, format!("{count} evictions, {allowed} allowed"));
        }
    }
}
