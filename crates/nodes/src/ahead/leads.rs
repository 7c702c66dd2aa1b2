//! How long machines take from request to schedulable, by pool, from the pool's own history.
//!
//! Owns the measuring, its bounds, and what is reckoned with before anything was measured.

use crate::fleet::{Fleet, NodeState};
use crate::round::Round;
use jiff::{SignedDuration, Timestamp};
use model::{Leads, MachineId, MachineState, PoolId, Readiness};
use std::collections::BTreeMap;

/// Times of one pool that are remembered.
const MOST_TIMES: usize = 32;
/// Machines of one pool that are measured at once: those of one order take about as long.
const MOST_AWAITED: usize = 8;
/// Fewer times say too little of the next machine.
const LEAST_TIMES: usize = 3;
/// Whatever was measured, nothing is bought earlier.
const LONGEST: SignedDuration = SignedDuration::from_hours(2);

/// Measures machines that have become schedulable, and notes those that are on their way.
pub(super) fn learn(round: &mut Round<'_>, fleet: &Fleet) {
    let mut all = std::mem::take(&mut round.ledger.ahead.leads);
    all.retain(|pool, _| fleet.pools.contains_key(pool) || round.cluster.pools().is_empty());
    let nodes: BTreeMap<&MachineId, (NodeState, &Readiness)> = (fleet.nodes.values())
        .filter_map(|node| Some((&node.machine.as_ref()?.id, (node.state, &node.node.readiness))))
        .collect();
    for id in fleet.pools.keys() {
        let ordered = round.ledger.scale_ups.get(id).map(|order| order.begun_at);
        let mut leads = all.remove(id).unwrap_or_default();
        leads.awaited.retain(|machine, _| round.cluster.machines().contains_key(machine));
        for machine in round.cluster.machines_of(id) {
            let gone = matches!(machine.state, MachineState::Deleting | MachineState::Failed { .. });
            match nodes.get(&machine.id) {
                _ if gone => drop(leads.awaited.remove(&machine.id)),
                Some((NodeState::Ready, readiness)) => measure(&mut leads, &machine.id, readiness),
                Some((NodeState::Starting { .. }, _)) | None if leads.awaited.len() < MOST_AWAITED => {
                    let asked = ordered.filter(|at| *at <= machine.created_at).unwrap_or(machine.created_at);
                    leads.awaited.entry(machine.id.clone()).or_insert(asked);
                }
                _ => {}
            }
        }
        if leads != Leads::default() {
            all.insert(id.clone(), leads);
        }
    }
    round.ledger.ahead.leads = all;
}

fn measure(leads: &mut Leads, machine: &MachineId, readiness: &Readiness) {
    let (Some(asked), Readiness::Ready { since }) = (leads.awaited.remove(machine), readiness) else {
        return;
    };
    let seconds = u32::try_from(since.duration_since(asked).as_secs()).unwrap_or(0);
    if leads.seconds.len() >= MOST_TIMES {
        leads.seconds.remove(0);
    }
    leads.seconds.push(seconds);
}

/// How long before it is needed a machine of a pool is asked for.
pub(super) fn lead_of(round: &Round<'_>, pool: &PoolId) -> SignedDuration {
    let ahead = &round.policies.ahead;
    let measured = round.ledger.ahead.leads.get(pool).filter(|leads| leads.seconds.len() >= LEAST_TIMES);
    let seconds = measured.and_then(|leads| leads.quantile(ahead.lead_percent));
    let lead = seconds.map_or(ahead.unknown_lead, |seconds| SignedDuration::from_secs(i64::from(seconds)));
    lead.saturating_add(ahead.margin).min(LONGEST)
}

/// When a machine of a pool is to be asked for that is needed at a moment.
pub(super) fn order_at(round: &Round<'_>, pool: &PoolId, due: Timestamp) -> Timestamp {
    crate::round::after(due, -lead_of(round, pool))
}
