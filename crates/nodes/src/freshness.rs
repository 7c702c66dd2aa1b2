//! Which inputs are up to date, and so which causes may plan at all.
//!
//! A cause whose own input is stale or missing plans nothing and says why: a provider or API that fails makes us
//! wait, never guess.

use crate::round::Round;
use model::{Input, InputState, PoolId, Reason, RemovalPhase};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) struct Freshness {
    /// Nodes and pods: without them nothing is decided.
    pub cluster: bool,
    pub workloads: bool,
    pub daemon_sets: bool,
    pub budgets: bool,
    pub node_rules: bool,
    pub outlooks: bool,
    pub headroom: bool,
    stale_providers: BTreeSet<Arc<str>>,
}

impl Freshness {
    /// Looks at every input once and notes those that are not fresh among the verdicts of the round.
    pub(crate) fn of(round: &mut Round<'_>) -> Self {
        let nodes = fresh(round, Input::Nodes);
        let pods = fresh(round, Input::Pods);
        let workloads = fresh(round, Input::Workloads);
        let daemon_sets = fresh(round, Input::DaemonSets);
        let budgets = fresh(round, Input::Pdbs);
        if round.cluster.storage().is_used() {
            // Only pods with claims need these, and each of them says so itself.
            let _volumes = fresh(round, Input::Volumes);
            let _attachments = fresh(round, Input::Attachments);
        }
        // Where there are no rules nobody needs to hear of them.
        let node_rules = !round.cluster.rule_sets().is_empty() || !round.ledger.rules.is_empty();
        let node_rules = node_rules && fresh(round, Input::NodeRules);
        let outlooks = round.policies.ahead.enabled && fresh(round, Input::Outlooks);
        let headroom = !round.cluster.headroom().is_empty() && fresh(round, Input::Headroom);
        let providers: BTreeSet<Arc<str>> =
            pools_named(round).map(|pool| Arc::from(pool.provider())).collect();
        let stale_providers =
            providers.into_iter().filter(|name| !fresh(round, Input::Pools(Arc::clone(name)))).collect();
        Self {
            cluster: nodes && pods,
            workloads,
            daemon_sets,
            budgets,
            node_rules,
            outlooks,
            headroom,
            stale_providers,
        }
    }

    pub(crate) fn provider_of(&self, pool: &PoolId) -> bool {
        !self.stale_providers.contains(pool.provider())
    }

    /// Whether everything that a voluntary removal rests on is up to date.
    pub(crate) fn for_removal(&self) -> bool {
        self.cluster && self.workloads && self.daemon_sets && self.budgets
    }
}

/// Every pool that the cluster or the ledger names: what is remembered of a pool may not be dropped because its
/// provider has not been heard of yet.
fn pools_named<'r>(round: &'r Round<'_>) -> impl Iterator<Item = &'r PoolId> {
    let ledger = &round.ledger;
    let removals = ledger
        .removals
        .values()
        .filter(|removal| removal.phase != RemovalPhase::Undoing)
        .chain(ledger.orphans.values())
        .map(|removal| &removal.pool);
    round.cluster.pools().keys().chain(ledger.scale_ups.keys()).chain(ledger.back_offs.keys()).chain(removals)
}

fn fresh(round: &mut Round<'_>, input: Input) -> bool {
    let why = match round.cluster.input(&input) {
        Some(InputState::Fresh) => return true,
        Some(InputState::Stale { why, .. }) => Arc::clone(why),
        None => Arc::from("never heard of"),
    };
    round.verdicts.round.push(Reason::InputNotFresh { input, why });
    false
}
