//! Which nodes are not needed, since when, and which of them go now.
//!
//! Owns eligibility, the simulated removals, the timers and the start of removals. Every node gets a reason for being
//! kept. Causes here are voluntary: each passes every guard.

use crate::assurance::Movers;
use crate::assured::Assured;
use crate::budgets::Budgets;
use crate::cluster_minimum::ClusterMinimum;
use crate::drain_rules::{self, NodePods};
use crate::drains;
use crate::fleet::{Fleet, FleetNode, NodeState, PoolAccount};
use crate::freshness::Freshness;
use crate::planted::PlantedBug;
use crate::round::Round;
use crate::settled::settled;
use crate::supply::{Supply, TO_BE_DELETED};
use crate::unready_gate::Gate;
use crate::utilization::{self, Utilization};
use crate::{pool_policy, rules, waits};
use jiff::Timestamp;
use model::{
    BlockedPod, Node, NodeName, Pod, PodBlock, PodKey, PoolId, PoolRejection, Profile, Reason, Removal,
    RemovalCause, RemovalPhase, Step, WorkloadKey,
};
use packing::SpotIx;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SCALE_DOWN_DISABLED: &str = "cluster-autoscaler.kubernetes.io/scale-down-disabled";
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";

/// A node worth a simulated removal.
pub(crate) struct Candidate<'f> {
    pub name: &'f NodeName,
    node: &'f FleetNode,
    account: &'f PoolAccount,
    /// Not ready since then.
    unready_since: Option<Timestamp>,
    /// A waiting pod whose rules are not modelled may be bound there, as the node is before anything moves.
    may_suit_unmodelled: bool,
    /// Why it would stay were it not for a rule that lets nodes of its pool go.
    kept_but_for_rule: Option<Reason>,
}

/// A node that could go: everything on it has a place.
pub(crate) struct Unneeded<'f> {
    pub candidate: Candidate<'f>,
    cause: RemovalCause,
    /// The pods that have to move.
    pub moving: Vec<Arc<Pod>>,
}

impl Unneeded<'_> {
    fn drains(&self) -> bool {
        !self.moving.is_empty()
    }
}

/// What the removals on paper say.
#[derive(Default)]
struct Simulated<'f> {
    unneeded: Vec<Unneeded<'f>>,
    /// Kept by nothing but a budget that is used up for now: their time runs on, since a budget under which one
    /// node goes after the other would otherwise make each of them wait from the beginning.
    held_by_budget: Vec<&'f NodeName>,
}

/// Why a node stays, and whether a budget is all that holds it.
struct Kept {
    reason: Reason,
    only_by_budget: bool,
}

impl From<Reason> for Kept {
    fn from(reason: Reason) -> Self {
        Self { reason, only_by_budget: false }
    }
}

/// Everything that keeps a node, as one reason.
fn all_of(mut reasons: Vec<Reason>) -> Option<Reason> {
    match reasons.len() {
        0 | 1 => reasons.pop(),
        _ => Some(Reason::KeptBy { reasons }),
    }
}

pub(crate) fn review(
    round: &mut Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    budgets: &mut Budgets,
) {
    if !fresh.for_removal() {
        return;
    }
    let settled = settled(round, fleet, supply);
    let leaving: Vec<NodeName> = round.ledger.removals.keys().cloned().collect();
    round.verdicts.nodes.settle(Arc::clone(&settled.said), &leaving);
    // Who is about to come makes a node one that is looked at again.
    let awaited = supply.awaited.iter().filter_map(|spot| supply.node_at(*spot));
    let looked_at: BTreeSet<&NodeName> = settled.open.iter().chain(awaited).collect();
    let mut candidates = Vec::new();
    for (name, node) in looked_at.into_iter().filter_map(|name| fleet.nodes.get_key_value(name)) {
        if round.ledger.removals.contains_key(name) {
            continue;
        }
        match eligible(round, fleet, supply, budgets, name, node) {
            Ok(Some(candidate)) => candidates.push(candidate),
            Ok(None) => {}
            Err(reason) => round.say(name, reason),
        }
    }
    leave_ill_places(round, fleet, &mut candidates);
    sort(round, supply, &mut candidates);
    let before = if candidates.is_empty() { Movers::default() } else { Movers::so_far(supply) };
    let simulated = simulate(round, fleet, supply, budgets, candidates);
    remember(round, fleet, &simulated);
    let mut starts = Starts::of(round, before);
    for node in &simulated.unneeded {
        starts.consider(round, supply, budgets, node, &simulated.unneeded);
    }
}

/// A candidate, or the reason for which the node is kept; `None` where its time timer is kept and nothing is said.
fn eligible<'f>(
    round: &mut Round<'_>,
    fleet: &'f Fleet,
    supply: &Supply,
    budgets: &Budgets,
    name: &'f NodeName,
    node: &'f FleetNode,
) -> Result<Option<Candidate<'f>>, Reason> {
    let account = owner(round, fleet, node)?;
    if !account.fresh {
        return Err(Reason::PoolRejected { rejection: PoolRejection::ProviderStale });
    }
    if let Some(why) = &account.pool.frozen {
        return Err(Reason::PoolRejected { rejection: PoolRejection::Frozen { why: why.clone() } });
    }
    let unready_since = match node.state {
        NodeState::Leaving => return Ok(None),
        NodeState::Starting { since } => return Err(Reason::StartingUp { since }),
        NodeState::Unready { since } => Some(since),
        NodeState::Ready => None,
    };
    if node.node.has_taint(TO_BE_DELETED) {
        // A Cluster Autoscaler is at it; `leftovers` wakes us when that is over.
        return Ok(None);
    }
    if unready_since.is_none() && supply.spot(name).is_none_or(|spot| supply.awaited.contains(&spot)) {
        return Err(Reason::PodsAreWaiting);
    }
    if unready_since.is_none()
        && !is_let_go(round, node, account)
        && let Some((outlook, due)) = supply.spot(name).and_then(|spot| supply.foreseen.get(&spot))
    {
        return Err(Reason::NeededAgain { outlook: outlook.clone(), due: *due });
    }
    if let Some(reason) = kept_anyway(round, supply, budgets, name, node, account) {
        return Err(reason);
    }
    let may_suit_unmodelled = supply.spot(name).is_some_and(|spot| supply.may_suit_unmodelled(spot));
    let kept_but_for_rule = match is_let_go(round, node, account) {
        false => None,
        true if !round.policies.scale_down_enabled => Some(Reason::ScaleDownDisabled),
        true => in_use(round, supply, name, node, account).err(),
    };
    Ok(Some(Candidate { name, node, account, unready_since, may_suit_unmodelled, kept_but_for_rule }))
}

pub(crate) fn owner<'f>(
    round: &Round<'_>,
    fleet: &'f Fleet,
    node: &FleetNode,
) -> Result<&'f PoolAccount, Reason> {
    let Some(machine) = &node.machine else {
        let known = node.node.machine.is_none();
        return Err(if known { Reason::NotAutoscaled } else { Reason::MachineUnknown });
    };
    let account = fleet.pools.get(&machine.pool).ok_or(Reason::NotAutoscaled)?;
    let profile = pool_policy::profile(round, &account.pool);
    let removes = matches!(profile, Profile::ClusterAutoscaler | Profile::NodePolicy);
    let wanted = round.policies.scale_down_enabled || is_let_go(round, node, account);
    if wanted && removes { Ok(account) } else { Err(Reason::ScaleDownDisabled) }
}

/// Whether a rule lets nodes like this one go now, used or not.
pub(crate) fn is_let_go(round: &Round<'_>, node: &FleetNode, account: &PoolAccount) -> bool {
    node.state == NodeState::Ready && rules::may_let_go(round, &account.pool.id) > 0
}

pub(crate) fn forbids(node: &Node) -> bool {
    [SCALE_DOWN_DISABLED, DO_NOT_DISRUPT]
        .iter()
        .any(|key| node.annotations.get(*key).is_some_and(|value| &**value == "true"))
}

/// What keeps a node whatever becomes of its pods; its pods' own reasons beside it, unless it is simply in use.
fn kept_anyway(
    round: &mut Round<'_>,
    supply: &Supply,
    budgets: &Budgets,
    name: &NodeName,
    node: &FleetNode,
    account: &PoolAccount,
) -> Option<Reason> {
    let mut kept = Vec::new();
    if forbids(&node.node) {
        kept.push(Reason::ScaleDownDisabledAnnotation);
    }
    if let Some(reason) = waits::too_new(round, node, account) {
        if let Reason::PoolCoolDown { until } = &reason {
            round.wake(*until);
        }
        kept.push(reason);
    }
    let ready = node.state == NodeState::Ready;
    if !ready && !round.policies.scale_down_unready_enabled {
        kept.push(Reason::UnreadyKept);
    }
    let judged = ready && !is_let_go(round, node, account);
    let used = if judged { in_use(round, supply, name, node, account).err() } else { None };
    if kept.is_empty() || used.is_some() {
        kept.extend(used);
        return all_of(kept);
    }
    let pods = drain_rules::pods_of(round, budgets, name).blocked;
    if !pods.is_empty() {
        kept.push(Reason::BlockedBy { pods });
    }
    all_of(kept)
}

pub(crate) fn in_use(
    round: &Round<'_>,
    supply: &Supply,
    name: &NodeName,
    node: &FleetNode,
    account: &PoolAccount,
) -> Result<(), Reason> {
    let threshold_permille = utilization::threshold_percent(round, &node.node, account).saturating_mul(10);
    let utilization = supply.utilization.get(name).copied().unwrap_or(Utilization::Unknown);
    let utilization_permille = match utilization {
        Utilization::Unknown => return Err(Reason::NothingAllocatable),
        Utilization::Permille(permille) => permille,
    };
    if utilization_permille > threshold_permille && !supply.idle.contains(name) {
        return Err(Reason::InUse { utilization_permille, threshold_permille });
    }
    Ok(())
}

/// Where too many nodes are not ready, what looks unneeded may be needed in a moment: nothing goes there, and its
/// timers start anew.
fn leave_ill_places(round: &mut Round<'_>, fleet: &Fleet, candidates: &mut Vec<Candidate<'_>>) {
    let gate = Gate::of(round, fleet);
    round.verdicts.round.extend(gate.sentences());
    candidates.retain(|candidate| match gate.at(candidate.node) {
        None => true,
        Some(reason) => {
            round.ledger.unneeded_since.remove(candidate.name);
            round.say(candidate.name, reason);
            false
        }
    });
}

/// Empty nodes first, then those that have been unneeded longest (so that the choice is stable), then the emptiest.
fn sort(round: &Round<'_>, supply: &Supply, candidates: &mut [Candidate<'_>]) {
    candidates.sort_by_cached_key(|candidate| {
        (
            !supply.idle.contains(candidate.name),
            // The timer of a node that is not ready is dropped in this round: it must not order it any more.
            unneeded_since(round, candidate)
                .filter(|_| candidate.unready_since.is_none())
                .unwrap_or(Timestamp::MAX),
            supply.utilization.get(candidate.name).map_or(0, |utilization| utilization.permille()),
            candidate.name.clone(),
        )
    });
}

fn unneeded_since(round: &Round<'_>, candidate: &Candidate<'_>) -> Option<Timestamp> {
    round.ledger.unneeded_since.get(candidate.name).copied()
}

/// Removes one candidate after the other on paper; those that work stay removed for the ones after them.
fn simulate<'f>(
    round: &mut Round<'_>,
    fleet: &Fleet,
    supply: &mut Supply,
    budgets: &Budgets,
    candidates: Vec<Candidate<'f>>,
) -> Simulated<'f> {
    let mut taken: BTreeMap<PoolId, u32> = BTreeMap::new();
    let mut simulated = Simulated::default();
    let mut minimum = ClusterMinimum::of(round, fleet);
    for candidate in candidates {
        let id = &candidate.account.pool.id;
        let already = taken.get(id).copied().unwrap_or(0);
        let mut at_least = Vec::new();
        if already >= candidate.account.removable() && !round.planted.has(PlantedBug::UnderMinimum) {
            at_least.push(Reason::AtMinimum { min: candidate.account.pool.min });
        }
        at_least.extend(minimum.forbids(&candidate.node.node));
        if !at_least.is_empty() {
            let pods = drain_rules::pods_of(round, budgets, candidate.name).blocked;
            if !pods.is_empty() {
                at_least.push(Reason::BlockedBy { pods });
            }
            if let Some(reason) = all_of(at_least) {
                round.say(candidate.name, reason);
            }
            continue;
        }
        match try_removal(round, supply, budgets, &candidate) {
            Ok(pods) => {
                *taken.entry(id.clone()).or_default() += 1;
                minimum.take(&candidate.node.node);
                let moving: Vec<_> = pods.moving.into_iter().map(|(pod, _)| pod).collect();
                let cause = match (candidate.unready_since, moving.is_empty()) {
                    (Some(_), _) => RemovalCause::Unready,
                    (None, false) => RemovalCause::UnderUsed,
                    (None, true) => RemovalCause::Empty,
                };
                simulated.unneeded.push(Unneeded { candidate, cause, moving });
            }
            Err(kept) => {
                if kept.only_by_budget {
                    simulated.held_by_budget.push(candidate.name);
                }
                round.say(candidate.name, kept.reason);
            }
        }
    }
    simulated
}

fn try_removal(
    round: &mut Round<'_>,
    supply: &mut Supply,
    budgets: &Budgets,
    candidate: &Candidate<'_>,
) -> Result<NodePods, Kept> {
    let pods = drain_rules::pods_of(round, budgets, candidate.name);
    if !pods.blocked.is_empty() {
        wake_for_blocked(round, candidate.name);
        let by_budget = |block: &PodBlock| matches!(block, PodBlock::NotEnoughPdb { .. });
        let only_by_budget = candidate.unready_since.is_none()
            && pods.blocked.iter().flat_map(|blocked| &blocked.by).all(by_budget)
            && would_work(round, supply, candidate, &pods);
        let mut reasons = vec![Reason::BlockedBy { pods: pods.blocked.clone() }];
        reasons.extend(homeless_beside(supply, candidate, &pods));
        let reason = all_of(reasons).unwrap_or(Reason::PodsAreWaiting);
        return Err(Kept { reason, only_by_budget });
    }
    if candidate.unready_since.is_some() {
        if let Some((pod, _)) = pods.moving.first() {
            wake_for_blocked(round, candidate.name);
            return Err(Reason::UnreadyWithPods { pod: pod.key.clone() }.into());
        }
        return Ok(pods);
    }
    let Some(spot) = supply.spot(candidate.name) else { return Err(Reason::PodsAreWaiting.into()) };
    if candidate.may_suit_unmodelled {
        return Err(Reason::PodsAreWaiting.into());
    }
    match empty_out(round, supply, spot, &pods) {
        None => Ok(pods),
        Some(stuck) => Err(stuck.reason(supply, candidate.name).into()),
    }
}

fn wake_for_blocked(round: &mut Round<'_>, node: &NodeName) {
    let soonest = round.cluster.pods_on(node).filter_map(|pod| drain_rules::next_change(round, pod)).min();
    if let Some(at) = soonest {
        round.wake(at);
    }
}

/// What stands against emptying a node.
enum Stuck {
    NoPlaceFor(PodKey),
    TakesMovedPods,
    HoldsHeadroom(WorkloadKey),
}

impl Stuck {
    fn reason(self, supply: &Supply, node: &NodeName) -> Reason {
        match self {
            Self::NoPlaceFor(pod) => {
                let utilization_permille = supply.utilization.get(node).map_or(0, |used| used.permille());
                Reason::NoPlaceFor { pod, utilization_permille }
            }
            Self::TakesMovedPods => Reason::TakesMovedPods,
            Self::HoldsHeadroom(of) => Reason::HoldsHeadroom { of },
        }
    }
}

/// Closes the spot and finds places for its pods and for those that earlier removals put there.
/// Answers what stands against it, with the room as it was.
fn empty_out(round: &Round<'_>, supply: &mut Supply, spot: SpotIx, pods: &NodePods) -> Option<Stuck> {
    let mark = supply.room.mark();
    supply.room.close(spot);
    let moving = pods.moving.iter().filter(|(_, needs_place)| *needs_place).map(|(pod, _)| pod);
    let homeless = drains::find_places(supply, moving).map(|pod| Stuck::NoPlaceFor(pod.key.clone()));
    let received: Vec<_> = supply.room.received(spot).to_vec();
    let end = supply.ready_end;
    let mut fits = |shape, count: u32| {
        let placed = supply.room.place(shape, count, 0..end);
        placed.iter().map(|placed| placed.count).sum::<u32>() == count
    };
    let unplaced = match &homeless {
        Some(_) => None,
        None => received.into_iter().find(|(class, count)| !fits(*class, *count)),
    };
    let stuck = homeless.or_else(|| {
        let of = supply.headroom_of(unplaced?.0);
        Some(of.map_or(Stuck::TakesMovedPods, |of| Stuck::HoldsHeadroom(of.clone())))
    });
    if stuck.is_some() && !round.planted.has(PlantedBug::NoPlaceForPods) {
        supply.room.rollback(mark);
        return stuck;
    }
    None
}

/// A pod that might move, beside those that may not, and has no place; the room stays as it is.
fn homeless_beside(supply: &mut Supply, candidate: &Candidate<'_>, pods: &NodePods) -> Option<Reason> {
    let spot = supply.spot(candidate.name).filter(|_| candidate.unready_since.is_none())?;
    let mark = supply.room.mark();
    supply.room.close(spot);
    let moving = pods.moving.iter().filter(|(_, needs_place)| *needs_place).map(|(pod, _)| pod);
    let homeless = drains::find_places(supply, moving);
    supply.room.rollback(mark);
    homeless.map(|pod| Stuck::NoPlaceFor(pod.key.clone()).reason(supply, candidate.name))
}

/// Whether a node whose pods may not move now could be emptied if they might; the room stays as it is.
fn would_work(round: &Round<'_>, supply: &mut Supply, candidate: &Candidate<'_>, pods: &NodePods) -> bool {
    let Some(spot) = supply.spot(candidate.name).filter(|_| !candidate.may_suit_unmodelled) else {
        return false;
    };
    let held = pods.blocked.iter().filter_map(|blocked| round.cluster.pods().get(&blocked.pod));
    let held = held.map(|pod| (Arc::clone(pod), true));
    let all = NodePods { moving: pods.moving.iter().cloned().chain(held).collect(), blocked: Vec::new() };
    let mark = supply.room.mark();
    let works = empty_out(round, supply, spot, &all).is_none();
    supply.room.rollback(mark);
    works
}

/// Keeps the timers of what is unneeded and of what cannot be judged now, and drops the others.
fn remember(round: &mut Round<'_>, fleet: &Fleet, simulated: &Simulated<'_>) {
    let unneeded = simulated
        .unneeded
        .iter()
        .filter(|node| node.cause != RemovalCause::Unready && node.candidate.kept_but_for_rule.is_none());
    let names: BTreeSet<&NodeName> =
        unneeded.map(|node| node.candidate.name).chain(simulated.held_by_budget.iter().copied()).collect();
    let unjudged = |name: &NodeName| {
        fleet
            .nodes
            .get(name)
            .and_then(|node| node.machine.as_ref())
            .and_then(|machine| fleet.pools.get(&machine.pool))
            .is_some_and(|account| !account.fresh)
    };
    round.ledger.unneeded_since.retain(|name, _| names.contains(name) || unjudged(name));
    for name in names {
        round.ledger.unneeded_since.entry(name.clone()).or_insert(round.now);
    }
}

/// How many removals may still start in this round.
struct Starts {
    in_flight: u32,
    draining: u32,
    assured: Assured,
}

impl Starts {
    fn of(round: &Round<'_>, movers: Movers) -> Self {
        let removals = &round.ledger.removals;
        let moves =
            |r: &&Removal| r.drains && matches!(r.phase, RemovalPhase::Marking | RemovalPhase::Draining);
        Self {
            in_flight: u32::try_from(removals.len()).unwrap_or(u32::MAX),
            draining: u32::try_from(removals.values().filter(moves).count()).unwrap_or(u32::MAX),
            assured: Assured::beside(movers),
        }
    }

    /// Starts the removal of a node whose time has come, or says what it waits for.
    fn consider(
        &mut self,
        round: &mut Round<'_>,
        supply: &mut Supply,
        budgets: &mut Budgets,
        node: &Unneeded<'_>,
        all: &[Unneeded<'_>],
    ) {
        let name = node.candidate.name;
        let candidate = &node.candidate;
        let (since, removable_at) = waits::times(round, name, candidate.unready_since, candidate.account);
        let by_rule = is_let_go(round, candidate.node, candidate.account);
        if let Some(reason) = candidate.kept_but_for_rule.as_ref().filter(|_| !by_rule) {
            round.say(name, reason.clone());
            return;
        }
        if !by_rule && !round.reached(removable_at) {
            let reason = match node.candidate.unready_since {
                Some(since) => Reason::NotReadyYetTolerated { since, removable_at },
                None => Reason::Unneeded { cause: node.cause, since, removable_at },
            };
            round.say(name, reason);
            return;
        }
        if let Some((after, until)) = waits::cool_down(round, &candidate.account.pool.id) {
            round.wake(until);
            round.say(name, Reason::InCoolDown { after, until });
            return;
        }
        let limit = self.limit(round, node.drains());
        let refused = limit
            .or_else(|| used_up(budgets, &node.moving))
            .or_else(|| self.assured.refuses(round, supply, node, all));
        if let Some(reason) = refused {
            round.say(name, reason);
            return;
        }
        for pod in &node.moving {
            budgets.debit(pod);
        }
        self.in_flight += 1;
        self.draining += u32::from(node.drains());
        start(round, node);
        if by_rule {
            rules::let_one_go(round, &candidate.account.pool.id);
        }
    }

    fn limit(&self, round: &Round<'_>, drains: bool) -> Option<Reason> {
        let (all, drain) = (round.policies.max_scale_down_parallelism, round.policies.max_drain_parallelism);
        if self.in_flight >= all {
            return Some(Reason::RemovalLimit { in_flight: self.in_flight, limit: all });
        }
        (drains && self.draining >= drain)
            .then_some(Reason::RemovalLimit { in_flight: self.draining, limit: drain })
    }
}

/// A budget that the removals which started before in this round have used up.
fn used_up(budgets: &Budgets, moving: &[Arc<Pod>]) -> Option<Reason> {
    let block = |pod: &Arc<Pod>| {
        let pdb = budgets.forbidding(pod)?.to_string().into();
        Some(BlockedPod { pod: pod.key.clone(), by: vec![PodBlock::NotEnoughPdb { pdb }] })
    };
    let pods: Vec<_> = moving.iter().filter_map(block).collect();
    (!pods.is_empty()).then_some(Reason::BlockedBy { pods })
}

fn start(round: &mut Round<'_>, node: &Unneeded<'_>) {
    let Some(machine) = &node.candidate.node.machine else { return };
    let name = node.candidate.name;
    let cordon = round.policies.cordon_node_before_terminating && !node.candidate.node.node.unschedulable;
    let mut removal = Removal::begin(
        round.new_intent("remove"),
        node.candidate.node.node.uid.clone(),
        machine.pool.clone(),
        machine.id.clone(),
        node.cause,
        RemovalPhase::Marking,
        round.now,
    );
    removal.drains = node.drains();
    removal.cordoned = cordon;
    removal.asked = round.ask(None, None);
    round.step(Step::MarkNode(drains::mark_of(&removal, name)));
    round.ledger.unneeded_since.remove(name);
    round.say(
        name,
        Reason::BeingRemoved { cause: node.cause, phase: RemovalPhase::Marking, since: round.now },
    );
    round.ledger.removals.insert(name.clone(), removal);
}
