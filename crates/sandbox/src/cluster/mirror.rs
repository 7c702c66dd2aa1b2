//! A component's own picture of one kind of object, kept by a watch.
//!
//! Owns reading its own writes (an answer is applied at once, an older event of the watch is then ignored) and
//! noticing deletions missed during a relist. What a change means is the component's.

use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

/// Namespace (empty where there is none) and name.
pub(crate) type Key = (String, String);

pub(crate) type Feed<K> = Pin<Box<dyn Stream<Item = Event<K>> + Send>>;

/// Watches every object of a kind; a failed watch is tried again after `retry`, without jitter, so that simulated
/// runs repeat. No client-side time-outs: an idle watch must leave no timer behind.
pub(crate) fn feed<K>(api: Api<K>, retry: Duration) -> Feed<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher::watcher(api, Config::default().timeout(0).page_size(500));
    Box::pin(events.filter_map(move |event| async move {
        match event {
            Ok(event) => Some(event),
            Err(error) => {
                tracing::debug!(%error, "watch failed; trying again");
                tokio::time::sleep(retry).await;
                None
            }
        }
    }))
}

/// What became of an object that was put in.
pub(crate) enum Put<K> {
    /// A newer version was there.
    Stale,
    /// Taken, in the place of what was there.
    Taken(Option<K>),
}

pub(crate) struct Mirror<K> {
    objects: BTreeMap<Key, K>,
    /// Keys not yet seen again during a relist.
    unseen: Option<BTreeSet<Key>>,
}

impl<K: Resource> Mirror<K> {
    pub(crate) fn new() -> Self {
        Self { objects: BTreeMap::new(), unseen: None }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&K> {
        self.objects.get(key)
    }

    /// Takes an event in and calls `changed` with each key that it touches, and what was there before.
    pub(crate) fn apply(&mut self, event: Event<K>, mut changed: impl FnMut(&Key, Option<K>)) {
        match event {
            Event::Init => self.unseen = Some(self.objects.keys().cloned().collect()),
            Event::InitApply(object) | Event::Apply(object) => {
                let key = key_of(&object);
                if let Some(unseen) = &mut self.unseen {
                    unseen.remove(&key);
                }
                if let Put::Taken(old) = self.put(object) {
                    changed(&key, old);
                }
            }
            Event::InitDone => {
                for key in self.unseen.take().unwrap_or_default() {
                    let old = self.objects.remove(&key);
                    changed(&key, old);
                }
            }
            Event::Delete(object) => {
                let key = key_of(&object);
                let old = self.objects.remove(&key);
                changed(&key, old);
            }
        }
    }

    /// Puts an object in unless a newer version is there.
    pub(crate) fn put(&mut self, object: K) -> Put<K> {
        let key = key_of(&object);
        let newer_known = self
            .objects
            .get(&key)
            .is_some_and(|known| known.meta().uid == object.meta().uid && version(known) > version(&object));
        if newer_known {
            return Put::Stale;
        }
        Put::Taken(self.objects.insert(key, object))
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<K> {
        self.objects.remove(key)
    }
}

pub(crate) fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}
