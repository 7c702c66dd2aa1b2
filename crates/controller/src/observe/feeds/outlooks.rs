//! What objects tell of pods to come: autoscalers with portraits, jobs by schedule, autoscalers of Kubernetes.
//!
//! Owns the three feeds, and the short memory of what autoscalers of Kubernetes wanted lately, of which a trend is made.

use super::{Heard, Kind, Source, feed, readable};
use clock::Clock;
use clouds::watching::WatchSettings;
use futures::stream::BoxStream;
use intake::slim;
use jiff::Timestamp;
use kube::Client;
use model::{Change, DueReplicas, Outlook, OutlookKey, OutlookSource};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(super) const SOURCES: usize = 3;
/// Changes of one autoscaler of Kubernetes that are remembered.
const MOST_CHANGES: usize = 32;
/// Autoscalers of which they are.
const MOST_AUTOSCALERS: usize = 5000;

pub(super) fn all(client: &Client, settings: WatchSettings, clock: Clock) -> Vec<BoxStream<'static, Heard>> {
    vec![portraits(client, settings), schedules(client, settings), trends(client, settings, clock)]
}

fn told(key: OutlookKey, outlook: Option<Outlook>) -> Change {
    Change::Outlook(key, outlook.map(Arc::new))
}

fn portraits(client: &Client, settings: WatchSettings) -> BoxStream<'static, Heard> {
    fn key(ihpa: &slim::IntelligentHorizontalPodAutoscaler) -> OutlookKey {
        intake::outlook_key(OutlookSource::Portraits, &ihpa.metadata)
    }
    feed(
        client,
        settings,
        &Kind {
            what: "intelligenthorizontalpodautoscalers",
            source: Source::Outlooks(0),
            key,
            read: |ihpa| Ok(told(key(ihpa), intake::portraits_outlook(ihpa))),
            gone: |key| Change::Outlook(key, None),
            instead: |ihpa| Change::Outlook(key(ihpa), None),
        },
    )
}

fn schedules(client: &Client, settings: WatchSettings) -> BoxStream<'static, Heard> {
    fn key(job: &slim::CronJob) -> OutlookKey {
        intake::outlook_key(OutlookSource::Schedule, &job.metadata)
    }
    feed(
        client,
        settings,
        &Kind {
            what: "cronjobs",
            source: Source::Outlooks(1),
            key,
            read: |job| Ok(told(key(job), intake::schedule_outlook(job)?)),
            gone: |key| Change::Outlook(key, None),
            instead: |job| Change::Outlook(key(job), None),
        },
    )
}

fn trends(client: &Client, settings: WatchSettings, clock: Clock) -> BoxStream<'static, Heard> {
    let key = |hpa: &slim::HorizontalPodAutoscaler| intake::outlook_key(OutlookSource::Trend, &hpa.metadata);
    let mut memory = Memory::default();
    let change = move |hpa: &slim::HorizontalPodAutoscaler| {
        let key = key(hpa);
        told(key.clone(), memory.outlook(key, hpa, clock.now()))
    };
    let source = Source::Outlooks(2);
    readable(client, settings, source, "horizontalpodautoscalers", key, change, |key| {
        Change::Outlook(key, None)
    })
}

/// What autoscalers wanted, whenever that changed.
#[derive(Default)]
struct Memory(BTreeMap<OutlookKey, VecDeque<(Timestamp, u32)>>);

impl Memory {
    fn outlook(
        &mut self,
        key: OutlookKey,
        hpa: &slim::HorizontalPodAutoscaler,
        now: Timestamp,
    ) -> Option<Outlook> {
        let count = |number: i32| u32::try_from(number).unwrap_or(0);
        if self.0.len() >= MOST_AUTOSCALERS && !self.0.contains_key(&key) {
            self.0.pop_first();
        }
        let changes = self.0.entry(key.clone()).or_default();
        let wanted = count(hpa.status.desired_replicas);
        if changes.back().is_none_or(|(_, last)| *last != wanted) {
            changes.push_back((now, wanted));
        }
        if changes.len() > MOST_CHANGES {
            changes.pop_front();
        }
        let trend = workloads::trend(changes.make_contiguous(), count(hpa.spec.max_replicas), now)?;
        let point = |(at, replicas)| DueReplicas { at, replicas };
        Some(Outlook {
            target: intake::scaled(&hpa.spec.scale_target_ref, &hpa.metadata),
            key,
            points: trend.points.into_iter().map(point).collect(),
            runs: None,
            confidence_percent: trend.confidence_percent,
            template: None,
        })
    }
}
