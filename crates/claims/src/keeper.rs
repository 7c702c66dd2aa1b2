//! The keeper: takes each claim one step further whenever something about it has changed or its time has come.
//!
//! Owns the queue of what is due. Claims are looked at side by side, so a launch that is slow keeps nothing else
//! waiting. What was seen is in `seen`; what one look does is in `launching`, `joining`, `ending`, `pool_status` and
//! `translation`.

use crate::Parts;
use crate::classes::{Different, pictures};
use crate::cloud::{ClassTable, MachineKey, MachineList, Notice};
use crate::conditions::LAUNCHED;
use crate::due::Due;
use crate::guard::{Guard, Held};
use crate::pool_status::{self, PoolCase};
use crate::seen::{Stray, World};
use crate::shared::{Case, Next, Shared, StepError};
use crate::{ending, joining, launching, orders, translation};
use api::karpenter::v1alpha5::{AwsNodeTemplate, Machine, Provisioner};
use api::karpenter::{NODE_POOL, NodeClaim, NodeOverlay, NodePool, TERMINATION};
use clock::Clock;
use clouds::events::Recorder;
use clouds::watching::{Seen, WatchSettings, code, watch, within};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::{Client, Resource, ResourceExt as _};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Looks that are under way at once.
const AT_ONCE: usize = 64;
/// After a look that failed.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(2);
/// What changes of a pool's machines within this is written of the pool at once.
const POOL_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// While another replica leads.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// A machine without a claim is ended after this: its claim may not be seen yet.
const ORPHAN_AGE: SignedDuration = SignedDuration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Claim(String),
    Pool(String),
    /// A machine whose claim is not there.
    Orphan(Stray),
    /// A Provisioner, to be translated.
    Provisioner(String),
    /// An AWSNodeTemplate, to be translated.
    Template(String),
    /// The Machine of a claim.
    Mirror(String),
    Overlay(String),
}

enum Event {
    Pool(Seen<NodePool>),
    Claim(Seen<NodeClaim>),
    Node(Box<Seen<Node>>),
    Provisioner(Seen<Provisioner>),
    Template(Seen<AwsNodeTemplate>),
    Mirror(Seen<Machine>),
    Overlay(Seen<NodeOverlay>),
    Classes(usize, Option<Arc<ClassTable>>),
    Machines(usize, Option<Arc<MachineList>>),
    /// Somebody else acts, or does no longer.
    Others,
}

type Look = BoxFuture<'static, (Task, Result<Next, StepError>)>;

/// What has been seen, and what is due.
pub struct Keeper {
    shared: Arc<Shared>,
    settings: WatchSettings,
    world: World,
    guard: Guard,
    due: Due<Task>,
    busy: BTreeSet<Task>,
}

impl Keeper {
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        settings: WatchSettings,
        parts: Parts,
        recorder: Recorder,
    ) -> Self {
        let Parts { clouds, shortages, guard, repairs } = parts;
        let world = World::new(&clouds);
        let shared = Shared {
            clock,
            claims: Api::all(client.clone()),
            nodes: Api::all(client.clone()),
            pools: Api::all(client.clone()),
            clouds,
            client,
            shortages,
            recorder,
            limit: settings.call_timeout,
            repairs,
        };
        Self { shared: Arc::new(shared), settings, world, guard, due: Due::new(), busy: BTreeSet::new() }
    }

    /// Tells whether no other Karpenter acts on this cluster, for clouds that write or hear what one alone may.
    pub fn alone(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let guard = self.guard.clone();
        move || guard.holds_all().is_none()
    }

    /// Keeps claims until its task is dropped, acting only while `leads` says so.
    pub async fn run(mut self, leads: impl Fn() -> bool + Send) {
        let mut events = self.events();
        let mut looks: FuturesUnordered<Look> = FuturesUnordered::new();
        let clock = self.shared.clock;
        loop {
            let leading = leads();
            if leading && self.world.is_synced() {
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
        let objects = [
            of(self, "nodepools", Event::Pool),
            of(self, "nodeclaims", Event::Claim),
            of(self, "nodes", |seen| Event::Node(Box::new(seen))),
            of(self, "provisioners", Event::Provisioner),
            of(self, "awsnodetemplates", Event::Template),
            of(self, "machines", Event::Mirror),
            of(self, "nodeoverlays", Event::Overlay),
        ];
        let of_clouds = self.shared.clouds.0.iter().enumerate().flat_map(|(at, cloud)| {
            let classes = pictures(cloud.classes()).map(move |table| Event::Classes(at, table));
            let machines = pictures(cloud.machines()).map(move |list| Event::Machines(at, list));
            [classes.boxed(), machines.boxed()]
        });
        let others = pictures(self.guard.peer()).map(|_| Event::Others).boxed();
        stream::select_all(objects.into_iter().chain(of_clouds).chain([others])).boxed()
    }

    fn wake(&self, leading: bool, under_way: usize) -> Option<Timestamp> {
        if !leading || !self.world.is_synced() || under_way >= AT_ONCE {
            return None;
        }
        self.due.next(|task| self.busy.contains(task))
    }

    fn begin(&mut self, looks: &mut FuturesUnordered<Look>) {
        let now = self.shared.clock.now();
        let Self { due, busy, .. } = self;
        let ready = due.take(now, AT_ONCE.saturating_sub(looks.len()), |task| busy.contains(task));
        for task in ready {
            if let Some(look) = self.look(&task) {
                self.busy.insert(task);
                looks.push(look);
            }
        }
    }

    /// Why a task is not ours to do.
    fn held(&self, task: &Task) -> Option<Held> {
        match task {
            Task::Pool(name) => self.world.pools.get(name).and_then(|pool| self.guard.holds_pool(pool)),
            Task::Claim(name) | Task::Mirror(name) => {
                let claim = self.world.claims.get(name)?;
                let pool = claim.labels().get(NODE_POOL).and_then(|pool| self.world.pools.get(pool));
                let of_pool = pool.and_then(|pool| self.guard.holds_pool(pool));
                of_pool.or_else(|| self.guard.holds(&claim.spec.node_class_ref))
            }
            Task::Orphan(_) | Task::Provisioner(_) | Task::Template(_) | Task::Overlay(_) => {
                self.guard.holds_all()
            }
        }
    }

    fn look(&self, task: &Task) -> Option<Look> {
        let (shared, world) = (self.shared.clone(), &self.world);
        let named = task.clone();
        if let Some(held) = self.held(task) {
            let Task::Pool(name) = task else { return None };
            let pool = world.pools.get(name)?.clone();
            return Some(Box::pin(async move { (named, pool_status::hold(&shared, &pool, &held).await) }));
        }
        match task {
            Task::Claim(name) => {
                let case = world.case(name)?;
                Some(Box::pin(async move { (named, look_at(&shared, &case).await) }))
            }
            Task::Pool(name) => {
                let pool = world.pools.get(name)?.clone();
                let class = world.classes.of(&pool.spec.template.spec.node_class_ref);
                let claims = world.claims_of(name);
                let case = PoolCase { pool, class, claims };
                Some(Box::pin(async move { (named, pool_status::keep(&shared, &case).await) }))
            }
            Task::Provisioner(name) => {
                let old = world.provisioners.get(name)?.clone();
                Some(Box::pin(async move { (named, translation::provisioner(&shared, &old).await) }))
            }
            Task::Template(name) => {
                let old = world.templates.get(name)?.clone();
                Some(Box::pin(async move { (named, translation::template(&shared, &old).await) }))
            }
            Task::Overlay(name) => {
                let overlay = world.overlays.get(name)?.clone();
                let verdict = world.overlays.resolved().verdicts.get(name)?.clone();
                Some(Box::pin(async move {
                    (named, pool_status::overlay(&shared, &overlay, verdict.as_ref()).await)
                }))
            }
            Task::Mirror(name) => {
                let (claim, machine) = (world.claims.get(name).cloned(), world.mirrors.get(name).cloned());
                let pool = claim.as_ref().and_then(|claim| claim.labels().get(NODE_POOL));
                let old = pool
                    .and_then(|pool| world.pools.get(pool))
                    .is_some_and(|pool| pool.annotations().contains_key(crate::legacy::TRANSLATED_FROM));
                (old || machine.is_some()).then(|| -> Look {
                    Box::pin(async move {
                        (named, translation::mirror(&shared, claim.as_deref(), machine.as_deref()).await)
                    })
                })
            }
            Task::Orphan(stray) => {
                let machine = world.machine(stray).filter(|_| world.is_stray(stray))?.clone();
                let cloud = stray.cloud;
                let key = MachineKey {
                    claim: machine.claim.clone(),
                    uid: machine.uid.clone(),
                    provider_id: Some(machine.provider_id.clone()),
                };
                Some(Box::pin(async move { (named, end_orphan(&shared, cloud, &key).await) }))
            }
        }
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
        self.due.at(task, at);
    }

    fn now(&mut self, task: Task) {
        let now = self.shared.clock.now();
        self.at(task, now);
    }

    fn all_now(&mut self, names: impl IntoIterator<Item = String>, task: fn(String) -> Task) {
        for name in names {
            self.now(task(name));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Pool(seen) => {
                for name in self.world.pools.take(seen) {
                    let claims = self.world.claims_of(&name);
                    self.all_now(claims.iter().map(|claim| claim.name_any()), Task::Claim);
                    self.now(Task::Pool(name));
                }
                self.lay_over();
            }
            Event::Overlay(seen) => {
                self.world.overlays.take(seen);
                self.lay_over();
            }
            Event::Claim(seen) => {
                for claim in self.world.take_claim(seen) {
                    let strays = claim.gone.map(|uid| self.world.strays_of(&uid)).unwrap_or_default();
                    self.orphans(strays);
                    let now = self.shared.clock.now();
                    let soon = now.saturating_add(POOL_PAUSE).unwrap_or(now);
                    for pool in claim.pools {
                        self.at(Task::Pool(pool), soon);
                    }
                    self.now(Task::Mirror(claim.name.clone()));
                    self.now(Task::Claim(claim.name));
                }
            }
            Event::Node(seen) => {
                let concerned = self.world.take_node(*seen);
                self.all_now(concerned, Task::Claim);
            }
            Event::Provisioner(seen) => {
                let names = self.world.provisioners.take(seen);
                self.all_now(names, Task::Provisioner);
            }
            Event::Template(seen) => {
                let names = self.world.templates.take(seen);
                self.all_now(names, Task::Template);
            }
            Event::Mirror(seen) => {
                let names = self.world.mirrors.take(seen);
                self.all_now(names, Task::Mirror);
            }
            Event::Classes(cloud, table) => {
                let different = self.world.classes.refresh(cloud, table);
                self.classes_changed(&different);
                self.lay_over();
            }
            Event::Others => self.everything(),
            Event::Machines(cloud, list) => {
                let (concerned, strays) = self.world.take_list(cloud, list);
                self.all_now(concerned, Task::Claim);
                self.orphans(strays);
            }
        }
    }

    /// Overlays may come to something else: what each of them says of itself is looked at.
    fn lay_over(&mut self) {
        if self.world.overlays.synced() && self.world.lay_over() {
            let names = self.world.overlays.names();
            self.all_now(names, Task::Overlay);
        }
    }

    /// What was left alone may be ours now.
    fn everything(&mut self) {
        let world = &self.world;
        let claims: Vec<String> = world.claims.all().map(|claim| claim.name_any()).collect();
        let tasks: Vec<Task> = [
            world.pools.all().map(|pool| Task::Pool(pool.name_any())).collect::<Vec<_>>(),
            claims.iter().cloned().map(Task::Claim).collect(),
            claims.iter().cloned().map(Task::Mirror).collect(),
            world.provisioners.all().map(|old| Task::Provisioner(old.name_any())).collect(),
            world.templates.all().map(|old| Task::Template(old.name_any())).collect(),
            world.overlays.names().into_iter().map(Task::Overlay).collect(),
        ]
        .into_iter()
        .flatten()
        .collect();
        for task in tasks {
            self.now(task);
        }
        let strays = self.world.strays();
        self.orphans(strays);
    }

    fn classes_changed(&mut self, different: &Different) {
        let of_class = |pool: &&Arc<NodePool>| different.includes(&pool.spec.template.spec.node_class_ref);
        let pools: Vec<String> =
            self.world.pools.all().filter(of_class).map(|pool| pool.name_any()).collect();
        for pool in pools {
            let claims = self.world.claims_of(&pool);
            self.all_now(claims.iter().map(|claim| claim.name_any()), Task::Claim);
            self.now(Task::Pool(pool));
        }
    }

    /// Machines that were launched for claims which are not there are ended in a while.
    fn orphans(&mut self, strays: Vec<Stray>) {
        for stray in strays {
            let Some(machine) = self.world.machine(&stray) else { continue };
            let old = machine.created_at.saturating_add(ORPHAN_AGE).unwrap_or(machine.created_at);
            let at = old.max(self.shared.clock.now());
            self.at(Task::Orphan(stray), at);
        }
    }
}

/// Ends a machine without a claim. What is seen may lag behind, so the claim is asked for once more.
async fn end_orphan(shared: &Shared, cloud: usize, machine: &MachineKey) -> Result<Next, StepError> {
    match within(shared.limit, shared.claims.get(&machine.claim)).await {
        Ok(claim) if claim.uid().as_deref() == Some(&*machine.uid) => return Ok(Next::Wait),
        Ok(_) => {}
        Err(error) if code(&error) == Some(404) => {}
        Err(error) => return Err(error.into()),
    }
    let Some(cloud) = shared.clouds.0.get(cloud) else { return Ok(Next::Wait) };
    tracing::warn!(
        nodeclaim = &*machine.claim,
        "provider-id" = machine.provider_id,
        "machine without a claim"
    );
    if cloud.terminate(machine).await? {
        return Ok(Next::Wait);
    }
    let now = shared.clock.now();
    Ok(Next::At(now.saturating_add(ORPHAN_AGE).unwrap_or(now)))
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
    if let Some(Notice::Ends { reason, message, short }) =
        case.machine.as_ref().and_then(|m| m.notice.as_ref())
    {
        if *short {
            shared.shortages.note(orders::offer_of(claim), shared.clock.now());
        }
        return shared.give_up(claim, reason, message).await;
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
