//! Outlooks for tests, a line for each.

use super::make::{kind_of, shape};
use super::{Attributes, World};
use jiff::SignedDuration;
use model::{Change, DueReplicas, Outlook, OutlookKey, OutlookSource, PodTemplate, Runs, WorkloadKey};
use std::sync::Arc;

pub(crate) fn outlook_key(name: &str, a: &Attributes<'_>) -> OutlookKey {
    let source = match a.get("source") {
        Some("trend") => OutlookSource::Trend,
        Some("schedule") => OutlookSource::Schedule,
        _ => OutlookSource::Portraits,
    };
    OutlookKey::new(source, "default", name)
}

impl World {
    /// `of=rs/web due=5m:6,20m:2`: six replicas in five minutes, two in twenty; with `cpu=` what the next pod asks for
    /// where none lives.
    pub(crate) fn make_outlook(&mut self, name: &str, a: &Attributes<'_>) {
        let key = outlook_key(name, a);
        let (kind, target) = a.get("of").and_then(|of| of.split_once('/')).expect("of=rs/web");
        let runs = a.get("runs").map(|runs| {
            let (schedule, replicas) = runs.split_once(':').expect("runs=0_3_*_*_*:2");
            let (schedule, zone) = (schedule.replace('_', " "), a.get("zone").unwrap_or_default());
            Runs { schedule: schedule.into(), zone: zone.into(), replicas: replicas.parse().unwrap() }
        });
        let points = a.get("due").into_iter().flat_map(|due| due.split(',')).map(|point| {
            let (wait, replicas) = point.split_once(':').expect("5m:6");
            let wait: SignedDuration = wait.parse().unwrap();
            DueReplicas { at: self.now.checked_add(wait).unwrap(), replicas: replicas.parse().unwrap() }
        });
        let template = a.has("cpu").then(|| {
            let shape = Arc::new(shape(a, Vec::new()));
            Arc::new(PodTemplate { shape, labels: model::Labels::new() })
        });
        let outlook = Outlook {
            key: key.clone(),
            target: WorkloadKey::new(kind_of(kind), "default", target),
            points: points.collect(),
            runs,
            confidence_percent: a.get("sure").map_or(100, |sure| sure.parse().unwrap()),
            template,
        };
        self.cluster.apply(Change::Outlook(key, Some(Arc::new(outlook))));
    }
}
