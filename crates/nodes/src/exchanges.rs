//! Machines of direct pools that cheaper ones can stand in for: any number for any number.
//!
//! Owns the question that is put to the packing engine: who may leave, at which price, with which pods, and what can be
//! bought. What it finds is carried out like every replacement: the machines are bought in the next round, and those
//! that go wait until their pods have room. One batch at a time, so that no batch counts on what another has bought.

use crate::fleet::{Fleet, FleetNode, PoolAccount};
use crate::freshness::Freshness;
use crate::growth;
use crate::market;
use crate::round::Round;
use crate::supply::{Supply, class_of};
use model::{CapacityType, NodeName, Pod, PoolId, RemovalCause};
use packing::{ClassIx, Leaver, Terms};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A machine that may go, and the pods that would move.
pub(crate) struct Candidate<'f> {
    pub name: &'f NodeName,
    pub node: &'f FleetNode,
    pub account: &'f PoolAccount,
    pub moving: Vec<Arc<Pod>>,
}

/// Sets of machines that are to be replaced, as places in the list of candidates. `left` says how many of a pool may be
/// disturbed.
pub(crate) fn find(
    round: &Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    candidates: &[Candidate<'_>],
    left: impl Fn(&PoolAccount) -> u32,
) -> Vec<Vec<usize>> {
    let under_way = round.ledger.replacing.values().any(|entry| entry.cause == RemovalCause::UnderUsed);
    let coming =
        fleet.pools.values().any(|account| account.pool.direct().is_some() && account.upcoming() > 0);
    if candidates.is_empty() || under_way || coming || !round.growth.machines.is_empty() {
        return Vec::new();
    }
    let mut open = growth::open_pools(round, fleet, fresh);
    open.retain(|id, _| fleet.pools.get(id).is_some_and(|account| account.pool.direct().is_some()));
    let Some(market) = market::priced(round, fleet, &mut supply.room, &open) else { return Vec::new() };
    let mut pools: BTreeMap<&PoolId, usize> = BTreeMap::new();
    let mut terms = Terms::default();
    let (mut leavers, mut of) = (Vec::new(), Vec::new());
    for (at, candidate) in candidates.iter().enumerate() {
        let flavour = candidate.node.machine.as_ref().and_then(|machine| machine.direct.as_ref());
        let (Some(spot), Some(direct)) = (supply.spot(candidate.name), flavour) else { continue };
        // Another spot machine that is cheaper for the moment would be a reason to move every hour.
        if direct.flavour.capacity_type == Some(CapacityType::Spot) || supply.room.is_closed(spot) {
            continue;
        }
        let next = pools.len();
        let company = *pools.entry(&candidate.account.pool.id).or_insert_with(|| {
            terms.allowances.push(left(candidate.account));
            next
        });
        let moving = by_class(supply, &candidate.moving);
        leavers.push(Leaver {
            spot,
            price: direct.flavour.price.0,
            moving,
            company,
            allowances: vec![company],
        });
        of.push(at);
    }
    let found = supply.room.consolidate(&leavers, 0..supply.ready_end, &market, &terms);
    let sets = found.exchanges.into_iter().map(|exchange| exchange.leavers);
    sets.map(|leavers| leavers.into_iter().map(|at| of[at]).collect()).collect()
}

fn by_class(supply: &mut Supply, pods: &[Arc<Pod>]) -> Vec<(ClassIx, u32)> {
    let mut classes: BTreeMap<ClassIx, u32> = BTreeMap::new();
    for pod in pods {
        *classes.entry(class_of(&mut supply.room, pod)).or_default() += 1;
    }
    classes.into_iter().collect()
}
