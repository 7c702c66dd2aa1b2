//! Rules that act on a pool's allocation rate.
//!
//! Owns which of them fire, which wins a pool, and why the others do nothing. Each round measures anew: a rate that is
//! met while its pool grows is dropped, not kept for later.

use super::rates::{PoolSums, Rate};
use super::sets::{self, SetView, Trigger};
use super::{is_growing, letting, order};
use crate::fleet::{Fleet, PoolAccount};
use crate::freshness::Freshness;
use crate::round::Round;
use crate::supply::Supply;
use model::{PoolId, RateMetric, RuleAction, RuleReason, RuleSize};
use std::collections::BTreeMap;

/// A rule that fires for a pool: by its place, and with how many nodes.
struct Firing {
    set: usize,
    rule: usize,
    nodes: u32,
}

pub(super) fn run(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    fresh: &Freshness,
    supply: &mut Supply,
    views: &mut [SetView],
    pods_first: bool,
) {
    let mut sums: BTreeMap<PoolId, Result<PoolSums, RuleReason>> = BTreeMap::new();
    let mut firing: BTreeMap<PoolId, Vec<Firing>> = BTreeMap::new();
    for (at, view) in views.iter_mut().enumerate() {
        let dry_run = view.set.dry_run;
        for (number, rule) in view.rules.iter_mut().enumerate().filter(|(_, rule)| rule.active) {
            let Trigger::Rate { metric, threshold_percent, action } = &rule.trigger else { continue };
            for pool in &view.pools {
                let Some(account) = fleet.pools.get(pool) else { continue };
                let sums = sums.entry(pool.clone()).or_insert_with(|| PoolSums::of(round, fleet, account));
                let asked = Asked { metric: *metric, threshold_percent: *threshold_percent, action: *action };
                let fires = fires(round, supply, account, sums, &asked, pods_first);
                if matches!(action, RuleAction::Add(_)) {
                    let removal = removal_threshold(round, account);
                    let worst = rule.verdict.removal_threshold_percent.max(removal);
                    rule.verdict.removal_threshold_percent = worst.filter(|worst| threshold_percent <= worst);
                }
                match fires {
                    Err(reason) => drop(rule.verdict.pools.insert(pool.clone(), reason)),
                    Ok(nodes) if dry_run => {
                        let reason = match action {
                            RuleAction::Add(_) => RuleReason::WouldAdd { nodes },
                            RuleAction::Remove(_) => RuleReason::WouldRemove { nodes },
                        };
                        rule.verdict.pools.insert(pool.clone(), reason);
                    }
                    Ok(nodes) => {
                        firing.entry(pool.clone()).or_default().push(Firing { set: at, rule: number, nodes });
                    }
                }
            }
        }
    }
    for (pool, rules) in firing {
        act(round, fleet, fresh, views, &pool, rules);
    }
}

/// The share under which nodes of a pool go, where any go at all.
fn removal_threshold(round: &Round<'_>, account: &PoolAccount) -> Option<u32> {
    let own = account.pool.options.utilization_threshold_percent;
    round.policies.scale_down_enabled.then(|| own.unwrap_or(round.policies.utilization_threshold_percent))
}

struct Asked {
    metric: RateMetric,
    threshold_percent: u32,
    action: RuleAction,
}

/// How many nodes a rule asks for, or why for none.
fn fires(
    round: &Round<'_>,
    supply: &mut Supply,
    account: &PoolAccount,
    sums: &Result<PoolSums, RuleReason>,
    asked: &Asked,
    pods_first: bool,
) -> Result<u32, RuleReason> {
    if !account.fresh {
        return Err(RuleReason::NotFresh);
    }
    let sums = sums.as_ref().map_err(Clone::clone)?;
    let rate: Rate = sums.rate(round, account, supply, asked.metric)?;
    let threshold_percent = asked.threshold_percent;
    let quiet = RuleReason::NotFiring { rate_percent: rate.percent(), threshold_percent };
    let size = match asked.action {
        RuleAction::Add(_) if !rate.is_over(threshold_percent) => return Err(quiet),
        RuleAction::Remove(_) if !rate.is_under(threshold_percent) => return Err(quiet),
        RuleAction::Add(size) | RuleAction::Remove(size) => size,
    };
    if is_growing(round, account) {
        return Err(RuleReason::Dropped { rate_percent: rate.percent() });
    }
    if pods_first {
        return Err(RuleReason::PodsFirst);
    }
    match (asked.action, size) {
        (RuleAction::Add(_), RuleSize::Computed) => {
            rate.nodes_to_get_under(threshold_percent).ok_or(RuleReason::OutOfReach { threshold_percent })
        }
        (RuleAction::Add(_), size) => Ok(size.of(sums.nodes).unwrap_or(1).max(1)),
        (RuleAction::Remove(_), size) => {
            let most = size.of(sums.nodes).unwrap_or(1);
            match rate.nodes_to_spare(threshold_percent, most) {
                0 => Err(quiet),
                nodes => Ok(nodes),
            }
        }
    }
}

/// The largest increase wins; of equal ones the first set's, and there the first rule's. What adds goes before what
/// removes.
fn act(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    fresh: &Freshness,
    views: &mut [SetView],
    pool: &PoolId,
    mut rules: Vec<Firing>,
) {
    let adds = |views: &[SetView], firing: &Firing| {
        matches!(
            views[firing.set].rules[firing.rule].trigger,
            Trigger::Rate { action: RuleAction::Add(_), .. }
        )
    };
    rules.sort_by_key(|firing| {
        (!adds(views, firing), std::cmp::Reverse(firing.nodes), firing.set, firing.rule)
    });
    let mut rules = rules.into_iter();
    let Some(first) = rules.next() else { return };
    let (key, name) = (views[first.set].set.key.clone(), views[first.set].rules[first.rule].name.clone());
    let reason = if adds(views, &first) {
        order(round, fleet, fresh, pool, (&key, &name), first.nodes)
    } else if let Some(account) = fleet.pools.get(pool) {
        letting::let_go(round, account, (&key, &name), first.nodes)
    } else {
        RuleReason::NotFresh
    };
    let now = round.now;
    if let RuleReason::Added { nodes, .. } = &reason {
        let memory = sets::memory(round, &key, &name);
        (memory.last_run, memory.last_nodes) = (Some(now), *nodes);
    }
    views[first.set].rules[first.rule].verdict.pools.insert(pool.clone(), reason);
    for other in rules {
        let reason = RuleReason::LargerRule { rule: name.clone() };
        views[other.set].rules[other.rule].verdict.pools.insert(pool.clone(), reason);
    }
}
