//! Kubernetes Events of the simulated controllers, and the end of all Events after an hour.
//!
//! Owns counting repeats. Whether events are written at all is the caller's choice when the cluster is made.

use super::Work;
use super::objects::{Key, key_of, stamp};
use crate::cluster::deadlines::{Deadlines, after};
use crate::store::resource::EVENTS;
use crate::store::{Change, ChangeKind, DeleteOptions, Object, Part, Store};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the API server keeps an event.
const KEPT: Duration = Duration::from_hours(1);

pub(crate) struct Event<'a> {
    pub(crate) about: &'a Object,
    pub(crate) kind: &'a str,
    pub(crate) warning: bool,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
    pub(crate) component: &'a str,
}

/// Writes one event, or counts it where the same was written before. Failing to is no one's problem.
pub(crate) fn write_event(store: &Store, event: &Event<'_>, now: Timestamp) {
    let Event { about, kind, warning, reason, message, component } = event;
    let hash = format!("{reason}/{message}").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let name = format!("{}.{hash:016x}", about.name());
    let namespace = if about.namespace().is_empty() { "default" } else { about.namespace() };
    let at = stamp(now);
    if store.find(EVENTS, namespace, &name).is_some() {
        let counted = store.modify(EVENTS, namespace, &name, Part::Whole, |value| {
            value["count"] = Value::from(value["count"].as_i64().unwrap_or(1) + 1);
            value["lastTimestamp"] = at.as_str().into();
            true
        });
        if let Err(error) = counted {
            tracing::debug!(%error, "an event was not counted");
        }
        return;
    }
    let object = json!({
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": about.text("apiVersion"), "kind": kind, "namespace": about.namespace(),
            "name": about.name(), "uid": about.uid(), "resourceVersion": about.revision().to_string(),
        },
        "type": if *warning { "Warning" } else { "Normal" }, "reason": reason, "message": message,
        "source": {"component": component}, "reportingComponent": component, "reportingInstance": "",
        "count": 1, "firstTimestamp": at, "lastTimestamp": at, "eventTime": null,
    });
    if let Err(error) = store.create(EVENTS, namespace, object) {
        tracing::debug!(%error, "an event was not written");
    }
}

/// Whether events are written, and when those that exist end.
pub(super) struct Events {
    store: Store,
    enabled: bool,
    ends: BTreeSet<(Timestamp, Key)>,
    end_of: BTreeMap<Key, Timestamp>,
}

impl Events {
    pub(super) fn new(store: Store, enabled: bool) -> Self {
        Self { store, enabled, ends: BTreeSet::new(), end_of: BTreeMap::new() }
    }

    pub(super) fn normal(&self, about: &Object, kind: &str, reason: &str, message: &str, now: Timestamp) {
        if self.enabled {
            let component = "kube-controller-manager";
            let event = Event { about, kind, warning: false, reason, message, component };
            write_event(&self.store, &event, now);
        }
    }

    /// An event, of whomever, was written or removed.
    pub(super) fn seen(&mut self, change: &Change, due: &mut Deadlines<Work>) {
        let key = key_of(&change.object);
        if let Some(end) = self.end_of.remove(&key) {
            self.ends.remove(&(end, key.clone()));
        }
        if change.kind == ChangeKind::Deleted {
            return;
        }
        let end = after(self.store.clock().now(), KEPT);
        self.end_of.insert(key.clone(), end);
        self.ends.insert((end, key));
        due.set_earliest(Work::ForgetEvents, end);
    }

    pub(super) fn forget_old(
        &mut self,
        now: Timestamp,
        due: &mut Deadlines<Work>,
    ) -> Result<(), crate::store::ApiError> {
        while self.ends.first().is_some_and(|(end, _)| *end <= now) {
            let Some((_, key)) = self.ends.pop_first() else { break };
            self.end_of.remove(&key);
            match self.store.delete(EVENTS, &key.0, &key.1, &DeleteOptions::default()) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        if let Some((end, _)) = self.ends.first() {
            due.set_earliest(Work::ForgetEvents, *end);
        }
        Ok(())
    }
}
