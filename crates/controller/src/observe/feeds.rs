//! One feed for each kind that is watched: slim objects in, changes out, and what is missing from a list is gone.
//!
//! Owns the table of kinds and the stand-ins for unreadable objects. A stand-in errs to the side of leaving things
//! alone: an unreadable pod holds its node, an unreadable budget allows no disruption.

pub(super) mod capacity;
mod devices;
mod outlooks;
mod storage;

use crate::capacity::Told;
use clock::Clock;
use clouds::watching::{Pods, Seen, WatchSettings, watch};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use intake::{IntakeError, slim};
use jiff::Timestamp;
use kube::api::Api;
use kube::{Client, Resource, ResourceExt as _};
use model::{
    Change, DaemonSetKey, Input, LabelSelector, NodeName, Pdb, PdbKey, Pod, PodKey, PodPhase, PodShape,
    RuleSetKey, SafeToEvict, Uid, UnhealthyPodEviction, UnmodelledRule, WorkloadKey,
};
use serde::de::DeserializeOwned;
use std::borrow::Borrow;
use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

/// Which watch something came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Nodes,
    Pods,
    /// One of the four kinds that together are the workloads.
    Workloads(usize),
    DaemonSets,
    Pdbs,
    Namespaces,
    NodeRules,
    /// One of the three kinds that tell of pods to come.
    Outlooks(usize),
    /// Buffers, and what they name.
    Capacity(usize),
    /// Claims, volumes, classes.
    Volumes(usize),
    /// CSI drivers on nodes, drivers, capacities, attachments.
    Attachments(usize),
    /// Slices of devices, classes, claims, templates of claims.
    Devices(usize),
}

impl Source {
    /// The input that it belongs to, and its place among that input's sources.
    pub(crate) fn input(self) -> (Input, usize) {
        match self {
            Self::Nodes => (Input::Nodes, 0),
            Self::Pods => (Input::Pods, 0),
            Self::Workloads(place) => (Input::Workloads, place),
            Self::DaemonSets => (Input::DaemonSets, 0),
            Self::Pdbs => (Input::Pdbs, 0),
            Self::Namespaces => (Input::Namespaces, 0),
            Self::NodeRules => (Input::NodeRules, 0),
            Self::Outlooks(place) => (Input::Outlooks, place),
            Self::Capacity(place) => (Input::Headroom, place),
            Self::Volumes(place) => (Input::Volumes, place),
            Self::Attachments(place) => (Input::Attachments, place),
            Self::Devices(place) => (Input::Devices, place),
        }
    }

    pub(crate) fn count_of(input: &Input) -> usize {
        match input {
            Input::Workloads => 4,
            Input::Outlooks => outlooks::SOURCES,
            Input::Volumes => storage::VOLUME_SOURCES,
            Input::Attachments => storage::ATTACHMENT_SOURCES,
            Input::Devices => devices::SOURCES,
            _ => 1,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Change(Change),
    /// Of an object that headroom is made from.
    Capacity(Told),
    /// An object that cannot be read, and what to take in its place.
    Unreadable {
        object: Arc<str>,
        why: Arc<str>,
        instead: Change,
    },
    Synced(Source),
    Broken(Source, Arc<str>),
    /// The server does not know the kind.
    Absent(Source, Arc<str>),
}

/// How one kind becomes changes.
struct Kind<K, Key> {
    what: &'static str,
    source: Source,
    key: fn(&K) -> Key,
    read: fn(&K) -> Result<Change, IntakeError>,
    gone: fn(Key) -> Change,
    instead: fn(&K) -> Change,
}

/// What objects tell of pods to come.
pub(crate) fn ahead(
    client: &Client,
    settings: WatchSettings,
    clock: Clock,
) -> Vec<BoxStream<'static, Heard>> {
    outlooks::all(client, settings, clock)
}

/// The feeds of all kinds; with `narrow` rights, of those that a Cluster Autoscaler may read. Without `shared` pods they
/// are watched here.
pub(crate) fn all(
    client: &Client,
    settings: WatchSettings,
    narrow: bool,
    shared: Option<Pods>,
) -> Vec<BoxStream<'static, Heard>> {
    let pods = match shared {
        Some(shared) => feed_of(shared, &PODS),
        None => feed(client, settings, &PODS),
    };
    let mut feeds = vec![nodes(client, settings), pods, pdbs(client, settings)];
    feeds.push(daemon_sets(client, settings));
    feeds.extend(storage::all(client, settings, narrow));
    feeds.push(namespaces(client, settings));
    if !narrow {
        feeds.push(node_rules(client, settings));
        feeds.extend(devices::all(client, settings));
    }
    feeds.push(workloads(client, settings, 0, "replicasets", "ReplicaSet", |set: &slim::ReplicaSet| {
        intake::replica_set(set)
    }));
    feeds.push(workloads(client, settings, 1, "statefulsets", "StatefulSet", |set: &slim::StatefulSet| {
        intake::stateful_set(set)
    }));
    feeds.push(workloads(client, settings, 2, "jobs", "Job", |job: &slim::Job| intake::job(job)));
    feeds.push(workloads(
        client,
        settings,
        3,
        "replicationcontrollers",
        "ReplicationController",
        |rc: &slim::ReplicationController| intake::replication_controller(rc),
    ));
    feeds
}

fn nodes(client: &Client, settings: WatchSettings) -> BoxStream<'static, Heard> {
    feed(
        client,
        settings,
        &Kind {
            what: "nodes",
            source: Source::Nodes,
            key: |node: &slim::Node| NodeName::from(node.name_any()),
            read: |node| intake::node(node).map(|node| Change::Node(node.name.clone(), Some(Arc::new(node)))),
            gone: |name| Change::Node(name, None),
            instead: |node| Change::Node(NodeName::from(node.name_any()), None),
        },
    )
}

const PODS: Kind<slim::Pod, PodKey> = Kind {
    what: "pods",
    source: Source::Pods,
    key: pod_key,
    read: |pod| intake::pod(pod).map(|pod| Change::Pod(pod.key.clone(), Some(Arc::new(pod)))),
    gone: |key| Change::Pod(key, None),
    instead: |pod| Change::Pod(pod_key(pod), unreadable_pod(pod).map(Arc::new)),
};

fn pdbs(client: &Client, settings: WatchSettings) -> BoxStream<'static, Heard> {
    fn key(pdb: &slim::PodDisruptionBudget) -> PdbKey {
        PdbKey::new(pdb.namespace().unwrap_or_default(), pdb.name_any())
    }
    feed(
        client,
        settings,
        &Kind {
            what: "poddisruptionbudgets",
            source: Source::Pdbs,
            key,
            read: |pdb| intake::pdb(pdb).map(|pdb| Change::Pdb(pdb.key.clone(), Some(Arc::new(pdb)))),
            gone: |key| Change::Pdb(key, None),
            instead: |pdb| {
                let stand_in = Pdb {
                    key: key(pdb),
                    selector: Some(LabelSelector::default()),
                    disruptions_allowed: 0,
                    status_is_current: false,
                    unhealthy_pod_eviction: UnhealthyPodEviction::IfHealthyBudget,
                };
                Change::Pdb(key(pdb), Some(Arc::new(stand_in)))
            },
        },
    )
}

fn daemon_sets(client: &Client, settings: WatchSettings) -> BoxStream<'static, Heard> {
    fn key(set: &slim::DaemonSet) -> DaemonSetKey {
        DaemonSetKey::new(set.namespace().unwrap_or_default(), set.name_any())
    }
    feed(
        client,
        settings,
        &Kind {
            what: "daemonsets",
            source: Source::DaemonSets,
            key,
            read: |set| {
                intake::daemon_set(set).map(|set| Change::DaemonSet(set.key.clone(), Some(Arc::new(set))))
            },
            gone: |key| Change::DaemonSet(key, None),
            instead: |set| Change::DaemonSet(key(set), None),
        },
    )
}

/// Only labels are read of a namespace, so none is unreadable.
fn namespaces(client: &Client, settings: WatchSettings) -> BoxStream<'static, Heard> {
    feed(
        client,
        settings,
        &Kind {
            what: "namespaces",
            source: Source::Namespaces,
            key: |namespace: &slim::Namespace| Arc::from(namespace.name_any()),
            read: |namespace| {
                let (name, labels) = intake::namespace(namespace);
                Ok(Change::Namespace(name, Some(Arc::new(labels))))
            },
            gone: |name| Change::Namespace(name, None),
            instead: |namespace| Change::Namespace(Arc::from(namespace.name_any()), None),
        },
    )
}

/// What is wrong with an object is said in its own status, so none is unreadable.
fn node_rules(client: &Client, settings: WatchSettings) -> BoxStream<'static, Heard> {
    fn key(object: &slim::HorizontalNodeAutoscaler) -> RuleSetKey {
        RuleSetKey::new(object.namespace().unwrap_or_default(), object.name_any())
    }
    feed(
        client,
        settings,
        &Kind {
            what: api::node_rules::PLURAL,
            source: Source::NodeRules,
            key,
            read: |object| Ok(Change::RuleSet(key(object), Some(Arc::new(intake::rule_set(object))))),
            gone: |key| Change::RuleSet(key, None),
            instead: |object| Change::RuleSet(key(object), None),
        },
    )
}

fn workloads<K>(
    client: &Client,
    settings: WatchSettings,
    place: usize,
    what: &'static str,
    kind: &'static str,
    convert: fn(&K) -> model::Workload,
) -> BoxStream<'static, Heard>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let key =
        move |object: &K| WorkloadKey::new(kind, object.namespace().unwrap_or_default(), object.name_any());
    let change = move |object: &K| {
        let workload = convert(object);
        Change::Workload(workload.key.clone(), Some(Arc::new(workload)))
    };
    readable(client, settings, Source::Workloads(place), what, key, change, |key| Change::Workload(key, None))
}

/// The feed of a kind whose objects cannot be unreadable: their conversion has no error.
fn readable<K, Key>(
    client: &Client,
    settings: WatchSettings,
    source: Source,
    what: &'static str,
    key: impl Fn(&K) -> Key + Send + 'static,
    mut change: impl FnMut(&K) -> Change + Send + 'static,
    gone: fn(Key) -> Change,
) -> BoxStream<'static, Heard>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    Key: Ord + Clone + Send + 'static,
{
    let watched = watch(Api::<K>::all(client.clone()), what, settings);
    let mut listing = Listing::default();
    watched
        .map(move |seen| {
            let out = match seen {
                Seen::Object(object) => {
                    listing.note(key(&object));
                    vec![Heard::Change(change(&object))]
                }
                Seen::Gone(object) => {
                    listing.forget(&key(&object));
                    vec![Heard::Change(gone(key(&object)))]
                }
                Seen::Begin => {
                    listing.begin();
                    Vec::new()
                }
                Seen::Synced => {
                    let missing = listing.end().into_iter();
                    let mut out: Vec<_> = missing.map(|key| Heard::Change(gone(key))).collect();
                    out.push(Heard::Synced(source));
                    out
                }
                Seen::Broken { why, missing_kind: true } => vec![Heard::Absent(source, why)],
                Seen::Broken { why, .. } => vec![Heard::Broken(source, why)],
            };
            stream::iter(out)
        })
        .flatten()
        .boxed()
}

fn feed<K, Key>(client: &Client, settings: WatchSettings, kind: &Kind<K, Key>) -> BoxStream<'static, Heard>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    Key: Ord + Clone + Send + 'static,
{
    feed_of(watch(Api::<K>::all(client.clone()), kind.what, settings), kind)
}

fn feed_of<K, O, Key>(watched: BoxStream<'static, Seen<O>>, kind: &Kind<K, Key>) -> BoxStream<'static, Heard>
where
    K: Resource<DynamicType = ()> + Send + Sync + 'static,
    O: Borrow<K> + Send + 'static,
    Key: Ord + Clone + Send + 'static,
{
    let Kind { what, source, key, read, gone, instead } = *kind;
    let mut listing = Listing::default();
    watched
        .map(move |seen| {
            let mut out = VecDeque::new();
            match seen {
                Seen::Begin => listing.begin(),
                Seen::Object(object) => {
                    let object: &K = object.borrow();
                    listing.note(key(object));
                    out.push_back(match read(object) {
                        Ok(change) => Heard::Change(change),
                        Err(error) => Heard::Unreadable {
                            object: Arc::from(name_of(what, object)),
                            why: Arc::from(error.to_string()),
                            instead: instead(object),
                        },
                    });
                }
                Seen::Gone(object) => {
                    let name = key(object.borrow());
                    listing.forget(&name);
                    out.push_back(Heard::Change(gone(name)));
                }
                Seen::Synced => {
                    out.extend(listing.end().into_iter().map(|name| Heard::Change(gone(name))));
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

/// The keys that exist, and those that the list under way has named.
struct Listing<Key> {
    known: BTreeSet<Key>,
    listed: Option<BTreeSet<Key>>,
}

impl<Key> Default for Listing<Key> {
    fn default() -> Self {
        Self { known: BTreeSet::new(), listed: None }
    }
}

impl<Key: Ord + Clone> Listing<Key> {
    fn begin(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    fn note(&mut self, key: Key) {
        if let Some(listed) = &mut self.listed {
            listed.insert(key);
        } else {
            self.known.insert(key);
        }
    }

    fn forget(&mut self, key: &Key) {
        self.known.remove(key);
        if let Some(listed) = &mut self.listed {
            listed.remove(key);
        }
    }

    /// The keys that were known and are not in the finished list.
    fn end(&mut self) -> Vec<Key> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let gone = self.known.difference(&listed).cloned().collect();
        self.known = listed;
        gone
    }
}

fn name_of<K: Resource<DynamicType = ()>>(what: &str, object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{what} {namespace}/{}", object.name_any()),
        None => format!("{what} {}", object.name_any()),
    }
}

fn pod_key(pod: &slim::Pod) -> PodKey {
    PodKey::new(pod.namespace().unwrap_or_default(), pod.name_any())
}

/// Stands for a bound pod that cannot be read: it keeps its node, whatever it is. An unbound one is left out.
fn unreadable_pod(pod: &slim::Pod) -> Option<Pod> {
    let node = pod.spec.node_name.as_deref().filter(|name| !name.is_empty())?;
    let shape = PodShape { unmodelled: vec![UnmodelledRule::Volumes], ..Default::default() };
    Some(Pod {
        key: pod_key(pod),
        uid: Uid::from(pod.uid().unwrap_or_default()),
        shape: Arc::new(shape),
        labels: model::Labels::new(),
        owner: None,
        created_at: pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |at| at.0),
        phase: PodPhase::Running,
        ready: false,
        node: Some(NodeName::from(node)),
        nominated: None,
        unschedulable_since: None,
        gated: false,
        deletion_at: None,
        grace_seconds: 30,
        safe_to_evict: SafeToEvict::No,
        mirror: false,
        daemon: false,
        terminal: false,
        local_volumes: Vec::new(),
        claims: None,
        scale_up_delay_seconds: None,
        consumes: None,
        evict_daemon: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_second_list_does_not_name_is_gone() {
        let mut listing = Listing::default();
        listing.begin();
        listing.note(1);
        listing.note(2);
        assert!(listing.end().is_empty());
        listing.note(3);
        listing.begin();
        listing.note(2);
        assert_eq!(listing.end(), vec![1, 3]);
        assert!(listing.end().is_empty());
    }

    #[test]
    fn an_unreadable_pod_holds_its_node() {
        let mut pod = slim::Pod::default();
        assert!(unreadable_pod(&pod).is_none());
        pod.spec.node_name = Some("n1".into());
        let stand_in = unreadable_pod(&pod).unwrap();
        assert_eq!(stand_in.safe_to_evict, SafeToEvict::No);
        assert!(stand_in.occupies());
    }
}
