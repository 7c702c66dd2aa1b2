//! Room that is asked for as a whole: what was promised, what is only looked for, and what is bought all or nothing.
//!
//! Owns the trial: a request is bought for together with everything that waits, on copies of the round, and the copies
//! take the round's place only where every pod of the request is served. So no part of a request is ever bought. One
//! purchase a round: what it brings is seen before the next one is tried.

use crate::fleet::Fleet;
use crate::freshness::Freshness;
use crate::growth;
use crate::headroom::{Kept, asked_for, not_heard};
use crate::round::{Round, after};
use crate::supply::{Supply, Unmet};
use jiff::SignedDuration;
use model::{Headroom, HeadroomVerdict, Pod, PodPhase, Purpose, Reason, WorkloadKey, request_key};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Purchases that are tried in one round; each is a solve of its own. The others have their turn in the next round.
const MOST_TRIALS: usize = 8;
/// When those that had no turn are looked at.
const NEXT_TURN: SignedDuration = SignedDuration::from_secs(1);

/// A request in its turn.
struct Turn<'a> {
    headroom: &'a Headroom,
    /// Of each part, how many pods are not there yet.
    counts: Vec<u32>,
    taken: u32,
}

impl Turn<'_> {
    fn look(&self, round: &Round<'_>, supply: &mut Supply) -> Kept {
        Kept::of(round, supply, self.headroom, &self.counts, self.taken)
    }

    fn say(&self, round: &mut Round<'_>, verdict: HeadroomVerdict) {
        round.verdicts.headroom.insert(self.headroom.key.clone(), verdict);
    }

    /// Holds room for all of it, if there is so much.
    fn hold_whole(&self, round: &mut Round<'_>, supply: &mut Supply) -> bool {
        let mark = supply.room.mark();
        let mut kept = self.look(round, supply);
        if kept.is_whole() {
            kept.hold(round, supply, self.headroom);
            self.say(round, kept.verdict);
            return true;
        }
        supply.room.rollback(mark);
        false
    }
}

/// Serves all that is asked for as a whole. `unmet` is what real pods lack; where a request is bought for, so is that,
/// and the answer is true.
///
/// What can be held whole goes first, and what is only held in part comes after it: else a promise that lost its room
/// would take the machines that came for a request, which would be bought again and again.
pub(crate) fn serve(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    unmet: &[Unmet],
) -> bool {
    let wanted = asked_for(round, |purpose| purpose != Purpose::Buffer);
    if wanted.is_empty() {
        return false;
    }
    let consumers = consumers(round);
    let turns = wanted.into_iter().map(|headroom| {
        let (counts, taken) = still_to_come(headroom, consumers.get(&headroom.key));
        Turn { headroom, counts, taken }
    });
    let mut turns: Vec<Turn<'_>> = turns.collect();
    for purpose in [Purpose::Booking, Purpose::Whole, Purpose::Check] {
        turns.retain(|turn| turn.headroom.purpose != purpose || !turn.hold_whole(round, supply));
    }
    for turn in turns.iter().filter(|turn| turn.headroom.purpose != Purpose::Whole) {
        let mark = supply.room.mark();
        let mut kept = turn.look(round, supply);
        if turn.headroom.purpose == Purpose::Booking {
            kept.hold(round, supply, turn.headroom);
        } else {
            supply.room.rollback(mark);
        }
        turn.say(round, kept.verdict);
    }
    turns.retain(|turn| turn.headroom.purpose == Purpose::Whole);
    buy_for(round, fleet, fresh, supply, &turns, unmet)
}

/// Buys for the first that can be bought for; says of the others why they cannot.
fn buy_for(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    turns: &[Turn<'_>],
    unmet: &[Unmet],
) -> bool {
    for (number, turn) in turns.iter().enumerate() {
        if number >= MOST_TRIALS {
            round.wake(after(round.now, NEXT_TURN));
            break;
        }
        let mark = supply.room.mark();
        let kept = turn.look(round, supply);
        let mut verdict = kept.verdict.clone();
        if fresh.headroom {
            match try_to_buy(round, fleet, fresh, supply, (turn.headroom, kept), unmet) {
                // The others have their turn in the next round; nothing is said of them before.
                Ok(()) => return true,
                Err(why) => verdict.why = why,
            }
        } else {
            verdict.why = Some(not_heard());
        }
        supply.room.rollback(mark);
        turn.say(round, verdict);
    }
    false
}

/// Buys for everything that waits and for one request. Where a pod of the request is left over, nothing has happened but
/// to the room, and the answer says why.
fn try_to_buy(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    (headroom, mut kept): (&Headroom, Kept),
    unmet: &[Unmet],
) -> Result<(), Option<Reason>> {
    let key = &headroom.key;
    let (mut trial, mut grown) = (round.clone(), fleet.clone());
    kept.hold(&mut trial, supply, headroom);
    let short = kept.verdict.short();
    trial.verdicts.headroom.insert(key.clone(), kept.verdict.clone());
    let all = unmet.iter().cloned().chain(kept.unmet()).collect();
    growth::buy(&mut trial, &mut grown, fresh, &mut supply.room, all);
    let served = trial.purchases().flat_map(|buy| &buy.serves.missing);
    let served: u32 = served.filter(|(of, _)| of == key).map(|(_, count)| *count).sum();
    if served == short {
        (*round, *fleet) = (trial, grown);
        return Ok(());
    }
    if unmet.is_empty() && round.growth.question.is_none() {
        // What a server of choices is asked is asked all the same: its answer is for the next round.
        round.growth.question = trial.growth.question.take();
    }
    Err(trial.verdicts.headroom.remove(key).and_then(|verdict| verdict.why))
}

/// Pods that use the room of requests, by request.
fn consumers<'a>(round: &Round<'a>) -> BTreeMap<WorkloadKey, Vec<&'a Arc<Pod>>> {
    let mut of: BTreeMap<WorkloadKey, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in round.cluster.pods().values() {
        if let Some(name) = pod.consumes.as_ref().filter(|_| !pod.gated && pod.phase != PodPhase::Failed) {
            of.entry(request_key(&pod.key.namespace, name)).or_default().push(pod);
        }
    }
    of
}

/// How many pods of each part are not there yet, and how many are.
fn still_to_come(headroom: &Headroom, consumers: Option<&Vec<&Arc<Pod>>>) -> (Vec<u32>, u32) {
    let mut counts: Vec<u32> = headroom.parts.iter().map(|part| part.count).collect();
    let mut taken = 0;
    // Room that is promised is for pods that wait, too: they take it themselves.
    let counts_as_there = |pod: &&&Arc<Pod>| headroom.purpose == Purpose::Booking || pod.node.is_some();
    for pod in consumers.into_iter().flatten().filter(counts_as_there) {
        let alike = |at: &usize| headroom.parts[*at].shape.requests == pod.shape.requests;
        let open = || (0..counts.len()).filter(|at| counts[*at] > 0);
        if let Some(at) = open().find(alike).or_else(|| open().next()) {
            counts[at] -= 1;
            taken += 1;
        }
    }
    (counts, taken)
}
