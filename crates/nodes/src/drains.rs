//! Removals under way: marked, drained, released, or undone.
//!
//! Owns the phases of one removal. Each is entered in the ledger before its first step is handed out, so a crash
//! anywhere is continued from here; whatever goes wrong before the machine is given back is undone.

use crate::assurance::{Assurance, Movers};
use crate::budgets::Budgets;
use crate::deliveries::RELEASE_BELIEVED;
use crate::drain_rules::{self, Fate};
use crate::fleet::{Fleet, FleetNode, NodeState, order_unseen};
use crate::freshness::Freshness;
use crate::planted::PlantedBug;
use crate::round::{Round, after};
use crate::supply::{Supply, TO_BE_DELETED};
use jiff::{SignedDuration, Timestamp};
use model::{
    Effect, Evict, EvictionState, MachineState, MarkNode, Node, NodeName, Pod, PodBlock, Reason, Release,
    Removal, RemovalCause, RemovalPhase, Step, Taint, Uid, UndoNode, WorkloadKey,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A mark that is not seen on the node after this is not coming.
const MARKING_LIMIT: SignedDuration = SignedDuration::from_mins(5);
/// How much longer than its grace period an evicted pod may take.
const TERMINATION_SLACK: SignedDuration = SignedDuration::from_secs(30);
/// How long a Node object may outlive its machine before we delete it: a cloud controller comes first.
const NODE_OUTLIVES_MACHINE: SignedDuration = SignedDuration::from_secs(30);

/// Turns a removal back. From the release on there is no way back.
pub(crate) fn undo(round: &mut Round<'_>, node: &NodeName) {
    let now = round.now;
    if round.planted.has(PlantedBug::LostTaint) {
        round.ledger.removals.remove(node);
        return;
    }
    if let Some(removal) = round.ledger.removals.get_mut(node)
        && removal.phase != RemovalPhase::Undoing
    {
        removal.phase = RemovalPhase::Undoing;
        removal.phase_since = now;
        removal.not_before = None;
        removal.undone = false;
        // A mark that is being put on now is waited for: undone first it would stay.
    }
}

/// Turns a removal back that did not work, and waits before the next one.
pub(crate) fn fail(round: &mut Round<'_>, node: &NodeName) {
    round.ledger.last_failure_at = Some(round.now);
    undo(round, node);
}

/// Brings the ledger's removals in line with the nodes and machines that there are.
pub(crate) fn settle(round: &mut Round<'_>, fresh: &Freshness) {
    let names: Vec<NodeName> = round.ledger.removals.keys().cloned().collect();
    for name in names {
        let Some(removal) = round.ledger.removals.get(&name) else { continue };
        let heard = fresh.provider_of(&removal.pool);
        let node = round.cluster.nodes().get(&name).filter(|node| node.uid == removal.node_uid);
        let machine = round.cluster.machines().get(&removal.machine);
        let machine_gone = machine.is_none();
        let machine_going = machine.is_none_or(|machine| machine.state == MachineState::Deleting);
        let before_release = removal.phase != RemovalPhase::Releasing;
        match node {
            None if before_release || (machine_gone && heard) => {
                round.ledger.removals.remove(&name);
            }
            Some(node) if removal.undone && !is_dirty(removal, node) => {
                round.ledger.removals.remove(&name);
            }
            Some(_) if machine_going && heard && removal.phase != RemovalPhase::Undoing => {
                taken_by_provider(round, &name, machine_gone);
            }
            _ => {}
        }
    }
    let machines = round.cluster.machines();
    round.ledger.orphans.retain(|id, orphan| {
        let going = machines.get(id).is_none_or(|machine| machine.state == MachineState::Deleting);
        !(going && fresh.provider_of(&orphan.pool))
    });
}

/// The machine is going or gone, by our order or not: nothing is left to decide about its node.
fn taken_by_provider(round: &mut Round<'_>, name: &NodeName, gone: bool) {
    let now = round.now;
    let Some(removal) = round.ledger.removals.get_mut(name) else { return };
    if removal.phase != RemovalPhase::Releasing {
        removal.phase = RemovalPhase::Releasing;
        removal.phase_since = now;
        removal.not_before = None;
    }
    if !removal.released {
        removal.released = true;
        removal.asked = None;
    }
    if gone && removal.machine_gone_at.is_none() {
        removal.machine_gone_at = Some(now);
    }
}

/// Takes every removal as far as it can go now.
pub(crate) fn advance(
    round: &mut Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    budgets: &mut Budgets,
) {
    let names: Vec<NodeName> = round.ledger.removals.keys().cloned().collect();
    for name in names {
        let Some(node) = fleet.nodes.get(&name) else {
            release_step(round, fleet, &name);
            continue;
        };
        let phase = round.ledger.removals.get(&name).map(|removal| removal.phase);
        match phase {
            Some(RemovalPhase::Marking) if fresh.for_removal() => {
                marking(round, fleet, supply, budgets, &name, node);
            }
            Some(RemovalPhase::Draining) if fresh.for_removal() => {
                draining(round, supply, budgets, &name, Places::ToFind);
            }
            _ => {}
        }
        match round.ledger.removals.get(&name).map(|removal| removal.phase) {
            Some(RemovalPhase::Releasing) => releasing(round, fleet, &name, node),
            Some(RemovalPhase::Undoing) => undoing(round, &name),
            _ => {}
        }
        if let Some(removal) = round.ledger.removals.get(&name) {
            let reason = Reason::BeingRemoved {
                cause: removal.cause,
                phase: removal.phase,
                since: removal.phase_since,
            };
            round.say(&name, reason);
        }
    }
}

fn enter(round: &mut Round<'_>, name: &NodeName, phase: RemovalPhase) {
    let now = round.now;
    if let Some(removal) = round.ledger.removals.get_mut(name) {
        removal.phase = phase;
        removal.phase_since = now;
        removal.asked = None;
        removal.not_before = None;
    }
}

/// Whether our taint, and the cordon where it is ours, are seen on the node.
fn is_marked(removal: &Removal, node: &Node) -> bool {
    node.has_taint(TO_BE_DELETED) && (!removal.cordoned || node.unschedulable)
}

/// Whether something of ours is still seen on a node whose removal is undone.
fn is_dirty(removal: &Removal, node: &Node) -> bool {
    node.has_taint(TO_BE_DELETED) || (removal.cordoned && node.unschedulable)
}

fn marking(
    round: &mut Round<'_>,
    fleet: &Fleet,
    supply: &mut Supply,
    budgets: &mut Budgets,
    name: &NodeName,
    node: &FleetNode,
) {
    let Some(removal) = round.ledger.removals.get(name).cloned() else { return };
    if round.planted.has(PlantedBug::LostTaint) && is_marked(&removal, &node.node) {
        undo(round, name);
        return;
    }
    let Some(moving) = still_removable(round, fleet, supply, budgets, name, node, &removal) else {
        undo(round, name);
        return;
    };
    if !marked_long_enough(round, name, node, &removal) {
        for pod in &moving {
            budgets.debit(pod);
        }
        return;
    }
    if removal.drains {
        enter(round, name, RemovalPhase::Draining);
        draining(round, supply, budgets, name, Places::Kept);
    } else {
        enter(round, name, RemovalPhase::Releasing);
    }
}

/// Puts the mark on, and says when the scheduler has had the time to see it.
fn marked_long_enough(round: &mut Round<'_>, name: &NodeName, node: &FleetNode, removal: &Removal) -> bool {
    if !is_marked(removal, &node.node) && !round.planted.has(PlantedBug::EvictWithoutMarking) {
        if round.reached(after(removal.phase_since, MARKING_LIMIT)) {
            fail(round, name);
        } else if removal.marked_at.is_none() {
            mark_step(round, name);
        }
        return false;
    }
    let marked_at = removal.marked_at.unwrap_or(round.now);
    if let Some(entry) = round.ledger.removals.get_mut(name) {
        entry.marked_at = Some(marked_at);
        entry.asked = None;
    }
    round.reached(after(marked_at, round.policies.delay_after_taint))
}

/// The look before the leap: the node is as it was when its removal was decided, and its pods have a place.
/// Answers the pods that will move, or nothing where it is not so any more.
fn still_removable(
    round: &mut Round<'_>,
    fleet: &Fleet,
    supply: &mut Supply,
    budgets: &Budgets,
    name: &NodeName,
    node: &FleetNode,
    removal: &Removal,
) -> Option<Vec<Arc<Pod>>> {
    let account = fleet.pools.get(&removal.pool)?;
    let unready = matches!(node.state, NodeState::Unready { .. });
    let as_decided = unready == (removal.cause == RemovalCause::Unready);
    let minimum_holds = account.minimum_holds() || round.planted.has(PlantedBug::UnderMinimum);
    if !as_decided || !minimum_holds || account.pool.frozen.is_some() {
        return None;
    }
    let pods = drain_rules::pods_of(round, budgets, name);
    if !pods.blocked.is_empty() || (!removal.drains && !pods.moving.is_empty()) {
        return None;
    }
    let mark = supply.room.mark();
    if let Some(spot) = supply.spot(name) {
        // Its pods are to be elsewhere: what they ask of others does not hold for where they were.
        supply.room.close(spot);
    }
    let homeless = find_places(supply, pods.moving.iter().filter(|(_, place)| *place).map(|(pod, _)| pod));
    let assured = || {
        let movers = Movers::so_far(supply);
        Assurance::of(supply).doubtful(&supply.room, &movers, &BTreeSet::new()).is_none()
    };
    let placed = round.planted.has(PlantedBug::NoPlaceForPods)
        || homeless.is_none() && (pods.moving.is_empty() || assured());
    if !placed {
        supply.room.rollback(mark);
    }
    placed.then(|| pods.moving.into_iter().map(|(pod, _)| pod).collect())
}

/// Keeps a place on nodes that stay for each pod; the first that has none.
pub(crate) fn find_places<'p>(
    supply: &mut Supply,
    pods: impl Iterator<Item = &'p Arc<Pod>>,
) -> Option<Arc<Pod>> {
    let (mark, end) = (supply.room.mark(), supply.ready_end);
    let room = &mut supply.room;
    let pods =
        pods.map(|pod| (room.class(&pod.shape, &pod.key.namespace, &pod.labels), pod)).collect::<Vec<_>>();
    // Pods of one kind that stand together are placed together.
    for alike in pods.chunk_by(|(a, _), (b, _)| a == b) {
        let count = u32::try_from(alike.len()).unwrap_or(u32::MAX);
        let placed: u32 = room.place(alike[0].0, count, 0..end).iter().map(|placed| placed.count).sum();
        if let Some((_, homeless)) = alike.get(placed as usize) {
            room.rollback(mark);
            return Some(Arc::clone(homeless));
        }
    }
    None
}

fn mark_step(round: &mut Round<'_>, name: &NodeName) {
    let Some(removal) = round.ledger.removals.get(name).cloned() else { return };
    let Some(asked) = round.ask(removal.asked, removal.not_before) else { return };
    if let Some(entry) = round.ledger.removals.get_mut(name) {
        entry.asked = Some(asked);
        entry.not_before = None;
    }
    round.step(Step::MarkNode(mark_of(&removal, name)));
}

/// The mark of a removal: the same each time it is handed out.
pub(crate) fn mark_of(removal: &Removal, name: &NodeName) -> MarkNode {
    let taint = Taint {
        key: TO_BE_DELETED.into(),
        value: Arc::from(removal.begun_at.as_second().to_string()),
        effect: Effect::NoSchedule,
    };
    MarkNode {
        intent: removal.intent.clone(),
        node: name.clone(),
        uid: removal.node_uid.clone(),
        taints: vec![taint],
        cordon: removal.cordoned,
    }
}

/// Whether places for the pods were kept earlier in this round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Places {
    Kept,
    ToFind,
}

/// Where the drain of one pod stands.
enum PodProgress {
    Gone,
    /// On its way out, until then where that is known.
    Leaving(Arc<Pod>, Option<Timestamp>),
    ToEvict(ToEvict),
    /// Out of time, or no longer to be moved.
    Failed,
}

struct ToEvict {
    pod: Arc<Pod>,
    state: EvictionState,
    new: bool,
    /// The budget allows it, or it was handed out already.
    allowed: bool,
    give_up_at: Timestamp,
}

fn draining(
    round: &mut Round<'_>,
    supply: &mut Supply,
    budgets: &mut Budgets,
    name: &NodeName,
    places: Places,
) {
    let pods: Vec<Arc<Pod>> = round.cluster.pods_on(name).map(Arc::clone).collect();
    if let Some(removal) = round.ledger.removals.get_mut(name) {
        removal.evictions.retain(|key, state| pods.iter().any(|pod| pod.key == *key && pod.uid == state.uid));
    }
    let progress: Vec<PodProgress> =
        pods.iter().map(|pod| drain_progress(round, budgets, name, pod)).collect();
    if progress.iter().any(|pod| matches!(pod, PodProgress::Failed)) {
        fail(round, name);
        return;
    }
    if progress.iter().all(|pod| matches!(pod, PodProgress::Gone)) {
        enter(round, name, RemovalPhase::Releasing);
        return;
    }
    let mut leaving = Successors::default();
    for pod in progress {
        match pod {
            PodProgress::ToEvict(evict) => {
                if places == Places::ToFind && drain_rules::needs_place(round, &evict.pod) {
                    // A place is kept while there is one; the pod is on its way either way.
                    let _homeless = find_places(supply, std::iter::once(&evict.pod));
                }
                evict_step(round, budgets, name, evict);
            }
            PodProgress::Leaving(pod, until) => {
                if let Some(until) = until {
                    round.wake(until);
                }
                leaving.keep_place(round, supply, &pod);
            }
            PodProgress::Gone | PodProgress::Failed => {}
        }
    }
}

/// Pods that owners have still to create in the place of those that leave.
#[derive(Default)]
struct Successors {
    kept: BTreeMap<Uid, u32>,
}

impl Successors {
    /// Keeps a place for the pod that will follow one that is leaving, until it exists and keeps its own.
    fn keep_place(&mut self, round: &Round<'_>, supply: &mut Supply, pod: &Arc<Pod>) {
        let Some(owner) = pod.owner.as_ref().filter(|_| drain_rules::needs_place(round, pod)) else { return };
        let key = WorkloadKey::new(&owner.kind, &pod.key.namespace, &owner.name);
        let desired = round.cluster.workloads().get(&key).map_or(0, |workload| workload.desired);
        let kept = self.kept.entry(owner.uid.clone()).or_default();
        if pod.deletion_at.is_some() && desired > round.cluster.live_pods_of(&owner.uid) + *kept {
            *kept += 1;
            let _homeless = find_places(supply, std::iter::once(pod));
        }
    }
}

fn drain_progress(round: &Round<'_>, budgets: &Budgets, name: &NodeName, pod: &Arc<Pod>) -> PodProgress {
    let state = round.ledger.removals.get(name).and_then(|removal| removal.evictions.get(&pod.key)).cloned();
    let accepted_at = state.as_ref().and_then(|state| state.accepted_at).filter(|_| pod.occupies());
    if let Some(accepted_at) = accepted_at {
        let grace = SignedDuration::from_secs(i64::from(pod.grace_seconds));
        let limit = grace.min(round.policies.max_graceful_termination);
        let until = after(after(accepted_at, limit), TERMINATION_SLACK);
        return if until <= round.now {
            PodProgress::Failed
        } else {
            PodProgress::Leaving(Arc::clone(pod), Some(until))
        };
    }
    let fate = drain_rules::fate(round, budgets, pod);
    if fate == Fate::Stays {
        return PodProgress::Gone;
    }
    if pod.deletion_at.is_some() {
        return PodProgress::Leaving(Arc::clone(pod), drain_rules::next_change(round, pod));
    }
    let only_budget = |by: &[PodBlock]| by.iter().all(|block| matches!(block, PodBlock::NotEnoughPdb { .. }));
    let new = state.is_none();
    let state = state.unwrap_or_else(|| EvictionState {
        uid: pod.uid.clone(),
        first_tried_at: round.now,
        not_before: round.now,
        accepted_at: None,
        asked: None,
    });
    let allowed = match &fate {
        Fate::Blocked(by) if !only_budget(by) => return PodProgress::Failed,
        Fate::Blocked(_) => state.asked.is_some(),
        _ => true,
    };
    let give_up_at = after(state.first_tried_at, round.policies.max_pod_eviction_time);
    if give_up_at <= round.now {
        return PodProgress::Failed;
    }
    PodProgress::ToEvict(ToEvict { pod: Arc::clone(pod), state, new, allowed, give_up_at })
}

/// Hands out the eviction where the budget allows it; in any case its time starts to run.
fn evict_step(round: &mut Round<'_>, budgets: &mut Budgets, name: &NodeName, evict: ToEvict) {
    let ToEvict { pod, mut state, new, allowed, give_up_at } = evict;
    round.wake(give_up_at);
    // Pods before this one may have used the budget up in this very round.
    let handed_out = state.asked.is_some();
    let allowed = allowed && (handed_out || budgets.forbidding(&pod).is_none());
    let asked = if allowed { round.ask(state.asked, Some(state.not_before)) } else { None };
    let asked = asked.filter(|_| budgets.hand_out(&pod));
    if let Some(asked) = asked {
        state.asked = Some(asked);
        if !handed_out {
            budgets.debit(&pod);
        }
    }
    let longest = round.policies.max_graceful_termination.as_secs();
    let Some(removal) = round.ledger.removals.get_mut(name) else { return };
    if asked.is_some() || new {
        removal.evictions.insert(pod.key.clone(), state);
    }
    if asked.is_some() {
        let step = Evict {
            intent: removal.intent.clone(),
            node: name.clone(),
            pod: pod.key.clone(),
            uid: pod.uid.clone(),
            grace_seconds: (i64::from(pod.grace_seconds) > longest)
                .then(|| u32::try_from(longest).unwrap_or(u32::MAX)),
        };
        round.step(Step::Evict(step));
    }
}

fn releasing(round: &mut Round<'_>, fleet: &Fleet, name: &NodeName, node: &FleetNode) {
    let Some(removal) = round.ledger.removals.get(name).cloned() else { return };
    let Some(gone_at) = removal.machine_gone_at else {
        release_step(round, fleet, name);
        return;
    };
    if !round.reached(after(gone_at, NODE_OUTLIVES_MACHINE)) || node.node.deleting {
        return;
    }
    let Some(asked) = round.ask(removal.asked, removal.not_before) else { return };
    if let Some(entry) = round.ledger.removals.get_mut(name) {
        entry.asked = Some(asked);
        entry.not_before = None;
    }
    round.step(Step::DeleteNode { intent: removal.intent, node: name.clone(), uid: removal.node_uid });
}

/// A release that was answered as done, on a view of the provider that was out of date, is given again: a machine
/// that still is not going after this was not given back.
fn doubt_release(round: &mut Round<'_>, name: &NodeName, removal: &mut Removal) {
    let going =
        round.cluster.machines().get(&removal.machine).is_none_or(|m| m.state == MachineState::Deleting);
    if !removal.released || going || !round.reached(after(removal.phase_since, RELEASE_BELIEVED)) {
        return;
    }
    removal.released = false;
    removal.asked = None;
    removal.phase_since = round.now;
    round.ledger.removals.insert(name.clone(), removal.clone());
}

fn release_step(round: &mut Round<'_>, fleet: &Fleet, name: &NodeName) {
    let Some(mut removal) = round.ledger.removals.get(name).cloned() else { return };
    let Some(account) = fleet.pools.get(&removal.pool) else { return };
    doubt_release(round, name, &mut removal);
    if removal.released || removal.phase != RemovalPhase::Releasing || !account.fresh {
        return;
    }
    if account.pool.frozen.is_some() || order_unseen(round, &removal.pool) {
        return;
    }
    let Some(asked) = round.ask(removal.asked, removal.not_before) else { return };
    if !account.minimum_holds() && !round.planted.has(PlantedBug::UnderMinimum) {
        // The minimum was raised since: what the provider has not taken stays.
        fail(round, name);
        return;
    }
    if let Some(entry) = round.ledger.removals.get_mut(name) {
        entry.asked = Some(asked);
        entry.not_before = None;
    }
    round.step(Step::Release(Release {
        intent: removal.intent,
        pool: removal.pool,
        machine: removal.machine,
        node: Some(name.clone()),
        cause: removal.cause,
        min: if round.planted.has(PlantedBug::UnderMinimum) { 0 } else { account.pool.min },
    }));
}

fn undoing(round: &mut Round<'_>, name: &NodeName) {
    let Some(removal) = round.ledger.removals.get(name).cloned() else { return };
    let Some(asked) = round.ask(removal.asked, removal.not_before) else { return };
    if let Some(entry) = round.ledger.removals.get_mut(name) {
        entry.asked = Some(asked);
        entry.not_before = None;
        entry.undone = false;
    }
    round.step(Step::UndoNode(UndoNode {
        intent: removal.intent,
        node: name.clone(),
        uid: removal.node_uid,
        taints: vec![TO_BE_DELETED.into()],
        uncordon: removal.cordoned,
    }));
}
