//! Which pools grow, and by how many machines.
//!
//! Owns the choice of pools for the demand that found no room: several pools in one round, each time the best of
//! those that help (highest priority, then cheapest for what it serves, then no idle scarce resource, then least
//! waste, then id), within every limit. Whatever cannot be served gets one reason from each pool.

use crate::back_off;
use crate::claims::{self, fingerprint};
use crate::fleet::{Fleet, PoolAccount};
use crate::freshness::Freshness;
use crate::market::{self, Refused};
use crate::planted::PlantedBug;
use crate::round::{Round, after};
use crate::supply::{self, Unmet, take_missing};
use model::{Buy, PodKey, PoolChange, PoolId, PoolRejection, Reason, ScaleUp, Served, Step};
use packing::{Estimate, Group, NodeLimit, Room, SpotIx, Template, estimate, extend, size_units};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Demands that the ledger names for one order; the plan names all. Keeps the ledger small.
const SERVED_IN_LEDGER: usize = 20;

/// A pool that may be chosen, with what it would grow by in this round.
pub(crate) struct Candidate {
    pub id: PoolId,
    pub template: Template,
    pub bought: u32,
    /// Where the bought nodes stand in the room.
    pub spots: Vec<Range<usize>>,
    serves: Vec<Served>,
    pods: Vec<PodKey>,
    claims: Vec<(u64, u32)>,
}

struct Offer {
    candidate: usize,
    estimate: Estimate,
    limit: NodeLimit,
}

/// Parts of a million of a template's cpu and memory that an offer would leave unused, per node.
type WastePpm = u64;

pub(crate) fn buy(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    fresh: &Freshness,
    room: &mut Room,
    mut unmet: Vec<Unmet>,
) {
    if round.planted.has(PlantedBug::BuyWithoutDemand) && unmet.is_empty() {
        buy_one_for_nobody(round, fleet, room);
        return;
    }
    note_pools(round, fleet, fresh);
    if unmet.is_empty() {
        return;
    }
    if let Some(reason) = no_growth_at_all(round, fleet) {
        for pod in unmet.iter().flat_map(|group| &group.pods) {
            round.verdicts.pods.insert(pod.clone(), reason.clone());
        }
        return;
    }
    let mut candidates = candidates(round, fleet, room);
    let possible = possible_domains(round, fleet, fresh, room, &candidates);
    let begin = room.len();
    let waiting = unmet.iter().map(|group| (group.class, group.pods.clone())).collect();
    let mut refused = Refused::new();
    if fleet.pools.values().any(|account| account.pool.direct().is_some()) {
        let open = open_pools(round, fleet, fresh);
        refused = market::buy(round, fleet, room, &mut candidates, &mut unmet, &open);
    } else {
        while let Some(offer) = best_offer(round, fleet, fresh, room, &candidates, &unmet) {
            accept(&mut candidates[offer.candidate], &offer, room, &mut unmet);
            fill_up(&mut candidates, begin, room, &mut unmet);
        }
        plan_spots(round, &candidates);
    }
    for spot in possible {
        room.close(spot);
    }
    market::name_pods(round, room, &waiting);
    for candidate in &mut candidates {
        if candidate.bought > 0
            && let Some(account) = fleet.pools.get_mut(&candidate.id)
        {
            order(round, account, candidate);
        }
    }
    explain(round, fleet, fresh, room, &candidates, &unmet, &refused);
}

/// Pools that may grow, and by how many machines at most.
fn open_pools(round: &Round<'_>, fleet: &Fleet, fresh: &Freshness) -> BTreeMap<PoolId, Option<u32>> {
    let mut open = BTreeMap::new();
    for (id, account) in &fleet.pools {
        if pool_rejection(round, fleet, fresh, account, 0).is_some() {
            continue;
        }
        let most = match limit_of(round, fleet, account, 0, 0) {
            NodeLimit::AtMost(most) => Some(most),
            NodeLimit::Unlimited => None,
        };
        open.insert(id.clone(), most);
    }
    open
}

/// Notes where the bought nodes stand.
fn plan_spots(round: &mut Round<'_>, candidates: &[Candidate]) {
    let spots = candidates.iter().flat_map(|candidate| {
        let all = candidate.spots.iter().cloned().flatten();
        all.map(|spot| (SpotIx(spot), candidate.id.clone(), 0))
    });
    round.planned.extend(spots);
}

fn no_growth_at_all(round: &Round<'_>, fleet: &Fleet) -> Option<Reason> {
    if !round.policies.scale_up_enabled {
        return Some(Reason::ScaleUpDisabled);
    }
    fleet.pools.is_empty().then_some(Reason::NoPools)
}

fn candidate(round: &Round<'_>, account: &PoolAccount, room: &mut Room) -> Option<Candidate> {
    Some(Candidate {
        id: account.pool.id.clone(),
        template: supply::template(round, account, room)?,
        bought: 0,
        spots: Vec::new(),
        serves: Vec::new(),
        pods: Vec::new(),
        claims: Vec::new(),
    })
}

fn candidates(round: &Round<'_>, fleet: &Fleet, room: &mut Room) -> Vec<Candidate> {
    let candidate = |(_, account): (&PoolId, &PoolAccount)| candidate(round, account, room);
    fleet.pools.iter().filter_map(candidate).collect()
}

/// Why a pool cannot grow whatever is asked, with what it already grows by in this round.
fn pool_rejection(
    round: &Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    account: &PoolAccount,
    bought: u32,
) -> Option<PoolRejection> {
    if !account.fresh || !fresh.daemon_sets {
        return Some(PoolRejection::ProviderStale);
    }
    if let Some(why) = &account.pool.frozen {
        return Some(PoolRejection::Frozen { why: why.clone() });
    }
    if account.pool.template.is_none() && account.pool.direct().is_none() {
        return Some(PoolRejection::NoTemplate);
    }
    if let Some(entry) = back_off::of(round, &account.pool.id) {
        return Some(PoolRejection::BackOff { until: entry.until, code: entry.code.clone() });
    }
    let (unready, of) = (account.unready, account.target);
    let policies = round.policies;
    if unready > policies.ok_total_unready_count
        && u64::from(unready) * 100 > u64::from(of) * u64::from(policies.max_total_unready_percent)
    {
        return Some(PoolRejection::NotHealthy { unready, of });
    }
    let max = account.pool.max;
    if account.target + bought >= max && !round.planted.has(PlantedBug::OverMaximum) {
        return Some(PoolRejection::MaxSizeReached { max });
    }
    if bought >= policies.max_nodes_per_scale_up && account.pool.direct().is_none() {
        return Some(PoolRejection::RoundLimit { max_per_round: policies.max_nodes_per_scale_up });
    }
    let max_nodes_total = policies.max_nodes_total;
    (max_nodes_total > 0 && fleet.total_nodes() >= max_nodes_total)
        .then_some(PoolRejection::NodeCeiling { max_nodes_total })
}

fn limit_of(
    round: &Round<'_>,
    fleet: &Fleet,
    account: &PoolAccount,
    bought: u32,
    bought_all: u32,
) -> NodeLimit {
    let policies = round.policies;
    let mut limit = match account.pool.direct() {
        // The limit is one on groups, of which one order asks for all at once.
        None => NodeLimit::AtMost(policies.max_nodes_per_scale_up.saturating_sub(bought)),
        Some(_) => NodeLimit::Unlimited,
    };
    if !round.planted.has(PlantedBug::OverMaximum) && account.pool.max < u32::MAX {
        limit = limit.and(NodeLimit::AtMost(account.pool.max.saturating_sub(account.target + bought)));
    }
    if policies.max_nodes_total > 0 {
        let left = policies.max_nodes_total.saturating_sub(fleet.total_nodes()).saturating_sub(bought_all);
        limit = limit.and(NodeLimit::AtMost(left));
    }
    limit
}

/// The best way to serve some of what is left; `None` where no pool helps any more.
fn best_offer(
    round: &Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    room: &mut Room,
    candidates: &[Candidate],
    unmet: &[Unmet],
) -> Option<Offer> {
    let groups = groups_of(unmet);
    let bought_all: u32 = candidates.iter().map(|candidate| candidate.bought).sum();
    let mut offers = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let account = fleet.pools.get(&candidate.id)?;
        if pool_rejection(round, fleet, fresh, account, candidate.bought).is_some() {
            continue;
        }
        let limit = limit_of(round, fleet, account, candidate.bought, bought_all);
        let estimate = estimate(room, &candidate.template, &groups, limit);
        if estimate.nodes > 0 {
            offers.push(Offer { candidate: at, estimate, limit });
        }
    }
    let priced =
        offers.iter().all(|offer| account_of(fleet, candidates, offer).is_some_and(|a| a.pool.price.0 > 0));
    offers.into_iter().min_by_key(|offer| {
        let account = account_of(fleet, candidates, offer);
        let priority = account.map_or(0, |account| account.pool.priority);
        let price = account.filter(|_| priced).map_or(0, |account| account.pool.price.0);
        let template = &candidates[offer.candidate].template;
        (
            Reverse(priority),
            price_per_served(price, &offer.estimate),
            idle_scarce(template, &offer.estimate),
            waste(template, &offer.estimate),
            offer.candidate,
        )
    })
}

fn account_of<'f>(fleet: &'f Fleet, candidates: &[Candidate], offer: &Offer) -> Option<&'f PoolAccount> {
    fleet.pools.get(&candidates[offer.candidate].id)
}

/// Price of the new nodes for each million units of what they serve: offers that serve more may cost more.
fn price_per_served(price: u64, estimate: &Estimate) -> u128 {
    let served = u128::from(size_units(&estimate.requested)).max(1);
    u128::from(price) * u128::from(estimate.nodes) * 1_000_000 / served
}

/// Kinds of extended resources on offer that no served pod asks for: they are kept for pods that do.
fn idle_scarce(template: &Template, estimate: &Estimate) -> usize {
    let asked = &estimate.requested.extended;
    template
        .node
        .allocatable
        .extended
        .iter()
        .filter(|(name, n)| **n > 0 && !asked.contains_key(*name))
        .count()
}

fn waste(template: &Template, estimate: &Estimate) -> WastePpm {
    let unused = |used: u64, one: u64| {
        let all = u128::from(one) * u128::from(estimate.nodes);
        let share = (u128::from(used) * 1_000_000).checked_div(all).unwrap_or(1_000_000);
        1_000_000u64.saturating_sub(u64::try_from(share).unwrap_or(1_000_000))
    };
    let all = &template.node.allocatable;
    unused(estimate.requested.cpu.0, all.cpu.0) + unused(estimate.requested.memory.0, all.memory.0)
}

fn open_count(group: &Unmet) -> u32 {
    let missing = group.missing.iter().fold(0u32, |sum, (_, n)| sum.saturating_add(*n));
    u32::try_from(group.pods.len()).unwrap_or(u32::MAX).saturating_add(missing)
}

/// The zones of pools that can grow, for pods that want to be spread over all there are.
fn possible_domains(
    round: &Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    room: &mut Room,
    candidates: &[Candidate],
) -> Vec<packing::SpotIx> {
    let grows = |candidate: &&Candidate| {
        let account = fleet.pools.get(&candidate.id);
        account.is_some_and(|account| pool_rejection(round, fleet, fresh, account, 0).is_none())
    };
    let nodes = candidates.iter().filter(grows).map(|candidate| Arc::clone(&candidate.template.node));
    nodes.map(|node| room.add_possible(node)).collect()
}

pub(crate) fn groups_of(unmet: &[Unmet]) -> Vec<Group> {
    unmet.iter().map(|group| Group { class: group.class, count: open_count(group) }).collect()
}

/// Puts the nodes of an offer into the room, and takes what they serve off the demand.
fn accept(candidate: &mut Candidate, offer: &Offer, room: &mut Room, unmet: &mut [Unmet]) {
    let begin = room.len();
    let estimate = extend(room, &candidate.template, &groups_of(unmet), offer.limit);
    candidate.bought += estimate.nodes;
    candidate.spots.push(begin..room.len());
    for (group, placed) in unmet.iter_mut().zip(&estimate.placed) {
        serve(candidate, group, *placed);
    }
}

/// What the nodes bought last allow on those bought before: a spread constraint fills several pools in turn.
fn fill_up(candidates: &mut [Candidate], begin: usize, room: &mut Room, unmet: &mut [Unmet]) {
    for group in unmet
        .iter_mut()
        .filter(|group| !group.shape.spread.is_empty() || !group.shape.pod_affinity.is_empty())
    {
        for placed in room.place(group.class, open_count(group), begin..room.len()) {
            let bought = |candidate: &&mut Candidate| {
                candidate.spots.iter().any(|spots| spots.contains(&placed.spot.0))
            };
            if let Some(candidate) = candidates.iter_mut().find(bought) {
                serve(candidate, group, placed.count);
            }
        }
    }
}

/// Takes `count` off the demand, pods before replicas that do not exist yet.
pub(crate) fn serve(candidate: &mut Candidate, group: &mut Unmet, count: u32) {
    if count == 0 {
        return;
    }
    candidate.claims.push((fingerprint(&group.shape), count));
    let pods = (count as usize).min(group.pods.len());
    for pod in group.pods.drain(..pods) {
        candidate.serves.push(Served::Pod(pod.clone()));
        candidate.pods.push(pod);
    }
    let rest = count - u32::try_from(pods).unwrap_or(count);
    for (workload, replicas) in take_missing(&mut group.missing, rest) {
        candidate.serves.push(Served::Missing { workload, replicas });
    }
}

/// Writes the order into the ledger and hands it out, unless the pool's last order or release is still on its way:
/// then that is waited for.
fn order(round: &mut Round<'_>, account: &mut PoolAccount, candidate: &mut Candidate) {
    let lowering = round.ledger.scale_ups.get(&candidate.id).is_some_and(|order| order.lowering);
    if account.order_open || account.giving_back || lowering {
        for pod in candidate.pods.drain(..) {
            round.verdicts.pods.insert(pod, Reason::WaitsForMachine { pool: candidate.id.clone() });
        }
        candidate.bought = 0;
        round.growth.machines.retain(|machine| machine.pool != candidate.id);
        return;
    }
    let (from, to, max) = (account.target, account.target + candidate.bought, account.pool.max);
    let change = PoolChange { pool: account.pool.name.clone(), from, to, max };
    let changes: Arc<[PoolChange]> = Arc::from([change]);
    for pod in &candidate.pods {
        let reason = Reason::TriggeredScaleUp { pools: Arc::clone(&changes) };
        round.verdicts.pods.insert(pod.clone(), reason);
    }
    let intent = round.new_intent("buy");
    let serves = std::mem::take(&mut candidate.serves);
    let wait = account.pool.options.max_provision_time.unwrap_or(round.policies.max_provision_time);
    let entry = ScaleUp {
        intent: intent.clone(),
        from,
        to,
        begun_at: round.now,
        deadline: after(round.now, wait),
        ordered: false,
        confirmed: false,
        lowering: false,
        asked: round.ask(None, None),
        not_before: None,
        serves: serves.iter().take(SERVED_IN_LEDGER).cloned().collect(),
        claims: claims::with_more(round, &candidate.id, candidate.claims.drain(..)),
    };
    round.wake(entry.deadline);
    if !round.planted.has(PlantedBug::ForgottenIntent) {
        round.ledger.scale_ups.insert(candidate.id.clone(), entry);
    }
    round.ledger.last_scale_up_at = Some(round.now);
    round
        .verdicts
        .pools
        .insert(candidate.id.clone(), Reason::Growing { from, to, ready: account.ready, since: round.now });
    account.target = to;
    account.unborn += candidate.bought;
    account.order_open = true;
    round.step(Step::Buy(Buy { intent, pool: candidate.id.clone(), from, to, max, serves }));
}

/// One reason from each pool for every pod that nothing was bought for.
fn explain(
    round: &mut Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    room: &mut Room,
    candidates: &[Candidate],
    unmet: &[Unmet],
    refused: &Refused,
) {
    let left_out: Vec<(usize, &Unmet)> =
        unmet.iter().enumerate().filter(|(_, group)| !group.pods.is_empty()).collect();
    let mut of_pods: BTreeMap<&PoolId, Vec<Option<PoolRejection>>> = BTreeMap::new();
    for candidate in candidates {
        let mark = room.mark();
        let spot = add(room, &candidate.template);
        let refused = left_out.iter().map(|(_, group)| room.rejection(group.class, spot));
        of_pods.insert(&candidate.id, refused.collect());
        room.rollback(mark);
    }
    for (at, (number, group)) in left_out.into_iter().enumerate() {
        let rejections: BTreeMap<PoolId, PoolRejection> = fleet
            .pools
            .iter()
            .map(|(id, account)| {
                // What was bought in this round is part of the target by now.
                let by_market = refused.get(&(number, id.clone())).cloned();
                let of_pod = of_pods.get(id).and_then(|refused| refused[at].clone()).or(by_market);
                let rejection = of_pod.or_else(|| pool_rejection(round, fleet, fresh, account, 0)).unwrap_or(
                    PoolRejection::RoundLimit { max_per_round: round.policies.max_nodes_per_scale_up },
                );
                (id.clone(), rejection)
            })
            .collect();
        let rejections = Arc::new(rejections);
        for pod in &group.pods {
            let reason = Reason::NoPoolHelps { rejections: Arc::clone(&rejections) };
            round.verdicts.pods.insert(pod.clone(), reason);
        }
    }
}

fn add(room: &mut Room, template: &Template) -> packing::SpotIx {
    let spot = room.add_promised(Arc::clone(&template.node));
    for class in &template.overhead {
        room.hold(*class, spot, 1);
    }
    spot
}

/// Says of each pool that cannot grow why, and of the round that the ceiling is reached.
fn note_pools(round: &mut Round<'_>, fleet: &Fleet, fresh: &Freshness) {
    for (id, account) in &fleet.pools {
        if let Some(rejection) = pool_rejection(round, fleet, fresh, account, 0) {
            round.verdicts.pools.entry(id.clone()).or_insert(Reason::PoolRejected { rejection });
        }
    }
    let max_nodes_total = round.policies.max_nodes_total;
    if max_nodes_total > 0 && fleet.total_nodes() >= max_nodes_total {
        round.verdicts.round.push(Reason::MaxNodesTotal { max_nodes_total });
    }
}

/// Only ever reached with a planted bug.
fn buy_one_for_nobody(round: &mut Round<'_>, fleet: &mut Fleet, room: &mut Room) {
    for account in fleet.pools.values_mut() {
        if account.target < account.pool.max && account.upcoming() == 0 && !account.order_open {
            let Some(mut candidate) = candidate(round, account, room) else { continue };
            candidate.bought = 1;
            order(round, account, &mut candidate);
            return;
        }
    }
}
