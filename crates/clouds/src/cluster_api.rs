//! The Cluster API provider: `MachineDeployment`s as pools, their `Machine`s as machines.
//!
//! Owns the three orders and the watch; what annotations say of a pool is read in `annotations`. Infrastructure is
//! Cluster API's business: we write `spec.replicas`, mark the Machine that goes, and nothing else. A release writes
//! the lowered `replicas` and the machine's name (annotation [`RELEASED`]) in one update, because Cluster API itself
//! keeps no list of the machines that were given back, and a lost answer must not shrink the pool twice.

pub mod annotations;
mod hand_back;
mod view;

use crate::objects::{Objects, is_deleting, number, spec_mut, text};
use crate::watching::{Seen, WatchSettings, watch};
use crate::{OrderAnswer, Provider, ProviderError};
use clock::Clock;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use model::{Buy, Change, Lower, MachineId, PoolId, ProviderKind, Release};
use serde_json::json;
use std::sync::Arc;
use view::{Event, View};

/// Prefix of this provider's pool ids and its name as an input.
pub const NAME: &str = "clusterapi";
/// On a `MachineDeployment`: the Machines that we gave back and that still exist, comma-separated.
pub const RELEASED: &str = "tideline.dev/released-machines";
/// Begins the value of the delete mark on a Machine, so that our mark is told from anyone else's.
const MARK_PREFIX: &str = "tideline/";
/// Names that one write takes off the released list at most, each after a read of its Machine.
const MOST_PRUNED: usize = 16;

/// The provider.
#[derive(Clone)]
pub struct ClusterApi {
    client: Client,
    clock: Clock,
    settings: WatchSettings,
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("cluster.x-k8s.io", "v1beta1", kind), plural)
}

pub fn pool_id(namespace: &str, name: &str) -> PoolId {
    PoolId::from(format!("{NAME}/{namespace}/{name}"))
}

/// The id of a Machine: what its provider calls it, or, before that is known, a name made of its own.
pub fn machine_id(machine: &DynamicObject) -> MachineId {
    text(machine, "/spec/providerID").map_or_else(
        || {
            let namespace = machine.namespace().unwrap_or_default();
            MachineId::from(format!("pending-machine-{namespace}_{}", machine.name_any()))
        },
        MachineId::from,
    )
}

/// Pools and machines of objects that no watch brought, such as those of files.
pub fn changes_of(objects: Vec<DynamicObject>, clock: Clock) -> Vec<Change> {
    let kind = |object: &DynamicObject| object.types.as_ref().map(|types| types.kind.clone());
    let mut view = View::new(clock, jiff::SignedDuration::ZERO);
    for object in objects {
        match kind(&object).as_deref() {
            Some("Cluster") => view.see(Event::Cluster(Seen::Object(object))),
            Some("Machine") => view.see(Event::Machine(Seen::Object(object))),
            Some("MachineDeployment") => view.see(Event::Deployment(Seen::Object(object))),
            _ => {}
        }
    }
    std::iter::from_fn(|| view.next_change()).collect()
}

/// Providers and kubelets may write the same id with different paths; the last segment is the machine.
fn same_machine(a: &str, b: &str) -> bool {
    a == b || a.rsplit('/').next() == b.rsplit('/').next()
}

impl ClusterApi {
    pub fn new(client: Client, clock: Clock, settings: WatchSettings) -> Self {
        Self { client, clock, settings }
    }

    fn objects(&self, namespace: &str, kind: &'static str, plural: &'static str) -> Objects {
        let api = Api::namespaced_with(self.client.clone(), namespace, &resource(kind, plural));
        Objects { api, kind, limit: self.settings.call_timeout }
    }

    async fn read(&self, pool: &PoolId) -> Result<Option<Group>, ProviderError> {
        let mut parts = pool.as_str().splitn(3, '/');
        let (Some(NAME), Some(namespace), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Ok(None);
        };
        let deployments = self.objects(namespace, "MachineDeployment", "machinedeployments");
        let machines = self.objects(namespace, "Machine", "machines");
        let found = deployments.get(name).await?.filter(|object| !is_deleting(object));
        Ok(found.map(|object| Group { name: name.to_owned(), object, deployments, machines }))
    }

    async fn raise(&self, order: &Buy) -> Result<OrderAnswer, ProviderError> {
        let Some(mut group) = self.read(&order.pool).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        let to = i64::from(order.to);
        if group.replicas() >= to {
            return Ok(OrderAnswer::Done);
        }
        let bounds = match group.changeable() {
            Ok(bounds) => bounds,
            Err(why) => return Ok(OrderAnswer::obsolete(why)),
        };
        if to > i64::from(bounds.max) {
            let why = format!("{to} machines are over the maximum of {} of {}", bounds.max, group.name);
            return Ok(OrderAnswer::obsolete(why));
        }
        group.set_replicas(to);
        group.deployments.put(&group.object).await?;
        Ok(OrderAnswer::Done)
    }

    async fn reduce(&self, order: &Lower) -> Result<OrderAnswer, ProviderError> {
        let Some(mut group) = self.read(&order.pool).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        let (replicas, to) = (group.replicas(), i64::from(order.to));
        if replicas <= to {
            return Ok(OrderAnswer::Done);
        }
        let bounds = match group.changeable() {
            Ok(bounds) => bounds,
            Err(why) => return Ok(OrderAnswer::obsolete(why)),
        };
        if replicas > i64::from(order.from) || to < i64::from(bounds.min) {
            let why = format!("{} stands at {replicas}, minimum {}: not lowered", group.name, bounds.min);
            return Ok(OrderAnswer::obsolete(why));
        }
        let released = group.released();
        let staying = group.list().await?;
        let staying = staying.iter().filter(|m| !is_deleting(m) && !released.contains(&m.name_any())).count();
        if staying as i64 > to {
            let why = format!("{} has {staying} machines: only named ones may go", group.name);
            return Ok(OrderAnswer::obsolete(why));
        }
        group.set_replicas(to);
        group.deployments.put(&group.object).await?;
        Ok(OrderAnswer::Done)
    }

    async fn give_back(&self, order: &Release) -> Result<OrderAnswer, ProviderError> {
        // The deployment is read first: its version then guards against another release in between.
        let Some(mut group) = self.read(&order.pool).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        let machines = group.list().await?;
        let found = machines
            .into_iter()
            .find(|machine| same_machine(machine_id(machine).as_str(), order.machine.as_str()));
        let Some(mut machine) = found.filter(|machine| !is_deleting(machine)) else {
            return Ok(OrderAnswer::Done);
        };
        let name = machine.name_any();
        let mut released = group.released();
        if released.contains(&name) {
            return Ok(OrderAnswer::Done);
        }
        let bounds = match group.changeable() {
            Ok(bounds) => bounds,
            Err(why) => return self.keep(&group, machine, why).await,
        };
        let replicas = group.replicas();
        let min = bounds.min.max(order.min);
        if replicas <= i64::from(min) {
            let why = format!("{} is at its minimum of {min}: {name} is kept", group.name);
            return self.keep(&group, machine, why).await;
        }
        if !machine.annotations().contains_key(api::annotations::CAPI_DELETE_MACHINE) {
            let value = format!("{MARK_PREFIX}{}", order.intent);
            machine.annotations_mut().insert(api::annotations::CAPI_DELETE_MACHINE.to_owned(), value);
            group.machines.put(&machine).await?;
        }
        let mut kept = Vec::new();
        for (at, old) in released.drain(..).enumerate() {
            if at >= MOST_PRUNED || group.machines.get(&old).await?.is_some() {
                kept.push(old);
            }
        }
        kept.push(name);
        group.object.annotations_mut().insert(RELEASED.to_owned(), kept.join(","));
        group.set_replicas(replicas - 1);
        group.deployments.put(&group.object).await?;
        Ok(OrderAnswer::Done)
    }

    /// Refuses a release, and takes our mark off the Machine where an earlier attempt left it.
    async fn keep(
        &self,
        group: &Group,
        mut machine: DynamicObject,
        why: String,
    ) -> Result<OrderAnswer, ProviderError> {
        let ours = machine.annotations().get(api::annotations::CAPI_DELETE_MACHINE);
        if ours.is_some_and(|value| value.starts_with(MARK_PREFIX)) {
            machine.annotations_mut().remove(api::annotations::CAPI_DELETE_MACHINE);
            group.machines.put(&machine).await?;
        }
        Ok(OrderAnswer::obsolete(why))
    }
}

/// A `MachineDeployment` as it was just read.
struct Group {
    name: String,
    object: DynamicObject,
    deployments: Objects,
    machines: Objects,
}

impl Group {
    fn replicas(&self) -> i64 {
        number(&self.object, "/spec/replicas").unwrap_or(1)
    }

    fn set_replicas(&mut self, replicas: i64) {
        if let Some(spec) = spec_mut(&mut self.object) {
            spec.insert("replicas".into(), json!(replicas));
        }
    }

    /// The bounds, or why the deployment is not to be touched.
    fn changeable(&self) -> Result<annotations::Bounds, String> {
        let rests = annotations::paused(&self.object).or_else(|| annotations::rolling_out(&self.object));
        if let Some(why) = rests {
            return Err(format!("{} is not to be changed now: {why}", self.name));
        }
        match annotations::bounds(self.object.annotations()) {
            Ok(Some(bounds)) => Ok(bounds),
            Ok(None) => Err(format!("{} is no pool any more: its size annotations are gone", self.name)),
            Err(why) => Err(why),
        }
    }

    fn released(&self) -> Vec<String> {
        let list = self.object.annotations().get(RELEASED).map(String::as_str).unwrap_or_default();
        list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    async fn list(&self) -> Result<Vec<DynamicObject>, ProviderError> {
        self.machines.list(&format!("{}={}", api::labels::CAPI_DEPLOYMENT_NAME, self.name)).await
    }
}

impl Provider for ClusterApi {
    fn kind(&self) -> ProviderKind {
        ProviderKind::ClusterApi
    }

    fn name(&self) -> Arc<str> {
        Arc::from(NAME)
    }

    fn watch(&self) -> BoxStream<'static, Change> {
        let all = |kind: &'static str, plural: &'static str| {
            let resource = resource(kind, plural);
            watch(Api::<DynamicObject>::all_with(self.client.clone(), &resource), plural, self.settings)
        };
        let deployments = all("MachineDeployment", "machinedeployments");
        let machines = all("Machine", "machines");
        let clusters = all("Cluster", "clusters");
        let events = stream::select(
            stream::select(deployments.map(Event::Deployment), machines.map(Event::Machine)),
            clusters.map(Event::Cluster),
        )
        .boxed();
        let view = View::new(self.clock, self.settings.stale_after);
        stream::unfold((events, view), |(mut events, mut view)| async move {
            loop {
                if let Some(change) = view.next_change() {
                    return Some((change, (events, view)));
                }
                view.see(events.next().await?);
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
        Box::pin(self.give_back(order))
    }
}
