//! The pods of a node that is being drained: which are evicted now, which are waited for, when it has failed.
//!
//! Owns the order of evictions (by priority where that is configured), how long each may take, the places kept for
//! successors, and DaemonSet pods, which are evicted too where that is wanted and which nobody waits for.

use crate::budgets::Budgets;
use crate::drain_rules::{self, Fate};
use crate::drains::{Places, enter, fail, find_places, undo};
use crate::round::{Round, after};
use crate::supply::Supply;
use jiff::{SignedDuration, Timestamp};
use model::{
    Evict, EvictionState, MachineState, NodeName, Pod, PodBlock, Removal, RemovalPhase, Step, Uid,
    WorkloadKey,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much longer than its grace period an evicted pod may take.
const TERMINATION_SLACK: SignedDuration = SignedDuration::from_secs(30);

/// Where the drain of one pod stands.
enum PodProgress {
    Gone,
    /// On its way out, until then where that is known.
    Leaving(Arc<Pod>, Option<Timestamp>),
    ToEvict(ToEvict),
    /// Out of time, or no longer to be moved.
    Failed,
}

impl PodProgress {
    /// The priority group that a pod which is still there belongs to.
    fn group(&self, round: &Round<'_>) -> Option<usize> {
        match self {
            Self::Leaving(pod, _) => Some(group_of(round, pod)),
            Self::ToEvict(evict) => Some(group_of(round, &evict.pod)),
            Self::Gone | Self::Failed => None,
        }
    }
}

/// A pod's group: that of the highest configured priority which is not over its own, else the lowest.
fn group_of(round: &Round<'_>, pod: &Pod) -> usize {
    let groups = &round.policies.draining.priority_groups;
    groups.iter().rposition(|group| group.priority <= pod.shape.priority).unwrap_or(0)
}

/// The longest grace period that a pod is given.
fn longest_grace(round: &Round<'_>, pod: &Pod) -> SignedDuration {
    let groups = &round.policies.draining.priority_groups;
    groups.get(group_of(round, pod)).map_or(round.policies.max_graceful_termination, |group| group.grace)
}

/// Evicts DaemonSet pods that were there when the removal began, each once; whether one was asked for now.
fn evict_daemons(round: &mut Round<'_>, budgets: &mut Budgets, name: &NodeName, pods: &[Arc<Pod>]) -> bool {
    let mut asked_any = false;
    for pod in pods.iter().filter(|pod| pod.daemon && !pod.mirror && pod.occupies()) {
        let Some(removal) = round.ledger.removals.get(name) else { break };
        let goes = evicts_daemon(round, removal, pod)
            && pod.deletion_at.is_none()
            && pod.created_at <= removal.begun_at
            && !removal.evictions.contains_key(&pod.key);
        if !goes || budgets.forbidding(pod).is_some() || !budgets.hand_out(pod) {
            continue;
        }
        budgets.debit(pod);
        let Some(asked) = round.ask(None, None) else { continue };
        let state = EvictionState {
            uid: pod.uid.clone(),
            first_tried_at: round.now,
            not_before: round.now,
            accepted_at: None,
            asked: Some(asked),
        };
        hand_out(round, name, pod, state);
        asked_any = true;
    }
    asked_any
}

/// Whether a node's removal takes this DaemonSet pod off it, by the pod's annotation or the policy.
pub(crate) fn evicts_daemon(round: &Round<'_>, removal: &Removal, pod: &Pod) -> bool {
    let draining = &round.policies.draining;
    let by_policy = if removal.drains {
        draining.evict_daemon_sets_from_occupied
    } else {
        draining.evict_daemon_sets_from_empty
    };
    pod.evict_daemon.unwrap_or(by_policy)
}

struct ToEvict {
    pod: Arc<Pod>,
    state: EvictionState,
    new: bool,
    /// The budget allows it, or it was handed out already.
    allowed: bool,
    give_up_at: Timestamp,
}

/// Takes a drain one step further, to its end or to its failure.
pub(crate) fn draining(
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
    let tried = evict_daemons(round, budgets, name, &pods);
    if progress.iter().all(|pod| matches!(pod, PodProgress::Gone)) {
        if !tried {
            enter(round, name, RemovalPhase::Releasing);
        }
        return;
    }
    // Pods of a higher priority stay until those of the lower ones are gone.
    let turn = progress.iter().filter_map(|pod| pod.group(round)).min();
    let mut leaving = Successors::default();
    for pod in progress {
        match pod {
            PodProgress::ToEvict(evict) if Some(group_of(round, &evict.pod)) > turn => {
                if places == Places::ToFind && drain_rules::needs_place(round, &evict.pod) {
                    let _homeless = find_places(supply, std::iter::once(&evict.pod));
                }
            }
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

/// The last look before a machine is given back: whether nothing has come to its node since, and nothing on it is
/// still on its way out by the clock that we read now, which need not be the one that the drain ended by. Where it is
/// not so, the drain goes on; a node that was taken for empty stays if something would have to be evicted.
pub(crate) fn is_still_empty(round: &mut Round<'_>, budgets: &Budgets, name: &NodeName) -> bool {
    let Some(removal) = round.ledger.removals.get(name) else { return false };
    let machine = round.cluster.machines().get(&removal.machine);
    let going = machine.is_none_or(|machine| machine.state == MachineState::Deleting);
    // A claimed machine is drained by its claim.
    let claimed = machine.is_some_and(|machine| machine.direct.is_some());
    if removal.released || going || claimed {
        return true;
    }
    let drains = removal.drains;
    let pods = round.cluster.pods_on(name).map(|pod| drain_progress(round, budgets, name, pod));
    let left: Vec<PodProgress> = pods.filter(|pod| !matches!(pod, PodProgress::Gone)).collect();
    if left.is_empty() {
        return true;
    }
    if drains || left.iter().all(|pod| matches!(pod, PodProgress::Leaving(..))) {
        enter(round, name, RemovalPhase::Draining);
    } else {
        undo(round, name);
    }
    false
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
        let limit = grace.min(longest_grace(round, pod));
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
    if asked.is_some() {
        hand_out(round, name, &pod, state);
    } else if new && let Some(removal) = round.ledger.removals.get_mut(name) {
        removal.evictions.insert(pod.key.clone(), state);
    }
}

/// Writes an eviction down and hands it out.
fn hand_out(round: &mut Round<'_>, name: &NodeName, pod: &Pod, state: EvictionState) {
    let longest = longest_grace(round, pod).as_secs();
    let Some(removal) = round.ledger.removals.get_mut(name) else { return };
    removal.evictions.insert(pod.key.clone(), state);
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
