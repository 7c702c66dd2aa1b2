//! One round, step by step, in the order in which each decision needs the ones before it.
//!
//! Owns the order; what each step decides is in the file of its name.

use crate::budgets::Budgets;
use crate::disruption::{self, Allowance};
use crate::freshness::Freshness;
use crate::planner::Memory;
use crate::planted::Planted;
use crate::round::Round;
use crate::{
    ahead, back_off, deliveries, demand, drains, growth, headroom, idle, leftovers, outcomes, rehearsal,
    requests, rules, soft_taints, waits,
};
use jiff::Timestamp;
use model::{Cluster, Decision, Ledger, Policies};

/// Decides one round. Pure: equal input gives equal output, byte for byte.
///
/// The ledger of the answer is to be made durable before any step of its plan is taken; the outcomes of the steps
/// come back as changes of the cluster.
pub fn decide(cluster: &Cluster, policies: &Policies, ledger: &Ledger, now: Timestamp) -> Decision {
    rehearsal::apply(cluster, policies, ledger, now, &mut |cluster, ledger| {
        run(Round::new(cluster, policies, ledger, now, Planted::default()), &mut Memory::default())
    })
}

/// The same with one bug built in, for proving that the checks find it.
#[cfg(feature = "planted-bugs")]
pub fn decide_with(
    cluster: &Cluster,
    policies: &Policies,
    ledger: &Ledger,
    now: Timestamp,
    bug: Option<crate::PlantedBug>,
) -> Decision {
    run(Round::new(cluster, policies, ledger, now, Planted::with(bug)), &mut Memory::default())
}

pub(crate) fn run(mut round: Round<'_>, memory: &mut Memory) -> Decision {
    outcomes::absorb(&mut round);
    let fresh = Freshness::of(&mut round);
    if !fresh.cluster {
        return round.conclude();
    }
    back_off::review(&mut round, &fresh);
    waits::forget(&mut round);
    drains::settle(&mut round, &fresh);
    let mut fleet = memory.fleet(&mut round, &fresh);
    deliveries::settle(&mut round, &mut fleet);
    leftovers::collect(&mut round, &fleet);

    let mut supply = memory.supply(&mut round, &fleet);
    let demand = demand::gather(&mut round, &fresh, &mut supply.room);
    let mut unmet = supply.serve(&mut round, demand);
    let mut budgets = Budgets::of(&round);
    let mut allowance = Allowance::of(&round, &fleet);
    unmet.extend(disruption::replace(&mut round, &fleet, &fresh, &mut supply, &budgets, &mut allowance));
    let bought = requests::serve(&mut round, &mut fleet, &fresh, &mut supply, &unmet);
    unmet.extend(headroom::serve(&mut round, &fresh, &mut supply));
    if !bought {
        growth::buy(&mut round, &mut fleet, &fresh, &mut supply.room, unmet);
    }
    headroom::note_purchases(&mut round);
    rules::apply(&mut round, &mut fleet, &fresh, &mut supply);

    drains::advance(&mut round, &fleet, &fresh, &mut supply, &mut budgets);
    ahead::plan(&mut round, &mut fleet, &fresh, &mut supply);
    idle::review(&mut round, &fleet, &fresh, &mut supply, &mut budgets);
    disruption::consolidate(&mut round, &fleet, &fresh, &mut supply, &mut budgets, &mut allowance);
    soft_taints::review(&mut round, &fleet, &fresh);
    memory.take_back(supply);
    round.conclude()
}
