//! Feeds of what headroom is made from: `CapacityBuffer`s, `ProvisioningRequest`s, and the templates and workloads that
//! they name.
//!
//! Owns which kinds are watched. What they come to is `capacity`'s, because no single object says it.

use super::{Heard, Listing, Source};
use crate::capacity::{Name, Told};
use clouds::watching::{Seen, WatchSettings, watch};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use intake::slim::{PodTemplateObject, TemplatedSpec};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::ReplicationController;
use kube::core::{ApiResource, NotUsed, Object};
use kube::{Api, Client, Resource, ResourceExt as _};
use model::WorkloadKey;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

/// Watches of what is followed of both; their places are those in the list. None where nothing is.
pub(in crate::observe) fn all(
    client: &Client,
    settings: WatchSettings,
    buffers: Option<&ApiResource>,
    requests: Option<&ApiResource>,
) -> Vec<BoxStream<'static, Heard>> {
    let mut feeds = Vec::new();
    if buffers.is_some() || requests.is_some() {
        feeds.push(told(
            Api::<PodTemplateObject>::all(client.clone()),
            (settings, feeds.len(), "podtemplates"),
            |object| {
                let kind = intake::pod_kind(&object.template, None, object.metadata.generation);
                Told::Template(name_of(object), Some(kind.map(Arc::new)))
            },
            |name| Told::Template(name, None),
        ));
    }
    if let Some(requests) = requests {
        feeds.push(told(
            Api::<Object<Value, Value>>::all_with(client.clone(), requests),
            (settings, feeds.len(), "provisioningrequests"),
            |object| Told::Request(name_of(object), Some(Box::new(object.clone()))),
            |name| Told::Request(name, None),
        ));
    }
    let Some(buffers) = buffers else { return feeds };
    feeds.push(told(
        Api::<Object<Value, Value>>::all_with(client.clone(), buffers),
        (settings, feeds.len(), "capacitybuffers"),
        |object| Told::Buffer(name_of(object), Some(Box::new(object.clone()))),
        |name| Told::Buffer(name, None),
    ));
    for (what, kind) in [
        ("deployments", ApiResource::erase::<Deployment>(&())),
        ("statefulsets", ApiResource::erase::<StatefulSet>(&())),
        ("replicasets", ApiResource::erase::<ReplicaSet>(&())),
        ("replicationcontrollers", ApiResource::erase::<ReplicationController>(&())),
    ] {
        feeds.push(workloads(client, settings, feeds.len(), what, &kind));
    }
    feeds
}

fn workloads(
    client: &Client,
    settings: WatchSettings,
    place: usize,
    what: &'static str,
    resource: &ApiResource,
) -> BoxStream<'static, Heard> {
    let kind: Arc<str> = Arc::from(resource.kind.as_str());
    let of = Arc::clone(&kind);
    let key = move |(namespace, name): Name| WorkloadKey { kind: Arc::clone(&kind), namespace, name };
    let gone = key.clone();
    told(
        Api::<Object<TemplatedSpec, NotUsed>>::all_with(client.clone(), resource),
        (settings, place, what),
        move |object| {
            // Nobody names what another workload makes.
            let made = &*of == "ReplicaSet" && !object.owner_references().is_empty();
            let (template, replicas) = (&object.spec.template, object.spec.replicas.unwrap_or(1));
            let pods = || intake::pod_kind(template, Some(replicas), object.metadata.generation);
            Told::Workload(key(name_of(object)), (!made).then(|| pods().map(Arc::new)))
        },
        move |name| Told::Workload(gone(name), None),
    )
}

fn name_of<K: Resource>(object: &K) -> Name {
    (Arc::from(object.namespace().unwrap_or_default()), Arc::from(object.name_any()))
}

/// A feed of one kind; what is missing from a list is gone.
fn told<K>(
    api: Api<K>,
    (settings, place, what): (WatchSettings, usize, &'static str),
    read: impl Fn(&K) -> Told + Send + 'static,
    gone: impl Fn(Name) -> Told + Send + 'static,
) -> BoxStream<'static, Heard>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let source = Source::Capacity(place);
    let mut listing = Listing::default();
    watch(api, what, settings)
        .map(move |seen| {
            let mut out = VecDeque::new();
            match seen {
                Seen::Begin => listing.begin(),
                Seen::Object(object) => {
                    listing.note(name_of(&object));
                    out.push_back(Heard::Capacity(read(&object)));
                }
                Seen::Gone(object) => {
                    let name = name_of(&object);
                    listing.forget(&name);
                    out.push_back(Heard::Capacity(gone(name)));
                }
                Seen::Synced => {
                    out.extend(listing.end().into_iter().map(|name| Heard::Capacity(gone(name))));
                    out.push_back(Heard::Synced(source));
                }
                Seen::Broken { why, missing_kind: true } => out.push_back(Heard::Absent(source, why)),
                Seen::Broken { why, .. } => out.push_back(Heard::Broken(source, why)),
            }
            stream::iter(out)
        })
        .flatten()
        .boxed()
}
