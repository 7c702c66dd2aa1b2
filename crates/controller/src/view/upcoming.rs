//! What time alone will bring: ends of waits, back-offs and deadlines, schedules, forecasts, drains, in the order of time.
//!
//! Owns what is worth telling beforehand. Nothing of it is sure: what is heard until then may change it.

use crate::wording::pool_name;
use cron::{Dialect, Schedule};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::{Cluster, Ledger, Outlook, OutlookSource, Reason, RemovalPhase, Verdicts};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Moments that are told.
const MOST: usize = 100;
/// Nodes named in one line.
const MOST_NAMED: usize = 2;
/// Moments told of one rule or one object that tells of pods to come.
const MOST_OF_ONE: usize = 4;
/// Rules and objects that are looked at.
const MOST_SOURCES: usize = 1000;

/// What kind of thing will come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpcomingKind {
    /// A wait of a node, pod or pool ends.
    #[default]
    Wait,
    /// A time of a schedule.
    Schedule,
    /// More or fewer pods are expected.
    Forecast,
    /// A step of a removal under way.
    Drain,
    /// Machines are ordered, or given up as not coming.
    Order,
    /// A pool that failed is asked again.
    BackOff,
}

/// One moment to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpcomingView {
    pub at: Timestamp,
    pub what: String,
    #[serde(default)]
    pub kind: UpcomingKind,
}

fn moment(at: Timestamp, kind: UpcomingKind, what: String) -> UpcomingView {
    UpcomingView { at, what, kind }
}

pub(super) fn upcoming(
    cluster: &Cluster,
    verdicts: &Verdicts,
    ledger: Option<&Ledger>,
    now: Timestamp,
) -> Vec<UpcomingView> {
    let mut all: Vec<UpcomingView> = of_nodes(verdicts);
    for (pod, reason) in &verdicts.pods {
        if let Reason::TooYoung { until } = reason {
            all.push(moment(*until, UpcomingKind::Wait, format!("pod {pod} may trigger a scale-up")));
        }
        if all.len() > MOST * 10 {
            break;
        }
    }
    if let Some(ledger) = ledger {
        all.extend(of_pools(cluster, ledger));
        all.extend(of_drains(ledger));
    }
    all.extend(of_rules(verdicts));
    all.extend(of_outlooks(cluster, verdicts, now));
    all.retain(|one| one.at > now);
    all.sort_by(|a, b| (a.at, &a.what).cmp(&(b.at, &b.what)));
    all.truncate(MOST);
    all
}

/// Nodes with the same fate at the same moment are one line.
fn of_nodes(verdicts: &Verdicts) -> Vec<UpcomingView> {
    let mut groups: BTreeMap<(Timestamp, String), Vec<&str>> = BTreeMap::new();
    for (node, reason) in &verdicts.nodes {
        let (at, what) = match reason {
            Reason::Unneeded { cause, removable_at, .. } => {
                (*removable_at, format!("may be removed: {cause}"))
            }
            Reason::NotReadyYetTolerated { removable_at, .. } => {
                (*removable_at, "may be removed: not ready".to_owned())
            }
            Reason::InCoolDown { until, .. } => (*until, "may be removed: the wait ends".to_owned()),
            Reason::PoolCoolDown { until } => (*until, "may be removed: its pool's wait ends".to_owned()),
            Reason::RecentlyUnremovable { until } => (*until, "looked at again".to_owned()),
            _ => continue,
        };
        groups.entry((at, what)).or_default().push(node.as_str());
    }
    let line = |((at, what), nodes): ((Timestamp, String), Vec<&str>)| {
        let named = nodes.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = nodes.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        moment(at, UpcomingKind::Wait, format!("{named}{more} {what}"))
    };
    groups.into_iter().map(line).collect()
}

fn of_pools(cluster: &Cluster, ledger: &Ledger) -> Vec<UpcomingView> {
    let back_offs = ledger.back_offs.iter().map(|(pool, back_off)| {
        let what = format!("pool {} is asked again after {}", pool_name(cluster, pool), back_off.code);
        moment(back_off.until, UpcomingKind::BackOff, what)
    });
    let deadlines = ledger.scale_ups.iter().map(|(pool, order)| {
        let pool = pool_name(cluster, pool);
        let what = format!("pool {pool}: what has not come of {}->{} counts as failed", order.from, order.to);
        moment(order.deadline, UpcomingKind::Order, what)
    });
    back_offs.chain(deadlines).collect()
}

/// Of each removal under way the next try that is waited for.
fn of_drains(ledger: &Ledger) -> impl Iterator<Item = UpcomingView> {
    ledger.removals.iter().take(MOST_SOURCES).filter_map(|(node, removal)| {
        let waiting = || removal.evictions.iter().filter(|(_, eviction)| eviction.accepted_at.is_none());
        if removal.phase == RemovalPhase::Draining
            && let Some((pod, eviction)) = waiting().min_by_key(|(_, eviction)| eviction.not_before)
        {
            let more = waiting().count() - 1;
            let more = if more > 0 { format!(" and {more} pods more") } else { String::new() };
            let what = format!("node {node}: eviction of {pod}{more} is tried again");
            return Some(moment(eviction.not_before, UpcomingKind::Drain, what));
        }
        let what = match removal.phase {
            RemovalPhase::Marking => "its marks are tried again",
            RemovalPhase::Draining => return None,
            RemovalPhase::Releasing => "giving it back is tried again",
            RemovalPhase::Undoing => "taking its marks off is tried again",
        };
        Some(moment(removal.not_before?, UpcomingKind::Drain, format!("node {node}: {what}")))
    })
}

/// The next times of rules' schedules.
fn of_rules(verdicts: &Verdicts) -> impl Iterator<Item = UpcomingView> {
    let rules = verdicts.rules.iter().flat_map(|(set, said)| {
        let silent = said.disabled || said.problem.is_some();
        said.rules.iter().filter(move |_| !silent).map(move |rule| (set, said.dry_run, rule))
    });
    rules.take(MOST_SOURCES).flat_map(|(set, dry_run, rule)| {
        let only = if dry_run { ", in dry run" } else { "" };
        rule.next_runs.iter().take(MOST_OF_ONE).map(move |at| {
            moment(*at, UpcomingKind::Schedule, format!("rule {} of {set} is due{only}", rule.name))
        })
    })
}

/// What objects tell of pods to come, and when machines are ordered for it.
fn of_outlooks(cluster: &Cluster, verdicts: &Verdicts, now: Timestamp) -> Vec<UpcomingView> {
    let mut all = Vec::new();
    for (key, outlook) in cluster.outlooks().iter().take(MOST_SOURCES) {
        all.extend(points(outlook, now).into_iter().map(|(at, replicas)| {
            let (kind, what) = match key.source {
                OutlookSource::Schedule => {
                    let what = format!("CronJob {}/{} starts {replicas} pods", key.namespace, key.name);
                    (UpcomingKind::Schedule, what)
                }
                OutlookSource::Portraits => {
                    let what = format!("{} is to have {replicas} replicas, by its portraits", outlook.target);
                    (UpcomingKind::Forecast, what)
                }
                OutlookSource::Trend => {
                    let what =
                        format!("{} is expected to have {replicas} replicas, by trend", outlook.target);
                    (UpcomingKind::Forecast, what)
                }
            };
            moment(at, kind, what)
        }));
        if let Some(said) = verdicts.outlooks.get(key)
            && let Reason::AheadLater { due, replicas, order_at } = &said.reason
        {
            let what = format!(
                "machines are ordered for the {replicas} replicas of {} that are due {due:.0}",
                outlook.target
            );
            all.push(moment(*order_at, UpcomingKind::Order, what));
        }
    }
    all
}

/// The next moments that an outlook tells of.
fn points(outlook: &Outlook, now: Timestamp) -> Vec<(Timestamp, u32)> {
    let Some(runs) = &outlook.runs else {
        let later = outlook.points.iter().filter(|point| point.at > now);
        return later.take(MOST_OF_ONE).map(|point| (point.at, point.replicas)).collect();
    };
    let zone = cron::time_zone(&runs.zone, &TimeZone::UTC);
    let schedule = zone.and_then(|zone| Schedule::parse(&runs.schedule, &Dialect::KUBERNETES, &zone));
    // What is wrong with a schedule is told where it is read.
    let Ok(schedule) = schedule else { return Vec::new() };
    schedule.after(now).take(1).map(|at| (at, runs.replicas)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use model::{
        Change, DueReplicas, EvictionState, IntentId, MachineId, NodeName, OutlookKey, PodKey, PoolId,
        Removal, RemovalCause, Uid, WorkloadKey,
    };
    use std::sync::Arc;

    #[test]
    fn nodes_that_go_together_are_one_line_and_the_past_is_left_out() {
        let now = Timestamp::UNIX_EPOCH;
        let later = now + SignedDuration::from_secs(60);
        let mut verdicts = Verdicts::default();
        let unneeded = |at| Reason::Unneeded { cause: RemovalCause::Empty, since: now, removable_at: at };
        for (name, at) in [("a", later), ("b", later), ("c", later), ("d", now)] {
            verdicts.nodes.insert(NodeName::from(name), unneeded(at));
        }
        let told = upcoming(&Cluster::default(), &verdicts, None, now);
        assert_eq!(told, [moment(later, UpcomingKind::Wait, "a, b and 1 more may be removed: empty".into())]);
    }

    #[test]
    fn schedules_forecasts_and_drains_are_told() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let now = at(0);
        let outlook = |source, name: &str, points: &[i64], runs| Outlook {
            key: OutlookKey::new(source, "shop", name),
            target: WorkloadKey::new("Deployment", "shop", name),
            points: points.iter().map(|second| DueReplicas { at: at(*second), replicas: 7 }).collect(),
            runs,
            confidence_percent: 90,
            template: None,
        };
        let runs = model::Runs { schedule: "5 * * * *".into(), zone: "".into(), replicas: 3 };
        let mut cluster = Cluster::default();
        for told in [
            outlook(OutlookSource::Portraits, "web", &[0, 120], None),
            outlook(OutlookSource::Schedule, "report", &[], Some(runs)),
        ] {
            cluster.apply(Change::Outlook(told.key.clone(), Some(Arc::new(told))));
        }
        let mut removal = Removal::begin(
            IntentId::from("drain-1"),
            Uid::from("u"),
            PoolId::from("p"),
            MachineId::from("m"),
            RemovalCause::UnderUsed,
            RemovalPhase::Draining,
            now,
        );
        for (name, not_before) in [("a", 60), ("b", 90)] {
            let eviction = EvictionState {
                uid: Uid::from("x"),
                first_tried_at: now,
                not_before: at(not_before),
                accepted_at: None,
                asked: None,
            };
            removal.evictions.insert(PodKey::new("shop", name), eviction);
        }
        let mut ledger = Ledger::default();
        ledger.removals.insert(NodeName::from("n1"), removal);
        let told = upcoming(&cluster, &Verdicts::default(), Some(&ledger), now);
        let lines: Vec<String> =
            told.iter().map(|one| format!("{} {:?} {}", one.at.as_second(), one.kind, one.what)).collect();
        assert_eq!(
            lines,
            [
                "60 Drain node n1: eviction of shop/a and 1 pods more is tried again",
                "120 Forecast Deployment/shop/web is to have 7 replicas, by its portraits",
                "300 Schedule CronJob shop/report starts 3 pods",
            ]
        );
    }
}
