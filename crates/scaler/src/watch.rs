//! One feed for each kind that is watched: objects in, changes out, and what is missing from a list is gone.
//!
//! Owns the table of kinds. An object that cannot be read is told in the log and left as it was: it must not take the
//! watch of all others down.

use crate::cache::{Key, Kind, PodRecord, TargetKey, WorkloadRecord};
use crate::shared::Shared;
use crate::slim;
use api::kapacity::{HorizontalPortrait, IntelligentHorizontalPodAutoscaler as Ihpa, ReplicaProfile};
use clouds::watching::{Pods, Seen, WatchSettings, watch};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use kube::api::{Api, DynamicObject, ObjectMeta};
use kube::core::ApiResource;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

/// Something that became otherwise; without an object it is gone.
#[derive(Debug)]
pub(crate) enum Change {
    Ihpa(Key, Option<Box<Ihpa>>),
    Portrait(Key, Option<Box<HorizontalPortrait>>),
    Profile(Key, Option<Box<ReplicaProfile>>),
    Pod(Key, Option<Box<PodRecord>>),
    Workload(TargetKey, Option<Box<WorkloadRecord>>),
    Hpa(Key, Option<Box<slim::HorizontalPodAutoscaler>>),
}

/// What a feed brings; feeds are known by their place.
#[derive(Debug)]
pub(crate) enum Heard {
    Change(Change),
    Synced(usize),
    Broken { feed: usize, why: Arc<str>, missing_kind: bool },
}

/// How many feeds there are.
pub(crate) const FEEDS: usize = 8;

type Feed = BoxStream<'static, Heard>;

/// All feeds as one; without `pods` they are watched here.
pub(crate) fn all(
    client: &Client,
    settings: WatchSettings,
    pods: Option<Pods>,
) -> impl futures::Stream<Item = Heard> + Send + Unpin + use<> {
    let feeds: [Feed; FEEDS] = [
        ours::<Ihpa>(client, settings, 0, "IHPAs", |key, ihpa| Change::Ihpa(key, ihpa.map(Box::new))),
        ours::<HorizontalPortrait>(client, settings, 1, "HorizontalPortraits", |key, portrait| {
            Change::Portrait(key, portrait.map(Box::new))
        }),
        ours::<ReplicaProfile>(client, settings, 2, "ReplicaProfiles", |key, profile| {
            Change::Profile(key, profile.map(Box::new))
        }),
        listed(pods.unwrap_or_else(|| own_pods(client, settings)), 3, Arc::as_ref, |key, pod, shared| {
            let record = pod.map(|pod| Box::new(PodRecord::read(&pod, key.clone(), shared)));
            Some(Change::Pod(key, record))
        }),
        feed(client, settings, 4, "Deployments", |key, set: Option<slim::Deployment>, _| {
            workload(Kind::Deployment, key, set.map(|set| WorkloadRecord::deployment(&set)))
        }),
        feed(client, settings, 5, "ReplicaSets", |key, set: Option<slim::ReplicaSet>, _| {
            let record = set.map(|set| WorkloadRecord::plain(&set.metadata, &set.spec, &set.status));
            workload(Kind::ReplicaSet, key, record)
        }),
        feed(client, settings, 6, "StatefulSets", |key, set: Option<slim::StatefulSet>, _| {
            workload(Kind::StatefulSet, key, set.map(|set| WorkloadRecord::stateful_set(&set)))
        }),
        feed(
            client,
            settings,
            7,
            "HorizontalPodAutoscalers",
            |key, hpa: Option<slim::HorizontalPodAutoscaler>, _| Change::Hpa(key, hpa.map(Box::new)),
        ),
    ];
    stream::select_all(feeds)
}

fn own_pods(client: &Client, settings: WatchSettings) -> Pods {
    let seen = watch(Api::<intake::slim::Pod>::all(client.clone()), "pods", settings);
    seen.map(|seen| seen.map(Arc::new)).boxed()
}

fn workload(kind: Kind, key: Key, record: Option<WorkloadRecord>) -> Change {
    Change::Workload(TargetKey { kind, key }, record.map(Box::new))
}

fn feed<K>(
    client: &Client,
    settings: WatchSettings,
    place: usize,
    what: &'static str,
    change: fn(Key, Option<K>, &mut Shared) -> Change,
) -> Feed
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let seen = watch(Api::<K>::all(client.clone()), what, settings);
    listed(seen, place, |object| object, move |key, object, shared| Some(change(key, object, shared)))
}

/// Custom resources are read one by one: whoever installed their definition decides what it lets through.
fn ours<K>(
    client: &Client,
    settings: WatchSettings,
    place: usize,
    what: &'static str,
    change: fn(Key, Option<K>) -> Change,
) -> Feed
where
    K: Resource<DynamicType = ()> + DeserializeOwned + 'static,
{
    let resource = ApiResource::erase::<K>(&());
    let seen = watch(Api::<DynamicObject>::all_with(client.clone(), &resource), what, settings);
    listed(
        seen,
        place,
        |object| object,
        move |key, object: Option<DynamicObject>, _| {
            let Some(object) = object else { return Some(change(key, None)) };
            let read = serde_json::to_value(object).and_then(serde_json::from_value::<K>);
            match read {
                Ok(object) => Some(change(key, Some(object))),
                Err(error) => {
                    tracing::warn!(%key, what, %error, "cannot be read and is left alone; correct the object");
                    None
                }
            }
        },
    )
}

/// Follows one watch, and tells what a list no longer names.
fn listed<O, K>(
    seen: BoxStream<'static, Seen<O>>,
    place: usize,
    resource: fn(&O) -> &K,
    change: impl Fn(Key, Option<O>, &mut Shared) -> Option<Change> + Send + 'static,
) -> Feed
where
    O: Send + 'static,
    K: Resource + 'static,
{
    let mut known: BTreeSet<Key> = BTreeSet::new();
    let mut shared = Shared::default();
    let mut unseen: Option<BTreeSet<Key>> = None;
    seen.flat_map(move |seen| {
        let mut heard = Vec::new();
        match seen {
            Seen::Begin => unseen = Some(known.clone()),
            Seen::Object(object) => {
                let key = named(resource(&object).meta(), &known, &mut shared);
                if let Some(unseen) = &mut unseen {
                    unseen.remove(&key);
                }
                known.insert(key.clone());
                heard.extend(change(key, Some(object), &mut shared).map(Heard::Change));
            }
            Seen::Gone(object) => {
                let key = Key::of(resource(&object).meta());
                known.remove(&key);
                heard.extend(change(key, None, &mut shared).map(Heard::Change));
            }
            Seen::Synced => {
                for key in unseen.take().into_iter().flatten() {
                    known.remove(&key);
                    heard.extend(change(key, None, &mut shared).map(Heard::Change));
                }
                heard.push(Heard::Synced(place));
            }
            Seen::Broken { why, missing_kind } => {
                heard.push(Heard::Broken { feed: place, why, missing_kind });
            }
        }
        stream::iter(heard)
    })
    .boxed()
}

/// An object's name, the one copy of it where it is known.
fn named(metadata: &ObjectMeta, known: &BTreeSet<Key>, shared: &mut Shared) -> Key {
    let key = Key::of(metadata);
    known.get(&key).cloned().unwrap_or_else(|| Key { namespace: shared.text(&key.namespace), name: key.name })
}
