//! Removals under way: marked, drained, released, or undone.
//!
//! Owns the phases of one removal. Each is entered in the ledger before its first step is handed out, so a crash
//! anywhere is continued from here; whatever goes wrong before the machine is given back is undone.

use crate::assurance::{Assurance, Movers};
use crate::budgets::Budgets;
use crate::deliveries::RELEASE_BELIEVED;
use crate::drain_rules;
use crate::evictions::{draining, evicts_daemon, is_still_empty};
use crate::fleet::{Fleet, FleetNode, NodeState, order_unseen};
use crate::freshness::Freshness;
use crate::planted::PlantedBug;
use crate::round::{Round, after};
use crate::supply::{Supply, TO_BE_DELETED};
use crate::waits;
use jiff::SignedDuration;
use model::{
    Effect, MachineState, MarkNode, Node, NodeName, Pod, Reason, Release, Removal, RemovalCause,
    RemovalPhase, Step, Taint, UndoNode,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Prefix of a node's annotations that hold its deletion back.
const DELAY_DELETION: &str = "delay-deletion.cluster-autoscaler.kubernetes.io/";
/// A mark that is not seen on the node after this is not coming.
const MARKING_LIMIT: SignedDuration = SignedDuration::from_mins(5);
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
    let now = round.now;
    round.ledger.last_failure_at = Some(now);
    if let Some(pool) = round.ledger.removals.get(node).map(|removal| removal.pool.clone()) {
        waits::note(round, &pool, |last| last.failure_at = Some(now));
    }
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
            Some(RemovalPhase::Releasing) if is_still_empty(round, budgets, &name) => {
                releasing(round, fleet, &name, node);
            }
            Some(RemovalPhase::Undoing) => undoing(round, &name),
            _ => {}
        }
        if let Some(removal) = round.ledger.removals.get(&name) {
            let reason = delayed(round, removal, &node.node).unwrap_or(Reason::BeingRemoved {
                cause: removal.cause,
                phase: removal.phase,
                since: removal.phase_since,
            });
            round.say(&name, reason);
        }
    }
}

pub(crate) fn enter(round: &mut Round<'_>, name: &NodeName, phase: RemovalPhase) {
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
    let daemons_go = |pod: &Arc<Pod>| pod.daemon && pod.occupies() && evicts_daemon(round, &removal, pod);
    if removal.drains || round.cluster.pods_on(name).any(daemons_go) {
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
pub(crate) enum Places {
    Kept,
    ToFind,
}

fn releasing(round: &mut Round<'_>, fleet: &Fleet, name: &NodeName, node: &FleetNode) {
    let Some(removal) = round.ledger.removals.get(name).cloned() else { return };
    if let Some(Reason::DeletionDelayed { until, .. }) = delayed(round, &removal, &node.node) {
        round.wake(until);
        return;
    }
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

/// What holds the deletion of an emptied node back: an annotation, for a bounded time.
fn delayed(round: &Round<'_>, removal: &Removal, node: &Node) -> Option<Reason> {
    if removal.phase != RemovalPhase::Releasing || removal.released || removal.asked.is_some() {
        return None;
    }
    let by = node.annotations.keys().find(|key| key.starts_with(DELAY_DELETION))?;
    let until = after(removal.phase_since, round.policies.draining.deletion_delay_limit);
    (until > round.now).then(|| Reason::DeletionDelayed { by: Arc::clone(by), until })
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
