//! The keeper: takes each claim one step further whenever something about it has changed or its time has come.
//!
//! Owns what was seen, the queue of what is due, and the writing. Claims are looked at side by side, so a launch that
//! is slow keeps nothing else waiting; what one look does is in `launching`, `joining` and `ending`.

use crate::classes::{Class, Classes, NoClass, Stand};
use crate::cloud::{LaunchError, MachineCloud};
use crate::conditions::{Conditions, LAUNCHED};
use crate::pool_status::{self, PoolCase};
use crate::shortages::Shortages;
use crate::simulated::SimulatedCloud;
use crate::{ending, joining, launching, translation};
use api::karpenter::v1alpha5::{AwsNodeTemplate, Machine, Provisioner};
use api::karpenter::{Ec2NodeClass, NODE_POOL, NodeClaim, NodePool, SimulatedNodeClass, TERMINATION};
use api::simulated::SimulatedMachine;
use clock::Clock;
use clouds::watching::{Seen, WatchSettings, code, describe, watch, within};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Looks that are under way at once.
const AT_ONCE: usize = 64;
/// After a look that failed.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(2);
/// While another replica leads.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// A machine without a claim is ended after this: its claim may not be seen yet.
const ORPHAN_AGE: SignedDuration = SignedDuration::from_secs(30);

/// When a claim is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// When something about it changes.
    Wait,
    At(Timestamp),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("the API server answered: {}", describe(.0))]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Cloud(#[from] LaunchError),
    #[error("{0}")]
    Unreadable(String),
}

/// What every look needs.
pub(crate) struct Shared {
    pub client: Client,
    pub clock: Clock,
    pub claims: Api<NodeClaim>,
    pub nodes: Api<Node>,
    pools: Api<NodePool>,
    pub cloud: Arc<dyn MachineCloud>,
    pub shortages: Arc<Shortages>,
    pub limit: Duration,
}

/// One claim with what belongs to it.
pub(crate) struct Case {
    pub claim: Arc<NodeClaim>,
    pub node: Option<Arc<Node>>,
    pub pool: Option<Arc<NodePool>>,
    pub class: Result<Arc<Class>, NoClass>,
    /// The cloud no longer has the machine that was launched.
    pub machine_gone: bool,
}

impl Case {
    pub(crate) fn conditions(&self, now: Timestamp) -> Conditions {
        let known = self.claim.status.as_ref().map_or(&[][..], |status| &status.conditions);
        Conditions::of(known, self.claim.metadata.generation, now)
    }
}

impl Shared {
    /// Deletes a claim that came to nothing, with a line that says why.
    pub(crate) async fn give_up(
        &self,
        claim: &NodeClaim,
        reason: &str,
        why: &str,
    ) -> Result<Next, StepError> {
        tracing::warn!(nodeclaim = claim.name_any(), reason, why, "deleting nodeclaim");
        self.delete_claim(claim).await?;
        Ok(Next::Wait)
    }

    pub(crate) async fn delete_claim(&self, claim: &NodeClaim) -> Result<(), StepError> {
        let same = Preconditions { uid: claim.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        unless_gone(within(self.limit, self.claims.delete(&claim.name_any(), &params)).await)
    }

    pub(crate) async fn patch_claim(&self, claim: &NodeClaim, patch: Value) -> Result<(), StepError> {
        let patch = Patch::Merge(patch);
        within(self.limit, self.claims.patch(&claim.name_any(), &PatchParams::default(), &patch)).await?;
        Ok(())
    }

    /// Writes conditions and more of the status, if the claim is still as it was read.
    pub(crate) async fn write_conditions(
        &self,
        claim: &NodeClaim,
        conditions: &Conditions,
        status: Value,
    ) -> Result<(), StepError> {
        let version = claim.resource_version();
        self.put_status(claim, conditions, status, json!({"resourceVersion": version})).await
    }

    /// The same after the claim's metadata was written.
    pub(crate) async fn write_conditions_anew(
        &self,
        claim: &NodeClaim,
        conditions: &Conditions,
        status: Value,
    ) -> Result<(), StepError> {
        self.put_status(claim, conditions, status, json!({})).await
    }

    async fn put_status(
        &self,
        claim: &NodeClaim,
        conditions: &Conditions,
        mut status: Value,
        metadata: Value,
    ) -> Result<(), StepError> {
        if let Some(fields) = status.as_object_mut() {
            fields.insert("conditions".to_owned(), json!(conditions.list));
        }
        let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
        let name = claim.name_any();
        within(self.limit, self.claims.patch_status(&name, &PatchParams::default(), &patch)).await?;
        Ok(())
    }

    pub(crate) async fn write_pool_status(&self, pool: &NodePool, status: Value) -> Result<(), StepError> {
        let patch = Patch::Merge(json!({"status": status}));
        let call = self.pools.patch_status(&pool.name_any(), &PatchParams::default(), &patch).await;
        unless_gone(call)
    }

    /// Writes a node as it was read and changed since.
    pub(crate) async fn write_node(&self, node: &Node) -> Result<(), StepError> {
        let name = node.name_any();
        within(self.limit, self.nodes.replace(&name, &PostParams::default(), node)).await?;
        Ok(())
    }

    pub(crate) async fn label_node(&self, name: &str, key: &str, value: &str) -> Result<(), StepError> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {key: value}}}));
        within(self.limit, self.nodes.patch(name, &PatchParams::default(), &patch)).await?;
        Ok(())
    }

    /// Takes our finalizer off a node and deletes it.
    pub(crate) async fn delete_node(&self, node: &Node) -> Result<(), StepError> {
        let name = node.name_any();
        without_finalizer(&self.nodes, node, self.limit).await?;
        let same = Preconditions { uid: node.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match within(self.limit, self.nodes.delete(&name, &params)).await {
            Err(error) if code(&error) == Some(409) => Ok(()),
            answer => unless_gone(answer),
        }
    }

    pub(crate) async fn drop_finalizer(&self, claim: &NodeClaim) -> Result<(), StepError> {
        without_finalizer(&self.claims, claim, self.limit).await
    }
}

/// Writes an object's finalizers without ours; the version that was read guards those of others.
pub(crate) async fn without_finalizer<K>(api: &Api<K>, object: &K, limit: Duration) -> Result<(), StepError>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Serialize,
{
    let name = object.name_any();
    let fresh = match within(limit, api.get(&name)).await {
        Ok(fresh) => fresh,
        Err(error) if code(&error) == Some(404) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if fresh.uid() != object.uid() || !fresh.finalizers().iter().any(|finalizer| finalizer == TERMINATION) {
        return Ok(());
    }
    let left: Vec<&String> =
        fresh.finalizers().iter().filter(|finalizer| *finalizer != TERMINATION).collect();
    let patch = json!({"metadata": {"resourceVersion": fresh.resource_version(), "finalizers": left}});
    unless_gone(within(limit, api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))).await)
}

pub(crate) fn unless_gone<T>(answer: kube::Result<T>) -> Result<(), StepError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if code(&error) == Some(404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Claim(String),
    Pool(String),
    /// A machine whose claim is not there.
    Orphan(String),
    /// A Provisioner, to be translated.
    Provisioner(String),
    /// An AWSNodeTemplate, to be translated.
    Template(String),
    /// The Machine of a claim.
    Mirror(String),
}

enum Event {
    Pool(Seen<NodePool>),
    Claim(Seen<NodeClaim>),
    Node(Box<Seen<Node>>),
    Machine(Seen<SimulatedMachine>),
    Simulated(Seen<SimulatedNodeClass>),
    Ec2(Seen<Ec2NodeClass>),
    Provisioner(Seen<Provisioner>),
    Template(Seen<AwsNodeTemplate>),
    Mirror(Seen<Machine>),
}

type Look = BoxFuture<'static, (Task, Result<Next, StepError>)>;

/// What has been seen, and what is due.
pub struct Keeper {
    shared: Arc<Shared>,
    settings: WatchSettings,
    classes: Classes,
    pools: Mirror<NodePool>,
    claims: Mirror<NodeClaim>,
    nodes: Mirror<Node>,
    machines: Mirror<SimulatedMachine>,
    provisioners: Mirror<Provisioner>,
    templates: Mirror<AwsNodeTemplate>,
    mirrors: Mirror<Machine>,
    due: BTreeMap<Task, Timestamp>,
    busy: BTreeSet<Task>,
}

impl Keeper {
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        settings: WatchSettings,
        stand: Stand,
        shortages: Arc<Shortages>,
    ) -> Self {
        let limit = settings.call_timeout;
        let shared = Shared {
            clock,
            claims: Api::all(client.clone()),
            nodes: Api::all(client.clone()),
            pools: Api::all(client.clone()),
            cloud: Arc::new(SimulatedCloud::new(client.clone(), limit)),
            client,
            shortages,
            limit,
        };
        Self {
            shared: Arc::new(shared),
            settings,
            classes: Classes::new(stand),
            pools: Mirror::new(),
            claims: Mirror::new(),
            nodes: Mirror::new(),
            machines: Mirror::new(),
            provisioners: Mirror::new(),
            templates: Mirror::new(),
            mirrors: Mirror::new(),
            due: BTreeMap::new(),
            busy: BTreeSet::new(),
        }
    }

    /// Keeps claims until its task is dropped, acting only while `leads` says so.
    pub async fn run(mut self, leads: impl Fn() -> bool + Send) {
        let mut events = self.events();
        let mut looks: FuturesUnordered<Look> = FuturesUnordered::new();
        let clock = self.shared.clock;
        loop {
            let leading = leads();
            if leading && self.is_synced() {
                self.begin(&mut looks);
            }
            let wake = self.wake(leading, looks.len());
            tokio::select! {
                biased;
                Some((task, answer)) = looks.next() => self.ended(task, answer),
                Some(event) = events.next() => {
                    self.take(event);
                    while let Some(Some(event)) = events.next().now_or_never() {
                        self.take(event);
                    }
                }
                () = async {
                    match wake {
                        Some(at) => clock.sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => {}
                // Whoever leads is asked again, but only where there is something to do.
                () = tokio::time::sleep(ASK_AGAIN), if !leading && !self.due.is_empty() => {}
            }
        }
    }

    fn events(&self) -> BoxStream<'static, Event> {
        fn of<K>(keeper: &Keeper, what: &'static str, wrap: fn(Seen<K>) -> Event) -> BoxStream<'static, Event>
        where
            K: Resource<DynamicType = ()>
                + Clone
                + serde::de::DeserializeOwned
                + std::fmt::Debug
                + Send
                + Sync
                + 'static,
        {
            watch(Api::<K>::all(keeper.shared.client.clone()), what, keeper.settings).map(wrap).boxed()
        }
        stream::select_all([
            of(self, "nodepools", Event::Pool),
            of(self, "nodeclaims", Event::Claim),
            of(self, "nodes", |seen| Event::Node(Box::new(seen))),
            of(self, "simulatedmachines", Event::Machine),
            of(self, "simulatednodeclasses", Event::Simulated),
            of(self, "ec2nodeclasses", Event::Ec2),
            of(self, "provisioners", Event::Provisioner),
            of(self, "awsnodetemplates", Event::Template),
            of(self, "machines", Event::Mirror),
        ])
        .boxed()
    }

    fn is_synced(&self) -> bool {
        self.pools.synced && self.claims.synced && self.nodes.synced && self.machines.synced
    }

    fn wake(&self, leading: bool, under_way: usize) -> Option<Timestamp> {
        if !leading || !self.is_synced() || under_way >= AT_ONCE {
            return None;
        }
        self.due.iter().filter(|(task, _)| !self.busy.contains(task)).map(|(_, at)| *at).min()
    }

    fn begin(&mut self, looks: &mut FuturesUnordered<Look>) {
        let now = self.shared.clock.now();
        let ready: Vec<Task> = self
            .due
            .iter()
            .filter(|(task, at)| **at <= now && !self.busy.contains(task))
            .map(|(task, _)| task.clone())
            .take(AT_ONCE.saturating_sub(looks.len()))
            .collect();
        for task in ready {
            self.due.remove(&task);
            if let Some(look) = self.look(&task) {
                self.busy.insert(task);
                looks.push(look);
            }
        }
    }

    fn look(&self, task: &Task) -> Option<Look> {
        let shared = self.shared.clone();
        let named = task.clone();
        match task {
            Task::Claim(name) => {
                let case = self.case(name)?;
                Some(Box::pin(async move { (named, look_at(&shared, &case).await) }))
            }
            Task::Pool(name) => {
                let pool = self.pools.get(name)?.clone();
                let class = self.classes.of(&pool.spec.template.spec.node_class_ref);
                let claims = self.claims_of(name);
                let case = PoolCase { pool, class, claims };
                Some(Box::pin(async move { (named, pool_status::keep(&shared, &case).await) }))
            }
            Task::Provisioner(name) => {
                let old = self.provisioners.get(name)?.clone();
                Some(Box::pin(async move { (named, translation::provisioner(&shared, &old).await) }))
            }
            Task::Template(name) => {
                let old = self.templates.get(name)?.clone();
                Some(Box::pin(async move { (named, translation::template(&shared, &old).await) }))
            }
            Task::Mirror(name) => {
                let (claim, machine) = (self.claims.get(name).cloned(), self.mirrors.get(name).cloned());
                let pool = claim.as_ref().and_then(|claim| claim.labels().get(NODE_POOL));
                let old = pool
                    .and_then(|pool| self.pools.get(pool))
                    .is_some_and(|pool| pool.annotations().contains_key(crate::legacy::TRANSLATED_FROM));
                (old || machine.is_some()).then(|| -> Look {
                    Box::pin(async move {
                        (named, translation::mirror(&shared, claim.as_deref(), machine.as_deref()).await)
                    })
                })
            }
            Task::Orphan(name) => {
                let launch = self.machines.get(name)?.spec.launch.clone()?;
                let known =
                    self.claims.get(name).is_some_and(|claim| claim.uid().as_deref() == Some(&*launch.claim));
                if known {
                    return None;
                }
                let name = name.clone();
                Some(Box::pin(async move {
                    let ended = shared.cloud.terminate(&name, &launch.claim).await;
                    (named, ended.map(|_| Next::Wait).map_err(StepError::from))
                }))
            }
        }
    }

    fn case(&self, name: &str) -> Option<Case> {
        let claim = self.claims.get(name)?.clone();
        let provider_id = claim.status.as_ref().and_then(|status| status.provider_id.clone());
        let launched = provider_id.is_some();
        let node = provider_id.and_then(|id| {
            let of_id = |node: &&Arc<Node>| {
                node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()) == Some(&*id)
            };
            // A simulated machine's node has its name; only where that is not so are all looked at.
            self.nodes.get(name).filter(of_id).or_else(|| self.nodes.all().find(of_id)).cloned()
        });
        let uid = claim.uid().unwrap_or_default();
        let has_machine = self
            .machines
            .get(name)
            .is_some_and(|machine| machine.spec.launch.as_ref().is_some_and(|launch| launch.claim == uid));
        Some(Case {
            node,
            pool: claim.labels().get(NODE_POOL).and_then(|pool| self.pools.get(pool)).cloned(),
            class: self.classes.of(&claim.spec.node_class_ref),
            machine_gone: launched && !has_machine,
            claim,
        })
    }

    fn claims_of(&self, pool: &str) -> Vec<Arc<NodeClaim>> {
        let ours = |claim: &&Arc<NodeClaim>| claim.labels().get(NODE_POOL).is_some_and(|name| name == pool);
        self.claims.all().filter(ours).cloned().collect()
    }

    fn ended(&mut self, task: Task, answer: Result<Next, StepError>) {
        self.busy.remove(&task);
        let now = self.shared.clock.now();
        match answer {
            Ok(Next::Wait) => {}
            Ok(Next::At(at)) => self.at(task, at),
            Err(error) => {
                if matches!(&error, StepError::Api(error) if code(error) == Some(409)) {
                    tracing::debug!(?task, "read anew after a conflict");
                } else {
                    tracing::warn!(?task, %error, "a step failed; it is tried again");
                }
                self.at(task, now.saturating_add(TRY_AGAIN).unwrap_or(now));
            }
        }
    }

    /// Something may be done at a moment; what is due before stays so.
    fn at(&mut self, task: Task, at: Timestamp) {
        let entry = self.due.entry(task).or_insert(at);
        *entry = (*entry).min(at);
    }

    fn now(&mut self, task: Task) {
        let now = self.shared.clock.now();
        self.at(task, now);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Pool(seen) => {
                for name in self.pools.take(seen) {
                    for claim in self.claims_of(&name) {
                        self.now(Task::Claim(claim.name_any()));
                    }
                    self.now(Task::Pool(name));
                }
            }
            Event::Claim(seen) => {
                let before = if let Seen::Gone(object) = &seen { Some(object.clone()) } else { None };
                for name in self.claims.take(seen) {
                    let claim = self.claims.get(&name).cloned().or_else(|| before.clone().map(Arc::new));
                    if let Some(pool) = claim.and_then(|claim| claim.labels().get(NODE_POOL).cloned()) {
                        self.now(Task::Pool(pool));
                    }
                    self.machine_changed(&name);
                    self.now(Task::Mirror(name.clone()));
                    self.now(Task::Claim(name));
                }
            }
            Event::Provisioner(seen) => {
                for name in self.provisioners.take(seen) {
                    self.now(Task::Provisioner(name));
                }
            }
            Event::Template(seen) => {
                for name in self.templates.take(seen) {
                    self.now(Task::Template(name));
                }
            }
            Event::Mirror(seen) => {
                for name in self.mirrors.take(seen) {
                    self.now(Task::Mirror(name));
                }
            }
            Event::Node(seen) => {
                for name in self.nodes.take(*seen) {
                    let claim = self.nodes.get(&name).and_then(|node| claim_of(node)).unwrap_or(name);
                    if self.claims.get(&claim).is_some() {
                        self.now(Task::Claim(claim));
                    }
                }
            }
            Event::Machine(seen) => {
                for name in self.machines.take(seen) {
                    self.machine_changed(&name);
                    if self.claims.get(&name).is_some() {
                        self.now(Task::Claim(name));
                    }
                }
            }
            Event::Simulated(Seen::Object(object)) => {
                let class = self.classes.put_simulated(&object);
                self.class_changed(&class);
            }
            Event::Ec2(Seen::Object(object)) => {
                let class = self.classes.put_ec2(&object);
                self.class_changed(&class);
            }
            Event::Simulated(Seen::Gone(object)) => {
                self.classes.forget(api::GROUP, "SimulatedNodeClass", &object.name_any());
            }
            Event::Ec2(Seen::Gone(object)) => {
                self.classes.forget(api::karpenter::AWS_GROUP, "EC2NodeClass", &object.name_any());
            }
            Event::Simulated(_) | Event::Ec2(_) => {}
        }
    }

    fn class_changed(&mut self, class: &api::karpenter::NodeClassRef) {
        let of_class = |pool: &&Arc<NodePool>| pool.spec.template.spec.node_class_ref == *class;
        let pools: Vec<String> = self.pools.all().filter(of_class).map(|pool| pool.name_any()).collect();
        for pool in pools {
            for claim in self.claims_of(&pool) {
                self.now(Task::Claim(claim.name_any()));
            }
            self.now(Task::Pool(pool));
        }
    }

    /// A machine that was launched for a claim which is not there is ended in a while.
    fn machine_changed(&mut self, name: &str) {
        let Some(machine) = self.machines.get(name) else { return };
        if machine.spec.launch.is_none() {
            return;
        }
        let created = machine.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let at = created.saturating_add(ORPHAN_AGE).unwrap_or(created).max(self.shared.clock.now());
        if self.claims.get(name).is_none() {
            self.at(Task::Orphan(name.to_owned()), at);
        }
    }
}

/// The claim that a node belongs to, by its owner or its machine's id.
fn claim_of(node: &Node) -> Option<String> {
    let owner = node.owner_references().iter().find(|owner| owner.kind == "NodeClaim");
    owner.map(|owner| owner.name.clone()).or_else(|| {
        let id = node.spec.as_ref()?.provider_id.as_deref()?;
        id.rsplit('/').next().map(str::to_owned)
    })
}

/// One step of one claim.
async fn look_at(shared: &Shared, case: &Case) -> Result<Next, StepError> {
    let claim = &*case.claim;
    if claim.metadata.deletion_timestamp.is_some() {
        return ending::end(shared, case).await;
    }
    if case.node.as_ref().is_some_and(|node| node.metadata.deletion_timestamp.is_some()) {
        return shared.give_up(claim, "NodeDeleted", "its node was deleted").await;
    }
    if !claim.finalizers().iter().any(|finalizer| finalizer == TERMINATION) {
        let mut all = claim.finalizers().to_vec();
        all.push(TERMINATION.to_owned());
        let patch = json!({"metadata": {"resourceVersion": claim.resource_version(), "finalizers": all}});
        shared.patch_claim(claim, patch).await?;
        return Ok(Next::Wait);
    }
    let launched = claim.status.as_ref().is_some_and(|status| {
        status.provider_id.is_some()
            && status.conditions.iter().any(|c| c.type_ == LAUNCHED && c.status == "True")
    });
    if launched { joining::join(shared, case).await } else { launching::launch(shared, case).await }
}

/// Objects of one kind as last seen.
struct Mirror<K> {
    objects: BTreeMap<String, Arc<K>>,
    listed: Option<BTreeSet<String>>,
    synced: bool,
}

impl<K: Resource> Mirror<K> {
    fn new() -> Self {
        Self { objects: BTreeMap::new(), listed: None, synced: false }
    }

    fn get(&self, name: &str) -> Option<&Arc<K>> {
        self.objects.get(name)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    /// Takes news in; the names of what changed.
    fn take(&mut self, seen: Seen<K>) -> Vec<String> {
        match seen {
            Seen::Begin => {
                self.listed = Some(BTreeSet::new());
                Vec::new()
            }
            Seen::Object(object) => {
                let name = object.name_any();
                if let Some(listed) = &mut self.listed {
                    listed.insert(name.clone());
                }
                self.objects.insert(name.clone(), Arc::new(object));
                vec![name]
            }
            Seen::Gone(object) => {
                let name = object.name_any();
                self.objects.remove(&name);
                vec![name]
            }
            Seen::Synced => {
                self.synced = true;
                let Some(listed) = self.listed.take() else { return Vec::new() };
                let gone: Vec<String> =
                    self.objects.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                for name in &gone {
                    self.objects.remove(name);
                }
                gone
            }
            Seen::Broken { missing_kind, .. } => {
                // A kind that the server does not know has no objects.
                self.synced |= missing_kind;
                Vec::new()
            }
        }
    }
}
