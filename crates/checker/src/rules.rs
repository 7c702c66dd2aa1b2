//! Purchases for rules, and the floors that rules hold: from the rules, the clock and the cluster alone.
//!
//! Owns the second opinion on whether a rule could have asked: a schedule whose time has come and was not served, a
//! rate over its threshold, a floor over the pool's size. A time that is served must not stay due.

use crate::plan::Case;
use cron::{Dialect, Schedule, Window, WindowState};
use jiff::tz::TimeZone;
use model::{
    AlertDemand, Buy, NodeRule, Pool, PoolId, RateMetric, Resources, RuleAction, RuleSet, RuleSetKey,
    RuleSize, RuleTrigger,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a purchase says that it is for.
pub(crate) struct Claimed<'a> {
    pub set: &'a RuleSetKey,
    pub rule: &'a Arc<str>,
    pub nodes: u32,
}

/// What is wrong with buying for a rule; nothing where the rule could have asked for it.
pub(crate) fn objection(case: &Case<'_>, buy: &Buy, claimed: &Claimed<'_>) -> Option<String> {
    let set = case.cluster.rule_sets().get(claimed.set)?;
    let pool = case.cluster.pools().get(&buy.pool)?;
    if set.disabled || set.dry_run || set.problem.is_some() || !is_target(set, pool) {
        return Some("its object is switched off, in dry run, wrong, or not about this pool".into());
    }
    let rule = set.rules.iter().find(|rule| rule.name == *claimed.rule && !rule.disabled);
    let Some(rule) = rule else { return Some("there is no such rule, or it is switched off".into()) };
    match &rule.when {
        RuleTrigger::Cron { schedule, action } => {
            let RuleAction::Add(size) = action else { return Some("it removes nodes".into()) };
            let present = u32::try_from(nodes_of(case, &buy.pool).count()).unwrap_or(u32::MAX);
            if size.of(present.max(pool.target)).is_some_and(|most| claimed.nodes > most.max(1)) {
                return Some(format!("{} nodes are more than it asks for", claimed.nodes));
            }
            time_objection(case, set, rule, schedule, &buy.pool)
        }
        RuleTrigger::Rate { metric, threshold_percent, action } => {
            let RuleAction::Add(size) = action else { return Some("it removes nodes".into()) };
            let percent = threshold_percent.unwrap_or(case.policies.rules_default_target_percent);
            rate_objection(case, pool, *metric, percent, *size, claimed.nodes)
        }
        RuleTrigger::Alert { labels, action, .. } => {
            let RuleAction::Add(_) = action else { return Some("it removes nodes".into()) };
            alert_objection(case, set, rule, labels, &buy.pool)
        }
        RuleTrigger::Floor { .. } => {
            let floor = floor(case, pool);
            (buy.to > floor).then(|| format!("grows to {}, and the floor is {floor}", buy.to))
        }
    }
}

fn is_target(set: &RuleSet, pool: &Pool) -> bool {
    let id = pool.id.as_str();
    let own = id.split_once('/').map(|(_, own)| own);
    set.targets.iter().any(|name| **name == *id || *name == pool.name || own == Some(&**name))
}

fn zone(case: &Case<'_>, set: &RuleSet) -> Option<TimeZone> {
    let name = set.time_zone.as_deref().unwrap_or(&case.policies.rules_time_zone);
    cron::time_zone(name, &TimeZone::UTC).ok()
}

/// The time was due before or has come since, and is not due any more.
fn time_objection(
    case: &Case<'_>,
    set: &RuleSet,
    rule: &NodeRule,
    schedule: &str,
    pool: &PoolId,
) -> Option<String> {
    let zone = zone(case, set)?;
    let schedule = Schedule::parse(schedule, &Dialect::NODE_RULES, &zone).ok()?;
    let before = case.before.rules.get(&set.key).and_then(|rules| rules.get(&rule.name));
    let after = case.decision.ledger.rules.get(&set.key).and_then(|rules| rules.get(&rule.name));
    let was_due = before.is_some_and(|memory| memory.due.contains_key(pool));
    let seen = before.and_then(|memory| memory.seen_until).unwrap_or(set.created_at);
    let newest = schedule.last_until(case.now);
    let has_come = newest.is_some_and(|newest| newest > seen);
    if !was_due && !has_come {
        return Some("none of its times has come".into());
    }
    let again = after.is_none_or(|memory| {
        memory.due.contains_key(pool) || newest.is_some_and(|newest| memory.seen_until < Some(newest))
    });
    again.then(|| "its time would be served again".into())
}

/// An alert has come that was not taken before, or was due; and it is not due any more.
fn alert_objection(
    case: &Case<'_>,
    set: &RuleSet,
    rule: &NodeRule,
    labels: &BTreeMap<Arc<str>, Arc<str>>,
    pool: &PoolId,
) -> Option<String> {
    let before = case.before.rules.get(&set.key).and_then(|rules| rules.get(&rule.name));
    let after = case.decision.ledger.rules.get(&set.key).and_then(|rules| rules.get(&rule.name));
    let is_new = |alert: &&Arc<AlertDemand>| {
        let known = before.and_then(|memory| memory.alerts.get(&alert.fingerprint));
        known.is_none_or(|known| *known < alert.starts_at)
    };
    let mut alerts = case.cluster.alerts().iter().filter(|alert| alert.has(labels)).filter(is_new);
    let was_due = before.is_some_and(|memory| memory.due.contains_key(pool));
    if !was_due && alerts.next().is_none() {
        return Some("no new alert has come".into());
    }
    after.is_none_or(|memory| memory.due.contains_key(pool)).then(|| "it would be served again".into())
}

fn nodes_of<'c>(case: &'c Case<'_>, pool: &'c PoolId) -> impl Iterator<Item = &'c model::Node> {
    let nodes = case.cluster.nodes().values();
    let ours = |node: &&Arc<model::Node>| {
        let machine = case.cluster.machine_of(node);
        let alive = machine.filter(|machine| machine.state != model::MachineState::Deleting);
        alive.is_some_and(|machine| machine.pool == *pool) && !node.deleting
    };
    nodes.filter(ours).map(|node| &**node)
}

fn part(metric: RateMetric, of: &Resources) -> u128 {
    u128::from(match metric {
        RateMetric::Cpu => of.cpu.0,
        RateMetric::Memory => of.memory.0,
    })
}

fn rate_objection(
    case: &Case<'_>,
    pool: &Pool,
    metric: RateMetric,
    percent: u32,
    size: RuleSize,
    nodes: u32,
) -> Option<String> {
    let (mut asked, mut offered, mut present) = (0, 0, 0);
    for node in nodes_of(case, &pool.id) {
        present += 1;
        offered += part(metric, &node.allocatable);
        let pods = case.cluster.pods_on(&node.name).filter(|pod| pod.occupies());
        asked += pods.map(|pod| part(metric, &pod.shape.requests)).sum::<u128>();
    }
    let over = |offered: u128| asked * 100 > u128::from(percent) * offered;
    if present == 0 || !over(offered) {
        return Some(format!("{asked} of {offered} is not over {percent} %"));
    }
    match size {
        RuleSize::Computed => {
            let one = part(metric, &pool.template.as_ref()?.allocatable);
            let with_one_less = offered + one * u128::from(nodes.saturating_sub(1));
            let enough = asked * 100 < u128::from(percent) * with_one_less;
            // What DaemonSets take of new nodes is not looked at here.
            (enough && case.cluster.daemon_sets().is_empty())
                .then(|| format!("one node less than {nodes} would do"))
        }
        size => {
            let most = size.of(present).unwrap_or(0).max(1);
            (nodes > most).then(|| format!("{nodes} nodes are more than it asks for"))
        }
    }
}

/// The least that rules hold of a pool now, within its maximum.
pub(crate) fn floor(case: &Case<'_>, pool: &Pool) -> u32 {
    let mut least = 0;
    let followed = |set: &&Arc<RuleSet>| !set.disabled && !set.dry_run && set.problem.is_none();
    for set in case.cluster.rule_sets().values().filter(followed) {
        let Some(zone) = zone(case, set).filter(|_| is_target(set, pool)) else { continue };
        for rule in set.rules.iter().filter(|rule| !rule.disabled) {
            let RuleTrigger::Floor { start, end, nodes, otherwise } = &rule.when else { continue };
            let Ok(window) = Window::parse(start, end, &Dialect::NODE_RULES, &zone) else { continue };
            let open = matches!(window.at(case.now), WindowState::Open { .. });
            least = least.max(if open { *nodes } else { *otherwise });
        }
    }
    least.min(pool.max)
}
