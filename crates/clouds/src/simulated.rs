//! The simulated provider: pools and machines that are Kubernetes objects and nothing else.
//!
//! Owns the reading of `SimulatedPool` and `SimulatedMachine` and the three orders on them. Making and ending the
//! machines is the simulated cloud's business, wherever that runs. Termination by name is one write: `replicas`
//! less one and the name added to `terminate`, so that a lost answer cannot shrink the pool twice.

use crate::objects::{Objects, is_deleting, number, spec_mut};
use crate::watching::{Freshness, Seen, WatchSettings, watch};
use crate::{OrderAnswer, Provider, ProviderError};
use api::simulated::{SimulatedMachine, SimulatedPool};
use clock::Clock;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use model::{
    Buy, Change, Input, Lower, Machine, MachineState, Pool, PoolId, PoolOptions, Profile, ProviderKind,
    Release,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Prefix of this provider's pool ids and its name as an input.
pub const NAME: &str = "simulated";
/// Names that one write takes off the termination list at most, each after a read of its machine.
const MOST_PRUNED: usize = 16;

/// The provider.
#[derive(Clone)]
pub struct Simulated {
    client: Client,
    clock: Clock,
    settings: WatchSettings,
    pools: Objects,
    machines: Objects,
}

pub fn pool_id(name: &str) -> PoolId {
    PoolId::from(format!("{NAME}/{name}"))
}

impl Simulated {
    pub fn new(client: Client, clock: Clock, settings: WatchSettings) -> Self {
        let whole = |resource: &ApiResource, kind| Objects {
            api: Api::<DynamicObject>::all_with(client.clone(), resource),
            kind,
            limit: settings.call_timeout,
        };
        let pools = whole(&ApiResource::erase::<SimulatedPool>(&()), "SimulatedPool");
        let machines = whole(&ApiResource::erase::<SimulatedMachine>(&()), "SimulatedMachine");
        Self { client, clock, settings, pools, machines }
    }

    async fn raise(&self, order: &Buy) -> Result<OrderAnswer, ProviderError> {
        let Some((name, mut pool)) = self.read(&order.pool).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        let (replicas, max) = (replicas(&pool), number(&pool, "/spec/max").unwrap_or(0));
        if replicas >= i64::from(order.to) {
            return Ok(OrderAnswer::Done);
        }
        if i64::from(order.to) > max {
            let why = format!("{} machines are over the maximum of {max} that {name} has now", order.to);
            return Ok(OrderAnswer::obsolete(why));
        }
        set_replicas(&mut pool, i64::from(order.to));
        self.prune(&mut pool, None).await?;
        self.pools.put(&pool).await?;
        Ok(OrderAnswer::Done)
    }

    async fn reduce(&self, order: &Lower) -> Result<OrderAnswer, ProviderError> {
        let Some((name, mut pool)) = self.read(&order.pool).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        let replicas = replicas(&pool);
        let to = i64::from(order.to);
        if replicas <= to {
            return Ok(OrderAnswer::Done);
        }
        if replicas > i64::from(order.from) {
            let why = format!("{name} was raised to {replicas} since {} was planned on", order.from);
            return Ok(OrderAnswer::obsolete(why));
        }
        let min = number(&pool, "/spec/min").unwrap_or(0);
        if to < min {
            return Ok(OrderAnswer::obsolete(format!("{to} is under the minimum of {min} of {name}")));
        }
        let leaving = terminated(&pool);
        let selector = format!("{}={name}", api::labels::POOL);
        let machines = self.machines.list_since(&selector, Some(&pool)).await?;
        let staying = machines
            .iter()
            .filter(|machine| !is_deleting(machine) && !leaving.contains(&machine.name_any()))
            .count();
        if staying as i64 > to {
            let why = format!("{name} has {staying} machines: only named ones may go");
            return Ok(OrderAnswer::obsolete(why));
        }
        set_replicas(&mut pool, to);
        self.pools.put(&pool).await?;
        Ok(OrderAnswer::Done)
    }

    async fn terminate(&self, order: &Release) -> Result<OrderAnswer, ProviderError> {
        let machine = order.machine.as_str().rsplit('/').next().unwrap_or_default();
        // The pool is read first: its version then guards against a termination by someone else in between.
        let Some((name, mut pool)) = self.read(&order.pool).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        if terminated(&pool).contains(machine) {
            return Ok(OrderAnswer::Done);
        }
        // From a state that has the pool as it is: a machine that is gone by now has been replaced, and must not be
        // named in the place of the new one.
        let selector = format!("{}={name}", api::labels::POOL);
        let machines = self.machines.list_since(&selector, Some(&pool)).await?;
        if !machines.iter().any(|object| object.name_any() == machine && !is_deleting(object)) {
            return Ok(OrderAnswer::Done);
        }
        let replicas = replicas(&pool);
        let min = number(&pool, "/spec/min").unwrap_or(0).max(i64::from(order.min));
        if replicas <= min {
            let why = format!("{name} is at its minimum of {min}: {machine} is kept");
            return Ok(OrderAnswer::obsolete(why));
        }
        set_replicas(&mut pool, replicas - 1);
        self.prune(&mut pool, Some(machine)).await?;
        self.pools.put(&pool).await?;
        Ok(OrderAnswer::Done)
    }

    async fn read(&self, pool: &PoolId) -> Result<Option<(String, DynamicObject)>, ProviderError> {
        let name = pool.as_str().strip_prefix(NAME).and_then(|rest| rest.strip_prefix('/'));
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
        let found = self.pools.get(name).await?.filter(|pool| !is_deleting(pool));
        Ok(found.map(|pool| (name.to_owned(), pool)))
    }

    /// Takes names off the termination list whose machines are gone, and adds one.
    async fn prune(&self, pool: &mut DynamicObject, add: Option<&str>) -> Result<(), ProviderError> {
        let mut kept = Vec::new();
        let names: Vec<String> = terminated(pool).into_iter().collect();
        for (at, name) in names.into_iter().enumerate() {
            if at >= MOST_PRUNED || self.machines.get(&name).await?.is_some() {
                kept.push(name);
            }
        }
        kept.extend(add.map(str::to_owned));
        if let Some(spec) = spec_mut(pool) {
            spec.insert("terminate".into(), json!(kept));
        }
        Ok(())
    }
}

fn replicas(pool: &DynamicObject) -> i64 {
    number(pool, "/spec/replicas").unwrap_or(0)
}

fn set_replicas(pool: &mut DynamicObject, replicas: i64) {
    if let Some(spec) = spec_mut(pool) {
        spec.insert("replicas".into(), json!(replicas));
    }
}

fn terminated(pool: &DynamicObject) -> BTreeSet<String> {
    let names = pool.data.pointer("/spec/terminate").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

impl Provider for Simulated {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Simulated
    }

    fn name(&self) -> Arc<str> {
        Arc::from(NAME)
    }

    fn watch(&self) -> BoxStream<'static, Change> {
        let pools = watch(Api::<SimulatedPool>::all(self.client.clone()), "simulatedpools", self.settings);
        let machines =
            watch(Api::<SimulatedMachine>::all(self.client.clone()), "simulatedmachines", self.settings);
        let both = stream::select(pools.map(Event::Pool), machines.map(Event::Machine)).boxed();
        let view = View::empty(self.clock, Freshness::of(2, self.settings.stale_after));
        stream::unfold((both, view), |(mut both, mut view)| async move {
            loop {
                if let Some(change) = view.changes.pop_front() {
                    return Some((change, (both, view)));
                }
                match both.next().await? {
                    Event::Pool(seen) => view.see_pool(seen),
                    Event::Machine(seen) => view.see_machine(seen),
                }
            }
        })
        .boxed()
    }

    fn buy<'a>(&'a self, order: &'a Buy) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.raise(order))
    }

    fn lower<'a>(&'a self, order: &'a Lower) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.reduce(order))
    }

    fn release<'a>(&'a self, order: &'a Release) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.terminate(order))
    }
}

enum Event {
    Pool(Seen<SimulatedPool>),
    Machine(Seen<SimulatedMachine>),
}

/// What was seen so far: a machine named for termination is on its way out before its own object says so.
struct View {
    clock: Clock,
    freshness: Freshness,
    changes: VecDeque<Change>,
    terminate: BTreeMap<String, BTreeSet<String>>,
    machines: BTreeMap<String, Machine>,
    /// Names seen in the list that is under way.
    listed_pools: Option<BTreeSet<String>>,
    listed_machines: Option<BTreeSet<String>>,
}

impl View {
    fn empty(clock: Clock, freshness: Freshness) -> Self {
        Self {
            clock,
            freshness,
            changes: VecDeque::new(),
            terminate: BTreeMap::new(),
            machines: BTreeMap::new(),
            listed_pools: None,
            listed_machines: None,
        }
    }

    fn see_pool(&mut self, seen: Seen<SimulatedPool>) {
        match seen {
            Seen::Begin => self.listed_pools = Some(BTreeSet::new()),
            Seen::Object(pool) => {
                let name = pool.name_any();
                if let Some(listed) = &mut self.listed_pools {
                    listed.insert(name.clone());
                }
                let leaving: BTreeSet<String> = pool.spec.terminate.iter().cloned().collect();
                let before = self.terminate.insert(name, leaving.clone()).unwrap_or_default();
                let pool = read_pool(&pool);
                self.changes.push_back(Change::Pool(pool.id.clone(), Some(Arc::new(pool))));
                for machine in before.symmetric_difference(&leaving) {
                    self.tell(machine);
                }
            }
            Seen::Gone(pool) => self.lose_pool(&pool.name_any()),
            Seen::Synced => {
                if let Some(listed) = self.listed_pools.take() {
                    let gone: Vec<_> =
                        self.terminate.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                    for name in &gone {
                        self.lose_pool(name);
                    }
                }
                self.note_synced(0);
            }
            Seen::Broken { why, missing_kind } => self.note_broken(0, &why, missing_kind),
        }
    }

    fn lose_pool(&mut self, name: &str) {
        self.terminate.remove(name);
        self.changes.push_back(Change::Pool(pool_id(name), None));
    }

    fn see_machine(&mut self, seen: Seen<SimulatedMachine>) {
        match seen {
            Seen::Begin => self.listed_machines = Some(BTreeSet::new()),
            // Machines that were launched by themselves are those of claims.
            Seen::Object(object) if object.spec.launch.is_some() => {}
            Seen::Object(object) => {
                let name = object.name_any();
                if let Some(listed) = &mut self.listed_machines {
                    listed.insert(name.clone());
                }
                let machine = intake::simulated_machine(&object);
                let before = self.machines.insert(name.clone(), machine);
                if let Some(before) =
                    before.filter(|old| Some(&old.id) != self.machines.get(&name).map(|m| &m.id))
                {
                    self.changes.push_back(Change::Machine(before.id, None));
                }
                self.tell(&name);
            }
            Seen::Gone(object) => self.lose_machine(&object.name_any()),
            Seen::Synced => {
                if let Some(listed) = self.listed_machines.take() {
                    let gone: Vec<_> =
                        self.machines.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                    for name in &gone {
                        self.lose_machine(name);
                    }
                }
                self.note_synced(1);
            }
            Seen::Broken { why, missing_kind } => self.note_broken(1, &why, missing_kind),
        }
    }

    fn lose_machine(&mut self, name: &str) {
        if let Some(machine) = self.machines.remove(name) {
            self.changes.push_back(Change::Machine(machine.id, None));
        }
    }

    /// Reports a machine as it stands, its pool's termination list considered.
    fn tell(&mut self, name: &str) {
        let Some(machine) = self.machines.get(name) else { return };
        let mut machine = machine.clone();
        let pool = machine.pool.as_str().rsplit('/').next().unwrap_or_default();
        if self.terminate.get(pool).is_some_and(|names| names.contains(name)) {
            machine.state = MachineState::Deleting;
        }
        self.changes.push_back(Change::Machine(machine.id.clone(), Some(Arc::new(machine))));
    }

    fn note_synced(&mut self, source: usize) {
        if let Some(state) = self.freshness.synced(source) {
            self.changes.push_back(Change::Input(Input::Pools(Arc::from(NAME)), state));
        }
    }

    fn note_broken(&mut self, source: usize, why: &Arc<str>, missing_kind: bool) {
        let now = self.clock.now();
        let state = if missing_kind {
            self.freshness.absent(source, why, now)
        } else {
            self.freshness.broken(source, why, now)
        };
        if let Some(state) = state {
            self.changes.push_back(Change::Input(Input::Pools(Arc::from(NAME)), state));
        }
    }
}

/// A pool that cannot be read is reported all the same, frozen with what is wrong: silence would look like absence.
pub fn read_pool(object: &SimulatedPool) -> Pool {
    match intake::simulated_pool(object) {
        Ok(pool) => pool,
        Err(error) => {
            let count = |number: i32| u32::try_from(number).unwrap_or(0);
            let name = object.name_any();
            Pool {
                id: pool_id(&name),
                name: Arc::from(name.as_str()),
                provider: ProviderKind::Simulated,
                profile: Profile::ClusterAutoscaler,
                min: count(object.spec.min),
                max: count(object.spec.max),
                target: count(object.spec.replicas),
                template: None,
                priority: object.spec.priority,
                price: model::MicroUsdPerHour::default(),
                options: PoolOptions::default(),
                frozen: Some(Arc::from(error.to_string())),
                kind: model::PoolKind::default(),
            }
        }
    }
}
