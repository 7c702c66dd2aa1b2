//! Machines for replicas that are known to come: there when they are due, neither earlier than needed nor later.
//!
//! Owns the order of things: what is expected, what of it has room, what is bought for the rest and when. How long a
//! pool's machines take is `leads`', who is expected when `expected`'s, buying `purchase`'s, what is told of it `memory`'s.
//! Pods that wait, and pods that move, have been served before: what is to come takes what they leave.

mod bounds;
mod expected;
mod leads;
mod memory;
mod purchase;

use crate::fleet::Fleet;
use crate::freshness::Freshness;
use crate::round::{Round, after};
use crate::supply::Supply;
use expected::Expected;
use jiff::{SignedDuration, Timestamp};
use memory::Told;
use model::{AheadMemory, PoolId, Reason};
use packing::SpotIx;

pub(crate) fn plan(round: &mut Round<'_>, fleet: &mut Fleet, fresh: &Freshness, supply: &mut Supply) {
    if !round.policies.ahead.enabled {
        if !round.ledger.ahead.is_empty() {
            round.ledger.ahead = AheadMemory::default();
        }
        return;
    }
    leads::learn(round, fleet);
    memory::forget(round, fresh);
    if round.cluster.outlooks().is_empty() || !fresh.outlooks {
        return;
    }
    let longest = fleet.pools.keys().map(|pool| leads::lead_of(round, pool)).max().unwrap_or_default();
    let horizon = longest.max(round.policies.ahead.keep_for);
    let mut told = Told::default();
    let expected = expected::gather(round, &mut supply.room, horizon, &mut told);
    let homeless = place(round, supply, &expected, &mut told);
    let due = |one: &Expected| after(round.now, longest) >= one.due;
    let (now, later): (Vec<Expected>, Vec<Expected>) = homeless.into_iter().partition(due);
    for one in later {
        let order_at = after(one.due, -longest);
        round.wake(order_at);
        let later = Reason::AheadLater { due: one.due, replicas: one.count, order_at };
        told.say(&one.outlook, later);
    }
    if !now.is_empty() {
        purchase::buy(round, fleet, fresh, supply, &now, &mut told);
    }
    told.conclude(round);
}

/// Finds room for what is expected, in the order in which it is due; answers what has none.
fn place(
    round: &mut Round<'_>,
    supply: &mut Supply,
    expected: &[Expected],
    told: &mut Told,
) -> Vec<Expected> {
    let mut homeless = Vec::new();
    for one in expected {
        let mut left = one.count;
        for placed in supply.room.place(one.class, left, 0..supply.ready_end) {
            left -= placed.count;
            match keep_until(round, supply, placed.spot, one.due) {
                None => {
                    supply.foreseen.entry(placed.spot).or_insert_with(|| (one.outlook.clone(), one.due));
                }
                // The node may go, and be bought again: it is looked at anew when it is worth keeping.
                Some(worth_it) => {
                    supply.room.take_off(one.class, placed.spot, placed.count);
                    round.wake(worth_it);
                }
            }
        }
        if left > 0 {
            let coming = supply.standing_end..supply.room.len();
            left -= supply.room.place(one.class, left, coming).iter().map(|placed| placed.count).sum::<u32>();
        }
        told.say(&one.outlook, Reason::AheadReady { due: one.due, replicas: one.count - left });
        if left > 0 {
            homeless.push(Expected { count: left, ..one.clone() });
        }
    }
    homeless
}

/// `None` where a node is worth keeping for what is due then, else when it will be.
///
/// Kept, it costs its price until then. Given back and bought again it costs the same price while the new one starts,
/// and what moving, making and warming up is worth.
fn keep_until(round: &Round<'_>, supply: &Supply, spot: SpotIx, due: Timestamp) -> Option<Timestamp> {
    let pool = round.cluster.pool_of(supply.room.node(spot)).map(|pool| pool.id.clone())?;
    let worth = worth_keeping(round, &pool);
    let from = after(due, -worth);
    (from > round.now).then_some(from)
}

/// How long before it is needed again a node of a pool is kept rather than given back.
fn worth_keeping(round: &Round<'_>, pool: &PoolId) -> SignedDuration {
    let (ahead, lead) = (&round.policies.ahead, leads::lead_of(round, pool));
    lead.saturating_add(ahead.removal_cost).min(ahead.keep_for).max(lead)
}
