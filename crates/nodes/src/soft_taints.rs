//! Soft taints: nodes that are not needed say so, and the scheduler rather uses others.
//!
//! Owns which nodes should carry one and how many a round may change. What the scheduler makes of it is its own
//! business; removal does not ask for it.

use crate::fleet::{Fleet, FleetNode};
use crate::freshness::Freshness;
use crate::round::Round;
use crate::supply::DELETION_CANDIDATE;
use model::{Effect, NodeName, SoftTaint, SoftTaintChange, Step, Taint};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where none are used, those of before are taken off so many in a round.
const TAKEN_OFF: u32 = 10;

pub(crate) fn review(round: &mut Round<'_>, fleet: &Fleet, fresh: &Freshness) {
    if !fresh.for_removal() {
        return;
    }
    let done: Vec<NodeName> = (round.ledger.soft_taints.keys())
        .filter(|name| {
            fleet.nodes.get(*name).is_none_or(|node| change_of(round, fleet, name, node).is_none())
        })
        .cloned()
        .collect();
    round.ledger.soft_taints.retain(|name, _| !done.contains(name));
    let limit = round.policies.draining.soft_taints;
    let most = if limit == 0 { TAKEN_OFF } else { limit };
    let mut open = u32::try_from(round.ledger.soft_taints.len()).unwrap_or(u32::MAX);
    let wanting = Some(&round.ledger.unneeded_since).filter(|_| limit > 0);
    let names: BTreeSet<NodeName> =
        fleet.softly_tainted.iter().chain(wanting.into_iter().flat_map(|map| map.keys())).cloned().collect();
    for name in &names {
        let Some(node) = fleet.nodes.get(name) else { continue };
        let Some(put) = change_of(round, fleet, name, node) else { continue };
        let known = round.ledger.soft_taints.get(name).filter(|change| change.put == put).cloned();
        if known.is_none() {
            let replaces = round.ledger.soft_taints.contains_key(name);
            if open >= most && !replaces {
                continue;
            }
            open += u32::from(!replaces);
        }
        ask(round, name, node, put, known);
    }
}

/// Whether the node's taint is to be put on or taken off; nothing where it is as it should be.
fn change_of(round: &Round<'_>, fleet: &Fleet, name: &NodeName, node: &FleetNode) -> Option<bool> {
    let account = node.machine.as_ref().and_then(|machine| fleet.pools.get(&machine.pool))?;
    if !account.fresh || account.pool.frozen.is_some() || round.ledger.removals.contains_key(name) {
        return None;
    }
    let has = node.node.has_taint(DELETION_CANDIDATE);
    let wants = round.policies.draining.soft_taints > 0 && round.ledger.unneeded_since.contains_key(name);
    (has != wants).then_some(wants)
}

fn ask(round: &mut Round<'_>, name: &NodeName, node: &FleetNode, put: bool, known: Option<SoftTaintChange>) {
    let mut change = known.unwrap_or_else(|| SoftTaintChange {
        intent: round.new_intent("soft"),
        put,
        since: round.now,
        asked: None,
        not_before: None,
    });
    if let Some(asked) = round.ask(change.asked, change.not_before) {
        change.asked = Some(asked);
        change.not_before = None;
        let taint = Taint {
            key: DELETION_CANDIDATE.into(),
            value: Arc::from(change.since.as_second().to_string()),
            effect: Effect::PreferNoSchedule,
        };
        round.step(Step::SoftTaint(SoftTaint {
            intent: change.intent.clone(),
            node: name.clone(),
            uid: node.node.uid.clone(),
            taint,
            put,
        }));
    }
    round.ledger.soft_taints.insert(name.clone(), change);
}
