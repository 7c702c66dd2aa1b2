//! Soft distance between pods when machines are chosen: preferred anti-affinity and `ScheduleAnyway` spreading.
//!
//! Owns when it is honoured: where it is free; both, or else the spreading alone. The answer that keeps it takes the place
//! of the one that does not only where it leaves nobody else out and costs no more, in the pools of each tier and over
//! all. Compared is what is bought in the end, with the machines that the scheduler's own order makes necessary.

use model::Preferences;
use packing::solve::{Answer, Effort, solve};
use packing::{Distance, Group, Market, Question, Room};
use std::collections::BTreeMap;

/// The answer with soft distance kept where that is free; else the one given, which is as `settle` has it.
pub(crate) fn spread_out(
    room: &mut Room,
    market: &mut Market,
    groups: &[Group],
    answer: Answer,
    effort: Effort,
    settle: impl Fn(&Question, Answer) -> Answer,
) -> Answer {
    let has = |wish: fn(&Preferences) -> bool| {
        groups.iter().any(|group| wish(&room.shape_of(group.class).preferences))
    };
    let apart = has(|preferences| !preferences.pod_anti_affinity.is_empty());
    let spread = has(|preferences| !preferences.spread.is_empty());
    if market.ignores_wishes || answer.machines.is_empty() {
        return answer;
    }
    for (distance, asked) in [(Distance::All, apart), (Distance::Spread, spread)] {
        if !asked {
            continue;
        }
        market.distance = distance;
        let question = room.question(market, groups);
        market.distance = Distance::None;
        let kept = solve(&question.problem, effort).ok().map(|kept| settle(&question, kept));
        if let Some(kept) = kept.filter(|kept| is_free(market, kept, &answer)) {
            return Answer { unplaced: answer.unplaced, bound: answer.bound, ..kept };
        }
    }
    answer
}

/// Whether an answer leaves out the same pods as another, and costs no more: in the pools of the lowest tier, in those
/// of the two lowest, and so on up to all of them, since higher tiers are to be used first.
fn is_free(market: &Market, apart: &Answer, plain: &Answer) -> bool {
    let left = |answer: &Answer| -> BTreeMap<usize, u32> {
        answer.unplaced.iter().map(|unplaced| (unplaced.class, unplaced.count)).collect()
    };
    let spent = |answer: &Answer| {
        let mut by_tier: BTreeMap<i32, u64> = BTreeMap::new();
        for machine in &answer.machines {
            let make = &market.makes[machine.offering];
            *by_tier.entry(market.pools[make.pool].priority).or_default() += make.price;
        }
        by_tier
    };
    let (ours, theirs) = (spent(apart), spent(plain));
    let up_to =
        |spent: &BTreeMap<i32, u64>, tier: i32| spent.range(..=tier).map(|(_, price)| price).sum::<u64>();
    let no_dearer = ours.keys().all(|tier| up_to(&ours, *tier) <= up_to(&theirs, *tier));
    left(apart) == left(plain) && no_dearer && apart.machines.len() <= plain.machines.len()
}
