//! What else a round could have bought, for people to read.
//!
//! Owns asking each other pool what it alone would bring, and why it was not taken. Nothing that is bought depends on it;
//! it is left out where asking would take long beside deciding.

use crate::appraisal::Appraisal;
use crate::fleet::{Fleet, PoolAccount};
use crate::freshness::Freshness;
use crate::growth::{self, Candidate};
use crate::market::{self, Offer};
use crate::round::Round;
use crate::supply::Unmet;
use model::{Alternative, MicroUsdPerHour, NotTaken, PoolId};
use packing::Room;
use std::collections::{BTreeMap, BTreeSet};

/// Pools that are asked alone, and told of.
const MOST_ASKED: usize = 6;
const MOST_TOLD: usize = 20;
/// Pods and kinds of machines up to which they are.
const MOST_PODS: u32 = 100;
const MOST_FLAVOURS: usize = 400;

/// What each pool alone would bring, asked before anything is bought.
pub(crate) fn ask(
    round: &Round<'_>,
    fleet: &Fleet,
    room: &mut Room,
    candidates: &[Candidate],
    unmet: &[Unmet],
    open: &BTreeMap<PoolId, Option<u32>>,
) -> BTreeMap<PoolId, Offer> {
    let pods: u32 = growth::groups_of(unmet).iter().fold(0, |sum, group| sum.saturating_add(group.count));
    if open.len() < 2 || open.len() > MOST_ASKED || pods > MOST_PODS {
        return BTreeMap::new();
    }
    let flavours = |id: &PoolId| {
        fleet
            .pools
            .get(id)
            .and_then(|account| account.pool.direct())
            .map_or(1, |direct| direct.flavours().len())
    };
    if open.keys().map(flavours).sum::<usize>() > MOST_FLAVOURS {
        return BTreeMap::new();
    }
    open.iter()
        .filter_map(|(id, most)| {
            Some((id.clone(), market::offer(round, fleet, room, candidates, unmet, (id, *most))?))
        })
        .collect()
}

/// Notes why each pool that was not bought from was not, once it is known what was.
pub(crate) fn note(
    round: &mut Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    offers: &BTreeMap<PoolId, Offer>,
) {
    let machines = &round.growth.machines;
    let bought: BTreeSet<&PoolId> = machines.iter().map(|machine| &machine.pool).collect();
    if bought.is_empty() {
        return;
    }
    let chosen = machines.iter().fold(0u64, |sum, machine| sum.saturating_add(machine.price.0));
    let sellers = fleet.pools.values().map(|account| &*account.pool);
    let appraisal = Appraisal::of(&round.policies.choice, round.ledger.next_intent, sellers);
    let tier = |id: &PoolId| fleet.pools.get(id).map_or(0, |account| appraisal.tier(&account.pool));
    let least = bought.iter().map(|id| tier(id)).min().unwrap_or_default();
    let of_pool = |(id, account): (&PoolId, &PoolAccount)| {
        let offer = offers.get(id);
        let rejected = growth::pool_rejection(round, fleet, fresh, account);
        let rejected = rejected.or_else(|| offer.and_then(|offer| offer.rejection.clone()));
        let (machines, price) = match offer {
            Some(offer) if rejected.is_none() => (offer.machines, Some(offer.price)),
            _ => (0, None),
        };
        let why = match (rejected, offer) {
            (Some(rejection), _) => NotTaken::Rejected { rejection },
            (None, Some(offer)) if offer.left > 0 => NotTaken::LeavesPods { left: offer.left },
            (None, _) if tier(id) < least => NotTaken::LowerPriority,
            (None, Some(offer)) if appraisal.is_price() && offer.price.0 > chosen => {
                NotTaken::CostsMore { than: MicroUsdPerHour(chosen) }
            }
            (None, Some(_)) if appraisal.is_price() => NotTaken::CostsTheSame,
            (None, Some(_)) => NotTaken::NotPreferred,
            // It was not asked alone: nothing more is known.
            (None, None) => return None,
        };
        let price = price.filter(|price| price.0 > 0);
        Some(Alternative { pool: id.clone(), machines, price, why })
    };
    let others = fleet.pools.iter().filter(|(id, _)| !bought.contains(id));
    let told: Vec<Alternative> = others.filter_map(of_pool).take(MOST_TOLD).collect();
    round.growth.alternatives = told;
}
