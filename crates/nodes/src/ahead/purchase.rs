//! Machines for what is expected and has no room: which, and which of them now.
//!
//! Owns the moment of each machine: one that would stand ready before the first of its pods is due is bought later. What
//! to buy is one question over all pools and is `market`'s, as for pods that wait; how much, `bounds`'.

use super::bounds::Bounds;
use super::expected::Expected;
use super::leads;
use super::memory::Told;
use crate::ceiling::Ceiling;
use crate::claims::fingerprint;
use crate::fleet::{Fleet, PoolAccount};
use crate::freshness::Freshness;
use crate::growth;
use crate::launches::{self, Sales};
use crate::market;
use crate::round::Round;
use crate::supply::{Supply, Unmet};
use model::{
    AheadDemand, BoughtAhead, MicroUsdPerHour, NewMachine, PodNames, PoolId, PoolRejection, Reason, Serves,
    WorkloadKey,
};
use packing::{ClassIx, Room, SpotIx};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Purchases of one pool that wait for what is to come and are remembered one by one.
const MOST_BOUGHT: usize = 32;

/// Machines of one pool that are bought now.
#[derive(Default)]
struct Lot {
    machines: Vec<NewMachine>,
    serves: Serves,
    shapes: Vec<(u64, u32)>,
}

impl Lot {
    fn add(&mut self, machine: NewMachine, demand: Vec<AheadDemand>) {
        self.machines.push(machine);
        for one in demand {
            self.serves.expect(one);
        }
    }

    fn bought(&self) -> BoughtAhead {
        BoughtAhead {
            due: self.serves.ahead.iter().map(|one| one.due).max().unwrap_or_default(),
            machines: u32::try_from(self.machines.len()).unwrap_or(u32::MAX),
            cost: MicroUsdPerHour(self.machines.iter().map(|one| one.price.0).sum()),
        }
    }
}

pub(super) fn buy(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    expected: &[Expected],
    told: &mut Told,
) {
    if let Some(reason) = growth::no_growth_at_all(round, fleet) {
        for one in expected {
            told.say(&one.outlook, reason.clone());
        }
        return;
    }
    fleet.ceiling = Ceiling::of(round, fleet);
    let mark = supply.room.mark();
    let bound = round.growth.bound;
    let room = &mut supply.room;
    let mut candidates = growth::candidates(round, fleet, room);
    let mut bounds = Bounds::of(round, fleet);
    let mut open = growth::open_pools(round, fleet, fresh);
    bounds.narrow(&mut open);
    let mut unmet = unmet_of(room, expected);
    let (refused, sales) = market::buy(round, fleet, room, &mut candidates, &mut unmet, &open);
    // The bound is that of what pods wait for.
    round.growth.bound = bound;
    let planned = std::mem::take(&mut round.planned);
    let mut queues = Queues::of(expected);
    let sold = direct_lots(round, fleet, &mut bounds, &mut queues, told, sales);
    let lots = group_lots(round, fleet, room, &mut bounds, &mut queues, told, planned);
    let why = growth::rejections(round, fleet, fresh, room, &candidates, &unmet, &refused);
    say_refused(&bounds, expected, &unmet, why, told);
    // What is bought for is none of the round's business any more.
    room.rollback(mark);
    for (id, lot) in lots {
        order_group(round, fleet, &id, lot, told);
    }
    for (id, (sale, lot)) in sold {
        order_direct(round, fleet, &id, sale, &lot, told);
    }
}

/// What is expected as the market takes it: by class, the earliest first, each part under the number of its place.
fn unmet_of(room: &Room, expected: &[Expected]) -> Vec<Unmet> {
    let mut unmet: Vec<Unmet> = Vec::new();
    for (place, one) in expected.iter().enumerate() {
        let part = (numbered(place), one.count);
        match unmet.iter_mut().find(|known| known.class == one.class) {
            Some(known) => known.missing.push(part),
            None => unmet.push(Unmet {
                class: one.class,
                shape: Arc::clone(room.shape_of(one.class)),
                pods: PodNames::default(),
                missing: vec![part],
            }),
        }
    }
    unmet
}

/// The name of a part of what is expected while the market has it.
fn numbered(place: usize) -> WorkloadKey {
    WorkloadKey::new("", "", format!("{place:08}"))
}

fn place_of(key: &WorkloadKey) -> Option<usize> {
    key.name.parse().ok()
}

/// What no machine was found for yet, by class, the earliest first.
struct Queues<'e> {
    expected: &'e [Expected],
    left: BTreeMap<ClassIx, VecDeque<(usize, u32)>>,
}

impl<'e> Queues<'e> {
    fn of(expected: &'e [Expected]) -> Self {
        let mut left: BTreeMap<ClassIx, VecDeque<(usize, u32)>> = BTreeMap::new();
        for (place, one) in expected.iter().enumerate() {
            left.entry(one.class).or_default().push_back((place, one.count));
        }
        Self { expected, left }
    }

    fn take(&mut self, class: ClassIx, mut count: u32) -> Vec<AheadDemand> {
        let mut taken = Vec::new();
        let Some(queue) = self.left.get_mut(&class) else { return taken };
        while count > 0
            && let Some((place, left)) = queue.front_mut()
        {
            let replicas = count.min(*left);
            taken.extend(self.expected.get(*place).map(|one| one.demand(replicas)));
            *left -= replicas;
            count -= replicas;
            if *left == 0 {
                queue.pop_front();
            }
        }
        taken
    }

    /// Takes the parts that a machine of a direct pool was sold for.
    fn take_parts(&mut self, parts: &[(WorkloadKey, u32)]) -> Vec<AheadDemand> {
        let mut taken = Vec::new();
        for (key, replicas) in parts {
            let Some(place) = place_of(key) else { continue };
            let Some(one) = self.expected.get(place) else { continue };
            taken.push(one.demand(*replicas));
            let queue = self.left.entry(one.class).or_default();
            if let Some(part) = queue.iter_mut().find(|(known, _)| *known == place) {
                part.1 = part.1.saturating_sub(*replicas);
            }
            queue.retain(|(_, left)| *left > 0);
        }
        taken
    }
}

impl Expected {
    fn demand(&self, replicas: u32) -> AheadDemand {
        AheadDemand { outlook: self.outlook.clone(), due: self.due, replicas }
    }
}

/// Whether a machine is to be bought now: it is time for the first of its pods, and the money is there.
fn is_time(
    round: &mut Round<'_>,
    bounds: &mut Bounds,
    told: &mut Told,
    pool: &PoolId,
    price: MicroUsdPerHour,
    demand: &[AheadDemand],
) -> bool {
    let Some(due) = demand.iter().map(|one| one.due).min() else { return false };
    let order_at = leads::order_at(round, pool, due);
    if order_at > round.now {
        round.wake(order_at);
        say_later(told, demand, order_at);
        return false;
    }
    if bounds.pays(price) {
        return true;
    }
    for one in demand {
        let rejections = Arc::new([(pool.clone(), PoolRejection::AheadCost)].into());
        let (due, replicas) = (one.due, one.replicas);
        told.say(&one.outlook, Reason::AheadRefused { due, replicas, rejections });
    }
    false
}

fn say_later(told: &mut Told, demand: &[AheadDemand], order_at: jiff::Timestamp) {
    for one in demand {
        let (due, replicas) = (one.due, one.replicas);
        told.say(&one.outlook, Reason::AheadLater { due, replicas, order_at });
    }
}

/// Machines of direct pools, with what each was sold for.
fn direct_lots(
    round: &mut Round<'_>,
    fleet: &Fleet,
    bounds: &mut Bounds,
    queues: &mut Queues<'_>,
    told: &mut Told,
    sales: BTreeMap<PoolId, Sales>,
) -> BTreeMap<PoolId, (Sales, Lot)> {
    let mut sold = BTreeMap::new();
    for (id, mut sale) in sales {
        let Some(direct) = fleet.pools.get(&id).and_then(|account| account.pool.direct()) else { continue };
        let mut lot = Lot::default();
        sale.keep(|flavour, serves| {
            let demand = queues.take_parts(&serves.missing);
            if !is_time(round, bounds, told, &id, flavour.price, &demand) {
                return None;
            }
            let place = direct.flavours().iter().position(|known| *known == *flavour).unwrap_or(0);
            lot.add(machine_of(&id, u32::try_from(place).unwrap_or(0), flavour.price), demand.clone());
            let mut kept = Serves::default();
            for one in demand {
                kept.expect(one);
            }
            Some(kept)
        });
        if !lot.machines.is_empty() {
            sold.insert(id, (sale, lot));
        }
    }
    sold
}

/// Machines of groups: of each class the earliest first, in the order in which machines were planned.
fn group_lots(
    round: &mut Round<'_>,
    fleet: &Fleet,
    room: &Room,
    bounds: &mut Bounds,
    queues: &mut Queues<'_>,
    told: &mut Told,
    planned: Vec<(SpotIx, PoolId, u32)>,
) -> BTreeMap<PoolId, Lot> {
    let mut lots: BTreeMap<PoolId, Lot> = BTreeMap::new();
    for (spot, id, flavour) in planned {
        let Some(account) = fleet.pools.get(&id).filter(|account| account.pool.direct().is_none()) else {
            continue;
        };
        let received = room.received(spot);
        let demand: Vec<AheadDemand> =
            received.iter().flat_map(|(class, count)| queues.take(*class, *count)).collect();
        if is_time(round, bounds, told, &id, account.pool.price, &demand) {
            let lot = lots.entry(id.clone()).or_default();
            lot.shapes
                .extend(received.iter().map(|(class, count)| (fingerprint(room.shape_of(*class)), *count)));
            lot.add(machine_of(&id, flavour, account.pool.price), demand);
        }
    }
    lots
}

fn machine_of(pool: &PoolId, flavour: u32, price: MicroUsdPerHour) -> NewMachine {
    NewMachine { pool: pool.clone(), flavour, price, pods: PodNames::default() }
}

/// Says of what stays without a machine what each pool says.
fn say_refused(
    bounds: &Bounds,
    expected: &[Expected],
    unmet: &[Unmet],
    why: Vec<BTreeMap<PoolId, PoolRejection>>,
    told: &mut Told,
) {
    for (group, mut rejections) in unmet.iter().zip(why) {
        bounds.say(&mut rejections);
        let rejections = Arc::new(rejections);
        for (key, replicas) in &group.missing {
            let Some(one) = place_of(key).and_then(|place| expected.get(place)) else { continue };
            let (due, replicas, rejections) = (one.due, *replicas, Arc::clone(&rejections));
            told.say(&one.outlook, Reason::AheadRefused { due, replicas, rejections });
        }
    }
}

fn order_group(round: &mut Round<'_>, fleet: &mut Fleet, id: &PoolId, lot: Lot, told: &mut Told) {
    let Some(account) = fleet.pools.get_mut(id) else { return };
    let lowering = round.ledger.scale_ups.get(id).is_some_and(|order| order.lowering);
    if account.order_open || account.giving_back || lowering {
        // The pool's last order is still on its way: it is waited for.
        say_later(told, &lot.serves.ahead, round.now);
        return;
    }
    note(round, account, &lot, told);
    let bought = lot.bought();
    growth::place_order(round, account, bought.machines, lot.serves, lot.shapes);
}

fn order_direct(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    id: &PoolId,
    sale: Sales,
    lot: &Lot,
    told: &mut Told,
) {
    let Some(account) = fleet.pools.get_mut(id) else { return };
    if round.ledger.scale_ups.contains_key(id) {
        say_later(told, &lot.serves.ahead, round.now);
        return;
    }
    note(round, account, lot, told);
    launches::order(round, account, sale);
}

/// Writes down what is bought ahead, for the bounds of later rounds and for people.
fn note(round: &mut Round<'_>, account: &PoolAccount, lot: &Lot, told: &mut Told) {
    let id = &account.pool.id;
    for one in &lot.serves.ahead {
        let (due, replicas, pool) = (one.due, one.replicas, id.clone());
        told.say(&one.outlook, Reason::AheadOrdered { due, replicas, pool });
    }
    round.growth.machines.extend(lot.machines.iter().cloned());
    let known = round.ledger.ahead.bought.entry(id.clone()).or_default();
    if known.len() >= MOST_BOUGHT {
        known.remove(0);
    }
    known.push(lot.bought());
}
