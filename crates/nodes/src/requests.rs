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
use model::{Headroom, Pod, PodPhase, Purpose, Reason, WorkloadKey, request_key};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Purchases that are tried in one round; each is a solve of its own. The others have their turn in the next round.
const MOST_TRIALS: u32 = 8;
/// When those that had no turn are looked at.
const NEXT_TURN: SignedDuration = SignedDuration::from_secs(1);

/// Serves all that is asked for as a whole. `unmet` is what real pods lack; where a request is bought for, so is that,
/// and the answer is true.
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
    let (mut trials, mut bought) = (MOST_TRIALS, false);
    for headroom in wanted {
        let (counts, taken) = still_to_come(headroom, consumers.get(&headroom.key));
        let mark = supply.room.mark();
        let mut kept = Kept::of(round, supply, headroom, &counts, taken);
        if kept.is_whole() || headroom.purpose == Purpose::Booking {
            kept.hold(round, supply, headroom);
            round.verdicts.headroom.insert(headroom.key.clone(), kept.verdict);
            continue;
        }
        let mut verdict = kept.verdict.clone();
        if headroom.purpose == Purpose::Whole && (bought || trials == 0) {
            // It has its turn in the next round; nothing is said of it before.
            supply.room.rollback(mark);
            round.wake(after(round.now, NEXT_TURN));
            continue;
        }
        if headroom.purpose == Purpose::Whole && fresh.headroom {
            trials -= 1;
            match try_to_buy(round, fleet, fresh, supply, (headroom, kept), unmet) {
                Ok(()) => {
                    bought = true;
                    continue;
                }
                Err(why) => verdict.why = why,
            }
        } else if headroom.purpose == Purpose::Whole {
            verdict.why = Some(not_heard());
        }
        supply.room.rollback(mark);
        round.verdicts.headroom.insert(headroom.key.clone(), verdict);
    }
    bought
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
    for pod in consumers.into_iter().flatten() {
        let alike = |at: &usize| headroom.parts[*at].shape.requests == pod.shape.requests;
        let open = || (0..counts.len()).filter(|at| counts[*at] > 0);
        if let Some(at) = open().find(alike).or_else(|| open().next()) {
            counts[at] -= 1;
            taken += 1;
        }
    }
    (counts, taken)
}
