//! What is known of the cluster: the watched objects, read down to what is used, and who belongs to whom.
//!
//! Owns the indexes: pods by owner, owners of owners, profiles by target. Writes of ours are noted at once, so that the
//! next look does not see the time before them; an older version never replaces a newer one.

mod pod;

pub(crate) use pod::{DELETION_COST, MARK, OWN_COST, PodRecord};

use crate::shared::Shared;
use crate::slim;
use api::kapacity::{
    HorizontalPortrait, IntelligentHorizontalPodAutoscaler as Ihpa, PortraitSpec, ReplicaProfile,
};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Label on what we install ourselves: a Deployment of the peer's name that carries it is us.
const OUR_LABEL: (&str, &str) = ("app.kubernetes.io/name", "tideline");

/// What `kubectl apply` keeps of its last file.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A namespaced object's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: Arc::from(namespace), name: Arc::from(name) }
    }

    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
        Self { namespace: text(&metadata.namespace), name: text(&metadata.name) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A kind of workload: the three that are watched, and any other that has a scale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Deployment,
    ReplicaSet,
    StatefulSet,
    Custom { group: Arc<str>, kind: Arc<str> },
}

impl Kind {
    /// Reads the kind of a reference, whatever the version in it; without one the three are of `apps`.
    pub(crate) fn of(reference: &CrossVersionObjectReference) -> Self {
        let version = reference.api_version.as_deref().unwrap_or_default();
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        Self::named(if version.is_empty() { "apps" } else { group }, &reference.kind)
    }

    fn named(group: &str, kind: &str) -> Self {
        match (group, kind) {
            ("apps" | "extensions", "Deployment") => Self::Deployment,
            ("apps" | "extensions", "ReplicaSet") => Self::ReplicaSet,
            ("apps", "StatefulSet") => Self::StatefulSet,
            _ => Self::Custom { group: Arc::from(group), kind: Arc::from(kind) },
        }
    }
}

/// A workload that is scaled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TargetKey {
    pub(crate) kind: Kind,
    pub(crate) key: Key,
}

impl TargetKey {
    pub(crate) fn of(namespace: &str, reference: &CrossVersionObjectReference) -> Self {
        Self { kind: Kind::of(reference), key: Key::new(namespace, &reference.name) }
    }
}

/// One of the three watched workloads.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadRecord {
    pub(crate) uid: Arc<str>,
    pub(crate) owner: Option<Owner>,
    pub(crate) replicas: u32,
    pub(crate) status_replicas: u32,
    /// Its pods are being replaced by others.
    pub(crate) rolling: bool,
    ours: bool,
}

/// Who controls an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Arc<str>,
}

impl Owner {
    pub(crate) fn of(metadata: &ObjectMeta) -> Option<Self> {
        let owner =
            metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        Some(Self {
            kind: Kind::named(group, &owner.kind),
            name: Arc::from(owner.name.as_str()),
            uid: Arc::from(owner.uid.as_str()),
        })
    }

    /// The same with texts that others have too.
    fn kept_in(self, shared: &mut Shared) -> Self {
        Self { name: shared.text(&self.name), uid: shared.text(&self.uid), ..self }
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) ihpas: BTreeMap<Key, Arc<Ihpa>>,
    pub(crate) portraits: BTreeMap<Key, Arc<HorizontalPortrait>>,
    pub(crate) profiles: BTreeMap<Key, Arc<ReplicaProfile>>,
    pub(crate) pods: BTreeMap<Key, Arc<PodRecord>>,
    pub(crate) workloads: BTreeMap<TargetKey, WorkloadRecord>,
    hpas: BTreeMap<Key, TargetKey>,
    /// Pods, and sets of pods, by the UID of who controls them.
    pods_of: BTreeMap<Arc<str>, BTreeSet<Key>>,
    sets_of: BTreeMap<Arc<str>, BTreeSet<TargetKey>>,
    profiles_of: BTreeMap<TargetKey, BTreeSet<Key>>,
    /// Profiles of kinds that are not watched, by namespace.
    custom: BTreeMap<Arc<str>, BTreeSet<Key>>,
    /// Running Deployments of the peer's.
    peers: BTreeSet<Key>,
    /// Portraits by the UID of the autoscaler that controls them.
    portraits_of: BTreeMap<Arc<str>, BTreeSet<Key>>,
    ihpas_of: BTreeMap<TargetKey, BTreeSet<Key>>,
}

/// Whether a version is older than another; versions that are no numbers never are.
fn is_older(new: &ObjectMeta, old: &ObjectMeta) -> bool {
    let number =
        |meta: &ObjectMeta| meta.resource_version.as_deref().and_then(|text| text.parse::<u64>().ok());
    new.uid == old.uid && matches!((number(new), number(old)), (Some(new), Some(old)) if new < old)
}

fn put<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: K, value: V) {
    index.entry(key).or_default().insert(value);
}

fn take<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}

/// Takes off what is never read: who wrote which field is longer than most objects. A write without it keeps it.
fn lighten(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.owner_references.iter_mut().for_each(Vec::shrink_to_fit);
    metadata.finalizers.iter_mut().for_each(Vec::shrink_to_fit);
}

/// Gives back the room that decoding leaves: a list of one has room for four, and one metric is most of a kilobyte.
fn tighten_portrait(spec: &mut PortraitSpec) {
    spec.metrics.shrink_to_fit();
}

fn tighten_ihpa(ihpa: &mut Ihpa) {
    ihpa.spec.portrait_providers.shrink_to_fit();
    let portraits = ihpa.spec.portrait_providers.iter_mut().filter_map(|provider| provider.dynamic.as_mut());
    portraits.for_each(tighten_portrait);
    if let Some(status) = &mut ihpa.status {
        status.conditions.shrink_to_fit();
        status.outlook.shrink_to_fit();
    }
}

impl Cache {
    pub(crate) fn note_ihpa(&mut self, mut ihpa: Ihpa) {
        let key = Key::of(&ihpa.metadata);
        lighten(&mut ihpa.metadata);
        tighten_ihpa(&mut ihpa);
        // Only its status is ever replaced, which leaves annotations alone.
        if let Some(annotations) = &mut ihpa.metadata.annotations {
            annotations.remove(LAST_APPLIED);
        }
        if self.ihpas.get(&key).is_some_and(|known| is_older(&ihpa.metadata, &known.metadata)) {
            return;
        }
        self.forget_ihpa(&key);
        put(&mut self.ihpas_of, TargetKey::of(&key.namespace, &ihpa.spec.scale_target_ref), key.clone());
        self.ihpas.insert(key, Arc::new(ihpa));
    }

    pub(crate) fn forget_ihpa(&mut self, key: &Key) {
        if let Some(old) = self.ihpas.remove(key) {
            take(&mut self.ihpas_of, &TargetKey::of(&key.namespace, &old.spec.scale_target_ref), key);
        }
    }

    pub(crate) fn note_portrait(&mut self, mut portrait: HorizontalPortrait) {
        let key = Key::of(&portrait.metadata);
        lighten(&mut portrait.metadata);
        tighten_portrait(&mut portrait.spec.portrait);
        portrait.status.iter_mut().for_each(|status| status.conditions.shrink_to_fit());
        if self.portraits.get(&key).is_some_and(|known| is_older(&portrait.metadata, &known.metadata)) {
            return;
        }
        self.forget_portrait(&key);
        if let Some(owner) = Owner::of(&portrait.metadata) {
            put(&mut self.portraits_of, owner.uid, key.clone());
        }
        self.portraits.insert(key, Arc::new(portrait));
    }

    pub(crate) fn forget_portrait(&mut self, key: &Key) {
        if let Some(owner) = self.portraits.remove(key).and_then(|old| Owner::of(&old.metadata)) {
            take(&mut self.portraits_of, &owner.uid, key);
        }
    }

    /// Portraits that an autoscaler controls.
    pub(crate) fn portraits_of(&self, uid: &str) -> Vec<Arc<HorizontalPortrait>> {
        let keys = self.portraits_of.get(uid).into_iter().flatten();
        keys.filter_map(|key| self.portraits.get(key)).cloned().collect()
    }

    pub(crate) fn note_profile(&mut self, mut profile: ReplicaProfile) {
        let key = Key::of(&profile.metadata);
        lighten(&mut profile.metadata);
        profile.status.iter_mut().for_each(|status| status.conditions.shrink_to_fit());
        if self.profiles.get(&key).is_some_and(|known| is_older(&profile.metadata, &known.metadata)) {
            return;
        }
        self.forget_profile(&key);
        let target = TargetKey::of(&key.namespace, &profile.spec.scale_target_ref);
        if matches!(target.kind, Kind::Custom { .. }) {
            put(&mut self.custom, key.namespace.clone(), key.clone());
        }
        put(&mut self.profiles_of, target, key.clone());
        self.profiles.insert(key, Arc::new(profile));
    }

    pub(crate) fn forget_profile(&mut self, key: &Key) {
        if let Some(old) = self.profiles.remove(key) {
            take(&mut self.profiles_of, &TargetKey::of(&key.namespace, &old.spec.scale_target_ref), key);
            take(&mut self.custom, &key.namespace, key);
        }
    }

    pub(crate) fn note_hpa(&mut self, hpa: &slim::HorizontalPodAutoscaler) -> TargetKey {
        let key = Key::of(&hpa.metadata);
        let target = TargetKey::of(&key.namespace, &hpa.spec.scale_target_ref);
        self.hpas.insert(key, target.clone());
        target
    }

    pub(crate) fn forget_hpa(&mut self, key: &Key) -> Option<TargetKey> {
        self.hpas.remove(key)
    }

    /// The HPA that scales a target, the first by name.
    pub(crate) fn hpa_of(&self, target: &TargetKey) -> Option<&Key> {
        let first = Key { namespace: target.key.namespace.clone(), name: Arc::from("") };
        self.hpas
            .range(first..)
            .take_while(|(key, _)| key.namespace == target.key.namespace)
            .find(|(_, scaled)| *scaled == target)
            .map(|(key, _)| key)
    }

    pub(crate) fn note_workload(&mut self, target: TargetKey, record: WorkloadRecord) {
        self.forget_workload(&target);
        let runs = !record.ours && record.replicas.max(record.status_replicas) > 0;
        if runs && target.kind == Kind::Deployment && &*target.key.name == api::kapacity::DEPLOYMENT {
            self.peers.insert(target.key.clone());
        }
        if let Some(owner) = &record.owner {
            put(&mut self.sets_of, owner.uid.clone(), target.clone());
        }
        self.workloads.insert(target, record);
    }

    pub(crate) fn forget_workload(&mut self, target: &TargetKey) {
        if let Some(owner) = self.workloads.remove(target).and_then(|old| old.owner) {
            take(&mut self.sets_of, &owner.uid, target);
        }
        if target.kind == Kind::Deployment {
            self.peers.remove(&target.key);
        }
    }

    pub(crate) fn note_pod(&mut self, key: Key, record: PodRecord) {
        if self.pods.get(&key).is_some_and(|known| known.uid == record.uid && record.version < known.version)
        {
            return;
        }
        self.forget_pod(&key);
        if let Some(owner) = &record.owner {
            put(&mut self.pods_of, owner.uid.clone(), key.clone());
        }
        self.pods.insert(key, Arc::new(record));
    }

    pub(crate) fn forget_pod(&mut self, key: &Key) {
        if let Some(owner) = self.pods.remove(key).as_ref().and_then(|old| old.owner.as_ref()) {
            take(&mut self.pods_of, &owner.uid, key);
        }
    }

    /// Pods controlled by an object, directly or through sets that it controls.
    pub(crate) fn pods_of(&self, uid: &Arc<str>) -> Vec<Arc<PodRecord>> {
        let sets = self.sets_of.get(uid).into_iter().flatten();
        let sets = sets.filter_map(|set| self.workloads.get(set)).map(|set| &set.uid);
        let keys = std::iter::once(uid).chain(sets).filter_map(|uid| self.pods_of.get(uid)).flatten();
        keys.filter_map(|key| self.pods.get(key)).cloned().collect()
    }

    /// Pods of a namespace that a selector matches.
    pub(crate) fn pods_matching(
        &self,
        namespace: &Arc<str>,
        selector: &model::LabelSelector,
    ) -> Vec<Arc<PodRecord>> {
        let first = Key { namespace: namespace.clone(), name: Arc::from("") };
        let pods = self.pods.range(first..).take_while(|(key, _)| key.namespace == *namespace);
        pods.filter(|(_, pod)| selector.matches(&pod.labels())).map(|(_, pod)| pod.clone()).collect()
    }

    /// Workloads that a pod may belong to: who controls it, and who controls that.
    pub(crate) fn targets_of(&self, pod: &PodRecord) -> Vec<TargetKey> {
        let mut targets = Vec::new();
        let mut owner = pod.owner.clone();
        // No chain of owners is longer.
        for _ in 0..3 {
            let Some(next) = owner else { break };
            let key = Key { namespace: pod.key.namespace.clone(), name: next.name };
            let target = TargetKey { kind: next.kind, key };
            owner = self.workloads.get(&target).and_then(|record| record.owner.clone());
            targets.push(target);
        }
        targets
    }

    /// Profiles that a pod may belong to.
    pub(crate) fn profiles_of_pod(&self, pod: &PodRecord) -> impl Iterator<Item = Key> + use<> {
        let targets = self.targets_of(pod);
        let owned = targets.iter().flat_map(|target| self.profiles_of(target));
        let keys: Vec<Key> = owned.chain(self.custom_profiles(&pod.key.namespace)).cloned().collect();
        keys.into_iter()
    }

    /// Profiles and autoscalers of a target.
    pub(crate) fn profiles_of(&self, target: &TargetKey) -> impl Iterator<Item = &Key> {
        self.profiles_of.get(target).into_iter().flatten()
    }

    pub(crate) fn ihpas_of(&self, target: &TargetKey) -> impl Iterator<Item = &Key> {
        self.ihpas_of.get(target).into_iter().flatten()
    }

    /// Profiles of kinds that are not watched: which pods are theirs only their selectors tell.
    pub(crate) fn custom_profiles(&self, namespace: &str) -> impl Iterator<Item = &Key> {
        self.custom.get(namespace).into_iter().flatten()
    }

    /// A running Deployment of the peer's, which acts on the same kinds.
    pub(crate) fn peer(&self) -> Option<&Key> {
        self.peers.first()
    }
}

impl WorkloadRecord {
    pub(crate) fn deployment(set: &slim::Deployment) -> Self {
        let status = &set.status;
        let behind = status.observed_generation.is_some_and(|seen| Some(seen) < set.metadata.generation);
        let replacing = status.updated_replicas < status.replicas;
        Self {
            rolling: !set.spec.paused && (behind || replacing),
            ..Self::plain(&set.metadata, &set.spec, status)
        }
    }

    pub(crate) fn stateful_set(set: &slim::StatefulSet) -> Self {
        let (status, strategy) = (&set.status, &set.spec.update_strategy);
        let on_delete = strategy.type_.as_deref() == Some("OnDelete");
        // Pods below the partition are not replaced.
        let kept = strategy.rolling_update.as_ref().and_then(|rolling| rolling.partition).unwrap_or(0);
        let replacing = status.current_revision != status.update_revision
            && status.updated_replicas < status.replicas.saturating_sub(kept);
        Self { rolling: !on_delete && replacing, ..Self::plain(&set.metadata, &set.spec, status) }
    }

    /// What all three have in common; a ReplicaSet's pods are never replaced by itself.
    pub(crate) fn plain(
        metadata: &ObjectMeta,
        spec: &slim::WorkloadSpec,
        status: &slim::WorkloadStatus,
    ) -> Self {
        let labels = metadata.labels.as_ref();
        Self {
            uid: Arc::from(metadata.uid.as_deref().unwrap_or_default()),
            owner: Owner::of(metadata),
            replicas: u32::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0),
            status_replicas: u32::try_from(status.replicas).unwrap_or(0),
            rolling: false,
            ours: labels.and_then(|labels| labels.get(OUR_LABEL.0)).is_some_and(|name| name == OUR_LABEL.1),
        }
    }
}

/// Whether an object is controlled by another, by UID.
pub(crate) fn is_controlled_by(object: &ObjectMeta, owner: &impl kube::Resource) -> bool {
    let uid = owner.meta().uid.as_deref();
    object.owner_references.iter().flatten().any(|reference| {
        reference.controller == Some(true)
            && Some(reference.uid.as_str()) == uid
            && owner.name_any() == reference.name
    })
}
