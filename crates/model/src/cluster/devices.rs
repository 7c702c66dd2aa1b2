//! Devices joined with the pods that claim them and the nodes that have them, kept current with every change.
//!
//! Owns the counting: requests that accept the same devices count as one resource, of which a pod asks for some and a
//! node has some; where two kinds of requests share devices in part, neither can be counted and both say so. A claim
//! that is not of one pod alone holds its devices, and the pods that name it find it on its node only.

use super::storage::{Touched, is_live, remove_from};
use crate::devices::accepts;
use crate::{
    DEVICE_CLAIM_PREFIX, DEVICE_CLASS_PREFIX, DeviceAsk, DeviceChange, DeviceClaim, DeviceClass, DeviceId,
    DeviceRequest, DeviceSlice, DeviceTerm, NodeName, Pod, PodKey, PodShape, ResourceName, Resources,
    UnmodelledRule, VolumeClaimKey,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Kinds of requests that are told apart; what asks for more than these is not modelled.
const MOST_KINDS: usize = 64;
/// Pods that may name one allocated claim.
const SHARERS: u64 = 1 << 20;

/// What a request accepts: a class, narrowed by terms.
type Kind = (Arc<str>, Vec<DeviceTerm>);

/// Driver and name of a pool of devices.
type PoolKey = (Arc<str>, Arc<str>);

/// All that is known of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Devices {
    slices: BTreeMap<Arc<str>, Arc<DeviceSlice>>,
    classes: BTreeMap<Arc<str>, Arc<DeviceClass>>,
    claims: BTreeMap<VolumeClaimKey, Arc<DeviceClaim>>,
    templates: BTreeMap<VolumeClaimKey, Arc<DeviceAsk>>,

    /// Pods that have not ended, by the claims that they name; whether each is bound.
    #[serde(skip)]
    users: BTreeMap<VolumeClaimKey, BTreeMap<PodKey, bool>>,
    /// All pods that have not ended and claim devices.
    #[serde(skip)]
    pods: BTreeSet<PodKey>,
    /// How many claims and templates ask for each kind.
    #[serde(skip)]
    asked: BTreeMap<Kind, u32>,
    /// Claims by the pools of the devices that they were given.
    #[serde(skip)]
    given: BTreeMap<PoolKey, BTreeSet<VolumeClaimKey>>,
    #[serde(skip)]
    pools: BTreeMap<PoolKey, Counted>,
    #[serde(skip)]
    pools_of: BTreeMap<NodeName, BTreeSet<PoolKey>>,
    /// The resource that a kind counts as.
    #[serde(skip)]
    names: BTreeMap<Kind, Result<ResourceName, UnmodelledRule>>,
}

/// The devices of a pool that is published whole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    node: Option<NodeName>,
    /// Those that each kind of request accepts.
    by_kind: BTreeMap<Kind, Result<BTreeSet<Arc<str>>, UnmodelledRule>>,
    all: BTreeSet<Arc<str>>,
}

impl Devices {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn knows(&self, change: &DeviceChange) -> bool {
        match change {
            DeviceChange::Slice(name, slice) => self.slices.get(name) == slice.as_ref(),
            DeviceChange::Class(name, class) => self.classes.get(name) == class.as_ref(),
            DeviceChange::Claim(key, claim) => self.claims.get(key) == claim.as_ref(),
            DeviceChange::Template(key, ask) => self.templates.get(key) == ask.as_ref(),
        }
    }

    pub(super) fn all_pods(&self) -> BTreeSet<PodKey> {
        self.pods.clone()
    }

    pub(super) fn apply(&mut self, change: DeviceChange) -> Touched {
        fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            }
        }
        let mut touched = Touched::default();
        match change {
            DeviceChange::Slice(name, slice) => {
                let pools: BTreeSet<PoolKey> = slice.iter().map(|slice| pool_of(slice)).collect();
                let old = put(&mut self.slices, name, slice);
                for pool in old.iter().map(|slice| pool_of(slice)).chain(pools) {
                    touched.add(self.count_pool(&pool));
                }
                touched.add(self.relate());
            }
            DeviceChange::Class(name, class) => {
                put(&mut self.classes, name, class);
                touched = self.count();
            }
            DeviceChange::Template(key, ask) => {
                let now = ask.clone();
                let old = put(&mut self.templates, key, ask);
                let changed = [self.note_ask(now.as_deref(), true), self.note_ask(old.as_deref(), false)];
                touched = if changed.contains(&true) { self.count() } else { touched };
                touched.pods.extend(self.pods.iter().cloned());
            }
            DeviceChange::Claim(key, claim) => {
                touched = self.around(&key);
                if self.put_claim(&key, claim) {
                    touched.add(self.count());
                }
                touched.add(self.around(&key));
            }
        }
        touched
    }

    /// Whether other kinds of devices are asked for than before.
    fn put_claim(&mut self, key: &VolumeClaimKey, claim: Option<Arc<DeviceClaim>>) -> bool {
        let pools = |claim: &DeviceClaim| -> BTreeSet<PoolKey> {
            let given = claim.given.iter().flatten();
            given.map(|(driver, pool, _)| (Arc::clone(driver), Arc::clone(pool))).collect()
        };
        let old = self.claims.remove(key);
        let came = self.note_ask(claim.as_ref().map(|claim| &claim.ask), true);
        let went = self.note_ask(old.as_ref().map(|claim| &claim.ask), false);
        for pool in old.iter().flat_map(|old| pools(old)) {
            remove_from(&mut self.given, &pool, key);
        }
        if let Some(claim) = claim {
            for pool in pools(&claim) {
                self.given.entry(pool).or_default().insert(key.clone());
            }
            self.claims.insert(key.clone(), claim);
        }
        came || went
    }

    /// Notes what is asked for, or no longer; whether that is another kind than others ask for.
    fn note_ask(&mut self, ask: Option<&DeviceAsk>, comes: bool) -> bool {
        let mut changed = false;
        for kind in ask.and_then(|ask| ask.as_ref().ok()).into_iter().flatten().map(kind_of) {
            let count = self.asked.entry(kind.clone()).or_default();
            *count = if comes { *count + 1 } else { count.saturating_sub(1) };
            changed |= *count == u32::from(comes);
            if *count == 0 {
                self.asked.remove(&kind);
            }
        }
        changed
    }

    /// Counts everything anew.
    fn count(&mut self) -> Touched {
        let kinds: Vec<Kind> = self.asked.keys().take(MOST_KINDS).cloned().collect();
        let mut touched = Touched { pods: self.pods.clone(), ..Touched::default() };
        let pools: BTreeSet<PoolKey> = self.slices.values().map(|slice| pool_of(slice)).collect();
        self.names = kinds.into_iter().map(|kind| (kind, Err(UnmodelledRule::DeviceRequest))).collect();
        for pool in pools {
            touched.add(self.count_pool(&pool));
        }
        touched.add(self.relate());
        touched
    }

    /// Counts the devices of a pool; its nodes, and the pods that were given some of it.
    fn count_pool(&mut self, key: &PoolKey) -> Touched {
        let mut touched = Touched::default();
        let old = self.pools.remove(key);
        if let Some(node) = old.and_then(|old| old.node) {
            remove_from(&mut self.pools_of, &node, key);
            touched.nodes.insert(node);
        }
        if let Some(counted) = self.counted(key) {
            if let Some(node) = &counted.node {
                touched.nodes.insert(node.clone());
                self.pools_of.entry(node.clone()).or_default().insert(key.clone());
            }
            self.pools.insert(key.clone(), counted);
        }
        let claims = self.given.get(key).into_iter().flatten();
        let users = claims.filter_map(|claim| self.users.get(claim)).flat_map(BTreeMap::keys);
        touched.pods.extend(users.cloned());
        touched
    }

    /// Slices of a pool's newest generation, where it is published whole; else nothing of it is given.
    fn counted(&self, key: &PoolKey) -> Option<Counted> {
        let slices = self.slices.values().filter(|slice| pool_of(slice) == *key);
        let newest = slices.clone().map(|slice| slice.generation).max()?;
        let slices: Vec<&Arc<DeviceSlice>> = slices.filter(|slice| slice.generation == newest).collect();
        let first = slices.first().filter(|first| i64::try_from(slices.len()) == Ok(first.of))?;
        let devices = || slices.iter().flat_map(|slice| &slice.devices);
        let by_kind = self.names.keys().map(|kind| {
            let found = self.terms_of(kind).and_then(|terms| {
                let mut found = BTreeSet::new();
                for device in devices() {
                    if !accepts(&terms, &key.0, device).ok_or(UnmodelledRule::DeviceSelector)? {
                        continue;
                    }
                    if first.node.is_none() || !device.whole {
                        return Err(UnmodelledRule::DevicesElsewhere);
                    }
                    if !device.tainted {
                        found.insert(Arc::clone(&device.name));
                    }
                }
                Ok(found)
            });
            (kind.clone(), found)
        });
        let all = devices().map(|device| Arc::clone(&device.name)).collect();
        Some(Counted { node: first.node.clone(), by_kind: by_kind.collect(), all })
    }

    fn terms_of(&self, (class, own): &Kind) -> Result<Vec<DeviceTerm>, UnmodelledRule> {
        let class = self.classes.get(class).ok_or(UnmodelledRule::ClaimMissing)?;
        let terms = class.selector.as_ref().ok_or(UnmodelledRule::DeviceSelector)?;
        Ok(terms.iter().chain(own).cloned().collect())
    }

    /// Which kinds count as one resource, and which cannot be counted; everybody where that is otherwise than before.
    fn relate(&mut self) -> Touched {
        let kinds: Vec<&Kind> = self.names.keys().collect();
        let named = kinds.iter().map(|kind| ((*kind).clone(), self.name_among(kind, &kinds)));
        let names: BTreeMap<_, _> = named.collect();
        if names == self.names {
            return Touched::default();
        }
        self.names = names;
        Touched { pods: self.pods.clone(), nodes: self.pools_of.keys().cloned().collect() }
    }

    fn name_among(&self, kind: &Kind, kinds: &[&Kind]) -> Result<ResourceName, UnmodelledRule> {
        self.terms_of(kind)?;
        let mut any = false;
        let mut first = kind;
        let of =
            |pool: &'_ Counted, kind: &Kind| pool.by_kind.get(kind).cloned().unwrap_or(Ok(BTreeSet::new()));
        for pool in self.pools.values() {
            any |= !of(pool, kind)?.is_empty();
        }
        for other in kinds.iter().filter(|other| **other != kind && any) {
            let (mut equal, mut shared) = (true, false);
            for pool in self.pools.values() {
                let (own, others) = (of(pool, kind)?, of(pool, other).unwrap_or_default());
                equal &= own == others;
                shared |= !own.is_disjoint(&others);
            }
            if shared && !equal {
                return Err(UnmodelledRule::DeviceOverlap);
            }
            if equal && *other < first {
                first = other;
            }
        }
        Ok(name_of_kind(first))
    }

    /// The node of a device.
    fn place_of(&self, (driver, pool, device): &DeviceId) -> Option<&NodeName> {
        let pool = self.pools.get(&(Arc::clone(driver), Arc::clone(pool)))?;
        pool.node.as_ref().filter(|_| pool.all.contains(device))
    }

    /// The pods that name a claim and the nodes of its devices.
    fn around(&self, key: &VolumeClaimKey) -> Touched {
        let pods = self.users.get(key).into_iter().flat_map(|users| users.keys().cloned()).collect();
        let claim = self.claims.get(key);
        let given = claim.into_iter().flat_map(|claim| claim.given.iter().flatten());
        let nodes = given.filter_map(|id| self.place_of(id).cloned()).collect();
        Touched { pods, nodes }
    }

    /// Notes that a pod uses its claims; returns whom that concerns besides itself.
    pub(super) fn note(&mut self, pod: &Pod) -> Touched {
        let mut touched = Touched::default();
        if !is_live(pod) || !has_devices(pod) {
            return touched;
        }
        self.pods.insert(pod.key.clone());
        for key in keys_of(pod) {
            self.users.entry(key.clone()).or_default().insert(pod.key.clone(), pod.node.is_some());
            touched.add(self.around(&key));
        }
        touched
    }

    /// Notes that a pod no longer uses its claims.
    pub(super) fn forget(&mut self, pod: &Pod) -> Touched {
        let mut touched = Touched::default();
        if !has_devices(pod) || !self.pods.remove(&pod.key) {
            return touched;
        }
        for key in keys_of(pod) {
            if let Some(users) = self.users.get_mut(&key) {
                users.remove(&pod.key);
                if users.is_empty() {
                    self.users.remove(&key);
                }
            }
            touched.add(self.around(&key));
        }
        touched
    }

    /// Builds the indexes over objects that were read from a checkpoint; pods are noted by the cluster.
    pub(super) fn reindex(&mut self) {
        self.users.clear();
        self.pods.clear();
        self.given.clear();
        self.asked.clear();
        let templates: Vec<Arc<DeviceAsk>> = self.templates.values().cloned().collect();
        for ask in templates {
            self.note_ask(Some(&ask), true);
        }
        for (key, claim) in std::mem::take(&mut self.claims) {
            self.put_claim(&key, Some(claim));
        }
        self.pools.clear();
        self.pools_of.clear();
        self.count();
    }

    /// Puts what a pod's claims ask for into its shape.
    pub(super) fn resolve(&self, pod: &Pod, seen: bool, shape: &mut PodShape) {
        strip(&mut shape.requests);
        shape.unmodelled.retain(|rule| !rule.is_of_devices());
        if !seen {
            shape.unmodelled.push(UnmodelledRule::ResourceClaims);
            return;
        }
        for claim in pod.claims.iter().flat_map(|claims| &claims.devices) {
            let key = |name: &Arc<str>| VolumeClaimKey::new(&pod.key.namespace, name);
            let made = claim.claim.as_ref().map(key);
            let template = claim.template.as_ref().and_then(|name| self.templates.get(&key(name)));
            let asked = match made.and_then(|key| self.claims.get_key_value(&key)) {
                Some((key, known)) => self.of_claim(pod, key, known),
                None => template.map_or(Err(UnmodelledRule::ClaimMissing), |ask| self.of_ask(ask)),
            };
            match asked {
                Ok(amounts) => {
                    for (name, count) in amounts {
                        *shape.requests.extended.entry(name).or_default() += count;
                    }
                }
                Err(rule) if shape.unmodelled.contains(&rule) => {}
                Err(rule) => shape.unmodelled.push(rule),
            }
        }
        shape.requests.extended.retain(|_, amount| *amount > 0);
    }

    fn of_claim(
        &self,
        pod: &Pod,
        key: &VolumeClaimKey,
        claim: &DeviceClaim,
    ) -> Result<Vec<(ResourceName, u64)>, UnmodelledRule> {
        let sharers = self.users.get(key).map_or(0, BTreeMap::len);
        match &claim.given {
            Some(given) if sharers > 1 || pod.node.is_none() => {
                let on: BTreeSet<_> = given.iter().map(|id| self.place_of(id)).collect();
                // Devices that no slice names, or of several nodes: where that can be used is not known.
                let known = on.len() == 1 && on.first().is_some_and(Option::is_some);
                if known { Ok(vec![(name_of_claim(key), 1)]) } else { Err(UnmodelledRule::DevicesElsewhere) }
            }
            None if sharers > 1 => Err(UnmodelledRule::SharedClaim),
            _ => self.of_ask(&claim.ask),
        }
    }

    fn of_ask(&self, ask: &DeviceAsk) -> Result<Vec<(ResourceName, u64)>, UnmodelledRule> {
        let requests = ask.as_ref().map_err(|rule| *rule)?;
        let of = |request: &DeviceRequest| {
            let known = self.names.get(&kind_of(request));
            let name = known.cloned().unwrap_or(Err(UnmodelledRule::DeviceRequest))?;
            Ok((name, request.count))
        };
        requests.iter().map(of).collect()
    }

    /// A node's resources with the devices that it has for claims; claims that are held on it among them.
    pub(super) fn fit(&self, node: &NodeName, allocatable: &mut Resources) {
        strip(allocatable);
        let mut held: BTreeSet<&DeviceId> = BTreeSet::new();
        let pools = || self.pools_of.get(node).into_iter().flatten();
        for key in pools().filter_map(|pool| self.given.get(pool)).flatten() {
            let users = self.users.get(key);
            // A pod that runs and has the claim to itself asks for its devices as it would anywhere.
            if users.is_some_and(|users| users.len() == 1 && users.values().all(|bound| *bound)) {
                continue;
            }
            let given = self.claims.get(key).and_then(|claim| claim.given.as_ref());
            held.extend(given.into_iter().flatten());
            allocatable.extended.insert(name_of_claim(key), SHARERS);
        }
        for (key, pool) in pools().filter_map(|key| self.pools.get_key_value(key)) {
            let is_held = |device: &&Arc<str>| {
                held.contains(&(Arc::clone(&key.0), Arc::clone(&key.1), Arc::clone(*device)))
            };
            let mut named = BTreeSet::new();
            for (kind, devices) in &pool.by_kind {
                let (Ok(devices), Some(Ok(name))) = (devices, self.names.get(kind)) else { continue };
                let free = devices.iter().filter(|device| !is_held(device)).count() as u64;
                // Kinds of one name accept the same devices, which count once.
                if free > 0 && named.insert(name) {
                    *allocatable.extended.entry(name.clone()).or_default() += free;
                }
            }
        }
    }
}

fn pool_of(slice: &DeviceSlice) -> PoolKey {
    (Arc::clone(&slice.driver), Arc::clone(&slice.pool))
}

fn kind_of(request: &DeviceRequest) -> Kind {
    (Arc::clone(&request.class), request.terms.clone())
}

/// The class's name, and the terms that narrow it.
fn name_of_kind((class, terms): &Kind) -> ResourceName {
    let mut name = format!("{DEVICE_CLASS_PREFIX}{class}");
    for (at, term) in terms.iter().enumerate() {
        name.push_str(if at == 0 { " with " } else { " and " });
        name.push_str(&term.to_string());
    }
    ResourceName::new(name)
}

fn name_of_claim(key: &VolumeClaimKey) -> ResourceName {
    ResourceName::new(format!("{DEVICE_CLAIM_PREFIX}{}/{}", key.namespace, key.name))
}

fn strip(amounts: &mut Resources) {
    amounts.extended.retain(|name, _| !name.is_claimed_device());
}

fn has_devices(pod: &Pod) -> bool {
    pod.claims.as_ref().is_some_and(|claims| !claims.devices.is_empty())
}

fn keys_of(pod: &Pod) -> BTreeSet<VolumeClaimKey> {
    let claims = pod.claims.iter().flat_map(|claims| &claims.devices);
    let names = claims.filter_map(|claim| claim.claim.as_ref());
    names.map(|name| VolumeClaimKey::new(&pod.key.namespace, name)).collect()
}

#[cfg(test)]
mod tests;
