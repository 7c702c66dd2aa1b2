//! Whether pods that move find places in whatever order and wherever the scheduler binds them.
//!
//! First fit finds *a* way; the scheduler takes its own, and a pod that then has no place would be bought for, on a
//! node that is soon removed again. A removal is begun only where no order of binding can leave one of its pods out.
//! Owns that proof: a pod is safe while all others that look for a place are too few, by any resource, to take every
//! node that suits it. Sound and not complete: where it fails, first fit may still have been lucky.

use crate::supply::Supply;
use model::{PodShape, ResourceName};
use packing::{Ask, ClassIx, Room, SpotIx, first_lasting_rejection};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pods that are about to be bound, by class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Movers {
    /// Those that must find a place on the nodes that stay.
    seeking: BTreeMap<ClassIx, u32>,
    /// Those that have a place of their own (named, or a machine on its way) and may still take room from others.
    contending: BTreeMap<ClassIx, u32>,
}

impl Movers {
    /// What waits or moves already: everything that this round has placed on nodes that stay.
    pub(crate) fn so_far(supply: &Supply) -> Self {
        let mut movers = Self { seeking: BTreeMap::new(), contending: supply.contending.clone() };
        for spot in (0..supply.ready_end).map(SpotIx).filter(|spot| !supply.room.is_closed(*spot)) {
            for (shape, count) in supply.room.received(spot) {
                movers.seek(*shape, *count);
            }
        }
        for (shape, count) in &supply.named {
            if let Some(seeking) = movers.seeking.get_mut(shape) {
                *seeking = seeking.saturating_sub(*count);
            }
        }
        movers
    }

    pub(crate) fn seek(&mut self, shape: ClassIx, count: u32) {
        let sum = self.seeking.entry(shape).or_default();
        *sum = sum.saturating_add(count);
    }
}

/// Amounts of the resources in play, in one fixed order.
type Amounts = Vec<u64>;
/// Cpu, memory, ephemeral storage and pods; the extended resources follow them.
const OWN_AMOUNTS: usize = 4;

/// A shape that moves, as numbers.
struct Mover {
    ix: ClassIx,
    shape: Arc<PodShape>,
    asks: Amounts,
    seeking: u32,
    contending: u32,
}

impl Mover {
    fn count(&self) -> u64 {
        u64::from(self.seeking) + u64::from(self.contending)
    }
}

/// The nodes that stay, as they are before anything moves.
pub(crate) struct Assurance {
    names: Vec<ResourceName>,
    free: Vec<Amounts>,
    suits: BTreeMap<ClassIx, Vec<Option<bool>>>,
}

impl Assurance {
    pub(crate) fn of(supply: &Supply) -> Self {
        let mut names = BTreeSet::new();
        for spot in (0..supply.ready_end).map(SpotIx) {
            names.extend(supply.room.node(spot).allocatable.extended.keys().cloned());
        }
        let names: Vec<ResourceName> = names.into_iter().collect();
        let free = (0..supply.ready_end).map(|at| free_before(&supply.room, SpotIx(at), &names)).collect();
        Self { names, free, suits: BTreeMap::new() }
    }

    /// A shape of which one pod may be left without a place when the `leaving` nodes go; `None` where none can be.
    pub(crate) fn doubtful(
        &mut self,
        room: &Room,
        movers: &Movers,
        leaving: &BTreeSet<SpotIx>,
    ) -> Option<Arc<PodShape>> {
        let shapes: BTreeSet<ClassIx> =
            movers.seeking.keys().chain(movers.contending.keys()).copied().collect();
        let of = |counts: &BTreeMap<ClassIx, u32>, ix| counts.get(&ix).copied().unwrap_or(0);
        let mut numbers: Vec<Mover> = shapes
            .into_iter()
            .map(|ix| {
                let shape = Arc::clone(room.shape_of(ix));
                let (seeking, contending) = (of(&movers.seeking, ix), of(&movers.contending, ix));
                Mover { ix, asks: asks_of(&shape, &self.names), shape, seeking, contending }
            })
            .collect();
        // What fits nowhere takes no room. Nodes that leave count here, or what is proved for many would not hold for
        // those of them that go first.
        let none = BTreeSet::new();
        numbers.retain(|mover| mover.seeking > 0 || !self.suitable(room, mover, &none).is_empty());
        let crowd = Crowd::of(&numbers, self.names.len() + OWN_AMOUNTS);
        numbers
            .iter()
            // What other pods decide no count of resources can prove: there first fit has to do.
            .filter(|mover| mover.seeking > 0 && !room.heeds_pods(mover.ix))
            .find(|mover| {
                let spots = self.suitable(room, mover, leaving);
                let spots: Vec<&Amounts> = spots.into_iter().map(|at| &self.free[at]).collect();
                !crowd.leaves_one(mover, &numbers, &spots)
            })
            .map(|mover| Arc::clone(&mover.shape))
    }

    /// The staying nodes that could take the pod, were it alone.
    fn suitable(&mut self, room: &Room, mover: &Mover, leaving: &BTreeSet<SpotIx>) -> Vec<usize> {
        let known = self.suits.entry(mover.ix).or_insert_with(|| vec![None; self.free.len()]);
        let fits = |at: &usize| mover.asks.iter().zip(&self.free[*at]).all(|(ask, free)| ask <= free);
        let ask = Ask { volumes: Some(room.volumes()), ..Ask::of(&mover.shape) };
        let suits = |at: usize| first_lasting_rejection(&ask, &room.view(SpotIx(at))).is_none();
        // A resource that no node has.
        let alien = mover.shape.requests.extended.keys().any(|name| !self.names.contains(name));
        let spots = if alien { 0 } else { self.free.len() };
        (0..spots)
            .filter(|at| fits(at) && !leaving.contains(&SpotIx(*at)))
            .filter(|at| *known[*at].get_or_insert_with(|| suits(*at) && ports_free(room, *at, &mover.shape)))
            .collect()
    }
}

/// Whether no pod that was there before this round has one of the ports.
fn ports_free(room: &Room, at: usize, shape: &PodShape) -> bool {
    if shape.host_ports.is_empty() {
        return true;
    }
    let received = room.received(SpotIx(at)).iter();
    let put: usize = received.map(|(ix, count)| room.shape_of(*ix).host_ports.len() * *count as usize).sum();
    let view = room.view(SpotIx(at));
    let used = view.used_ports();
    let before = &used[..used.len().saturating_sub(put)];
    !shape.host_ports.iter().any(|port| before.iter().any(|other| other.conflicts_with(port)))
}

/// Everything that moves, added up.
struct Crowd {
    /// What all ask for together, by resource.
    total: Amounts,
    /// The largest number that divides every request: room is taken in steps of it.
    step: Amounts,
}

impl Crowd {
    fn of(movers: &[Mover], resources: usize) -> Self {
        let mut crowd = Self { total: vec![0; resources], step: vec![0; resources] };
        for mover in movers {
            for (at, ask) in mover.asks.iter().enumerate() {
                crowd.total[at] = crowd.total[at].saturating_add(ask.saturating_mul(mover.count()));
                crowd.step[at] = gcd(crowd.step[at], *ask);
            }
        }
        crowd
    }

    /// Whether the others, however they are placed, leave one of `spots` to the pod.
    fn leaves_one(&self, mover: &Mover, all: &[Mover], spots: &[&Amounts]) -> bool {
        // Pods of its own shape that have another place are as good there as here.
        let own = u64::from(mover.contending) + 1;
        let others: Amounts = (self.total.iter().zip(&mover.asks))
            .map(|(all, one)| all.saturating_sub(one.saturating_mul(own)))
            .collect();
        let by_ports = port_rivals(mover, all);
        // What must be taken of a node, of each resource, before the pod does not fit there any more.
        let price = |spot: &Amounts, at: usize| {
            let slack = spot[at] - mover.asks[at];
            let step = self.step[at].max(1);
            (slack / step + 1).saturating_mul(step)
        };
        let asked: Vec<usize> = (0..others.len()).filter(|at| mover.asks[*at] > 0).collect();
        let untouchable = |spot: &&&Amounts| asked.iter().all(|at| price(spot, *at) > others[*at]);
        if spots.iter().filter(untouchable).count() > by_ports {
            return true;
        }
        let room_left = |blocked: usize| blocked.saturating_add(by_ports) < spots.len();
        let each: usize = asked
            .iter()
            .map(|at| affordable(spots.iter().map(|spot| u128::from(price(spot, *at))), others[*at].into()))
            .sum();
        room_left(each) || room_left(together(mover, all, &others, spots, &asked, price))
    }
}

/// How many nodes can be blocked when a pod that is used for one resource is used up for the others, too.
///
/// A pod weighs the largest of its shares of what the others ask for; blocking a node takes at least the smallest
/// share of its price. Shares are in units of 2^-64, rounded against us.
fn together(
    mover: &Mover,
    all: &[Mover],
    others: &Amounts,
    spots: &[&Amounts],
    asked: &[usize],
    price: impl Fn(&Amounts, usize) -> u64,
) -> usize {
    let share = |part: u64, of: u64| (u128::from(part) << 64) / u128::from(of.max(1));
    let weight = |asks: &Amounts| {
        let parts = asked.iter().filter(|at| others[**at] > 0);
        parts.map(|at| share(asks[*at], others[*at]) + 1).max().unwrap_or(0)
    };
    let all_weigh = all.iter().fold(0u128, |sum, other| {
        sum.saturating_add(weight(&other.asks).saturating_mul(u128::from(other.count())))
    });
    let own = weight(&mover.asks).saturating_mul(u128::from(mover.contending) + 1);
    let budget = all_weigh.saturating_sub(own);
    let cheapest = |spot: &&Amounts| {
        let parts = asked.iter().filter(|at| price(spot, **at) <= others[**at]);
        parts.map(|at| share(price(spot, *at), others[*at])).min().unwrap_or(u128::MAX)
    };
    affordable(spots.iter().map(cheapest), budget)
}

/// How many of the prices can be paid, the lowest first.
fn affordable(prices: impl Iterator<Item = u128>, budget: u128) -> usize {
    let mut prices: Vec<u128> = prices.filter(|price| *price <= budget).collect();
    prices.sort_unstable();
    let mut left = budget;
    prices
        .into_iter()
        .take_while(|price| {
            let paid = *price <= left;
            left = left.saturating_sub(*price);
            paid
        })
        .count()
}

/// Other pods that want a host port of this one's for themselves: each of them can block one node.
fn port_rivals(mover: &Mover, all: &[Mover]) -> usize {
    let ports = &mover.shape.host_ports;
    if ports.is_empty() {
        return 0;
    }
    let rivals =
        |other: &&Mover| ports.iter().any(|p| other.shape.host_ports.iter().any(|o| o.conflicts_with(p)));
    let count: u64 = all.iter().filter(rivals).map(Mover::count).sum();
    usize::try_from(count.saturating_sub(1 + u64::from(mover.contending))).unwrap_or(usize::MAX)
}

fn asks_of(shape: &PodShape, names: &[ResourceName]) -> Amounts {
    let asks = &shape.requests;
    let mut amounts = vec![asks.cpu.0, asks.memory.0, asks.ephemeral_storage.0, u64::from(asks.pods)];
    amounts.extend(names.iter().map(|name| asks.extended.get(name).copied().unwrap_or(0)));
    amounts
}

/// What is free on a node before this round put anything there.
fn free_before(room: &Room, spot: SpotIx, names: &[ResourceName]) -> Amounts {
    let free = room.free(spot);
    let mut amounts = vec![free.cpu.0, free.memory.0, free.ephemeral_storage.0, u64::from(free.pods)];
    amounts.extend(names.iter().map(|name| free.extended.get(name).copied().unwrap_or(0)));
    for (shape, count) in room.received(spot) {
        let asks = asks_of(room.shape_of(*shape), names);
        for (amount, ask) in amounts.iter_mut().zip(asks) {
            *amount = amount.saturating_add(ask.saturating_mul(u64::from(*count)));
        }
    }
    amounts
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
