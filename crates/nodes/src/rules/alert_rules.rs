//! Rules that wait for alerts.
//!
//! Owns which delivered alert counts: each once, by fingerprint and beginning, whatever the repeats and the order of
//! deliveries. From then on it is due like a time of a schedule, and `cron_rules` runs it.

use super::sets::{self, SetView, Trigger};
use crate::freshness::Freshness;
use crate::round::{Round, after};
use model::{AlertDemand, DueRun, RuleMemory};
use std::sync::Arc;

/// Alerts that a rule remembers; the one that began first is forgotten.
const MOST_ALERTS: usize = 64;

/// Makes rules due for which an alert has come.
pub(super) fn note(round: &mut Round<'_>, fresh: &Freshness, views: &[SetView]) {
    if !fresh.node_rules || round.cluster.alerts().is_empty() {
        return;
    }
    let alerts: Vec<Arc<AlertDemand>> = round.cluster.alerts().to_vec();
    for view in views {
        for rule in view.rules.iter().filter(|rule| rule.active) {
            let Trigger::Alert { labels, interval, .. } = &rule.trigger else { continue };
            for alert in alerts.iter().filter(|alert| alert.has(labels)) {
                let now = round.now;
                let memory = sets::memory(round, &view.set.key, &rule.name);
                let rests = memory.last_run.is_some_and(|last| after(last, *interval) > now);
                if !take(memory, alert) || rests {
                    continue;
                }
                for pool in &view.pools {
                    let run = DueRun { at: now, until: None, taken_at: None };
                    memory.due.entry(pool.clone()).or_insert(run);
                }
            }
        }
    }
}

/// Whether an alert is a new one; it is no more from here on.
fn take(memory: &mut RuleMemory, alert: &AlertDemand) -> bool {
    if memory.alerts.get(&alert.fingerprint).is_some_and(|known| *known >= alert.starts_at) {
        return false;
    }
    memory.alerts.insert(Arc::clone(&alert.fingerprint), alert.starts_at);
    if memory.alerts.len() > MOST_ALERTS {
        let oldest = memory.alerts.iter().min_by_key(|(name, at)| (**at, (*name).clone()));
        let oldest = oldest.map(|(name, _)| Arc::clone(name));
        oldest.map(|name| memory.alerts.remove(&name));
    }
    true
}
