//! The controllers of kube-controller-manager and the scheduler, as one loop over the store's changes.
//!
//! Owns the order in which they run: each change marks work, work is done by kind in a fixed order, each piece to
//! its end, and what it writes is seen before the next piece starts. So a run depends on the changes alone. Nothing
//! runs while nothing changes and nothing is due.

mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoints;
mod events;
mod garbage;
mod index;
mod job;
mod node_lifecycle;
pub(crate) mod objects;
mod replica_set;
mod route;
mod selected;
mod stateful_set;
mod volume_claims;

use super::deadlines::{Deadlines, after, sleep_until};
use super::scheduler::Scheduler;
use crate::store::resource::{PODS, REPLICA_SETS, REPLICATION_CONTROLLERS};
use crate::store::{ApiError, Object, ResourceName, Store, Subscription};
use clock::Clock;
use daemon_set::Daemons;
use events::Events;
pub(crate) use events::{Event, write_event};
use index::Index;
use jiff::Timestamp;
use objects::{Key, Reference};
use selected::Selectors;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often a piece of work that fails is tried again before it waits for a change.
const TRIES: u32 = 10;
/// The first pause after a failure; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What the controllers are started with.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// Whether controllers and scheduler write Events, as `kubectl describe` shows them; simulations save the writes.
    pub events: bool,
    /// From the loss of a node to the removal of its pods.
    pub orphan_grace: Duration,
    /// What a pod that says nothing tolerates of a node that is not ready.
    pub not_ready_toleration: Duration,
}

impl Default for ControllerOptions {
    fn default() -> Self {
        Self {
            events: true,
            orphan_grace: Duration::from_secs(40),
            not_ready_toleration: Duration::from_mins(5),
        }
    }
}

/// One piece of work. The order of the variants is the order in which work is done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// Dependants of an owner that is gone or going.
    Owned(String),
    /// An object whose owners may never have existed.
    Orphan(Reference),
    NodeTaints(String),
    /// Ended pods beyond the number that is kept.
    EndedPods,
    /// Pods of a node that is gone.
    LostNode(String),
    /// A pod on a node with NoExecute taints.
    Expel(Key),
    CronJob(Key),
    Job(Key),
    Deployment(Key),
    ReplicaSet(ResourceName, Key),
    StatefulSet(Key),
    DaemonSet(Key),
    DaemonOnNode(Key, String),
    DaemonStatus(Key),
    Budget(Key),
    VolumeClaim(Key),
    EphemeralClaims(Key),
    /// The volume of a claim that is gone, by the claim's uid.
    UnclaimedVolume(String),
    Endpoints(Key),
    Schedule,
    ForgetEvents,
}

/// The loop's state; each controller is an `impl` block in a file of its own.
struct Controllers {
    store: Store,
    clock: Clock,
    options: ControllerOptions,
    changes: Subscription,
    index: Index,
    work: BTreeSet<Work>,
    due: Deadlines<Work>,
    failures: BTreeMap<Work, u32>,
    /// Owners whose deletion waits for what becomes of their dependants, by uid.
    going: BTreeMap<String, Reference>,
    /// Budgets' selectors, parsed once.
    budgets: Selectors,
    /// All `DaemonSet`s: a node that changes concerns each.
    daemon_sets: BTreeMap<Key, Daemons>,
    /// Services' selectors, parsed once.
    services: Selectors,
    scheduler: Scheduler,
    events: Events,
}

/// Runs controllers and scheduler until the task is dropped.
pub async fn run(store: Store, options: ControllerOptions) {
    let store = store.acting_as("kube-controller-manager");
    let clock = store.clock();
    loop {
        let mut controllers = Controllers::new(&store, options.clone());
        controllers.start();
        loop {
            controllers.work_off();
            let wake = controllers.due.next();
            let changes = tokio::select! {
                biased;
                changes = controllers.changes.next() => changes,
                () = sleep_until(clock, wake) => Ok(Vec::new()),
            };
            match changes {
                Ok(changes) => controllers.take_in(&changes),
                // Fell so far behind that changes are lost: look at everything anew.
                Err(_) => break,
            }
        }
    }
}

impl Controllers {
    fn new(store: &Store, options: ControllerOptions) -> Self {
        let changes = store.subscribe();
        Self {
            store: store.clone(),
            clock: store.clock(),
            changes,
            index: Index::default(),
            work: BTreeSet::new(),
            due: Deadlines::new(),
            failures: BTreeMap::new(),
            going: BTreeMap::new(),
            budgets: Selectors::default(),
            daemon_sets: BTreeMap::new(),
            services: Selectors::default(),
            scheduler: Scheduler::new(store.acting_as("kube-scheduler"), options.events),
            events: Events::new(store.clone(), options.events),
            options,
        }
    }

    /// Looks at all that is there already.
    fn start(&mut self) {
        let resources = self.store.resources();
        let objects: Vec<Arc<Object>> =
            resources.iter().flat_map(|info| self.store.list(info.name)).collect();
        for object in objects {
            self.route(&crate::store::Change {
                revision: object.revision(),
                kind: crate::store::ChangeKind::Added,
                object,
                previous: None,
            });
        }
    }

    fn take_in(&mut self, changes: &[crate::store::Change]) {
        for change in changes {
            self.route(change);
        }
    }

    /// Reads what was written since; false where the log no longer reaches back.
    fn absorb(&mut self) -> bool {
        loop {
            match self.changes.ready() {
                Ok(changes) if changes.is_empty() => return true,
                Ok(changes) => self.take_in(&changes),
                Err(_) => return false,
            }
        }
    }

    fn work_off(&mut self) {
        loop {
            let now = self.clock.now();
            while let Some(work) = self.due.pop_due(now) {
                self.work.insert(work);
            }
            if !self.absorb() {
                return;
            }
            let Some(work) = self.work.pop_first() else { return };
            match self.perform(&work, now) {
                Ok(()) => {
                    self.failures.remove(&work);
                }
                Err(error) => self.failed(work, &error, now),
            }
        }
    }

    fn failed(&mut self, work: Work, error: &ApiError, now: Timestamp) {
        let failures = self.failures.entry(work.clone()).or_default();
        *failures += 1;
        tracing::debug!(?work, %error, failures, "a simulated controller's write was refused");
        if *failures <= TRIES {
            let pause = FIRST_PAUSE.saturating_mul(1 << (*failures - 1));
            self.due.set_earliest(work, after(now, pause));
        } else {
            self.failures.remove(&work);
        }
    }

    fn perform(&mut self, work: &Work, now: Timestamp) -> Result<(), ApiError> {
        match work {
            Work::Owned(uid) => self.collect_dependants(uid),
            Work::Orphan(reference) => self.collect_orphan(reference),
            Work::NodeTaints(node) => self.taint_node(node, now),
            Work::EndedPods => self.trim_ended(),
            Work::LostNode(node) => self.collect_pods_of(node, now),
            Work::Expel(pod) => self.expel(pod, now),
            Work::CronJob(key) => self.reconcile_cron_job(key, now),
            Work::Job(key) => self.reconcile_job(key, now),
            Work::Deployment(key) => self.reconcile_deployment(key, now),
            Work::ReplicaSet(resource, key) => self.reconcile_replica_set(*resource, key, now),
            Work::StatefulSet(key) => self.reconcile_stateful_set(key, now),
            Work::DaemonSet(key) => self.reconcile_daemon_set(key),
            Work::DaemonOnNode(key, node) => self.reconcile_daemon(key, node, now),
            Work::DaemonStatus(key) => self.report_daemon_set(key),
            Work::Budget(key) => self.reconcile_budget(key, now),
            Work::VolumeClaim(key) => self.reconcile_claim(key, now),
            Work::EphemeralClaims(pod) => self.make_ephemeral_claims(pod),
            Work::UnclaimedVolume(claim) => super::volumes::release(&self.store, claim),
            Work::Endpoints(key) => self.reconcile_endpoints(key),
            Work::Schedule => self.scheduler.work(now),
            Work::ForgetEvents => self.events.forget_old(now, &mut self.due),
        }
    }

    /// The pods that `owner` controls.
    fn pods_of(&self, owner: &Object) -> Vec<Arc<Object>> {
        self.dependants_of(owner, PODS)
    }

    /// The dependants of one kind.
    fn dependants_of(&self, owner: &Object, resource: ResourceName) -> Vec<Arc<Object>> {
        self.index
            .dependants(owner.uid())
            .filter(|reference| reference.resource == resource)
            .filter_map(|reference| self.store.find(resource, &reference.namespace, &reference.name))
            .filter(|object| objects::controller_of(object).is_some_and(|(_, _, uid)| uid == owner.uid()))
            .collect()
    }
}

/// `apiVersion` and kind of the owners that make pods.
fn kind_of(resource: ResourceName) -> (&'static str, &'static str) {
    if resource == REPLICA_SETS {
        ("apps/v1", "ReplicaSet")
    } else if resource == REPLICATION_CONTROLLERS {
        ("v1", "ReplicationController")
    } else {
        ("", "")
    }
}
