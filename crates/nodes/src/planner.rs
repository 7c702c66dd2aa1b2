//! Rounds decided one after the other, with what has not changed kept from one to the next.
//!
//! Owns when something may be kept: what follows from nodes, bound pods, machines and pools alone, while nothing is on
//! its way, going or failing, so that no clock is asked. Then a pod more costs what it needs and not a walk over all
//! nodes. What is kept is the result of the same functions on the same input, so a decision never depends on it.

use crate::fleet::Fleet;
use crate::freshness::Freshness;
use crate::planted::Planted;
use crate::round::Round;
use crate::supply::{Ground, Supply};
use crate::{decide, rehearsal};
use jiff::Timestamp;
use model::{Cluster, Decision, Ledger, Policies, Standing};
use packing::Room;
use std::sync::Arc;

/// Decides rounds, equal to [`crate::decide`] byte for byte.
#[derive(Default)]
pub struct Planner(Memory);

impl Planner {
    /// Decides one round; what stands is looked at again only where it has changed since the round before.
    pub fn decide(
        &mut self,
        cluster: &Cluster,
        policies: &Policies,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Decision {
        if rehearsal::is_of_pools(cluster, policies) {
            // Two rounds on two clusters: neither is the next one's.
            return crate::decide(cluster, policies, ledger, now);
        }
        self.0.keeps = true;
        rehearsal::apply(cluster, policies, ledger, now, &mut |cluster, ledger| {
            decide::run(Round::new(cluster, policies, ledger, now, Planted::default()), &mut self.0)
        })
    }
}

/// What one round leaves to the next.
#[derive(Default)]
pub(crate) struct Memory {
    /// Off for a single decision, which nothing follows.
    keeps: bool,
    kept: Option<Kept>,
    /// The fleet of this round as it was surveyed.
    surveyed: Option<Fleet>,
}

struct Kept {
    standing: Standing,
    policies: Policies,
    fleet: Fleet,
    ground: Arc<Ground>,
    /// The room as it was surveyed.
    untouched: Room,
    /// The same, used and taken back, where that is certain: it saves the copy.
    again: Option<Room>,
}

impl Memory {
    /// The fleet of this round.
    pub(crate) fn fleet(&mut self, round: &mut Round<'_>, fresh: &Freshness) -> Fleet {
        let same = |kept: &Kept| {
            kept.standing.is(round.cluster.standing()) && kept.policies == *round.policies && rests(round)
        };
        if let Some(kept) = self.kept.as_ref().filter(|kept| same(kept)) {
            return kept.fleet.clone();
        }
        self.kept = None;
        let fleet = Fleet::survey(round, fresh);
        self.surveyed = self.keeps.then(|| fleet.clone());
        fleet
    }

    /// The supply of this round, whose fleet [`Memory::fleet`] gave.
    pub(crate) fn supply(&mut self, round: &mut Round<'_>, fleet: &Fleet) -> Supply {
        let rests = rests(round);
        if let Some(kept) = self.kept.as_mut().filter(|_| rests) {
            let room = kept.again.take().unwrap_or_else(|| kept.untouched.clone());
            return Supply::on(Arc::clone(&kept.ground), room);
        }
        self.kept = None;
        let mut supply = Supply::of(round, fleet);
        let surveyed = self.surveyed.take().filter(|fleet| rests && fleet.rests());
        if let Some(fleet) = surveyed.filter(|_| !supply.awaits_the_clock) {
            supply.room.begin_here();
            self.kept = Some(Kept {
                standing: round.cluster.standing().clone(),
                policies: round.policies.clone(),
                fleet,
                ground: Arc::clone(&supply.ground),
                untouched: supply.room.clone(),
                again: None,
            });
        }
        supply
    }

    /// Takes a round's supply back when the round is over.
    pub(crate) fn take_back(&mut self, mut supply: Supply) {
        if let Some(kept) = &mut self.kept {
            kept.again = supply.room.start_again().then_some(supply.room);
        }
    }
}

/// Whether nothing that changes with time bears on what nodes and pools are.
fn rests(round: &Round<'_>) -> bool {
    let ledger = &round.ledger;
    let none_open = ledger.scale_ups.is_empty()
        && ledger.removals.is_empty()
        && ledger.orphans.is_empty()
        && ledger.back_offs.is_empty();
    let no_rules = ledger.rules.is_empty() && round.cluster.rule_sets().is_empty();
    none_open && no_rules
}
