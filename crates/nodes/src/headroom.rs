//! Room for pods that do not exist: how it is kept, and buffers, which are served in part where all cannot be had.
//!
//! Owns the order in which headroom is served and what is said of it; what is asked for as a whole is `requests`'. Real pods have been served before: they take the
//! place of headroom wherever they come, and it is then bought anew. What is kept holds no node by itself: whoever
//! takes one away finds another place for it first.

use crate::demand::DemandGroup;
use crate::freshness::Freshness;
use crate::round::Round;
use crate::supply::{Packing, Supply, Unmet, take_missing};
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

/// What is asked for now for such purposes, in the order in which it is served.
pub(crate) fn asked_for<'a>(round: &mut Round<'a>, of: impl Fn(Purpose) -> bool) -> Vec<&'a Headroom> {
    let cluster = round.cluster;
    let mut wanted: Vec<&Headroom> = Vec::new();
    for headroom in cluster.headroom().values().filter(|headroom| of(headroom.purpose)) {
        for at in headroom.from.into_iter().chain(headroom.until) {
            round.wake(at);
        }
        if headroom.holds_at(round.now) {
            wanted.push(headroom);
        }
    }
    wanted.sort_by_key(|headroom| (headroom.purpose, &headroom.key));
    wanted
}

/// Keeps room for all buffers, and answers what has to be bought for.
pub(crate) fn serve(round: &mut Round<'_>, fresh: &Freshness, supply: &mut Supply) -> Vec<Unmet> {
    let mut left = round.policies.missing_replicas_limit;
    let mut unmet = Vec::new();
    for headroom in asked_for(round, |purpose| purpose == Purpose::Buffer) {
        let mut counts: Vec<u32> = Vec::new();
        for part in &headroom.parts {
            let count = part.count.min(left);
            left -= count;
            counts.push(count);
        }
        let mut kept = Kept::of(round, supply, headroom, &counts, 0);
        kept.hold(round, supply, headroom);
        if !fresh.headroom && kept.verdict.short() > 0 {
            kept.verdict.why = Some(not_heard());
        }
        round.verdicts.headroom.insert(headroom.key.clone(), kept.verdict.clone());
        if fresh.headroom {
            unmet.extend(kept.unmet());
        }
    }
    unmet
}

/// What is not heard of is kept as it was known.
pub(crate) fn not_heard() -> Reason {
    let why = Arc::from("what is known of them is kept, and nothing is bought");
    Reason::InputNotFresh { input: Input::Headroom, why }
}

/// Room that was found for headroom, before it is decided whether it is held.
pub(crate) struct Kept {
    groups: Vec<DemandGroup>,
    placed: Packing,
    pub(crate) verdict: HeadroomVerdict,
}

impl Kept {
    /// Looks for room for so many pods of each part; `taken` of them all are there themselves.
    pub(crate) fn of(
        round: &Round<'_>,
        supply: &mut Supply,
        headroom: &Headroom,
        counts: &[u32],
        taken: u32,
    ) -> Self {
        let parts = headroom.parts.iter().zip(counts);
        let groups: Vec<DemandGroup> =
            parts.map(|(part, count)| group_of(supply, headroom, part, *count)).collect();
        let placed = supply.keep(round, &groups);
        let verdict = HeadroomVerdict { wanted: headroom.count(), taken, ..HeadroomVerdict::default() };
        Self { groups, placed, verdict }
    }

    /// Whether all that was looked for has a place.
    pub(crate) fn is_whole(&self) -> bool {
        let placed: u32 = self.placed.iter().map(|(_, place)| place.count).sum();
        placed == self.groups.iter().map(DemandGroup::count).sum::<u32>()
    }

    /// Holds what was found, and counts it.
    pub(crate) fn hold(&mut self, round: &mut Round<'_>, supply: &mut Supply, headroom: &Headroom) {
        for (at, place) in self.placed.drain(..) {
            take_missing(&mut self.groups[at].missing, place.count);
            if supply.hold(round, &headroom.key, self.groups[at].class, &place) {
                self.verdict.ready += place.count;
            } else {
                self.verdict.coming += place.count;
            }
        }
    }

    /// What has no place, when all that has one is held.
    pub(crate) fn unmet(self) -> impl Iterator<Item = Unmet> {
        let short = self.groups.into_iter().filter(|group| group.count() > 0);
        short.map(|group| Unmet {
            class: group.class,
            shape: group.shape,
            pods: group.pods,
            missing: group.missing,
        })
    }
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
