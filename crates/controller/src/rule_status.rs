//! The status of objects that hold node rules: what each rule did, will do next, or why it does nothing.
//!
//! Owns its form and when it is written: on change only, and each object not more often than an interval. What a rule
//! does is decided in `nodes`; the sentences are the model's.

use api::node_rules::{
    HorizontalNodeAutoscalerStatus, RulePoolStatus, RuleStatus,
    conditions::{READY, TARGETS_FOUND, THRESHOLDS_SOUND},
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use model::{Cluster, RuleReason, RuleSetKey, RuleSetVerdict, RuleVerdict, Verdicts};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One object is written at most once in this time.
const INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// Objects whose status is kept; more are left without.
const MOST_SETS: usize = 1000;

/// A status as it goes out.
#[derive(Debug)]
pub(crate) struct RuleStatusWrite {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) body: Value,
}

struct Written {
    status: HorizontalNodeAutoscalerStatus,
    at: Timestamp,
}

/// Keeps the statuses current.
#[derive(Default)]
pub(crate) struct RuleStatuses {
    written: BTreeMap<RuleSetKey, Written>,
    due: Option<Timestamp>,
}

impl RuleStatuses {
    /// When the next write may be made; `None` while there is nothing to write.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// What is to be written now; what has to wait sets the time at which it is asked for again.
    pub(crate) fn news(
        &mut self,
        cluster: &Cluster,
        verdicts: &Verdicts,
        now: Timestamp,
    ) -> Vec<RuleStatusWrite> {
        self.due = None;
        self.written.retain(|key, _| cluster.rule_sets().contains_key(key));
        let mut writes = Vec::new();
        for (key, verdict) in verdicts.rules.iter().take(MOST_SETS) {
            let old = self.written.get(key);
            let status = status(verdict, old.map(|written| &written.status), now);
            if old.is_some_and(|old| old.status == status) {
                continue;
            }
            let earliest = old.and_then(|old| old.at.checked_add(INTERVAL).ok()).filter(|at| *at > now);
            if let Some(at) = earliest {
                self.due = Some(self.due.map_or(at, |due| due.min(at)));
                continue;
            }
            writes.push(RuleStatusWrite {
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                body: json!({"status": whole(&status)}),
            });
            self.written.insert(key.clone(), Written { status, at: now });
        }
        writes
    }
}

/// With what is not there said to be null, so that a merge takes it away.
fn whole(status: &HorizontalNodeAutoscalerStatus) -> Value {
    let mut value = json!(status);
    for field in ["lastRun", "nextRun", "summary", "timeZone", "observedGeneration", "rules"] {
        if value.get(field).is_none() {
            value[field] = Value::Null;
        }
    }
    value
}

fn status(
    verdict: &RuleSetVerdict,
    old: Option<&HorizontalNodeAutoscalerStatus>,
    now: Timestamp,
) -> HorizontalNodeAutoscalerStatus {
    let zone = cron::time_zone(&verdict.time_zone, &TimeZone::UTC).unwrap_or(TimeZone::UTC);
    let rules: Vec<RuleStatus> = verdict.rules.iter().map(|rule| rule_status(rule, &zone)).collect();
    let next = verdict.rules.iter().filter_map(|rule| rule.next_runs.first()).min();
    let last = verdict.rules.iter().filter_map(|rule| rule.last_run).max();
    HorizontalNodeAutoscalerStatus {
        observed_generation: Some(verdict.generation),
        time_zone: Some(verdict.time_zone.to_string()),
        last_run: last.map(|at| Time(whole_second(at))),
        next_run: next.map(|at| local(*at, &zone)),
        summary: summary(verdict),
        rules,
        conditions: conditions(verdict, old.map_or(&[], |old| &old.conditions), now),
    }
}

fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn rule_status(rule: &RuleVerdict, zone: &TimeZone) -> RuleStatus {
    let pools = rule.pools.iter().map(|(pool, reason)| RulePoolStatus {
        pool: pool.to_string(),
        reason: reason.code().to_owned(),
        message: reason.to_string(),
    });
    RuleStatus {
        rule_name: rule.name.to_string(),
        last_run: rule.last_run.map(|at| Time(whole_second(at))),
        last_nodes: rule.last_run.and_then(|_| i32::try_from(rule.last_nodes).ok()),
        next_runs: rule.next_runs.iter().map(|at| local(*at, zone)).collect(),
        missed: (rule.missed > 0).then(|| i32::try_from(rule.missed).unwrap_or(i32::MAX)),
        last_missed: rule.last_missed.map(|at| Time(whole_second(at))),
        reason: rule.reason.as_ref().map(|reason| reason.code().to_owned()),
        message: rule.reason.as_ref().map(ToString::to_string),
        pools: pools.collect(),
    }
}

/// The first thing that keeps a rule from acting.
fn summary(verdict: &RuleSetVerdict) -> Option<String> {
    if let Some(problem) = &verdict.problem {
        return Some(problem.to_string());
    }
    if verdict.disabled {
        return Some("the object is switched off".to_owned());
    }
    if let Some(pool) = verdict.unknown_pools.first() {
        return Some(format!("{pool} is no pool that is known"));
    }
    verdict.rules.iter().find_map(|rule| {
        let reasons = rule.reason.iter().chain(rule.pools.values());
        let mut hindering = reasons.filter(|reason| hinders(reason));
        hindering.next().map(|reason| format!("{}: {}: {reason}", rule.name, reason.code()))
    })
}

/// Whether a reason is one to be looked at, and not the ordinary course of things.
fn hinders(reason: &RuleReason) -> bool {
    !matches!(
        reason,
        RuleReason::Added { .. }
            | RuleReason::Removing { .. }
            | RuleReason::WouldAdd { .. }
            | RuleReason::WouldRemove { .. }
            | RuleReason::Disabled
            | RuleReason::NotDue
            | RuleReason::NoAlert
            | RuleReason::NotFiring { .. }
            | RuleReason::FloorHeld { .. }
            | RuleReason::FloorAwaited { .. }
            | RuleReason::LargerRule { .. }
    )
}

fn conditions(verdict: &RuleSetVerdict, old: &[Condition], now: Timestamp) -> Vec<Condition> {
    let invalid = verdict.rules.iter().find_map(|rule| match &rule.reason {
        Some(RuleReason::InvalidSchedule { why }) => Some(format!("{}: {why}", rule.name)),
        _ => None,
    });
    let ready = match (&verdict.problem, invalid) {
        (Some(problem), _) => (false, "InvalidObject", problem.to_string()),
        (None, _) if verdict.disabled => (false, "Disabled", "the object is switched off".to_owned()),
        (None, Some(why)) => (false, "InvalidSchedule", why),
        (None, None) if verdict.dry_run => (true, "DryRun", "what would be done is only said".to_owned()),
        (None, None) => (true, "Followed", "every rule is followed".to_owned()),
    };
    let unknown = verdict.unknown_pools.join(", ");
    let found = if unknown.is_empty() {
        (true, "Found", "every target is a pool".to_owned())
    } else {
        (false, "UnknownPool", format!("no pool has the id or name {unknown}"))
    };
    let low = verdict.rules.iter().find_map(|rule| Some((&rule.name, rule.removal_threshold_percent?)));
    let sound = match low {
        None => (true, "Sound", "no rule's threshold is in the way of scale-down".to_owned()),
        Some((rule, percent)) => {
            let why = format!(
                "nodes used less than {percent} % are removed, and {rule} adds nodes at a threshold no higher: \
                 what it adds may go again; set metricValue over {percent}"
            );
            (false, "UnderScaleDownThreshold", why)
        }
    };
    [(READY, ready), (TARGETS_FOUND, found), (THRESHOLDS_SOUND, sound)]
        .into_iter()
        .map(|(kind, (holds, reason, message))| {
            let status = if holds { "True" } else { "False" };
            let before = old.iter().find(|known| known.type_ == kind && known.status == status);
            let since = before.map_or(Time(whole_second(now)), |known| known.last_transition_time.clone());
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                last_transition_time: since,
                observed_generation: Some(verdict.generation),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Change, RuleSet};
    use std::sync::Arc;

    fn cluster(key: &RuleSetKey) -> Cluster {
        let set = RuleSet {
            key: key.clone(),
            uid: "u".into(),
            generation: 1,
            created_at: Timestamp::UNIX_EPOCH,
            disabled: false,
            dry_run: false,
            time_zone: None,
            targets: Vec::new(),
            rules: Vec::new(),
            ran: BTreeMap::new(),
            problem: None,
        };
        let mut cluster = Cluster::default();
        cluster.apply(Change::RuleSet(key.clone(), Some(Arc::new(set))));
        cluster
    }

    fn verdicts(key: &RuleSetKey, rate_percent: u32) -> Verdicts {
        let mut rule = RuleVerdict::new("busy".into());
        let quiet = RuleReason::NotFiring { rate_percent, threshold_percent: 70 };
        rule.pools.insert("simulated/a".into(), quiet);
        rule.next_runs = vec![Timestamp::UNIX_EPOCH];
        let verdict = RuleSetVerdict {
            generation: 1,
            time_zone: "Asia/Shanghai".into(),
            unknown_pools: vec!["nowhere".into()],
            rules: vec![rule],
            ..RuleSetVerdict::default()
        };
        Verdicts { rules: BTreeMap::from([(key.clone(), verdict)]), ..Verdicts::default() }
    }

    #[test]
    fn a_status_is_written_on_change_and_not_too_often() {
        let key = RuleSetKey::new("kube-system", "a");
        let (cluster, start) = (cluster(&key), Timestamp::UNIX_EPOCH);
        let mut statuses = RuleStatuses::default();
        let first = statuses.news(&cluster, &verdicts(&key, 10), start);
        assert_eq!(first.len(), 1);
        let body = &first[0].body["status"];
        assert_eq!(body["nextRun"], "1970-01-01T08:00:00+08:00");
        assert_eq!(body["rules"][0]["pools"][0]["reason"], "NotFiring");
        assert_eq!(body["conditions"][1]["reason"], "UnknownPool");
        assert_eq!(body["summary"], "nowhere is no pool that is known");
        assert!(statuses.news(&cluster, &verdicts(&key, 10), start).is_empty());
        assert_eq!(statuses.due(), None);
        assert!(statuses.news(&cluster, &verdicts(&key, 11), start).is_empty());
        let due = statuses.due().unwrap();
        assert_eq!(due, start + INTERVAL);
        let later = statuses.news(&cluster, &verdicts(&key, 11), due);
        let since = &later[0].body["status"]["conditions"][0]["lastTransitionTime"];
        assert_eq!(since, "1970-01-01T00:00:00Z");
        assert!(statuses.news(&Cluster::default(), &Verdicts::default(), due).is_empty());
    }
}
