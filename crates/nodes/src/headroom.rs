//! Room for pods that do not exist: buffers, promised and requested capacity.
//!
//! Owns the order in which headroom is served and what is said of it. Real pods have been served before: they take the
//! place of headroom wherever they come, and it is then bought anew. What is kept holds no node by itself: whoever
//! takes one away finds another place for it first.

use crate::demand::DemandGroup;
use crate::freshness::Freshness;
use crate::round::Round;
use crate::supply::{Supply, Unmet};
use model::{
    Headroom, HeadroomPart, HeadroomVerdict, Input, PodNames, PodShape, Purpose, Reason, WorkloadKey,
};
use std::sync::Arc;

/// Where room or machines are scarce, everything real goes before headroom, and what is more urgent before the rest.
fn priority_of(purpose: Purpose) -> i32 {
    let above_the_least = match purpose {
        Purpose::Booking => 3,
        Purpose::Check => 2,
        Purpose::Whole => 1,
        Purpose::Buffer => 0,
    };
    i32::MIN + above_the_least
}

/// Keeps room for everything that is asked for now, and answers what has to be bought for.
pub(crate) fn serve(round: &mut Round<'_>, fresh: &Freshness, supply: &mut Supply) -> Vec<Unmet> {
    let cluster = round.cluster;
    let mut wanted: Vec<&Headroom> = Vec::new();
    for headroom in cluster.headroom().values() {
        for at in headroom.from.into_iter().chain(headroom.until) {
            round.wake(at);
        }
        if headroom.holds_at(round.now) {
            wanted.push(headroom);
        }
    }
    wanted.sort_by_key(|headroom| (headroom.purpose, &headroom.key));
    let mut left = round.policies.missing_replicas_limit;
    let mut unmet = Vec::new();
    for headroom in wanted {
        unmet.extend(keep(round, fresh, supply, headroom, &mut left));
    }
    unmet
}

/// Keeps room for one, within what may still be asked for in this round.
fn keep(
    round: &mut Round<'_>,
    fresh: &Freshness,
    supply: &mut Supply,
    headroom: &Headroom,
    limit: &mut u32,
) -> Vec<Unmet> {
    let mut groups: Vec<DemandGroup> = Vec::new();
    for part in &headroom.parts {
        let count = part.count.min(*limit);
        *limit -= count;
        groups.push(group_of(supply, headroom, part, count));
    }
    let mark = supply.room.mark();
    let kept = supply.keep(round, &groups);
    let mut verdict = HeadroomVerdict { wanted: headroom.count(), ..HeadroomVerdict::default() };
    let placed: u32 = kept.iter().map(|(_, place)| place.count).sum();
    if placed < verdict.wanted && headroom.purpose == Purpose::Check {
        supply.room.rollback(mark);
        round.verdicts.headroom.insert(headroom.key.clone(), verdict);
        return Vec::new();
    }
    for (at, place) in kept {
        groups[at].missing[0].1 -= place.count;
        if supply.hold(round, &headroom.key, groups[at].class, &place) {
            verdict.ready += place.count;
        } else {
            verdict.coming += place.count;
        }
    }
    if !fresh.headroom && verdict.short() > 0 {
        let why = Arc::from("what is known of them is kept, and nothing is bought");
        verdict.why = Some(Reason::InputNotFresh { input: Input::Headroom, why });
    }
    let buys = fresh.headroom && headroom.purpose.buys();
    round.verdicts.headroom.insert(headroom.key.clone(), verdict);
    let unmet = groups.into_iter().filter(|group| buys && group.count() > 0);
    let unmet = unmet.map(|group| Unmet {
        class: group.class,
        shape: group.shape,
        pods: group.pods,
        missing: group.missing,
    });
    unmet.collect()
}

fn group_of(supply: &mut Supply, headroom: &Headroom, part: &HeadroomPart, count: u32) -> DemandGroup {
    let priority = priority_of(headroom.purpose);
    let shape = Arc::new(PodShape { priority, ..PodShape::clone(&part.shape) });
    DemandGroup {
        class: supply.room.class(&shape, &headroom.key.namespace, &part.labels),
        shape,
        pods: PodNames::default(),
        keeping_room: 0,
        missing: vec![(headroom.key.clone(), count)],
    }
}

/// Says why headroom among the demand has no room.
pub(crate) fn explain(round: &mut Round<'_>, missing: &[(WorkloadKey, u32)], reason: &Reason) {
    for (key, _) in missing.iter().filter(|(_, count)| *count > 0) {
        if let Some(verdict) = round.verdicts.headroom.get_mut(key) {
            verdict.why = Some(reason.clone());
        }
    }
}

/// Whether some of the demand is headroom.
pub(crate) fn is_among(round: &Round<'_>, missing: &[(WorkloadKey, u32)]) -> bool {
    missing.iter().any(|(key, count)| *count > 0 && round.verdicts.headroom.contains_key(key))
}

/// Notes what the round buys for headroom.
pub(crate) fn note_purchases(round: &mut Round<'_>) {
    let bought: Vec<(WorkloadKey, u32, model::PoolChange)> = round
        .purchases()
        .flat_map(|buy| {
            let pool = round.cluster.pools().get(&buy.pool);
            let name = pool.map_or_else(|| Arc::from(buy.pool.as_str()), |pool| Arc::clone(&pool.name));
            let change = model::PoolChange { pool: name, from: buy.from, to: buy.to, max: buy.max };
            buy.serves.missing.iter().map(move |(key, count)| (key.clone(), *count, change.clone()))
        })
        .collect();
    for (key, count, change) in bought {
        if let Some(verdict) = round.verdicts.headroom.get_mut(&key) {
            verdict.bought = verdict.bought.saturating_add(count);
            if !verdict.changes.contains(&change) {
                verdict.changes.push(change);
            }
        }
    }
}
