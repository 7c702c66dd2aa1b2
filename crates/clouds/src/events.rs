//! Kubernetes events about objects, with the reasons, texts and components of whoever has them to say.
//!
//! Owns counting repeats and the queue of writes that nobody waits for. A full queue drops what comes: an API server
//! in trouble must not hold up scaling.

use crate::watching::{code, describe, within};
use clock::Clock;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that may wait to be written.
const QUEUE: usize = 1024;
/// Events that are remembered for counting repeats.
const MOST_KNOWN: usize = 8192;
/// Where events of objects without a namespace are.
const OF_CLUSTER: &str = "default";
/// Letters of an object's name in an event's; with what follows they stay under the limit of names.
const LONGEST_NAME: usize = 200;

/// Where events are handed in.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: Option<mpsc::Sender<Told>>,
}

#[derive(Debug)]
struct Told {
    about: ObjectReference,
    component: &'static str,
    warning: bool,
    reason: &'static str,
    message: String,
}

impl Recorder {
    /// A recorder and the task that writes for it; without a client nothing is written.
    pub fn start(client: Option<Client>, clock: Clock, limit: Duration) -> Self {
        let Some(client) = client else { return Self { queue: None } };
        let (queue, told) = mpsc::channel(QUEUE);
        tokio::spawn(Writer { client, clock, limit, known: BTreeMap::new(), number: 0 }.run(told));
        Self { queue: Some(queue) }
    }

    /// Tells of something that is as it should be.
    pub fn normal<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        object: &K,
        reason: &'static str,
        message: String,
    ) {
        self.tell(component, object, reason, message, false);
    }

    /// Tells of something that somebody should look at.
    pub fn warning<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        object: &K,
        reason: &'static str,
        message: String,
    ) {
        self.tell(component, object, reason, message, true);
    }

    fn tell<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        object: &K,
        reason: &'static str,
        message: String,
        warning: bool,
    ) {
        let Some(queue) = &self.queue else { return };
        let told = Told { about: object.object_ref(&()), component, warning, reason, message };
        if queue.try_send(told).is_err() {
            tracing::warn!(reason, "too many events wait to be written; this one is not");
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Repeat {
    uid: Option<String>,
    reason: &'static str,
    message: String,
}

struct Known {
    name: String,
    count: i32,
    number: u64,
}

struct Writer {
    client: Client,
    clock: Clock,
    limit: Duration,
    known: BTreeMap<Repeat, Known>,
    number: u64,
}

impl Writer {
    async fn run(mut self, mut told: mpsc::Receiver<Told>) {
        while let Some(told) = told.recv().await {
            let reason = told.reason;
            match self.write(told).await {
                Ok(()) => {}
                // The namespace is going, or an attempt whose answer was lost did write.
                Err(error) if matches!(code(&error), Some(403 | 404 | 409)) => {}
                Err(error) => tracing::warn!(reason, error = describe(&error), "event not written"),
            }
        }
    }

    async fn write(&mut self, told: Told) -> kube::Result<()> {
        self.number += 1;
        let namespace = told.about.namespace.clone().unwrap_or_else(|| OF_CLUSTER.to_owned());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = self.clock.now();
        let repeat =
            Repeat { uid: told.about.uid.clone(), reason: told.reason, message: told.message.clone() };
        if let Some(known) = self.known.get_mut(&repeat) {
            known.count = known.count.saturating_add(1);
            known.number = self.number;
            let change = json!({"count": known.count, "lastTimestamp": Time(now)});
            let (name, params) = (known.name.clone(), PatchParams::default());
            let patch = Patch::Merge(&change);
            return match within(self.limit, events.patch(&name, &params, &patch)).await {
                // Its time in the store ran out: it begins anew.
                Err(error) if code(&error) == Some(404) => {
                    self.known.remove(&repeat);
                    Ok(())
                }
                other => other.map(drop),
            };
        }
        let name: String = told.about.name.iter().flat_map(|name| name.chars()).take(LONGEST_NAME).collect();
        let name = format!("{name}.{:x}.{:x}", now.as_nanosecond(), self.number);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: told.about,
            type_: Some(if told.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(told.reason.to_owned()),
            message: Some(told.message),
            source: Some(EventSource { component: Some(told.component.to_owned()), host: None }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        };
        if self.known.len() >= MOST_KNOWN {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.number).map(|(key, _)| key.clone());
            oldest.map(|key| self.known.remove(&key));
        }
        self.known.insert(repeat, Known { name, count: 1, number: self.number });
        within(self.limit, events.create(&PostParams::default(), &event)).await.map(drop)
    }
}
