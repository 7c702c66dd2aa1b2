//! Writes that nobody waits for: events, the status ConfigMap, the status of node rules and of what asks for headroom.
//!
//! Owns one queue of bounded length and the task that empties it. A full queue drops what comes, counted, because an
//! API server in trouble must not hold up a round.

use crate::capacity::StatusWrite;
use crate::rule_status::RuleStatusWrite;
use crate::status::StatusText;
use clouds::watching::{code, describe, within};
use intake::slim::HorizontalNodeAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use leadership::Fence;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Writes that may wait.
const QUEUE: usize = 1024;
const TRIES: u32 = 3;
pub(crate) const LAST_UPDATED: &str = "cluster-autoscaler.kubernetes.io/last-updated";

#[derive(Debug)]
pub(crate) struct EventWrite {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The whole event, or only what a repeat changes.
    pub(crate) body: Value,
    pub(crate) repeat: bool,
}

#[derive(Debug)]
pub(crate) enum Write {
    Event(EventWrite),
    Status(StatusText),
    RuleStatus(RuleStatusWrite),
    CapacityStatus(StatusWrite),
}

/// The near end of the queue.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Write>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    pub(crate) fn pair() -> (Self, mpsc::Receiver<Write>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue, dropped: Arc::default() }, receiver)
    }

    /// Queues a write, or counts it as dropped.
    pub(crate) fn offer(&self, write: Write) {
        if self.queue.try_send(write).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The far end: writes until the near ends are gone.
pub(crate) struct Drain {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) status_map: String,
    pub(crate) limit: Duration,
    /// A status speaks for the leader: whoever may lead no more leaves it to the next one.
    pub(crate) fence: Fence,
}

impl Drain {
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Write>) {
        while let Some(write) = queue.recv().await {
            let (what, result) = match &write {
                Write::Event(event) => ("event", self.event(event).await),
                Write::RuleStatus(_) | Write::CapacityStatus(_) | Write::Status(_)
                    if !self.fence.allows(self.limit) =>
                {
                    continue;
                }
                Write::RuleStatus(write) => ("status of node rules", self.rule_status(write).await),
                Write::CapacityStatus(write) => {
                    ("status of what asks for headroom", self.capacity_status(write).await)
                }
                Write::Status(status) => ("status", self.status(&status.text, &status.updated).await),
            };
            if let Err(error) = result {
                tracing::warn!(what, error = describe(&error), "not written");
            }
        }
    }

    async fn event(&self, write: &EventWrite) -> kube::Result<()> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &write.namespace);
        if write.repeat {
            let patch = Patch::Merge(&write.body);
            let patched = within(self.limit, api.patch(&write.name, &PatchParams::default(), &patch)).await;
            return match patched {
                // Its time in the store ran out.
                Err(error) if code(&error) == Some(404) => Ok(()),
                other => other.map(drop),
            };
        }
        let event: Event = serde_json::from_value(write.body.clone()).map_err(kube::Error::SerdeError)?;
        match within(self.limit, api.create(&PostParams::default(), &event)).await {
            // Written by an attempt whose answer was lost; or its pod's namespace is going.
            Err(error) if matches!(code(&error), Some(403 | 404 | 409)) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn rule_status(&self, write: &RuleStatusWrite) -> kube::Result<()> {
        let api: Api<HorizontalNodeAutoscaler> = Api::namespaced(self.client.clone(), &write.namespace);
        self.patch_status(&api, &write.name, &write.body).await
    }

    async fn capacity_status(&self, write: &StatusWrite) -> kube::Result<()> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &write.namespace, &write.resource);
        self.patch_status(&api, &write.name, &write.body).await
    }

    async fn patch_status<K>(&self, api: &Api<K>, name: &str, body: &Value) -> kube::Result<()>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let (params, patch) = (PatchParams::default(), Patch::Merge(body));
        let mut last = Ok(());
        for _ in 0..TRIES {
            match within(self.limit, api.patch_status(name, &params, &patch)).await {
                // Gone meanwhile.
                Err(error) if code(&error) == Some(404) => return Ok(()),
                Err(error) => last = Err(error),
                Ok(_) => return Ok(()),
            }
        }
        last
    }

    async fn status(&self, text: &str, updated: &str) -> kube::Result<()> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let body = json!({
            "metadata": {"annotations": {LAST_UPDATED: updated}},
            "data": {"status": text},
        });
        let params = PatchParams::default();
        let mut last = Ok(());
        for _ in 0..TRIES {
            match within(self.limit, api.patch(&self.status_map, &params, &Patch::Merge(&body))).await {
                Ok(_) => return Ok(()),
                Err(error) if code(&error) == Some(404) => {
                    let map = ConfigMap {
                        metadata: ObjectMeta {
                            name: Some(self.status_map.clone()),
                            annotations: Some(BTreeMap::from([(LAST_UPDATED.into(), updated.into())])),
                            ..Default::default()
                        },
                        data: Some(BTreeMap::from([("status".into(), text.into())])),
                        ..Default::default()
                    };
                    last = within(self.limit, api.create(&PostParams::default(), &map)).await.map(drop);
                    if last.is_ok() {
                        return last;
                    }
                }
                Err(error) => last = Err(error),
            }
        }
        last
    }
}

/// Removes the status at a clean exit: nobody keeps it current any more.
pub(crate) async fn remove_status(client: &Client, namespace: &str, name: &str, limit: Duration) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    match within(limit, api.delete(name, &DeleteParams::default())).await {
        Err(error) if code(&error) != Some(404) => {
            tracing::warn!(error = describe(&error), name, "status not removed");
        }
        _ => {}
    }
}
