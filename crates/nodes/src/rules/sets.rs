//! Rule sets as a round sees them: zones and schedules read, targets found, verdicts begun.
//!
//! Owns what is said of a set as a whole, and forgetting what is remembered of rules that are gone.

use super::NEXT_RUNS;
use crate::fleet::Fleet;
use crate::freshness::Freshness;
use crate::round::Round;
use cron::{Dialect, Schedule, Window};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::{
    NodeRule, PoolId, RateMetric, RuleAction, RuleMemory, RuleReason, RuleSet, RuleSetKey, RuleSetVerdict,
    RuleTrigger, RuleVerdict,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a rule waits for, read.
pub(super) enum Trigger {
    Cron { schedule: Schedule, zone: Arc<str>, action: RuleAction },
    Rate { metric: RateMetric, threshold_percent: u32, action: RuleAction },
    Floor { window: Window, nodes: u32, otherwise: u32 },
    Alert { labels: BTreeMap<Arc<str>, Arc<str>>, interval: SignedDuration, action: RuleAction },
    Unreadable(Arc<str>),
}

pub(super) struct RuleView {
    pub name: Arc<str>,
    /// Neither the rule nor its set is switched off, and everything that it rests on is up to date.
    pub active: bool,
    pub disabled: bool,
    pub trigger: Trigger,
    pub verdict: RuleVerdict,
}

pub(super) struct SetView {
    pub set: Arc<RuleSet>,
    pub pools: Vec<PoolId>,
    pub rules: Vec<RuleView>,
    verdict: RuleSetVerdict,
}

/// The zone of a set's schedules, by name.
pub(super) fn zone_name(round: &Round<'_>, set: &RuleSet) -> Arc<str> {
    let given = set.time_zone.clone().unwrap_or_else(|| Arc::from(round.policies.rules_time_zone.as_str()));
    if given.is_empty() { Arc::from("UTC") } else { given }
}

pub(super) fn views(round: &Round<'_>, fleet: &Fleet) -> Vec<SetView> {
    let sets = round.cluster.rule_sets().values();
    sets.map(|set| view(round, fleet, set)).collect()
}

fn view(round: &Round<'_>, fleet: &Fleet, set: &Arc<RuleSet>) -> SetView {
    let zone = zone_name(round, set);
    let (mut pools, mut unknown) = (Vec::new(), Vec::new());
    for target in &set.targets {
        let named = fleet.pools.values().filter(|account| is_named(account, target));
        let found: Vec<PoolId> = named.map(|account| account.pool.id.clone()).collect();
        if found.is_empty() {
            unknown.push(Arc::clone(target));
        }
        pools.extend(found);
    }
    pools.sort();
    pools.dedup();
    let rules = set.rules.iter().map(|rule| rule_view(round, set, rule, &zone)).collect();
    let verdict = RuleSetVerdict {
        generation: set.generation,
        problem: set.problem.clone(),
        disabled: set.disabled,
        dry_run: set.dry_run,
        time_zone: zone,
        unknown_pools: unknown,
        rules: Vec::new(),
    };
    SetView { set: Arc::clone(set), pools, rules, verdict }
}

/// A pool answers to its id, with and without its provider, and to its name.
pub(super) fn is_named(account: &crate::fleet::PoolAccount, target: &str) -> bool {
    let (id, name) = (account.pool.id.as_str(), &*account.pool.name);
    id == target || name == target || id.split_once('/').is_some_and(|(_, own)| own == target)
}

fn rule_view(round: &Round<'_>, set: &RuleSet, rule: &NodeRule, zone: &Arc<str>) -> RuleView {
    let disabled = set.disabled || rule.disabled;
    let verdict = RuleVerdict::new(Arc::clone(&rule.name));
    let trigger = trigger(round, rule, zone).unwrap_or_else(|why| Trigger::Unreadable(Arc::from(why)));
    RuleView { name: Arc::clone(&rule.name), active: !disabled, disabled, trigger, verdict }
}

fn trigger(round: &Round<'_>, rule: &NodeRule, zone: &Arc<str>) -> Result<Trigger, String> {
    let time_zone = cron::time_zone(zone, &TimeZone::UTC).map_err(|error| error.to_string())?;
    match &rule.when {
        RuleTrigger::Cron { schedule, action } => {
            let schedule = Schedule::parse(schedule, &Dialect::NODE_RULES, &time_zone);
            let schedule = schedule.map_err(|error| error.to_string())?;
            Ok(Trigger::Cron { schedule, zone: Arc::clone(zone), action: *action })
        }
        RuleTrigger::Rate { metric, threshold_percent, action } => {
            let threshold_percent = threshold_percent.unwrap_or(round.policies.rules_default_target_percent);
            Ok(Trigger::Rate { metric: *metric, threshold_percent, action: *action })
        }
        RuleTrigger::Alert { labels, interval, action } => {
            Ok(Trigger::Alert { labels: labels.clone(), interval: *interval, action: *action })
        }
        RuleTrigger::Floor { start, end, nodes, otherwise } => {
            let window = window(start, end, &time_zone)?;
            Ok(Trigger::Floor { window, nodes: *nodes, otherwise: *otherwise })
        }
    }
}

pub(super) fn window(start: &str, end: &str, zone: &TimeZone) -> Result<Window, String> {
    Window::parse(start, end, &Dialect::NODE_RULES, zone).map_err(|error| error.to_string())
}

impl SetView {
    /// What goes for all of its rules, or for one whatever its pools are like.
    pub(super) fn say_of_all(&mut self, fresh: &Freshness) {
        for rule in &mut self.rules {
            let reason = match &rule.trigger {
                _ if rule.disabled => Some(RuleReason::Disabled),
                Trigger::Unreadable(why) => Some(RuleReason::InvalidSchedule { why: Arc::clone(why) }),
                _ if !fresh.node_rules => Some(RuleReason::NotFresh),
                _ => None,
            };
            rule.active = reason.is_none();
            rule.verdict.reason = reason;
        }
    }

    pub(super) fn conclude(self, round: &mut Round<'_>) -> (RuleSetKey, RuleSetVerdict) {
        let (set, mut verdict) = (self.set, self.verdict);
        for rule in self.rules {
            let mut said = rule.verdict;
            if let Some(memory) = round.ledger.rules.get(&set.key).and_then(|rules| rules.get(&rule.name)) {
                said.last_run = memory.last_run;
                said.last_nodes = memory.last_nodes;
                said.missed = memory.missed;
                said.last_missed = memory.last_missed;
            }
            if !rule.disabled {
                said.next_runs = next_runs(&rule.trigger, round.now);
            }
            if let Some(next) = said.next_runs.first() {
                round.wake(*next);
            }
            verdict.rules.push(said);
        }
        (set.key.clone(), verdict)
    }
}

/// The next times of a rule's schedule, or of its window's opening and closing.
fn next_runs(trigger: &Trigger, now: Timestamp) -> Vec<Timestamp> {
    match trigger {
        Trigger::Cron { schedule, .. } => schedule.after(now).take(NEXT_RUNS).collect(),
        Trigger::Floor { window, .. } => {
            let mut next: Vec<_> = window.start.after(now).take(NEXT_RUNS).collect();
            next.extend(window.end.after(now).take(NEXT_RUNS));
            next.sort();
            next.dedup();
            next.truncate(NEXT_RUNS);
            next
        }
        Trigger::Rate { .. } | Trigger::Alert { .. } | Trigger::Unreadable(_) => Vec::new(),
    }
}

/// Forgets what is remembered of rules that are gone, as far as it is certain that they are.
pub(super) fn forget(round: &mut Round<'_>, fresh: &Freshness) {
    if !fresh.node_rules || round.ledger.rules.is_empty() {
        return;
    }
    let sets = round.cluster.rule_sets();
    round.ledger.rules.retain(|key, rules| {
        let Some(set) = sets.get(key) else { return false };
        rules.retain(|name, _| set.rules.iter().any(|rule| rule.name == *name) || set.problem.is_some());
        !rules.is_empty()
    });
}

/// What is remembered of a rule; begun where nothing is.
pub(super) fn memory<'r>(round: &'r mut Round<'_>, set: &RuleSetKey, rule: &Arc<str>) -> &'r mut RuleMemory {
    round.ledger.rules.entry(set.clone()).or_default().entry(Arc::clone(rule)).or_default()
}
