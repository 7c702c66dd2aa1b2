//! Rules that act at the times of a schedule; those that an alert has made due run the same way.
//!
//! Owns which times have come, by pool, and what becomes of each: it runs once, is kept while its pool grows, waits
//! for a pool that cannot grow until its deadline, or is counted as missed. All of that is in the ledger, in the same
//! write as the order: a restart neither repeats a run nor loses one.

use super::sets::{self, RuleView, SetView, Trigger};
use super::{is_growing, letting, order};
use crate::fleet::Fleet;
use crate::freshness::Freshness;
use crate::round::{Round, after};
use cron::Schedule;
use jiff::Timestamp;
use model::{Buy, DueRun, PoolId, RuleAction, RuleMemory, RuleReason, RuleSet};
use std::sync::Arc;

/// Missed times of one outage that are counted one by one.
const MOST_MISSED: usize = 1000;

/// Looks for times that have come since the last look.
pub(super) fn note_times(round: &mut Round<'_>, fresh: &Freshness, views: &mut [SetView]) {
    if !fresh.node_rules {
        return;
    }
    for view in views {
        for rule in &view.rules {
            if let Trigger::Cron { schedule, zone, .. } = &rule.trigger {
                note(round, &view.set, &view.pools, rule, schedule, zone);
            }
        }
    }
}

fn note(
    round: &mut Round<'_>,
    set: &RuleSet,
    pools: &[PoolId],
    rule: &RuleView,
    schedule: &Schedule,
    zone: &Arc<str>,
) {
    let (now, deadline) = (round.now, round.policies.rules_missed_deadline);
    let text: Arc<str> = Arc::from(format!("{schedule} {zone}"));
    let known = round.ledger.rules.get(&set.key).and_then(|rules| rules.get(&rule.name));
    let mut memory = known.cloned().unwrap_or_default();
    if memory.schedule.as_ref() != Some(&text) {
        // What is new counts from when its object was made; where its ledger was lost, from its last run on.
        let begun = [Some(set.created_at), set.ran.get(&rule.name).copied()].into_iter().flatten().max();
        let from = if memory.schedule.is_some() { now } else { begun.unwrap_or(now).min(now) };
        memory.schedule = Some(text);
        memory.seen_until = Some(from);
        memory.due.clear();
    }
    let from = memory.seen_until.unwrap_or(now);
    if let Some(newest) = schedule.last_until(now).filter(|newest| *newest > from) {
        let passed = schedule.after(from).take_while(|at| *at <= newest).take(MOST_MISSED).count();
        memory.seen_until = Some(newest);
        if rule.disabled {
            memory.due.clear();
        } else {
            let runs = after(newest, deadline) >= now && !pools.is_empty();
            miss(&mut memory, passed.saturating_sub(usize::from(runs)), newest, runs, schedule);
            if runs {
                for pool in pools {
                    let run = DueRun { at: newest, until: None, taken_at: None };
                    if let Some(older) = memory.due.insert(pool.clone(), run) {
                        memory.missed = memory.missed.saturating_add(1);
                        memory.last_missed = memory.last_missed.max(Some(older.at));
                    }
                }
            }
        }
    }
    memory.due.retain(|pool, _| pools.contains(pool) && !rule.disabled);
    if known != Some(&memory) {
        *sets::memory(round, &set.key, &rule.name) = memory;
    }
}

/// Counts times that nobody acted on.
fn miss(memory: &mut RuleMemory, count: usize, newest: Timestamp, runs: bool, schedule: &Schedule) {
    if count == 0 {
        return;
    }
    memory.missed = memory.missed.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    let before = newest.checked_sub(jiff::SignedDuration::from_secs(1)).ok();
    let last = if runs { before.and_then(|at| schedule.last_until(at)) } else { Some(newest) };
    memory.last_missed = memory.last_missed.max(last);
}

/// Runs what is due, pool by pool.
pub(super) fn run(round: &mut Round<'_>, fleet: &mut Fleet, fresh: &Freshness, views: &mut [SetView]) {
    for view in views {
        let (set, pools) = (&view.set, &view.pools);
        for rule in view.rules.iter_mut().filter(|rule| rule.active) {
            let (action, idle) = match &rule.trigger {
                Trigger::Cron { action, .. } => (*action, RuleReason::NotDue),
                Trigger::Alert { action, .. } => (*action, RuleReason::NoAlert),
                _ => continue,
            };
            for pool in pools {
                let due = round.ledger.rules.get(&set.key).and_then(|rules| rules.get(&rule.name));
                let due = due.and_then(|memory| memory.due.get(pool)).copied();
                let reason = match due {
                    None => idle.clone(),
                    Some(due) => run_one(round, fleet, fresh, set, rule, pool, action, due),
                };
                rule.verdict.pools.insert(pool.clone(), reason);
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one run is one rule of one set for one pool at one time")]
fn run_one(
    round: &mut Round<'_>,
    fleet: &mut Fleet,
    fresh: &Freshness,
    set: &RuleSet,
    rule: &RuleView,
    pool: &PoolId,
    action: RuleAction,
    due: DueRun,
) -> RuleReason {
    let Some(account) = fleet.pools.get(pool) else { return RuleReason::NotDue };
    if account.fresh && due.taken_at.is_some_and(|size| account.pool.target >= size) {
        // The order that got no answer, or a bad one, was taken all the same.
        sets::memory(round, &set.key, &rule.name).due.remove(pool);
        return RuleReason::NotDue;
    }
    let (size, adds) = match action {
        RuleAction::Add(size) => (size, true),
        RuleAction::Remove(size) => (size, false),
    };
    let wanted = size.of(account.ready).unwrap_or(1).max(1);
    if set.dry_run {
        ran(round, set, rule, pool, wanted);
        return if adds {
            RuleReason::WouldAdd { nodes: wanted }
        } else {
            RuleReason::WouldRemove { nodes: wanted }
        };
    }
    if is_growing(round, account) {
        keep(round, set, rule, pool, DueRun { until: None, ..due });
        return RuleReason::WaitsForPool { due: due.at };
    }
    let reason = if adds {
        order(round, fleet, fresh, pool, (&set.key, &rule.name), wanted)
    } else {
        letting::let_go(round, account, (&set.key, &rule.name), wanted)
    };
    match &reason {
        RuleReason::Added { nodes, .. } | RuleReason::Removing { nodes } => {
            ran(round, set, rule, pool, *nodes);
            reason
        }
        RuleReason::NodesLeaving { .. } => {
            keep(round, set, rule, pool, DueRun { until: None, ..due });
            reason
        }
        _ => wait_or_miss(round, set, rule, pool, due, reason),
    }
}

/// A pool that cannot grow is waited for until the deadline, counted from the time itself or, where the pool was
/// growing then, from when it stopped.
fn wait_or_miss(
    round: &mut Round<'_>,
    set: &RuleSet,
    rule: &RuleView,
    pool: &PoolId,
    due: DueRun,
    reason: RuleReason,
) -> RuleReason {
    let deadline = round.policies.rules_missed_deadline;
    let until = due.until.unwrap_or_else(|| after(round.now.max(due.at), deadline));
    if round.reached(until) {
        let memory = sets::memory(round, &set.key, &rule.name);
        memory.due.remove(pool);
        memory.missed = memory.missed.saturating_add(1);
        memory.last_missed = memory.last_missed.max(Some(due.at));
        return RuleReason::Missed { at: due.at };
    }
    keep(round, set, rule, pool, DueRun { until: Some(until), ..due });
    reason
}

fn keep(round: &mut Round<'_>, set: &RuleSet, rule: &RuleView, pool: &PoolId, run: DueRun) {
    sets::memory(round, &set.key, &rule.name).due.insert(pool.clone(), run);
}

fn ran(round: &mut Round<'_>, set: &RuleSet, rule: &RuleView, pool: &PoolId, nodes: u32) {
    let now = round.now;
    let memory = sets::memory(round, &set.key, &rule.name);
    memory.due.remove(pool);
    (memory.last_run, memory.last_nodes) = (Some(now), nodes);
}

/// The provider refused an order, or never answered it: what a schedule or an alert asked for is due again.
pub(crate) fn order_failed(round: &mut Round<'_>, order: &Buy) {
    let now = round.now;
    for (set, rule, _) in &order.serves.rules {
        let memory = round.ledger.rules.get_mut(set).and_then(|rules| rules.get_mut(rule));
        let comes_once = |memory: &&mut RuleMemory| memory.schedule.is_some() || !memory.alerts.is_empty();
        if let Some(memory) = memory.filter(comes_once) {
            let at = memory.last_run.unwrap_or(now);
            let again = DueRun { at, until: None, taken_at: Some(order.to) };
            memory.due.entry(order.pool.clone()).or_insert(again);
        }
    }
}
