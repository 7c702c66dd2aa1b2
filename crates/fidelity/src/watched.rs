//! What the API server has told of pods so far, and waiting for it.

use crate::error::Error;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How long the scheduler may take over a pod. It needs milliseconds; a busy machine may need seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the scheduler has done with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Bound(String),
    Refused { reason: String, message: String },
}

#[derive(Debug, Default)]
struct Shared {
    /// The first thing that was seen of each pod, by UID. Emptied with each cluster.
    first: Mutex<BTreeMap<String, Seen>>,
    changed: Notify,
}

/// The watch, until dropped.
#[derive(Debug)]
pub(crate) struct Watched {
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl Watched {
    pub(crate) fn start(client: Client) -> Self {
        let shared = Arc::new(Shared::default());
        let mut task = JoinSet::new();
        let told = Arc::clone(&shared);
        task.spawn(async move {
            let mut events = watcher(Api::<Pod>::all(client), watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event
                    && let (Some(uid), Some(seen)) = (pod.metadata.uid.clone(), seen(&pod))
                {
                    let mut first = told.first.lock().unwrap_or_else(PoisonError::into_inner);
                    first.entry(uid).or_insert(seen);
                    told.changed.notify_waiters();
                }
            }
        });
        Self { shared, _task: task }
    }

    /// Waits until the scheduler has decided on a pod.
    pub(crate) async fn wait(&self, uid: &str, name: &str) -> Result<Seen, Error> {
        let found = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                // Listening begins before the look, so that nothing is missed between them.
                changed.as_mut().enable();
                if let Some(seen) = self.look(uid) {
                    return seen;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.map_err(|_| Error::Silence {
            what: format!("waiting for a decision on pod {name}"),
            seconds: PATIENCE.as_secs(),
            last: "no condition and no node".to_owned(),
        })
    }

    fn look(&self, uid: &str) -> Option<Seen> {
        self.shared.first.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    pub(crate) fn forget(&self) {
        self.shared.first.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn seen(pod: &Pod) -> Option<Seen> {
    if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) {
        return Some(Seen::Bound(node));
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let reason = scheduled.reason.clone().unwrap_or_default();
    Some(Seen::Refused { reason, message: scheduled.message.clone().unwrap_or_default() })
}
