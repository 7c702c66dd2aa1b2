//! Which machines of direct pools go although nobody took them: drifted, expired, empty, or under-used.
//!
//! Owns who is a candidate, in which order, and within which budget; every cause passes the same guards. A machine whose
//! pods have no room elsewhere goes only after its replacement has come. What follows the decision (drain in tiers,
//! termination) is the claim's own life, which the shell keeps.

use crate::allowances;
use crate::budgets::Budgets;
use crate::claims::Fnv;
use crate::exchanges;
use crate::fleet::{Fleet, FleetNode, NodeState, PoolAccount};
use crate::freshness::Freshness;
use crate::round::{Round, after};
use crate::supply::{Supply, Unmet};
use crate::worth::{self, Worth};
use crate::{displaced, emptying};
use jiff::{SignedDuration, Timestamp};
use model::{
    BlockedPod, Consolidation, DirectMachine, DisruptionReason, NodeName, Pod, PodBlock, PoolId, Quiet,
    Reason, Removal, RemovalCause, RemovalPhase, Replacing, SafeToEvict, WorkloadKey,
};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// What was decided to be replaced is looked at again, and bought, this much later.
const SECOND_LOOK: SignedDuration = SignedDuration::from_secs(1);

/// What each pool's budgets still allow in this round.
pub(crate) struct Allowance {
    total: BTreeMap<PoolId, u32>,
    going: BTreeMap<PoolId, u32>,
}

impl Allowance {
    pub(crate) fn of(round: &Round<'_>, fleet: &Fleet) -> Self {
        let mut this = Self { total: BTreeMap::new(), going: BTreeMap::new() };
        for (name, node) in fleet.direct_nodes() {
            let Some((machine, direct)) = direct_of(node) else { continue };
            if direct.initialized_at.is_none() {
                continue;
            }
            *this.total.entry(machine.pool.clone()).or_default() += 1;
            let leaves =
                round.ledger.removals.contains_key(name) || round.ledger.replacing.contains_key(name);
            if leaves || node.state != NodeState::Ready {
                *this.going.entry(machine.pool.clone()).or_default() += 1;
            }
        }
        this
    }

    /// How many more of a pool may be disturbed for a reason.
    fn left(&self, round: &Round<'_>, account: &PoolAccount, reason: DisruptionReason) -> u32 {
        let Some(direct) = account.pool.direct() else { return 0 };
        let total = self.total.get(&account.pool.id).copied().unwrap_or(0);
        let going = self.going.get(&account.pool.id).copied().unwrap_or(0);
        let most = allowances::allowed(&direct.spec().disruption, reason, total, round.now);
        most.map_or(u32::MAX, |most| most.saturating_sub(going))
    }

    /// Takes one disruption of a pool; false where its budgets allow none.
    pub(crate) fn take(
        &mut self,
        round: &mut Round<'_>,
        account: &PoolAccount,
        reason: DisruptionReason,
    ) -> bool {
        let Some(direct) = account.pool.direct() else { return false };
        let policy = &direct.spec().disruption;
        let total = self.total.get(&account.pool.id).copied().unwrap_or(0);
        let going = self.going.entry(account.pool.id.clone()).or_default();
        if allowances::allowed(policy, reason, total, round.now).is_some_and(|most| *going >= most) {
            if let Some(at) = allowances::next_change(policy, round.now) {
                round.wake(at);
            }
            return false;
        }
        *going += 1;
        true
    }
}

fn direct_of(node: &FleetNode) -> Option<(&model::Machine, &DirectMachine)> {
    let machine = node.machine.as_deref()?;
    Some((machine, machine.direct.as_deref()?))
}

/// Drifted and expired machines, oldest first: one that can be emptied goes, for another a replacement is asked.
/// Answers the pods that need new machines, those of machines that somebody deleted included.
pub(crate) fn replace(
    round: &mut Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    budgets: &Budgets,
    allowance: &mut Allowance,
) -> Vec<Unmet> {
    if !fresh.for_removal() {
        return Vec::new();
    }
    forget(round, fleet, budgets);
    choose(round, fleet, supply, budgets, allowance);
    let settlement = displaced::settle(round, fleet, supply);
    for name in settlement.free_to_go {
        if let (Some(entry), Some(node)) = (round.ledger.replacing.remove(&name), fleet.nodes.get(&name)) {
            remove(round, &name, node, entry.cause);
        }
    }
    settlement.unserved
}

/// Replacements whose machine went, changed its mind, or may not be disturbed any more.
fn forget(round: &mut Round<'_>, fleet: &Fleet, budgets: &Budgets) {
    let entries: Vec<(NodeName, Replacing)> =
        round.ledger.replacing.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect();
    for (name, entry) in entries {
        let node = fleet.nodes.get(&name).filter(|node| node.node.uid == entry.node_uid);
        let stands = node.is_some_and(|node| {
            node.state == NodeState::Ready
                && still_due(round, fleet, node, &entry)
                && blocked(round, budgets, &name).is_none()
        });
        if !stands {
            round.ledger.replacing.remove(&name);
        }
    }
}

/// Whether the reason for a replacement holds. One that was to save money does until it has taken too long.
fn still_due(round: &mut Round<'_>, fleet: &Fleet, node: &FleetNode, entry: &Replacing) -> bool {
    if entry.cause == RemovalCause::UnderUsed {
        let own = account_of(fleet, node).and_then(|account| account.pool.options.max_provision_time);
        let limit = own.unwrap_or(round.policies.max_provision_time);
        return !round.reached(after(entry.since, limit));
    }
    cause_of(round, node).is_some_and(|(cause, _)| cause == entry.cause)
}

/// Why a machine is to be replaced whatever runs on it, and since when.
fn cause_of(round: &mut Round<'_>, node: &FleetNode) -> Option<(RemovalCause, Timestamp)> {
    let (machine, direct) = direct_of(node)?;
    let created_at = machine.created_at;
    let (drifted, expires_at) = (direct.drifted.is_some(), direct.expires_at);
    if expires_at.is_some_and(|at| round.reached(at)) {
        return Some((RemovalCause::Expired, expires_at.unwrap_or(created_at)));
    }
    drifted.then_some((RemovalCause::Drifted, created_at))
}

/// Begins replacements, as far as budgets and guards allow.
fn choose(
    round: &mut Round<'_>,
    fleet: &Fleet,
    supply: &Supply,
    budgets: &Budgets,
    allowance: &mut Allowance,
) {
    let mut due = Vec::new();
    for (name, node) in fleet.direct_nodes() {
        if is_candidate(round, fleet, supply, name, node).is_some()
            && let Some((cause, since)) = cause_of(round, node)
        {
            due.push((since, name, node, cause));
        }
    }
    due.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    for (since, name, node, cause) in due {
        if let Some(reason) = blocked(round, budgets, name) {
            round.say(name, reason);
            continue;
        }
        let Some(account) = account_of(fleet, node) else { continue };
        let reason = match cause {
            RemovalCause::Expired => DisruptionReason::Expired,
            _ => DisruptionReason::Drifted,
        };
        if !allowance.take(round, account, reason) {
            round.say(name, Reason::DisruptionBudget { pool: account.pool.id.clone(), cause });
            continue;
        }
        let entry = Replacing { cause, since: round.now, node_uid: node.node.uid.clone() };
        round.say(name, Reason::Unneeded { cause, since, removable_at: round.now });
        round.ledger.replacing.insert(name.clone(), entry);
    }
}

fn account_of<'f>(fleet: &'f Fleet, node: &FleetNode) -> Option<&'f PoolAccount> {
    fleet.pools.get(&node.machine.as_ref()?.pool)
}

/// A machine that may be disturbed at all; nothing is said of others.
fn is_candidate<'n>(
    round: &Round<'_>,
    fleet: &Fleet,
    supply: &Supply,
    name: &NodeName,
    node: &'n FleetNode,
) -> Option<&'n DirectMachine> {
    let (_, direct) = direct_of(node)?;
    let account = account_of(fleet, node)?;
    let ours = account.fresh && account.pool.direct().is_some() && account.pool.frozen.is_none();
    let free = !round.ledger.removals.contains_key(name) && !round.ledger.replacing.contains_key(name);
    let kept = node.node.annotations.get(DO_NOT_DISRUPT).is_some_and(|value| &**value == "true");
    let awaited = supply
        .spot(name)
        .is_none_or(|spot| supply.awaited.contains(&spot) || supply.foreseen.contains_key(&spot));
    let whole = node.state == NodeState::Ready && direct.initialized_at.is_some();
    (ours && free && whole && !kept && !awaited && round.policies.scale_down_enabled).then_some(direct)
}

/// A pod that keeps its node: it asks not to be disturbed, or a budget forbids it now.
pub(crate) fn blocked(round: &Round<'_>, budgets: &Budgets, node: &NodeName) -> Option<Reason> {
    let mut pods = Vec::new();
    for pod in round.cluster.pods_on(node).filter(|pod| stays_alive(pod)) {
        let mut by = Vec::new();
        if pod.safe_to_evict == SafeToEvict::No {
            by.push(PodBlock::NotSafeToEvictAnnotation);
        }
        if !pod.daemon
            && !pod.mirror
            && let Some(pdb) = budgets.forbidding(pod)
        {
            by.push(PodBlock::NotEnoughPdb { pdb: Arc::from(pdb.to_string()) });
        }
        if !by.is_empty() {
            pods.push(BlockedPod { pod: pod.key.clone(), by });
        }
    }
    (!pods.is_empty()).then_some(Reason::BlockedBy { pods })
}

fn stays_alive(pod: &Pod) -> bool {
    pod.occupies() && !pod.terminal && pod.deletion_at.is_none()
}

/// The pods that need a place when their node goes.
pub(crate) fn moving(round: &Round<'_>, node: &NodeName) -> Vec<Arc<Pod>> {
    let moves = |pod: &&Arc<Pod>| stays_alive(pod) && !pod.daemon && !pod.mirror;
    round.cluster.pods_on(node).filter(moves).map(Arc::clone).collect()
}

pub(crate) fn remove(round: &mut Round<'_>, name: &NodeName, node: &FleetNode, cause: RemovalCause) {
    let Some(machine) = &node.machine else { return };
    let mut removal = Removal::begin(
        round.new_intent("remove"),
        node.node.uid.clone(),
        machine.pool.clone(),
        machine.id.clone(),
        cause,
        RemovalPhase::Releasing,
        round.now,
    );
    removal.drains = !moving(round, name).is_empty();
    round.say(name, Reason::BeingRemoved { cause, phase: RemovalPhase::Releasing, since: round.now });
    round.ledger.quiet.remove(name);
    round.ledger.removals.insert(name.clone(), removal);
}

/// Says of machines that wait for what replaces them since when they do.
fn say_awaiting(round: &mut Round<'_>) {
    let awaiting: Vec<(NodeName, RemovalCause, Timestamp)> =
        round.ledger.replacing.iter().map(|(name, one)| (name.clone(), one.cause, one.since)).collect();
    for (name, cause, since) in awaiting {
        round.say(&name, Reason::Unneeded { cause, since, removable_at: since });
    }
}

/// Empty machines, all at once; then the under-used, as far as their pods have room elsewhere.
pub(crate) fn consolidate(
    round: &mut Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    budgets: &mut Budgets,
    allowance: &mut Allowance,
) {
    if !fresh.for_removal() {
        return;
    }
    say_awaiting(round);
    round.ledger.quiet.retain(|name, _| fleet.nodes.contains_key(name));
    let mut fullest_last = Vec::new();
    for (name, node) in fleet.direct_nodes() {
        let Some(direct) = is_candidate(round, fleet, supply, name, node) else { continue };
        let Some(account) = account_of(fleet, node) else { continue };
        let Some(policy) = account.pool.direct().map(|direct| direct.spec().disruption.clone()) else {
            continue;
        };
        let Some(wait) = policy.after else { continue };
        let since = quiet_since(round, name, direct);
        let removable_at = after(since, wait);
        let empty = moving(round, name).is_empty();
        let cause = if empty { RemovalCause::Empty } else { RemovalCause::UnderUsed };
        if !empty && policy.consolidation == Consolidation::WhenEmpty {
            continue;
        }
        if !round.reached(removable_at) {
            round.say(name, Reason::Unneeded { cause, since, removable_at });
            continue;
        }
        if let Some(reason) = blocked(round, budgets, name) {
            round.say(name, reason);
        } else if !empty {
            let load = supply.utilization.get(name).map_or(0, |utilization| utilization.permille());
            fullest_last.push((load, name, node, account));
        } else if let Some(of) = keeps_headroom(supply, name) {
            round.say(name, Reason::HoldsHeadroom { of });
        } else if allowance.take(round, account, DisruptionReason::Empty) {
            remove(round, name, node, cause);
        } else {
            round.say(name, Reason::DisruptionBudget { pool: account.pool.id.clone(), cause });
        }
    }
    fullest_last.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let candidate = |(_, name, node, account): (_, _, _, _)| exchanges::Candidate {
        name,
        node,
        account,
        moving: moving(round, name),
    };
    let candidates: Vec<exchanges::Candidate<'_>> = fullest_last.into_iter().map(candidate).collect();
    if is_unsettled(round, fleet) {
        // Where pods are moving or machines are coming, what looks under-used may be needed in a moment.
        return;
    }
    let worth = Worth::of(round, fleet);
    if emptying::empty(round, supply, budgets, allowance, &worth, &candidates) == 0 {
        exchange(round, fleet, fresh, supply, allowance, &worth, &candidates);
    }
}

/// Whose headroom keeps an empty machine: there is no other room for it. Where there is, it moves there.
fn keeps_headroom(supply: &mut Supply, name: &NodeName) -> Option<WorkloadKey> {
    let spot = supply.spot(name).filter(|spot| !supply.headroom_on(*spot).is_empty())?;
    let mark = supply.room.mark();
    supply.room.close(spot);
    let homeless = supply.rehouse(spot);
    if homeless.is_some() {
        supply.room.rollback(mark);
    }
    homeless
}

/// Has sets of machines replaced by cheaper ones.
fn exchange(
    round: &mut Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    allowance: &mut Allowance,
    worth: &Worth,
    candidates: &[exchanges::Candidate<'_>],
) {
    let mut left: BTreeMap<PoolId, u32> = BTreeMap::new();
    for account in candidates.iter().map(|candidate| candidate.account) {
        let most = || allowance.left(round, account, DisruptionReason::Underutilized);
        left.entry(account.pool.id.clone()).or_insert_with(most);
    }
    let sets = exchanges::find(round, fleet, fresh, supply, candidates, (&left, worth));
    worth::say_declined(round, candidates.iter().map(|candidate| candidate.name));
    for candidate in sets.into_iter().flatten().map(|at| &candidates[at]) {
        if allowance.take(round, candidate.account, DisruptionReason::Underutilized) {
            let (cause, node_uid) = (RemovalCause::UnderUsed, candidate.node.node.uid.clone());
            let entry = Replacing { cause, since: round.now, node_uid };
            round.say(candidate.name, Reason::Unneeded { cause, since: round.now, removable_at: round.now });
            round.ledger.replacing.insert(candidate.name.clone(), entry);
            round.wake(after(round.now, SECOND_LOOK));
        }
    }
}

/// Whether pods are waiting or moving, or machines are on their way or going.
fn is_unsettled(round: &Round<'_>, fleet: &Fleet) -> bool {
    let waiting = round.cluster.waiting_pods().any(|pod| !pod.gated && !pod.daemon);
    let going = round.ledger.removals.values().any(|removal| removal.drains);
    let moving = fleet
        .direct_nodes()
        .any(|(_, node)| matches!(node.state, NodeState::Leaving | NodeState::Starting { .. }));
    let direct = |account: &&PoolAccount| account.pool.direct().is_some();
    let coming = fleet.pools.values().filter(direct).any(|account| account.upcoming() > 0);
    waiting || going || moving || coming || !round.ledger.replacing.is_empty()
}

/// Since when no pod has come to a node or left it, `DaemonSet`s' apart.
fn quiet_since(round: &mut Round<'_>, name: &NodeName, direct: &DirectMachine) -> Timestamp {
    let mut hasher = Fnv::default();
    for pod in moving(round, name) {
        pod.uid.hash(&mut hasher);
    }
    let pods = hasher.finish();
    let now = round.now;
    let entry = round.ledger.quiet.entry(name.clone()).or_insert(Quiet { pods, since: now });
    if entry.pods != pods {
        *entry = Quiet { pods, since: now };
    }
    entry.since.max(direct.initialized_at.unwrap_or(entry.since))
}
