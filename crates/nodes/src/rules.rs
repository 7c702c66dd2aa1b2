//! Rules that ask for nodes, or let nodes go, by the clock and by a pool's allocation rate.
//!
//! Owns their order in a round. Pods have been served before. Then floors, which hold what a schedule asks for; then
//! schedules whose time has come, and alerts; then rates, unless this round bought for pods. An order for a rule is an order like
//! any other: the same limits, back-off and ledger. A pool that grows is waited for by schedules, and drops what rates
//! say meanwhile. What is removed for a rule goes through `idle`, with every guard.

mod alert_rules;
mod cron_rules;
mod floors;
mod letting;
mod rate_rules;
mod rates;
mod sets;

pub(crate) use cron_rules::order_failed;
pub(crate) use floors::floor_of;
pub(crate) use letting::{allowed as may_let_go, took as let_one_go};

use crate::ceiling::Ceiling;
use crate::fleet::{Fleet, PoolAccount};
use crate::freshness::Freshness;
use crate::growth;
use crate::round::Round;
use crate::supply::Supply;
use model::{PoolId, PoolRejection, RuleReason, RuleSetKey, Serves};
use sets::SetView;
use std::sync::Arc;

/// The next times of a schedule that are said.
const NEXT_RUNS: usize = 3;

pub(crate) fn apply(round: &mut Round<'_>, fleet: &mut Fleet, fresh: &Freshness, supply: &mut Supply) {
    sets::forget(round, fresh);
    if round.cluster.rule_sets().is_empty() {
        return;
    }
    let pods_first = round.growth.machines.iter().any(|machine| !machine.pods.is_empty());
    let mut sets = sets::views(round, fleet);
    for set in &mut sets {
        set.say_of_all(fresh);
    }
    cron_rules::note_times(round, fresh, &mut sets);
    alert_rules::note(round, fresh, &sets);
    floors::hold(round, fleet, fresh, &mut sets);
    cron_rules::run(round, fleet, fresh, &mut sets);
    rate_rules::run(round, fleet, fresh, supply, &mut sets, pods_first);
    letting::expire(round);
    for set in sets {
        let (key, verdict) = set.conclude(round);
        round.verdicts.rules.insert(key, verdict);
    }
}

/// Whether machines are on their way, or an order or a giving back is open: the pool is "scaling".
fn is_growing(round: &Round<'_>, account: &PoolAccount) -> bool {
    account.upcoming() > 0 || account.giving_back || round.ledger.scale_ups.contains_key(&account.pool.id)
}

/// How many of the machines that are wanted a pool may grow by now, and why by none.
fn allowance(
    round: &Round<'_>,
    fleet: &Fleet,
    fresh: &Freshness,
    account: &PoolAccount,
    wanted: u32,
) -> Result<u32, RuleReason> {
    if account.pool.direct().is_some() {
        return Err(RuleReason::NotAGroup);
    }
    if let Some(rejection) = growth::pool_rejection(round, fleet, fresh, account) {
        return Err(RuleReason::Rejected { rejection });
    }
    let most = growth::limit_of(round, account).unwrap_or(u32::MAX);
    let all = round.policies.max_nodes_total;
    let left = if all == 0 { u32::MAX } else { all.saturating_sub(fleet.total_nodes()) };
    let most = most.min(left);
    let template = account.pool.template.as_ref();
    let Some(each) = template.map(|template| &template.allocatable) else { return Ok(most) };
    let mut ceiling = Ceiling::of(round, fleet);
    match (0..most.min(wanted)).take_while(|_| ceiling.admits(each)).count() {
        0 => Err(RuleReason::Rejected { rejection: PoolRejection::ResourceCeiling }),
        admitted => Ok(u32::try_from(admitted).unwrap_or(most)),
    }
}

/// Orders for a rule; answers what became of it.
fn order(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    fresh: &Freshness,
    pool: &PoolId,
    rule: (&RuleSetKey, &Arc<str>),
    wanted: u32,
) -> RuleReason {
    let Some(account) = fleet.pools.get(pool) else {
        return RuleReason::Rejected { rejection: PoolRejection::ProviderStale };
    };
    let nodes = match allowance(round, fleet, fresh, account, wanted) {
        Ok(nodes) => nodes,
        Err(reason) => return reason,
    };
    let rules = vec![(rule.0.clone(), Arc::clone(rule.1), nodes)];
    if let Some(account) = fleet.pools.get_mut(pool) {
        growth::place_order(round, account, nodes, Serves { rules, ..Serves::default() }, Vec::new());
        growth::note_machines(round, account, nodes);
    }
    RuleReason::Added { nodes, wanted }
}
