//! Who is expected when: replicas that outlooks tell of and that do not live yet.
//!
//! Owns which outlook counts, and what its pods will be like. A replica counts from when it is due within the horizon
//! until some time after, when it has not come; one that lives is a pod like any other.

use super::memory::Told;
use crate::round::{Round, after};
use cron::{Dialect, Schedule};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::{DueReplicas, Labels, Outlook, OutlookKey, OutlookSource, PodShape, Reason, WorkloadKey};
use packing::{ClassIx, Room};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Outlooks of one cluster that are planned for.
pub(super) const MOST_OUTLOOKS: usize = 2000;

/// Replicas of one workload that are due at one moment.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub outlook: OutlookKey,
    pub class: ClassIx,
    pub due: Timestamp,
    pub count: u32,
}

/// Everything that is due within the horizon and does not live, the earliest first.
pub(super) fn gather(
    round: &mut Round<'_>,
    room: &mut Room,
    horizon: SignedDuration,
    told: &mut Told,
) -> Vec<Expected> {
    let cluster = round.cluster;
    let ahead = &round.policies.ahead;
    let mut expected = Vec::new();
    // Of two that tell of one workload the first counts: portraits before trends.
    let mut targets: BTreeSet<&WorkloadKey> = BTreeSet::new();
    for (key, outlook) in cluster.outlooks() {
        let wanted = match key.source {
            OutlookSource::Portraits => ahead.portraits,
            OutlookSource::Trend => ahead.trends,
            OutlookSource::Schedule => ahead.schedules,
        };
        if !wanted || targets.len() >= MOST_OUTLOOKS || !targets.insert(&outlook.target) {
            continue;
        }
        let live = cluster.live_pods_under(&outlook.target);
        told.note(round, outlook, live);
        let (confidence_percent, least_percent) =
            (outlook.confidence_percent, ahead.least_confidence_percent);
        if confidence_percent < least_percent {
            told.say(key, Reason::AheadUnsure { confidence_percent, least_percent });
            continue;
        }
        due_of(round, room, outlook, live, horizon, told, &mut expected);
    }
    expected.sort_by(|a, b| (a.due, &a.outlook).cmp(&(b.due, &b.outlook)));
    expected
}

/// The moments of one outlook at which more are wanted than before.
fn due_of(
    round: &mut Round<'_>,
    room: &mut Room,
    outlook: &Outlook,
    live: u32,
    horizon: SignedDuration,
    told: &mut Told,
    expected: &mut Vec<Expected>,
) {
    told.say(&outlook.key, Reason::AheadNothingDue);
    let patience = round.policies.ahead.patience;
    let (mut have, mut class) = (live, None);
    for point in points_of(outlook, round.now, patience) {
        let over = after(point.at, patience);
        if over <= round.now || point.replicas <= have {
            continue;
        }
        let (due, count) = (point.at, point.replicas - have);
        if due > after(round.now, horizon) {
            round.wake(after(due, -horizon));
            told.say(&outlook.key, Reason::AheadNotDue { due, replicas: count });
            return;
        }
        round.wake(over);
        let known = class.get_or_insert_with(|| class_of(round, room, outlook));
        match known {
            Ok(class) => expected.push(Expected { outlook: outlook.key.clone(), class: *class, due, count }),
            Err(reason) => {
                told.say(&outlook.key, reason.clone());
                return;
            }
        }
        have = point.replicas;
    }
}

/// Runs of a schedule that are looked at.
const MOST_RUNS: usize = 16;

/// The moments that an outlook tells of, those included that are waited for still.
pub(super) fn points_of(outlook: &Outlook, now: Timestamp, patience: SignedDuration) -> Vec<DueReplicas> {
    let Some(runs) = &outlook.runs else { return outlook.points.clone() };
    let Ok(zone) = cron::time_zone(&runs.zone, &TimeZone::UTC) else { return Vec::new() };
    let Ok(schedule) = Schedule::parse(&runs.schedule, &Dialect::KUBERNETES, &zone) else {
        return Vec::new();
    };
    let moments = schedule.after(after(now, -patience)).take(MOST_RUNS);
    moments.map(|at| DueReplicas { at, replicas: runs.replicas }).collect()
}

/// What the workload's next pods will be like: as its newest is, or as it says itself.
fn class_of(round: &Round<'_>, room: &mut Room, outlook: &Outlook) -> Result<ClassIx, Reason> {
    let namespace = &outlook.target.namespace;
    if let Some(pod) = round.cluster.newest_pod_under(&outlook.target) {
        return class(room, &pod.shape, namespace, &pod.labels);
    }
    let template = outlook.template.as_ref().ok_or(Reason::AheadShapeUnknown)?;
    class(room, &template.shape, namespace, &template.labels)
}

fn class(
    room: &mut Room,
    shape: &Arc<PodShape>,
    namespace: &Arc<str>,
    labels: &Labels,
) -> Result<ClassIx, Reason> {
    if let Some(rule) = shape.unmodelled.first() {
        return Err(Reason::PodNotModelled { rule: *rule });
    }
    if shape.volumes.is_none() {
        return Ok(room.class(shape, namespace, labels));
    }
    // The next pod has claims of its own, whose volumes are made where it comes to run.
    let shape = Arc::new(PodShape { volumes: None, ..PodShape::clone(shape) });
    Ok(room.class(&shape, namespace, labels))
}
