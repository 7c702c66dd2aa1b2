//! Under-used machines of direct pools whose pods have room on nodes that stay.
//!
//! Owns which of them go together: each where its pods and those of the ones before it find places in whatever order the
//! scheduler binds them, and where what it saves is worth the pods that move. Who is a candidate is `disruption`'s.

use crate::assurance::{Assurance, Movers};
use crate::budgets::Budgets;
use crate::disruption::{Allowance, blocked, remove};
use crate::exchanges::Candidate;
use crate::round::Round;
use crate::supply::Supply;
use crate::worth::{Saving, Worth};
use model::{DisruptionReason, Reason, RemovalCause};
use packing::SpotIx;
use std::collections::BTreeSet;

/// Machines that one round tries to empty on paper.
const MOST_TRIALS: usize = 100;

/// Takes away what can be emptied, in the order of the list. Answers how many machines go.
pub(crate) fn empty(
    round: &mut Round<'_>,
    supply: &mut Supply,
    budgets: &mut Budgets,
    allowance: &mut Allowance,
    worth: &Worth,
    candidates: &[Candidate<'_>],
) -> u32 {
    let mut proof = Assurance::of(supply);
    let mut leaving = BTreeSet::new();
    for candidate in candidates.iter().take(MOST_TRIALS) {
        let refusal = match supply.spot(candidate.name) {
            Some(spot) => {
                empty_one(round, supply, (&mut *budgets, &mut *allowance), worth, candidate, |supply| {
                    doubtful(&mut proof, supply, &leaving, spot)
                })
                .map(|()| leaving.insert(spot))
                .err()
            }
            None => continue,
        };
        // What is said of a node is said of the cluster as it stands, not of what others that go leave of it.
        if let Some(reason) = refusal.filter(|_| leaving.is_empty()) {
            round.say(candidate.name, reason);
        }
    }
    u32::try_from(leaving.len()).unwrap_or(u32::MAX)
}

/// Whether a pod may be left without a place when a node goes with those that go already.
fn doubtful(proof: &mut Assurance, supply: &Supply, leaving: &BTreeSet<SpotIx>, spot: SpotIx) -> bool {
    let mut all = leaving.clone();
    all.insert(spot);
    proof.doubtful(&supply.room, &Movers::so_far(supply), &all).is_some()
}

fn empty_one(
    round: &mut Round<'_>,
    supply: &mut Supply,
    (budgets, allowance): (&mut Budgets, &mut Allowance),
    worth: &Worth,
    candidate: &Candidate<'_>,
    doubtful: impl FnOnce(&Supply) -> bool,
) -> Result<(), Reason> {
    let Candidate { name, node, account, moving: pods } = candidate;
    let pool = &account.pool.id;
    let utilization_permille = supply.utilization.get(*name).map_or(0, |u| u.permille());
    let price = node.machine.as_ref().and_then(|machine| machine.direct.as_ref()).map(|d| d.flavour.price.0);
    let saving = Saving {
        saved: price.unwrap_or(0),
        price: price.unwrap_or(0),
        nodes: 1,
        pods: u32::try_from(pods.len()).unwrap_or(u32::MAX),
    };
    if let Some(saves) = worth.objection(pool, saving) {
        return Err(Reason::NotWorthMoving { saves });
    }
    if let Some(reason) = blocked(round, budgets, name) {
        return Err(reason);
    }
    let Some(spot) = supply.spot(name) else { return Err(Reason::MachineUnknown) };
    if supply.room.received(spot).len() > supply.headroom_on(spot).len() {
        return Err(Reason::TakesMovedPods);
    }
    let mark = supply.room.mark();
    supply.room.close(spot);
    let refusal = if let Some(pod) = crate::drains::find_places(supply, pods.iter()) {
        Some(Reason::NoPlaceFor { pod: pod.key.clone(), utilization_permille })
    } else if let Some(of) = supply.rehouse(spot) {
        Some(Reason::HoldsHeadroom { of })
    } else if doubtful(supply) {
        pods.first().map(|pod| Reason::PlaceNotAssured { pod: pod.key.clone() })
    } else if !allowance.take(round, account, DisruptionReason::Underutilized) {
        Some(Reason::DisruptionBudget { pool: pool.clone(), cause: RemovalCause::UnderUsed })
    } else {
        None
    };
    if let Some(reason) = refusal {
        supply.room.rollback(mark);
        return Err(reason);
    }
    for pod in pods {
        budgets.debit(pod);
    }
    remove(round, name, node, RemovalCause::UnderUsed);
    Ok(())
}
