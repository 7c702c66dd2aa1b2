//! Removals that begin together: their pods find places wherever the scheduler binds them.
//!
//! Owns the asking, one removal after the other or all at once, and how often it may be asked in one round.

use crate::assurance::{Assurance, Movers};
use crate::drain_rules;
use crate::idle::Unneeded;
use crate::planted::PlantedBug;
use crate::round::Round;
use crate::supply::{Supply, class_of};
use model::Reason;
use packing::SpotIx;
use std::collections::BTreeSet;

/// Removals that one round looks at one by one for whether their pods find places in any order.
const MOST_PROOFS: u32 = 64;

/// Removals whose pods find places wherever the scheduler binds them, one after the other.
#[derive(Default)]
pub(crate) struct Assured {
    movers: Movers,
    leaving: BTreeSet<SpotIx>,
    proof: Option<Assurance>,
    /// Whether everything that is unneeded may go at once; then nothing is asked one by one.
    all: Option<bool>,
    asked: u32,
}

impl Assured {
    /// None yet, beside what moves already.
    pub(crate) fn beside(movers: Movers) -> Self {
        Self { movers, ..Self::default() }
    }

    /// Why a removal is not to begin now; where it may, its pods count as moving from here on.
    pub(crate) fn refuses(
        &mut self,
        round: &Round<'_>,
        supply: &mut Supply,
        node: &Unneeded<'_>,
        all: &[Unneeded<'_>],
    ) -> Option<Reason> {
        let spot = supply.spot(node.candidate.name).filter(|spot| spot.0 < supply.ready_end)?;
        if round.planted.has(PlantedBug::NoPlaceForPods) || self.all_at_once(round, supply, all) {
            return None;
        }
        if self.asked >= MOST_PROOFS {
            return Some(Reason::PlaceNotAssured { pod: node.moving.first()?.key.clone() });
        }
        self.asked += 1;
        let (mut movers, mut leaving) = (self.movers.clone(), self.leaving.clone());
        move_off(round, supply, node, &mut movers);
        leaving.insert(spot);
        let proof = self.proof.get_or_insert_with(|| Assurance::of(supply));
        let Some(shape) = proof.doubtful(&supply.room, &movers, &leaving) else {
            (self.movers, self.leaving) = (movers, leaving);
            return None;
        };
        if let Some(pod) = node.moving.iter().find(|pod| pod.shape == shape) {
            return Some(Reason::PlaceNotAssured { pod: pod.key.clone() });
        }
        let of = supply.headroom_on(spot).first().and_then(|(class, _)| supply.headroom_of(*class));
        Some(of.map_or(Reason::PodsAreWaiting, |of| Reason::HoldsHeadroom { of: of.clone() }))
    }

    fn all_at_once(&mut self, round: &Round<'_>, supply: &mut Supply, all: &[Unneeded<'_>]) -> bool {
        if let Some(known) = self.all {
            return known;
        }
        let (mut movers, mut leaving) = (self.movers.clone(), self.leaving.clone());
        for node in all {
            move_off(round, supply, node, &mut movers);
            leaving.extend(supply.spot(node.candidate.name));
        }
        let proof = self.proof.get_or_insert_with(|| Assurance::of(supply));
        let assured = proof.doubtful(&supply.room, &movers, &leaving).is_none();
        self.all = Some(assured);
        assured
    }
}

fn move_off(round: &Round<'_>, supply: &mut Supply, node: &Unneeded<'_>, movers: &mut Movers) {
    for pod in node.moving.iter().filter(|pod| drain_rules::needs_place(round, pod)) {
        movers.seek(class_of(&mut supply.room, pod), 1);
    }
}
