//! What moving the pods of a direct pool must save before its machines are taken away or replaced.
//!
//! Owns the measure: what is saved for each pod that moves, against what a pod of the pool costs on average. `Balanced`
//! pools ask for half of that, which is Karpenter's threshold put otherwise (the share of the cost that is saved, over the
//! share of the pods that move); others for what the policies say. Empty machines move nothing and are not asked.

use crate::disruption::moving;
use crate::fleet::{Fleet, NodeState};
use crate::round::{Round, after};
use jiff::SignedDuration;
use model::{Consolidation, DirectMachine, MicroUsdPerHour, NodeName, PoolId, Reason, Unworthy};
use packing::Hurdle;
use std::collections::BTreeMap;

/// What a pool with the policy `Balanced` asks for.
const BALANCED_PERMILLE: u64 = 500;
/// For so long a machine is new: whoever waits is still coming to rest on it, and replacing it asks for as much.
const NEW: SignedDuration = SignedDuration::from_mins(10);

/// The hurdle of each direct pool that has machines.
pub(crate) struct Worth(BTreeMap<PoolId, Hurdle>);

impl Worth {
    /// All initialised machines count, with the pods that would move if they went.
    pub(crate) fn of(round: &Round<'_>, fleet: &Fleet) -> Self {
        let mut hurdles: BTreeMap<PoolId, Hurdle> = BTreeMap::new();
        for (name, node) in fleet.direct_nodes().filter(|(_, node)| node.state == NodeState::Ready) {
            let Some(machine) = &node.machine else { continue };
            let Some(direct) = &machine.direct else { continue };
            let hurdle = hurdles.entry(machine.pool.clone()).or_default();
            hurdle.price = hurdle.price.saturating_add(direct.flavour.price.0);
            hurdle.pods += moving(round, name).len() as u64;
        }
        for (id, hurdle) in &mut hurdles {
            let pool = fleet.pools.get(id).and_then(|account| account.pool.direct());
            let balanced =
                pool.is_some_and(|pool| pool.spec().disruption.consolidation == Consolidation::Balanced);
            let usual = u64::from(round.policies.consolidation_score_percent) * 10;
            hurdle.least_permille = if balanced { BALANCED_PERMILLE } else { usual };
        }
        Self(hurdles)
    }

    pub(crate) fn hurdle(&self, pool: &PoolId) -> Hurdle {
        self.0.get(pool).copied().unwrap_or_default()
    }

    /// What speaks against moving so many pods of a pool for a saving; a node without a price may always go.
    pub(crate) fn objection(&self, pool: &PoolId, saving: Saving) -> Option<Unworthy> {
        let hurdle = self.hurdle(pool);
        let too_little = saving.price > 0 && !hurdle.is_reached(saving.saved, u64::from(saving.pods), 0);
        too_little.then(|| self.unworthy(pool, saving, 0))
    }

    /// What there is to say of a move that saves too little; `own` is what the node itself asks for.
    pub(crate) fn unworthy(&self, pool: &PoolId, saving: Saving, own: u64) -> Unworthy {
        let hurdle = self.hurdle(pool);
        let score = hurdle.score_permille(saving.saved, u64::from(saving.pods));
        let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Unworthy {
            saving: MicroUsdPerHour(saving.saved),
            price: MicroUsdPerHour(saving.price),
            nodes: saving.nodes,
            pods: saving.pods,
            score_permille: narrow(score),
            least_permille: narrow(hurdle.least_permille.max(own)),
        }
    }
}

/// What replacing a machine asks for by itself: more while it is new. Taking it away without a replacement does not.
pub(crate) fn of_new(round: &mut Round<'_>, direct: &DirectMachine) -> u64 {
    let since = direct.initialized_at.unwrap_or(round.now);
    if round.reached(after(since, NEW)) { 0 } else { BALANCED_PERMILLE }
}

/// What a move would save: of which price, by how many nodes that go and pods that move.
#[derive(Clone, Copy)]
pub(crate) struct Saving {
    pub saved: u64,
    pub price: u64,
    pub nodes: u32,
    pub pods: u32,
}

/// Says of nodes that stay because replacing them saves too little what the last search found.
pub(crate) fn say_declined<'n>(round: &mut Round<'_>, nodes: impl Iterator<Item = &'n NodeName>) {
    let Some(searched) = round.ledger.searched.clone() else { return };
    for name in nodes {
        if let Some(saves) = searched.declined.get(name) {
            round.say(name, Reason::NotWorthMoving { saves: *saves });
        }
    }
}
