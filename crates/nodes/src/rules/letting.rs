//! Nodes that rules let go: a number of them, for a while.
//!
//! Owns the permission and its end. Which nodes go, and whether any may, is `idle`'s: every guard, limit and cool-down
//! holds, only the wait for being unneeded and the question whether scale-down is switched on do not.

use super::sets;
use crate::fleet::PoolAccount;
use crate::round::{Round, after};
use jiff::SignedDuration;
use model::{Letting, PoolId, PoolRejection, RuleReason, RuleSetKey};
use std::sync::Arc;

/// How long a permission holds; what could not go until then stays.
const WINDOW: SignedDuration = SignedDuration::from_mins(30);

/// Lets nodes of a pool go, unless some are going already.
pub(super) fn let_go(
    round: &mut Round<'_>,
    account: &PoolAccount,
    rule: (&RuleSetKey, &Arc<str>),
    wanted: u32,
) -> RuleReason {
    let pool = &account.pool.id;
    if account.pool.direct().is_some() {
        return RuleReason::NotAGroup;
    }
    if let Some(why) = &account.pool.frozen {
        return RuleReason::Rejected { rejection: PoolRejection::Frozen { why: Arc::clone(why) } };
    }
    if account.removals_in_flight > 0 {
        return RuleReason::NodesLeaving { nodes: account.removals_in_flight };
    }
    let nodes = wanted.min(account.removable());
    if nodes == 0 {
        return RuleReason::AtMinimum { min: account.pool.min };
    }
    let open = allowed(round, pool);
    if open > 0 {
        return RuleReason::Removing { nodes: open };
    }
    let (now, until) = (round.now, after(round.now, WINDOW));
    let memory = sets::memory(round, rule.0, rule.1);
    memory.letting.insert(pool.clone(), Letting { nodes, until });
    (memory.last_run, memory.last_nodes) = (Some(now), nodes);
    RuleReason::Removing { nodes }
}

/// How many nodes of a pool may still go by rules.
pub(crate) fn allowed(round: &Round<'_>, pool: &PoolId) -> u32 {
    let rules = round.ledger.rules.values().flat_map(|rules| rules.values());
    let open =
        rules.filter_map(|memory| memory.letting.get(pool)).filter(|letting| letting.until > round.now);
    open.fold(0, |sum, letting| sum.saturating_add(letting.nodes))
}

/// One of them goes.
pub(crate) fn took(round: &mut Round<'_>, pool: &PoolId) {
    let now = round.now;
    let rules = round.ledger.rules.values_mut().flat_map(|rules| rules.values_mut());
    let mut open = rules.filter_map(|memory| memory.letting.get_mut(pool));
    if let Some(letting) = open.find(|letting| letting.until > now && letting.nodes > 0) {
        letting.nodes -= 1;
    }
}

/// Ends what is used up, out of time, or of a rule that is switched off.
pub(super) fn expire(round: &mut Round<'_>) {
    let (now, sets) = (round.now, round.cluster.rule_sets());
    let mut ends = Vec::new();
    for (key, rules) in &mut round.ledger.rules {
        for (name, memory) in rules {
            let set = sets.get(key).filter(|set| !set.disabled && !set.dry_run);
            let on = set.is_some_and(|set| set.rules.iter().any(|rule| rule.name == *name && !rule.disabled));
            memory.letting.retain(|_, letting| on && letting.nodes > 0 && letting.until > now);
            ends.extend(memory.letting.values().map(|letting| letting.until));
        }
    }
    for end in ends {
        round.wake(end);
    }
}
