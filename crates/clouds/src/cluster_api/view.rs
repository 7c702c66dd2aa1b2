//! What was seen of Cluster API's objects, joined into pools and machines.
//!
//! Owns the joins: a paused Cluster freezes its deployments, a Machine belongs to a pool by its deployment's label,
//! a Machine that we gave back is on its way out before its own object says so.

use super::annotations::{bounds, options, paused, rolling_out, template};
use super::{NAME, RELEASED, machine_id, pool_id};
use crate::objects::{is_deleting, number, text};
use crate::watching::{Freshness, Seen};
use api::labels::CAPI_DEPLOYMENT_NAME;
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use model::{
    Change, Input, Machine, MachineId, MachineState, MicroUsdPerHour, NodeName, Pool, PoolOptions, Profile,
    ProviderKind,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

type Key = (String, String);

/// Which watch brought something; the number is its place in the freshness.
pub(super) enum Event {
    Deployment(Seen<DynamicObject>),
    Machine(Seen<DynamicObject>),
    Cluster(Seen<DynamicObject>),
}

pub(super) struct View {
    clock: Clock,
    freshness: Freshness,
    changes: VecDeque<Change>,
    deployments: Kind,
    machines: Kind,
    clusters: Kind,
    /// What each Machine was last reported as.
    reported: BTreeMap<Key, MachineId>,
}

/// The objects of one kind, and those named by the list that is under way.
#[derive(Default)]
struct Kind {
    objects: BTreeMap<Key, DynamicObject>,
    listed: Option<BTreeSet<Key>>,
}

impl Kind {
    /// Takes what was seen; answers which objects changed or went.
    fn take(&mut self, seen: Seen<DynamicObject>) -> Vec<Key> {
        match seen {
            Seen::Begin => self.listed = Some(BTreeSet::new()),
            Seen::Object(object) => {
                let key = key(&object);
                if let Some(listed) = &mut self.listed {
                    listed.insert(key.clone());
                }
                self.objects.insert(key.clone(), object);
                return vec![key];
            }
            Seen::Gone(object) => {
                let key = key(&object);
                return self.objects.remove(&key).map(|_| key).into_iter().collect();
            }
            Seen::Synced => {
                let Some(listed) = self.listed.take() else { return Vec::new() };
                let gone: Vec<Key> =
                    self.objects.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                self.objects.retain(|key, _| listed.contains(key));
                return gone;
            }
            Seen::Broken { .. } => {}
        }
        Vec::new()
    }
}

fn key(object: &DynamicObject) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

impl View {
    pub(super) fn new(clock: Clock, grace: SignedDuration) -> Self {
        Self {
            clock,
            freshness: Freshness::of(3, grace),
            changes: VecDeque::new(),
            deployments: Kind::default(),
            machines: Kind::default(),
            clusters: Kind::default(),
            reported: BTreeMap::new(),
        }
    }

    pub(super) fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    pub(super) fn see(&mut self, event: Event) {
        let state = match &event {
            Event::Deployment(seen) => self.note(0, seen),
            Event::Machine(seen) => self.note(1, seen),
            Event::Cluster(seen) => self.note(2, seen),
        };
        match event {
            Event::Deployment(seen) => {
                for key in self.deployments.take(seen) {
                    self.tell_pool(&key);
                    self.tell_machines_of(&key);
                }
            }
            Event::Machine(seen) => {
                for key in self.machines.take(seen) {
                    self.tell_machine(&key);
                }
            }
            Event::Cluster(seen) => {
                for (namespace, _) in self.clusters.take(seen) {
                    let there = |(key, _): &(&Key, &DynamicObject)| key.0 == namespace;
                    let keys: Vec<Key> =
                        self.deployments.objects.iter().filter(there).map(|(key, _)| key.clone()).collect();
                    for key in &keys {
                        self.tell_pool(key);
                    }
                }
            }
        }
        if let Some(state) = state {
            self.changes.push_back(Change::Input(Input::Pools(Arc::from(NAME)), state));
        }
    }

    fn note(&mut self, source: usize, seen: &Seen<DynamicObject>) -> Option<model::InputState> {
        match seen {
            Seen::Synced => self.freshness.synced(source),
            Seen::Broken { why, missing_kind: true } => self.freshness.absent(source, why, self.clock.now()),
            Seen::Broken { why, .. } => self.freshness.broken(source, why, self.clock.now()),
            _ => None,
        }
    }

    fn tell_pool(&mut self, key: &Key) {
        let pool = self.deployments.objects.get(key).and_then(|object| self.pool(object));
        self.changes.push_back(Change::Pool(pool_id(&key.0, &key.1), pool.map(Arc::new)));
    }

    /// A deployment as a pool; `None` where it does not ask to be one.
    fn pool(&self, object: &DynamicObject) -> Option<Pool> {
        let (namespace, name) = key(object);
        let read = bounds(object.annotations());
        if matches!(read, Ok(None)) || is_deleting(object) {
            return None;
        }
        let target = number(object, "/spec/replicas").and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
        let mut frozen =
            paused(object).or_else(|| self.cluster_paused(object)).or_else(|| rolling_out(object));
        let mut note = |why: String| frozen = Some(why);
        // A pool with a wrong annotation keeps its size: to it nothing is added and from it nothing taken.
        let bounds = read.unwrap_or_else(|why| {
            note(why);
            None
        });
        let template = template(object).unwrap_or_else(|why| {
            note(why);
            None
        });
        let options = options(object.annotations()).unwrap_or_else(|why| {
            note(why);
            PoolOptions::default()
        });
        Some(Pool {
            id: pool_id(&namespace, &name),
            name: Arc::from(name.as_str()),
            provider: ProviderKind::ClusterApi,
            profile: Profile::ClusterAutoscaler,
            min: bounds.map_or(target, |bounds| bounds.min),
            max: bounds.map_or(target, |bounds| bounds.max),
            target,
            template,
            priority: 0,
            price: MicroUsdPerHour::default(),
            options,
            frozen: frozen.map(Arc::from),
            kind: model::PoolKind::default(),
        })
    }

    fn cluster_paused(&self, deployment: &DynamicObject) -> Option<String> {
        let name = text(deployment, "/spec/clusterName")?;
        let key = (deployment.namespace().unwrap_or_default(), name.to_owned());
        let why = self.clusters.objects.get(&key).and_then(paused)?;
        Some(format!("its Cluster {name} is {why}"))
    }

    fn tell_machines_of(&mut self, deployment: &Key) {
        let of_it = |machine: &DynamicObject| {
            machine.labels().get(CAPI_DEPLOYMENT_NAME).is_some_and(|name| *name == deployment.1)
        };
        let keys: Vec<Key> = self
            .machines
            .objects
            .iter()
            .filter(|(key, machine)| key.0 == deployment.0 && of_it(machine))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &keys {
            self.tell_machine(key);
        }
    }

    fn tell_machine(&mut self, key: &Key) {
        let machine = self.machines.objects.get(key).and_then(|object| self.machine(object));
        let before = match &machine {
            Some(machine) => self.reported.insert(key.clone(), machine.id.clone()),
            None => self.reported.remove(key),
        };
        // A Machine gets its provider's id after it was made: the id that we gave it meanwhile is gone then.
        if let Some(before) = before.filter(|id| machine.as_ref().is_none_or(|machine| machine.id != *id)) {
            self.changes.push_back(Change::Machine(before, None));
        }
        if let Some(machine) = machine {
            self.changes.push_back(Change::Machine(machine.id.clone(), Some(Arc::new(machine))));
        }
    }

    /// A Machine of a pool; `None` where its deployment is none of ours.
    fn machine(&self, object: &DynamicObject) -> Option<Machine> {
        let (namespace, name) = key(object);
        let deployment = object.labels().get(CAPI_DEPLOYMENT_NAME)?;
        let owner = self.deployments.objects.get(&(namespace.clone(), deployment.clone()))?;
        if matches!(bounds(owner.annotations()), Ok(None)) {
            return None;
        }
        let released =
            owner.annotations().get(RELEASED).is_some_and(|list| list.split(',').any(|n| n == name));
        let node = text(object, "/status/nodeRef/name");
        let state = match text(object, "/status/phase").unwrap_or_default() {
            _ if released || is_deleting(object) => MachineState::Deleting,
            "Deleting" | "Deleted" => MachineState::Deleting,
            _ if text(object, "/status/failureReason").is_some() => failed(object),
            "Failed" => failed(object),
            "Running" => MachineState::Running,
            _ if node.is_some() => MachineState::Running,
            _ => MachineState::Creating,
        };
        Some(Machine {
            id: machine_id(object),
            pool: pool_id(&namespace, deployment),
            state,
            created_at: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |at| at.0),
            node: node.map(NodeName::from),
            aliases: Vec::new(),
            direct: None,
        })
    }
}

fn failed(object: &DynamicObject) -> MachineState {
    MachineState::Failed {
        code: Arc::from(text(object, "/status/failureReason").unwrap_or("ProvisioningFailed")),
        message: Arc::from(text(object, "/status/failureMessage").unwrap_or("Cluster API gives no message")),
    }
}
