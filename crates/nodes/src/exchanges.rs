//! Machines of direct pools that cheaper ones can stand in for: any number for any number.
//!
//! Owns the question that is put to the packing engine: who may leave, at which price, with which pods, and what can be
//! bought. What it finds is carried out like every replacement: the machines are bought in the next round, and those
//! that go wait until their pods have room. One batch at a time, so that no batch counts on what another has bought.

use crate::binding;
use crate::claims::{self, Fnv};
use crate::fleet::{Fleet, FleetNode, PoolAccount};
use crate::freshness::Freshness;
use crate::growth;
use crate::market;
use crate::round::{Round, after};
use crate::supply::{Supply, class_of};
use crate::worth::{self, Saving, Worth};
use jiff::SignedDuration;
use model::{CapacityType, NodeName, Pod, PoolId, RemovalCause, Searched};
use packing::solve::{Answer, Effort, Machine};
use packing::{ClassIx, Exchange, Group, Leaver, Market, SpotIx, Terms};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A search costs as much as a hundred rounds: it may wait a little.
const BETWEEN_SEARCHES: SignedDuration = SignedDuration::from_secs(10);

/// Nodes of which the ledger keeps why they are not replaced.
const MOST_DECLINED: usize = 100;

/// A machine that may go, and the pods that would move.
pub(crate) struct Candidate<'f> {
    pub name: &'f NodeName,
    pub node: &'f FleetNode,
    pub account: &'f PoolAccount,
    pub moving: Vec<Arc<Pod>>,
}

/// Sets of machines that are to be replaced, as places in the list of candidates. `left` says how many of a pool may be
/// disturbed. Nothing is looked for twice in one state of the cluster, nor more often than every ten seconds.
pub(crate) fn find(
    round: &mut Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    candidates: &[Candidate<'_>],
    (left, worth): (&BTreeMap<PoolId, u32>, &Worth),
) -> Vec<Vec<usize>> {
    let under_way = round.ledger.replacing.values().any(|entry| entry.cause == RemovalCause::UnderUsed);
    let coming =
        fleet.pools.values().any(|account| account.pool.direct().is_some() && account.upcoming() > 0);
    if candidates.is_empty() || under_way || coming || !round.growth.machines.is_empty() {
        return Vec::new();
    }
    if let Some(at) = round.ledger.searched.as_ref().map(|last| last.at)
        && !round.reached(after(at, BETWEEN_SEARCHES))
    {
        return Vec::new();
    }
    let mut open = growth::open_pools(round, fleet, fresh);
    open.retain(|id, _| fleet.pools.get(id).is_some_and(|account| account.pool.direct().is_some()));
    let Some((sellers, market)) = market::priced(round, fleet, &mut supply.room, &open) else {
        return Vec::new();
    };
    // Companies are numbered as the market numbers pools, so that machines that are bought join their own.
    let mut pools: BTreeMap<PoolId, usize> = BTreeMap::new();
    let mut terms = Terms::default();
    for id in sellers.into_iter().chain(candidates.iter().map(|candidate| candidate.account.pool.id.clone()))
    {
        let next = pools.len();
        pools.entry(id).or_insert_with_key(|id| {
            terms.allowances.push(left.get(id).copied().unwrap_or(0));
            terms.hurdles.push(worth.hurdle(id));
            next
        });
    }
    let (mut leavers, mut of) = (Vec::new(), Vec::new());
    for (at, candidate) in candidates.iter().enumerate() {
        let flavour = candidate.node.machine.as_ref().and_then(|machine| machine.direct.as_ref());
        let (Some(spot), Some(direct)) = (supply.spot(candidate.name), flavour) else { continue };
        // Another spot machine that is cheaper for the moment would be a reason to move every hour.
        if direct.flavour.capacity_type == Some(CapacityType::Spot) || supply.room.is_closed(spot) {
            continue;
        }
        let Some(company) = pools.get(&candidate.account.pool.id).copied() else { continue };
        let mut moving = by_class(supply, &candidate.moving);
        moving.extend(supply.headroom_on(spot));
        leavers.push(Leaver {
            spot,
            price: direct.flavour.price.0,
            moving,
            company,
            least_permille: worth::of_new(round, direct),
            allowances: vec![company],
        });
        of.push(at);
    }
    let picture = picture(supply, &leavers, &market, &terms);
    if round.ledger.searched.as_ref().is_some_and(|last| last.picture == picture) {
        return Vec::new();
    }
    let found = supply.room.consolidate(&leavers, 0..supply.ready_end, &market, &terms);
    let declined = found.declined.iter().take(MOST_DECLINED);
    let declined = declined.map(|one| {
        let candidate = &candidates[of[one.leaver]];
        let saving = Saving { saved: one.saving, price: one.price, nodes: one.nodes, pods: one.pods };
        (
            candidate.name.clone(),
            worth.unworthy(&candidate.account.pool.id, saving, leavers[one.leaver].least_permille),
        )
    });
    round.ledger.searched = Some(Searched { picture, at: round.now, declined: declined.collect() });
    let mut sets = Vec::new();
    for exchange in found.exchanges {
        if still_saves(supply, &market, &terms, &leavers, &exchange) {
            sets.push(exchange.leavers.into_iter().map(|at| of[at]).collect());
        }
    }
    sets
}

/// Whether an exchange is worth it by what will be bought for it: as many machines as the scheduler needs for the pods,
/// which may be more than the search has found to do. Else the same machines would be replaced again and again.
fn still_saves(
    supply: &mut Supply,
    market: &Market,
    terms: &Terms,
    leavers: &[Leaver],
    exchange: &Exchange,
) -> bool {
    if exchange.machines.is_empty() {
        return true;
    }
    let mut counts: BTreeMap<ClassIx, u32> = BTreeMap::new();
    for (class, count) in exchange.machines.iter().flat_map(|machine| &machine.pods) {
        *counts.entry(*class).or_default() += count;
    }
    let groups: Vec<Group> =
        counts.iter().map(|(class, count)| Group { class: *class, count: *count }).collect();
    let numbers: BTreeMap<ClassIx, usize> = counts.into_keys().zip(0..).collect();
    let question = supply.room.question(market, &groups);
    let bought = exchange.machines.iter().map(|machine| Machine {
        offering: machine.make,
        options: machine.options.clone(),
        pods: machine.pods.iter().map(|(class, count)| (numbers[class], *count)).collect(),
    });
    let machines: Vec<Machine> = bought.collect();
    let price = machines.iter().map(|machine| question.problem.offerings[machine.offering].price).sum();
    let planned = Answer { machines, price, ..Answer::default() };
    let order: Vec<usize> = (0..groups.len()).collect();
    let settled = binding::settle(&question, &order, Effort::default(), planned);
    let dearer = settled.price.saturating_sub(price);
    let saving = exchange.saving.saturating_sub(dearer);
    let all: u64 = exchange.leavers.iter().map(|at| leavers[*at].price).sum();
    let mut companies: BTreeMap<usize, (u64, u64, u64)> = BTreeMap::new();
    for leaver in exchange.leavers.iter().map(|at| &leavers[*at]) {
        let pods: u64 = leaver.moving.iter().map(|(_, count)| u64::from(*count)).sum();
        let of = companies.entry(leaver.company).or_default();
        *of = (of.0 + leaver.price, of.1 + pods, of.2.max(leaver.least_permille));
    }
    let agrees = |(company, (cost, pods, own)): (usize, (u64, u64, u64))| {
        let share = u128::from(saving) * u128::from(cost) / u128::from(all.max(1));
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        terms.hurdles.get(company).is_none_or(|hurdle| hurdle.is_reached(share, pods, own))
    };
    saving > 0
        && u128::from(saving) * 1000 >= u128::from(all) * u128::from(terms.least_permille)
        && companies.into_iter().all(agrees)
}

/// All that a search looks at, as a number: what is free where, what may move from where, and what is for sale.
fn picture(supply: &Supply, leavers: &[Leaver], market: &Market, terms: &Terms) -> u64 {
    let mut hasher = Fnv::default();
    for spot in (0..supply.ready_end).map(SpotIx) {
        let free = supply.room.free(spot);
        (&supply.room.node(spot).name, supply.room.is_shut(spot)).hash(&mut hasher);
        (free.cpu.0, free.memory.0, free.pods).hash(&mut hasher);
    }
    for leaver in leavers {
        (leaver.spot.0, leaver.price, leaver.company, leaver.least_permille).hash(&mut hasher);
        for (class, count) in &leaver.moving {
            (claims::fingerprint(supply.room.shape_of(*class)), count).hash(&mut hasher);
        }
    }
    for make in &market.makes {
        (make.pool, make.machine_type, make.price).hash(&mut hasher);
    }
    terms.allowances.hash(&mut hasher);
    for hurdle in &terms.hurdles {
        (hurdle.price, hurdle.pods, hurdle.least_permille).hash(&mut hasher);
    }
    hasher.finish()
}

fn by_class(supply: &mut Supply, pods: &[Arc<Pod>]) -> Vec<(ClassIx, u32)> {
    let mut classes: BTreeMap<ClassIx, u32> = BTreeMap::new();
    for pod in pods {
        *classes.entry(class_of(&mut supply.room, pod)).or_default() += 1;
    }
    classes.into_iter().collect()
}
