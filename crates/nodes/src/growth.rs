//! Which pools grow, and by how many machines.
//!
//! Owns who may grow and by how much, the orders that follow from what `market` bought, and the reasons: whatever cannot
//! be served gets one from each pool. What to buy is one decision over all pools and is `market`'s.

use crate::claims::{self, fingerprint};
use crate::consultation::{self, Consultation};
use crate::fleet::{Fleet, PoolAccount};
use crate::freshness::Freshness;
use crate::launches;
use crate::market::{self, Refused};
use crate::planted::PlantedBug;
use crate::round::{Round, after};
use crate::supply::{self, Unmet, take_missing};
use crate::unready_gate::Gate;
use crate::waits;
use crate::{alternatives, back_off, balance, headroom};
use model::{Buy, NewMachine, PodNames, PoolChange, PoolId, PoolRejection, Reason, ScaleUp, Serves, Step};
use packing::{Group, Room, Template};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Demands that the ledger names for one order; the plan names all. Keeps the ledger small.
const SERVED_IN_LEDGER: usize = 20;

/// A pool that may be chosen, with what it would grow by in this round.
pub(crate) struct Candidate {
    pub id: PoolId,
    pub template: Template,
    pub bought: u32,
    pub serves: Serves,
    pub claims: Vec<(u64, u32)>,
}

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
    let raises = below_minimum(round, fleet);
    if unmet.is_empty() && !raises {
        return;
    }
    if let Some(reason) = no_growth_at_all(round, fleet) {
        for group in unmet {
            headroom::explain(round, &group.missing, &reason);
            round.verdicts.pods.say(group.pods, reason.clone());
        }
        return;
    }
    let mut candidates = candidates(round, fleet, room);
    let open = open_pools(round, fleet, fresh);
    let consultation = consultation::consult(round, fleet, room, &candidates, &unmet, &open);
    if matches!(consultation, Consultation::Awaited) {
        for group in unmet.drain(..) {
            headroom::explain(round, &group.missing, &Reason::AwaitsExpander);
            round.verdicts.pods.say(group.pods, Reason::AwaitsExpander);
        }
    }
    let waiting = unmet.iter().map(|group| (group.class, group.pods.clone())).collect();
    let offers = alternatives::ask(round, fleet, room, &candidates, &unmet, &open);
    let (mut refused, mut sales) = (Refused::new(), BTreeMap::new());
    if !unmet.is_empty() {
        let chosen = consultation.leaves(&open);
        (refused, sales) = market::buy(round, fleet, room, &mut candidates, &mut unmet, &chosen);
        for pool in open.keys().filter(|pool| !chosen.contains_key(*pool)) {
            refused.extend((0..unmet.len()).map(|group| ((group, pool.clone()), PoolRejection::NotChosen)));
        }
    }
    balance::spread(round, fleet, room, &mut candidates, &open);
    market::name_pods(round, room, waiting);
    alternatives::note(round, fleet, fresh, &offers);
    if raises {
        raise_to_minimum(round, fleet, &mut candidates, &open);
    }
    for candidate in &mut candidates {
        if candidate.bought > 0
            && let Some(account) = fleet.pools.get_mut(&candidate.id)
        {
            order(round, account, candidate);
        }
    }
    for (id, sales) in sales {
        if let Some(account) = fleet.pools.get_mut(&id) {
            launches::order(round, account, sales);
        }
    }
    explain(round, fleet, fresh, room, &candidates, &unmet, &refused);
}

/// Whether pools are to be raised to their minimum and one of them is under it.
fn below_minimum(round: &Round<'_>, fleet: &Fleet) -> bool {
    let short = |account: &PoolAccount| account.target < account.own_min && account.pool.direct().is_none();
    round.policies.enforce_minimum && fleet.pools.values().any(short)
}

/// Raises pools to their minimum, as far as the limits of the whole cluster go. What pods were given counts.
fn raise_to_minimum(
    round: &mut Round<'_>,
    fleet: &Fleet,
    candidates: &mut [Candidate],
    open: &BTreeMap<PoolId, Option<u32>>,
) {
    let mut ceiling = fleet.ceiling;
    for candidate in &*candidates {
        ceiling.take(&candidate.template.node.allocatable, candidate.bought);
    }
    let bought: u32 = candidates.iter().map(|candidate| candidate.bought).sum();
    let all = round.policies.max_nodes_total;
    let mut left = if all == 0 { u32::MAX } else { all.saturating_sub(fleet.total_nodes() + bought) };
    for candidate in candidates {
        let (Some(most), Some(account)) = (open.get(&candidate.id), fleet.pools.get(&candidate.id)) else {
            continue;
        };
        let short = account.own_min.saturating_sub(account.target + candidate.bought);
        let most = short.min(left).min(most.unwrap_or(u32::MAX).saturating_sub(candidate.bought));
        let each = &candidate.template.node.allocatable;
        let more = (0..most).take_while(|_| ceiling.admits(each)).count() as u32;
        candidate.bought += more;
        left -= more;
        note_machines(round, account, more);
    }
}

/// Pools that may grow, and by how many machines at most; `None` = any number.
pub(crate) fn open_pools(
    round: &Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
) -> BTreeMap<PoolId, Option<u32>> {
    let may = |(_, account): &(&PoolId, &PoolAccount)| pool_rejection(round, fleet, fresh, account).is_none();
    let open = fleet.pools.iter().filter(may);
    open.map(|(id, account)| (id.clone(), limit_of(round, account))).collect()
}

/// Why nothing at all may be bought.
pub(crate) fn no_growth_at_all(round: &Round<'_>, fleet: &Fleet) -> Option<Reason> {
    if !round.policies.scale_up_enabled {
        return Some(Reason::ScaleUpDisabled);
    }
    if !round.policies.scale_up_from_zero && fleet.pools.values().all(|account| account.ready == 0) {
        return Some(Reason::NoReadyNodes);
    }
    if let Some(reason) = Gate::of(round, fleet).everywhere() {
        return Some(reason);
    }
    fleet.pools.is_empty().then_some(Reason::NoPools)
}

fn candidate(round: &Round<'_>, account: &PoolAccount, room: &mut Room) -> Option<Candidate> {
    Some(Candidate {
        id: account.pool.id.clone(),
        template: supply::template(round, account, room)?,
        bought: 0,
        serves: Serves::default(),
        claims: Vec::new(),
    })
}

/// Groups; direct pools take part in the market with each of their flavours.
pub(crate) fn candidates(round: &Round<'_>, fleet: &Fleet, room: &mut Room) -> Vec<Candidate> {
    let candidate = |(_, account): (&PoolId, &PoolAccount)| candidate(round, account, room);
    let groups = fleet.pools.iter().filter(|(_, account)| account.pool.direct().is_none());
    groups.filter_map(candidate).collect()
}

/// Why a pool cannot grow whatever is asked.
pub(crate) fn pool_rejection(
    round: &Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    account: &PoolAccount,
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
    if account.target >= max && !round.planted.has(PlantedBug::OverMaximum) {
        return Some(PoolRejection::MaxSizeReached { max });
    }
    let template = account.pool.template.as_ref();
    if template.is_some_and(|template| !fleet.ceiling.allows(&template.allocatable)) {
        return Some(PoolRejection::ResourceCeiling);
    }
    let max_nodes_total = policies.max_nodes_total;
    (max_nodes_total > 0 && fleet.total_nodes() >= max_nodes_total)
        .then_some(PoolRejection::NodeCeiling { max_nodes_total })
}

/// Machines that a pool may grow by in this round; `None` = any number.
pub(crate) fn limit_of(round: &Round<'_>, account: &PoolAccount) -> Option<u32> {
    // The limit of a round is one on groups, of which one order asks for all at once.
    let of_round = account.pool.direct().is_none().then_some(round.policies.max_nodes_per_scale_up);
    let bounded = account.pool.max < u32::MAX && !round.planted.has(PlantedBug::OverMaximum);
    let of_pool = bounded.then(|| account.pool.max.saturating_sub(account.target));
    of_round.into_iter().chain(of_pool).min()
}

fn open_count(group: &Unmet) -> u32 {
    let missing = group.missing.iter().fold(0u32, |sum, (_, n)| sum.saturating_add(*n));
    u32::try_from(group.pods.len()).unwrap_or(u32::MAX).saturating_add(missing)
}

pub(crate) fn groups_of(unmet: &[Unmet]) -> Vec<Group> {
    unmet.iter().map(|group| Group { class: group.class, count: open_count(group) }).collect()
}

/// Takes `count` off the demand, pods before replicas that do not exist yet.
pub(crate) fn serve(candidate: &mut Candidate, group: &mut Unmet, count: u32) {
    if count == 0 {
        return;
    }
    candidate.claims.push((fingerprint(&group.shape), count));
    let pods = group.pods.take_first(count as usize);
    let rest = count - u32::try_from(pods.len()).unwrap_or(count);
    candidate.serves.pods.append(pods);
    candidate.serves.missing.extend(take_missing(&mut group.missing, rest));
}

/// Writes the order into the ledger and hands it out, unless the pool's last order or release is still on its way:
/// then that is waited for.
fn order(round: &mut Round<'_>, account: &mut PoolAccount, candidate: &mut Candidate) {
    let lowering = round.ledger.scale_ups.get(&candidate.id).is_some_and(|order| order.lowering);
    if account.order_open || account.giving_back || lowering {
        let reason = Reason::WaitsForMachine { pool: candidate.id.clone() };
        let serves = std::mem::take(&mut candidate.serves);
        headroom::explain(round, &serves.missing, &reason);
        round.verdicts.pods.say(serves.pods, reason);
        candidate.bought = 0;
        round.growth.machines.retain(|machine| machine.pool != candidate.id);
        return;
    }
    let serves = std::mem::take(&mut candidate.serves);
    place_order(round, account, candidate.bought, serves, std::mem::take(&mut candidate.claims));
}

/// Writes an order for so many more machines into the ledger and hands it out.
pub(crate) fn place_order(
    round: &mut Round<'_>,
    account: &mut PoolAccount,
    count: u32,
    serves: Serves,
    claims: Vec<(u64, u32)>,
) {
    let id = account.pool.id.clone();
    let (from, to, max) = (account.target, account.target + count, account.pool.max);
    let change = PoolChange { pool: account.pool.name.clone(), from, to, max };
    let changes: Arc<[PoolChange]> = Arc::from([change]);
    round.verdicts.pods.say(serves.pods.clone(), Reason::TriggeredScaleUp { pools: changes });
    let intent = round.new_intent("buy");
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
        serves: serves.iter().take(SERVED_IN_LEDGER).collect(),
        claims: claims::with_more(round, &id, claims),
        launches: Vec::new(),
    };
    round.wake(entry.deadline);
    if !round.planted.has(PlantedBug::ForgottenIntent) {
        round.ledger.scale_ups.insert(id.clone(), entry);
    }
    let now = round.now;
    round.ledger.last_scale_up_at = Some(now);
    waits::note(round, &id, |last| last.scale_up_at = Some(now));
    let growing = Reason::Growing { from, to, ready: account.ready, since: now };
    round.verdicts.pools.insert(id.clone(), growing);
    account.target = to;
    account.unborn += count;
    account.order_open = true;
    round.step(Step::Buy(Buy { intent, pool: id, from, to, max, serves, launches: Vec::new() }));
}

/// Notes machines without pods of their own among what the round adds.
pub(crate) fn note_machines(round: &mut Round<'_>, account: &PoolAccount, count: u32) {
    let (pool, price) = (account.pool.id.clone(), account.pool.price);
    let machine = NewMachine { pool, flavour: 0, price, pods: PodNames::default() };
    round.growth.machines.extend(std::iter::repeat_n(machine, count as usize));
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
    if !unmet.iter().any(|group| is_told(round, group)) {
        return;
    }
    let all = rejections(round, fleet, fresh, room, candidates, unmet, refused);
    for (group, rejections) in unmet.iter().zip(all) {
        let reason = Reason::NoPoolHelps { rejections: Arc::new(rejections) };
        headroom::explain(round, &group.missing, &reason);
        round.verdicts.pods.say(group.pods.clone(), reason);
    }
}

/// Why each pool does not serve what is left of each group; nothing of those of which nothing is left.
pub(crate) fn rejections(
    round: &Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    room: &mut Room,
    candidates: &[Candidate],
    unmet: &[Unmet],
    refused: &Refused,
) -> Vec<BTreeMap<PoolId, PoolRejection>> {
    let left_out: Vec<Option<&Unmet>> = (unmet.iter())
        .map(|group| Some(group).filter(|group| !(group.pods.is_empty() && group.missing.is_empty())))
        .collect();
    let mut of_pods: BTreeMap<&PoolId, Vec<Option<PoolRejection>>> = BTreeMap::new();
    for candidate in candidates {
        let mark = room.mark();
        let spot = add(room, &candidate.template);
        let refused = left_out.iter().map(|group| group.and_then(|group| room.rejection(group.class, spot)));
        of_pods.insert(&candidate.id, refused.collect());
        room.rollback(mark);
    }
    let of_group = |number: usize, id: &PoolId, account: &PoolAccount| {
        // What was bought in this round is part of the target by now.
        let by_market = refused.get(&(number, id.clone())).cloned();
        let of_pod = of_pods.get(id).and_then(|refused| refused[number].clone()).or(by_market);
        of_pod
            .or_else(|| pool_rejection(round, fleet, fresh, account))
            .unwrap_or(PoolRejection::RoundLimit { max_per_round: round.policies.max_nodes_per_scale_up })
    };
    let of_pools = |number: usize| {
        let all = fleet.pools.iter();
        all.map(|(id, account)| (id.clone(), of_group(number, id, account))).collect()
    };
    let groups = left_out.iter().enumerate();
    groups.map(|(number, group)| group.map_or_else(BTreeMap::new, |_| of_pools(number))).collect()
}

/// Whether anybody is told why a group has no place: pods, and whoever asks for headroom.
fn is_told(round: &Round<'_>, group: &Unmet) -> bool {
    !group.pods.is_empty() || headroom::is_among(round, &group.missing)
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
        if let Some(rejection) = pool_rejection(round, fleet, fresh, account) {
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
