//! Marks of removals that nobody remembers: taken off again.
//!
//! Owns the finding of nodes that carry the deletion taint without a removal in the ledger: ours (by our annotation)
//! after a lost ledger, or a Cluster Autoscaler's on a pool that we own, once it is older than any that is at work.

use crate::fleet::Fleet;
use crate::planted::PlantedBug;
use crate::round::{Round, after};
use crate::supply::TO_BE_DELETED;
use jiff::{SignedDuration, Timestamp};
use model::{MachineId, Node, PoolId, Removal, RemovalCause, RemovalPhase};

/// Written by the executor with each mark: whose it is, and whether the cordon is ours.
const INTENT: &str = "tideline.dev/intent";
const CORDONED: &str = "tideline.dev/cordoned";
/// A Cluster Autoscaler's own deletion is over by then.
const FOREIGN_MARK_AGE: SignedDuration = SignedDuration::from_mins(5);

pub(crate) fn collect(round: &mut Round<'_>, fleet: &Fleet) {
    if round.planted.has(PlantedBug::LostTaint) {
        return;
    }
    for name in &fleet.marked {
        let Some(entry) = fleet.nodes.get(name).filter(|_| !round.ledger.removals.contains_key(name)) else {
            continue;
        };
        let node = &entry.node;
        let ours = node.annotations.contains_key(INTENT);
        let cordoned = if ours {
            node.annotations.contains_key(CORDONED)
        } else {
            let pool = entry.machine.as_ref().map(|machine| &machine.pool);
            if pool.is_none_or(|pool| !fleet.pools.contains_key(pool)) || !round.reached(expires(node)) {
                continue;
            }
            round.policies.cordon_node_before_terminating
        };
        let pool = entry.machine.as_ref().map_or_else(|| PoolId::from(""), |machine| machine.pool.clone());
        let machine = node.machine.clone().unwrap_or_else(|| MachineId::from(""));
        let (intent, uid) = (round.new_intent("undo"), node.uid.clone());
        let (cause, phase) = (RemovalCause::Empty, RemovalPhase::Undoing);
        let mut removal = Removal::begin(intent, uid, pool, machine, cause, phase, round.now);
        removal.cordoned = cordoned && node.unschedulable;
        round.ledger.removals.insert(name.clone(), removal);
    }
}

/// Whether a node carries the mark of a removal.
pub(crate) fn is_marked(node: &Node) -> bool {
    node.annotations.contains_key(INTENT) || node.has_taint(TO_BE_DELETED)
}

/// When a foreign mark is old: its value is the second at which it was put on.
fn expires(node: &Node) -> Timestamp {
    node.taints
        .iter()
        .find(|taint| &*taint.key == TO_BE_DELETED)
        .and_then(|taint| taint.value.parse::<i64>().ok())
        .and_then(|second| Timestamp::from_second(second).ok())
        .map_or(Timestamp::MIN, |at| after(at, FOREIGN_MARK_AGE))
}
