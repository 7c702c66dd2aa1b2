//! Purchases: within every limit, for demand that is named, and for none twice.

use crate::Rule;
use crate::ahead;
use crate::fit::{Bin, all_fit, live_on};
use crate::plan::Case;
use crate::rules::{self, Claimed};
use jiff::SignedDuration;
use model::{
    Buy, Lower, MachineId, MachineState, Node, Pod, PodPhase, PodShape, Pool, PoolId, Reason, Served, Step,
    WorkloadKey,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A node that turned not ready this long after it was made had been ready before.
const FIRST_READY_GRACE: SignedDuration = SignedDuration::from_mins(1);

/// Whether the purchase was first planned in this round (an unanswered one may be handed out again).
pub(crate) fn is_new(case: &Case<'_>, buy: &Buy) -> bool {
    case.before.scale_ups.get(&buy.pool).is_none_or(|order| order.intent != buy.intent)
}

pub(crate) fn check_buy(case: &mut Case<'_>, buy: &Buy) {
    let Some(pool) = case.cluster.pools().get(&buy.pool).cloned() else {
        case.wrong(Rule::Precondition, &buy.pool, "buys from a pool that does not exist");
        return;
    };
    if buy.to > pool.max {
        case.wrong(Rule::Maximum, &buy.pool, format!("asks for {} of at most {}", buy.to, pool.max));
    }
    if buy.to <= buy.from {
        case.wrong(Rule::Precondition, &buy.pool, format!("grows from {} to {}", buy.from, buy.to));
    }
    if !is_new(case, buy) {
        return;
    }
    if buy.from < asked_size(case, &pool) {
        let detail = format!("starts from {}, but {} are asked for", buy.from, asked_size(case, &pool));
        case.wrong(Rule::Precondition, &buy.pool, detail);
    }
    let backed_off = case.before.back_offs.get(&buy.pool).is_some_and(|entry| entry.until > case.now);
    if backed_off || pool.frozen.is_some() || (pool.template.is_none() && pool.direct().is_none()) {
        case.wrong(Rule::PoolNotToBeAsked, &buy.pool, "it is backed off, frozen or without a template");
    }
    if buy.to - buy.from.min(buy.to) > case.policies.max_nodes_per_scale_up {
        case.wrong(Rule::Maximum, &buy.pool, "more nodes than one scale-up may add");
    }
    check_demand(case, buy);
}

/// The size that the pool is asked for, an order that it does not show yet included.
fn asked_size(case: &Case<'_>, pool: &Pool) -> u32 {
    let open = case.before.scale_ups.get(&pool.id).filter(|order| order.ordered && !order.lowering);
    // Claims that are not seen by then never will be: such an order is over, and what it asked for no longer counts.
    let is_over = |deadline| pool.direct().is_some() && deadline <= case.now;
    let open = open.filter(|order| !order.confirmed && !is_over(order.deadline));
    let open = open.map_or(0, |order| order.to);
    pool.target.max(open)
}

/// Whether the purchase only raises its pool to the minimum, where that is asked for.
fn fills_minimum(case: &Case<'_>, buy: &Buy) -> bool {
    let Some(pool) = case.cluster.pools().get(&buy.pool) else { return false };
    let pools = &case.policies.pools;
    let policy = pools.get(&pool.name).or_else(|| pools.get(pool.id.as_str()));
    let min = pool.min.max(policy.and_then(|policy| policy.min).unwrap_or(0));
    case.policies.enforce_minimum && buy.to <= min
}

fn check_demand(case: &mut Case<'_>, buy: &Buy) {
    if buy.serves.is_empty() && !fills_minimum(case, buy) {
        case.wrong(Rule::NamedDemand, &buy.pool, "serves nothing");
    }
    let by_rule: u32 = buy.serves.rules.iter().map(|(_, _, nodes)| *nodes).sum();
    if is_by_rule(buy) && by_rule != buy.to.saturating_sub(buy.from) {
        let detail = format!("grows from {} to {} for {by_rule} nodes by rule", buy.from, buy.to);
        case.wrong(Rule::NamedDemand, &buy.pool, detail);
    }
    for served in buy.serves.iter() {
        let real = match &served {
            Served::Pod(key) => case.cluster.pods().get(key).is_some_and(|pod| {
                let waits = pod.is_unschedulable() || is_next(case, pod);
                waits && pod.consumes.is_none() || loses_its_node(case, pod)
            }),
            Served::Missing { workload, replicas } if case.cluster.headroom().contains_key(workload) => {
                let headroom = &case.cluster.headroom()[workload];
                headroom.purpose.buys() && headroom.holds_at(case.now) && headroom.count() >= *replicas
            }
            Served::Missing { workload, replicas } => {
                case.cluster.workloads().get(workload).is_some_and(|found| {
                    found.desired.saturating_sub(case.cluster.live_pods_of(&found.uid)) >= *replicas
                })
            }
            Served::Rule { set, rule, nodes } => {
                let claimed = Claimed { set, rule, nodes: *nodes };
                let objection = rules::objection(case, buy, &claimed);
                if let Some(why) = &objection {
                    case.wrong(Rule::NamedDemand, &buy.pool, format!("rule {rule} of {set}: {why}"));
                }
                case.cluster.rule_sets().contains_key(set)
            }
            Served::Ahead(demand) => {
                if let Some(why) = ahead::objection(case, demand) {
                    case.wrong(Rule::NamedDemand, &buy.pool, format!("for {}: {why}", demand.outlook));
                }
                true
            }
        };
        if !real {
            case.wrong(
                Rule::NamedDemand,
                &buy.pool,
                format!("serves {served:?}, which does not wait for a node"),
            );
        }
    }
}

/// Whether the scheduler has not looked at the pod yet, and has refused one that asks for the same.
fn is_next(case: &Case<'_>, pod: &Pod) -> bool {
    let waits = pod.node.is_none() && pod.unschedulable_since.is_none() && pod.deletion_at.is_none();
    let held = pod.gated || pod.nominated.is_some() || pod.phase != PodPhase::Pending;
    // Pods of a cohort are alike in all that is asked here, so that a look at one of each will do.
    let mut others = case.cluster.waiting_cohorts().filter_map(|cohort| cohort.pods().next());
    waits
        && !held
        && others.any(|other| {
            other.is_unschedulable() && other.key.namespace == pod.key.namespace && other.shape == pod.shape
        })
}

/// Whether a pod runs on a machine of a direct pool that goes or waits for its replacement.
fn loses_its_node(case: &Case<'_>, pod: &Pod) -> bool {
    let Some(name) = &pod.node else { return false };
    let Some(node) = case.cluster.nodes().get(name) else { return false };
    let machine = case.cluster.machine_of(node).filter(|machine| machine.direct.is_some());
    let going = machine.is_some_and(|machine| machine.state == MachineState::Deleting || node.deleting);
    going || (machine.is_some() && case.decision.ledger.replacing.contains_key(name))
}

pub(crate) fn check_lower(case: &mut Case<'_>, lower: &Lower) {
    let Some(pool) = case.cluster.pools().get(&lower.pool).cloned() else {
        case.wrong(Rule::Precondition, &lower.pool, "lowers a pool that does not exist");
        return;
    };
    let machines = standing_machines(case, &lower.pool);
    if lower.to < machines {
        let detail = format!("lowers to {} with {machines} machines", lower.to);
        case.wrong(Rule::Precondition, &lower.pool, detail);
    }
    if lower.to < pool.min {
        case.wrong(Rule::Minimum, &lower.pool, format!("lowers to {} of at least {}", lower.to, pool.min));
    }
}

fn standing_machines(case: &Case<'_>, pool: &PoolId) -> u32 {
    let machines = case.cluster.machines_of(pool).filter(|machine| machine.state != MachineState::Deleting);
    u32::try_from(machines.count()).unwrap_or(u32::MAX)
}

pub(crate) fn check_together(case: &mut Case<'_>) {
    let buys: Vec<Buy> = case
        .decision
        .plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Buy(buy) if is_new(case, buy) => Some(buy.clone()),
            _ => None,
        })
        .collect();
    if buys.is_empty() {
        return;
    }
    check_ceiling(case, &buys);
    check_amounts(case, &buys);
    let mut served: BTreeSet<Served> = BTreeSet::new();
    for demand in buys.iter().flat_map(|buy| buy.serves.iter()) {
        if matches!(demand, Served::Pod(_)) && !served.insert(demand.clone()) {
            case.wrong(Rule::DoubleDemand, "the plan", format!("{demand:?} is served by two purchases"));
        }
    }
    check_wholes(case, &buys);
    check_needed(case, &buys);
}

/// What is asked for as a whole is bought for only where that, and the room that is there, comes to all of it.
fn check_wholes(case: &mut Case<'_>, buys: &[Buy]) {
    let mut bought: BTreeMap<&WorkloadKey, u32> = BTreeMap::new();
    for (key, count) in buys.iter().flat_map(|buy| &buy.serves.missing) {
        *bought.entry(key).or_default() += count;
    }
    for (key, count) in bought {
        let Some(headroom) = case.cluster.headroom().get(key).filter(|one| one.purpose.is_whole()) else {
            continue;
        };
        let said = case.decision.verdicts.headroom.get(key);
        let elsewhere = said.map_or(0, |said| said.taken + said.ready + said.coming);
        let wanted = headroom.count();
        if elsewhere + count != wanted {
            let detail = format!("{count} of {wanted} pods are bought for, {elsewhere} have room");
            case.wrong(Rule::AllOrNothing, key, detail);
        }
    }
}

fn check_ceiling(case: &mut Case<'_>, buys: &[Buy]) {
    let ceiling = case.policies.max_nodes_total;
    let bought: u32 = buys.iter().map(|buy| buy.to.saturating_sub(buy.from)).sum();
    let pools: Vec<Arc<Pool>> = case.cluster.pools().values().cloned().collect();
    let without_node: u32 = pools
        .iter()
        .map(|pool| {
            let asked = asked_size(case, pool).max(standing_machines(case, &pool.id));
            asked.saturating_sub(nodes_of(case, &pool.id))
        })
        .sum();
    let total = u32::try_from(case.cluster.nodes().len()).unwrap_or(u32::MAX).saturating_add(without_node);
    // What a failing pool has not made is not counted on by the planner, and not held against it here.
    let failing = !case.decision.ledger.back_offs.is_empty();
    if ceiling > 0 && total.saturating_add(bought) > ceiling && !failing {
        let detail = format!("{total} nodes and {bought} more are over the ceiling of {ceiling}");
        case.wrong(Rule::Ceiling, "the cluster", detail);
    }
}

/// Cpu and memory of nodes that stay, of machines on their way and of what is bought, against the ceilings.
fn check_amounts(case: &mut Case<'_>, buys: &[Buy]) {
    let ceilings = case.policies.ceilings.clone();
    if ceilings == model::Ceilings::default() {
        return;
    }
    let (mut cpu, mut memory) = (0u64, 0u64);
    let mut add = |resources: &model::Resources, count: u32| {
        cpu = cpu.saturating_add(resources.cpu.0.saturating_mul(u64::from(count)));
        memory = memory.saturating_add(resources.memory.0.saturating_mul(u64::from(count)));
    };
    let deleting = |node: &Node| {
        let machine = case.cluster.machine_of(node);
        node.deleting || machine.is_some_and(|machine| machine.state == MachineState::Deleting)
    };
    for node in case.cluster.nodes().values().filter(|node| !deleting(node)) {
        add(&node.allocatable, 1);
    }
    for pool in case.cluster.pools().values() {
        let Some(template) = &pool.template else { continue };
        let asked = asked_size(case, pool).max(standing_machines(case, &pool.id));
        add(&template.allocatable, asked.saturating_sub(nodes_of(case, &pool.id)));
        let bought = buys.iter().filter(|buy| buy.pool == pool.id);
        bought.for_each(|buy| add(&template.allocatable, buy.to.saturating_sub(buy.from)));
    }
    let failing = !case.decision.ledger.back_offs.is_empty();
    let over = cpu.div_ceil(1000) > ceilings.cores.max || memory.div_ceil(1 << 30) > ceilings.memory_gib.max;
    if over && !failing {
        let detail = format!("{cpu} millicores and {memory} bytes are over the ceilings");
        case.wrong(Rule::Ceiling, "the cluster", detail);
    }
}

fn nodes_of(case: &Case<'_>, pool: &PoolId) -> u32 {
    let nodes = case.cluster.nodes().values();
    let ours =
        nodes.filter(|node| case.cluster.machine_of(node).is_some_and(|machine| machine.pool == *pool));
    u32::try_from(ours.count()).unwrap_or(u32::MAX)
}

/// Whether rules are all that a purchase is for.
fn is_by_rule(buy: &Buy) -> bool {
    !buy.serves.rules.is_empty() && buy.serves.pods.is_empty() && buy.serves.missing.is_empty()
}

/// What open orders serve already is bought for again, though everything that waits has room on the machines that are
/// on their way.
fn check_needed(case: &mut Case<'_>, buys: &[Buy]) {
    // A rule asks whether pods wait or not, and what is to come does not wait.
    let buys: Vec<&Buy> = buys.iter().filter(|buy| !is_by_rule(buy) && !ahead::is_ahead(buy)).collect();
    if buys.is_empty() {
        return;
    }
    let bins = on_their_way(case);
    let verdicts = &case.decision.verdicts.pods;
    let cutoff = case.policies.expendable_pods_priority_cutoff;
    let mut suits: BTreeMap<&PodShape, bool> = BTreeMap::new();
    // Who is said to be beyond help counts all the same where a machine that is coming could be for him.
    let mut hopeless = |pod: &'_ Pod, shape| {
        matches!(verdicts.get(&pod.key), Some(Reason::NoPoolHelps { .. } | Reason::NoPools))
            && !*suits.entry(shape).or_insert_with(|| bins.iter().any(|bin| bin.takes(shape)))
    };
    let waiting: Vec<_> = case
        .cluster
        .waiting_pods()
        .filter(|pod| !pod.gated && !pod.daemon && pod.deletion_at.is_none() && pod.shape.priority >= cutoff)
        .filter(|pod| pod.shape.unmodelled.is_empty() && !hopeless(pod, &pod.shape))
        .collect();
    let for_headroom =
        |buy: &&Buy| buy.serves.missing.iter().any(|(key, _)| case.cluster.headroom().contains_key(key));
    if !waiting.is_empty() && buys.iter().any(for_headroom) {
        // Pods take their places first and need not leave the best ones to what comes after them.
        return;
    }
    let mut shapes: Vec<&PodShape> = waiting.iter().map(|pod| &*pod.shape).collect();
    let mut owners: BTreeSet<&model::Uid> = BTreeSet::new();
    for pod in &waiting {
        // Replicas that their owners still have to create need room as well.
        let Some(owner) = pod.owner.as_ref().filter(|owner| owners.insert(&owner.uid)) else { continue };
        let key = model::WorkloadKey::new(&owner.kind, &pod.key.namespace, &owner.name);
        let desired = case.cluster.workloads().get(&key).map_or(0, |workload| workload.desired);
        let missing = desired.saturating_sub(case.cluster.live_pods_of(&owner.uid));
        shapes.extend(std::iter::repeat_n(&*pod.shape, missing as usize));
    }
    // What was promised takes room as well, although it is not bought for.
    let headroom = case.cluster.headroom().values().filter(|one| one.holds_at(case.now));
    let parts: Vec<_> = headroom.flat_map(|one| &one.parts).collect();
    shapes.extend(parts.iter().flat_map(|part| std::iter::repeat_n(&*part.shape, part.count as usize)));
    // The bins here know nothing of rules between pods.
    let of_pods = case.cluster.pods().values().map(|pod| &pod.shape);
    if of_pods.chain(parts.iter().map(|part| &part.shape)).any(|shape| shape.depends_on_pods()) {
        return;
    }
    let open = case.before.scale_ups.values().filter(|order| !order.lowering);
    let claimed: u64 = open.flat_map(|order| order.claims.values()).map(|count| u64::from(*count)).sum();
    if shapes.len() as u64 > claimed {
        // More waits than the open orders were made for.
        return;
    }
    if !bins.is_empty() && all_fit(bins, shapes) {
        let pools: Vec<_> = buys.iter().map(|buy| buy.pool.to_string()).collect();
        let detail = "all that waits has room on machines that are on their way";
        case.wrong(Rule::DoubleDemand, pools.join(" "), detail);
    }
}

/// Machines that were asked for and can still come, as they will be.
fn on_their_way(case: &Case<'_>) -> Vec<Bin> {
    let nodes: BTreeMap<&MachineId, &Node> = (case.cluster.nodes().values())
        .filter_map(|node| node.machine.as_ref().map(|machine| (machine, &**node)))
        .collect();
    let mut bins = Vec::new();
    for pool in case.cluster.pools().values() {
        let Some(bin) = Bin::promised(case.cluster, pool) else { continue };
        let limit = pool.options.max_provision_time.unwrap_or(case.policies.max_provision_time);
        let startup = pool.options.max_startup_time.unwrap_or(case.policies.max_startup_time);
        let young = |at| case.now.duration_since(at) < limit;
        let young_node = |at| case.now.duration_since(at) < startup;
        for machine in case.cluster.machines_of(&pool.id) {
            let alive = matches!(machine.state, MachineState::Creating | MachineState::Running);
            if !alive || case.decision.ledger.orphans.contains_key(&machine.id) {
                continue;
            }
            match nodes.get(&machine.id) {
                None if young(machine.created_at) => bins.push(bin.clone()),
                Some(node) if starts(node, young_node(node.created_at)) => {
                    let mut bin = bin.clone();
                    let on = live_on(case.cluster, &node.name).filter(|pod| !pod.daemon);
                    on.for_each(|pod| bin.put(&pod.shape));
                    bins.push(bin);
                }
                _ => {}
            }
        }
        if !case.decision.ledger.back_offs.contains_key(&pool.id) {
            let unborn = asked_size(case, pool).saturating_sub(standing_machines(case, &pool.id));
            bins.extend(std::iter::repeat_n(bin, unborn as usize));
        }
    }
    bins
}

/// A node that is not ready yet and nothing stands against it becoming so.
fn starts(node: &Node, young: bool) -> bool {
    let since = match node.readiness {
        model::Readiness::NotReady { since } => since,
        model::Readiness::Ready { .. } => return false,
    };
    let never_ready = since.duration_since(node.created_at) <= FIRST_READY_GRACE;
    never_ready && young && !node.deleting && !node.has_taint("ToBeDeletedByClusterAutoscaler")
}
