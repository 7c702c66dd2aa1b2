//! The cluster as it was last observed, kept current one change at a time.
//!
//! Owns the maps and the indexes over them. A [`Change`] is both what the watches feed in and what the journal
//! records, so a replay rebuilds the same cluster by applying the same changes. Deciding never changes a cluster.

mod cohorts;
mod devices;
mod parts;
mod shapes;
mod standing;
mod storage;

pub use cohorts::Cohort;
pub use standing::Standing;
pub use storage::{Storage, StorageChange};

use crate::{
    AlertDemand, DaemonSet, DaemonSetKey, Headroom, Labels, Machine, MachineId, Node, NodeName, Outcome,
    Outlook, OutlookKey, Pdb, PdbKey, Pod, PodKey, PodShape, Pool, PoolId, RuleSet, RuleSetKey, Uid,
    Workload, WorkloadKey,
};
use cohorts::Cohorts;
use jiff::Timestamp;
use parts::Parts;
use serde::{Deserialize, Serialize};
use shapes::Shapes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use storage::{Seen, Touched};

/// One source of what we know. A cause plans nothing while an input that it needs is not fresh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    Nodes,
    Pods,
    Workloads,
    DaemonSets,
    Pdbs,
    Namespaces,
    /// Rules that ask for nodes.
    NodeRules,
    /// What is known ahead of workloads.
    Outlooks,
    /// Objects that ask for headroom.
    Headroom,
    /// Claims, volumes and storage classes.
    Volumes,
    /// What CSI drivers run on nodes, how much they attach, and what is attached.
    Attachments,
    /// Slices of devices, their classes, claims of them and templates of claims.
    Devices,
    /// The provider's pools, by the provider's name.
    Pools(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum InputState {
    Fresh,
    /// Since when, and what was tried and failed.
    Stale {
        since: Timestamp,
        why: Arc<str>,
    },
}

/// One observed change. `None` means that the object is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    Node(NodeName, Option<Arc<Node>>),
    Pod(PodKey, Option<Arc<Pod>>),
    Pool(PoolId, Option<Arc<Pool>>),
    Machine(MachineId, Option<Arc<Machine>>),
    Workload(WorkloadKey, Option<Arc<Workload>>),
    DaemonSet(DaemonSetKey, Option<Arc<DaemonSet>>),
    Pdb(PdbKey, Option<Arc<Pdb>>),
    /// The labels of a namespace.
    Namespace(Arc<str>, Option<Arc<Labels>>),
    RuleSet(RuleSetKey, Option<Arc<RuleSet>>),
    Outlook(OutlookKey, Option<Arc<Outlook>>),
    /// Room for pods that do not exist, by the object that asks for it.
    Headroom(WorkloadKey, Option<Arc<Headroom>>),
    /// An alert that rules may wait for; read by the next round, then dropped by [`Cluster::forget_outcomes`].
    Alert(Arc<AlertDemand>),
    Storage(StorageChange),
    Input(Input, InputState),
    /// What became of a step; read by the next round, then dropped by [`Cluster::forget_outcomes`].
    Outcome(Arc<Outcome>),
}

/// Everything that is known of the cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cluster {
    nodes: BTreeMap<NodeName, Arc<Node>>,
    pods: BTreeMap<PodKey, Arc<Pod>>,
    pools: BTreeMap<PoolId, Arc<Pool>>,
    machines: BTreeMap<MachineId, Arc<Machine>>,
    workloads: BTreeMap<WorkloadKey, Arc<Workload>>,
    daemon_sets: BTreeMap<DaemonSetKey, Arc<DaemonSet>>,
    pdbs: BTreeMap<PdbKey, Arc<Pdb>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    namespaces: BTreeMap<Arc<str>, Arc<Labels>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rule_sets: BTreeMap<RuleSetKey, Arc<RuleSet>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    outlooks: BTreeMap<OutlookKey, Arc<Outlook>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headroom: BTreeMap<WorkloadKey, Arc<Headroom>>,
    #[serde(skip_serializing_if = "Storage::is_empty")]
    storage: Storage,
    /// A list, because JSON keys are strings and an input is not.
    inputs: Vec<(Input, InputState)>,
    outcomes: Vec<Arc<Outcome>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alerts: Vec<Arc<AlertDemand>>,

    #[serde(skip)]
    pods_by_node: BTreeMap<NodeName, BTreeMap<PodKey, Arc<Pod>>>,
    #[serde(skip)]
    machines_by_pool: BTreeMap<PoolId, BTreeSet<MachineId>>,
    #[serde(skip)]
    waiting: BTreeMap<PodKey, Arc<Pod>>,
    #[serde(skip)]
    cohorts: Cohorts,
    /// Live pods of each owner, bound or not.
    #[serde(skip)]
    live_by_owner: BTreeMap<Uid, u32>,
    #[serde(skip)]
    shapes: Shapes,
    #[serde(skip)]
    standing: Standing,
    #[serde(skip)]
    parts: Parts,
}

impl Cluster {
    pub fn apply(&mut self, change: Change) {
        fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        let passing = matches!(
            change,
            Change::Pod(..) | Change::Workload(..) | Change::Pdb(..) | Change::Outcome(_) | Change::Alert(_)
        );
        if !passing {
            self.standing.renew();
        }
        match change {
            Change::Node(key, node) => self.put_node(key, node),
            Change::Pod(key, pod) => self.put_pod(key, pod),
            Change::Pool(key, pool) => put(&mut self.pools, key, pool),
            Change::Machine(key, machine) => self.put_machine(key, machine),
            Change::Workload(key, workload) => {
                self.parts.replace(&key, self.workloads.get(&key), workload.as_ref());
                put(&mut self.workloads, key, workload);
            }
            Change::DaemonSet(key, set) => put(&mut self.daemon_sets, key, set),
            Change::Pdb(key, pdb) => put(&mut self.pdbs, key, pdb),
            Change::Namespace(name, labels) => put(&mut self.namespaces, name, labels),
            Change::RuleSet(key, set) => put(&mut self.rule_sets, key, set),
            Change::Outlook(key, outlook) => put(&mut self.outlooks, key, outlook),
            Change::Headroom(key, headroom) => put(&mut self.headroom, key, headroom),
            Change::Storage(change) => {
                let touched = self.storage.apply(change);
                self.resolve(touched);
            }
            Change::Input(input, state) => self.put_input(input, state),
            Change::Alert(alert) => self.alerts.push(alert),
            Change::Outcome(outcome) => self.outcomes.push(outcome),
        }
    }

    /// Builds the indexes of a cluster that was read from a checkpoint.
    #[must_use]
    pub fn reindexed(mut self) -> Self {
        self.storage.reindex();
        let pods = std::mem::take(&mut self.pods);
        self.pods_by_node.clear();
        self.waiting.clear();
        self.cohorts.clear();
        self.live_by_owner.clear();
        self.shapes.clear();
        self.parts = Parts::of(&self.workloads);
        for (key, pod) in pods {
            self.put_pod(key, Some(pod));
        }
        let machines = std::mem::take(&mut self.machines);
        self.machines_by_pool.clear();
        for (key, machine) in machines {
            self.put_machine(key, Some(machine));
        }
        self
    }

    fn put_input(&mut self, input: Input, state: InputState) {
        let of_storage = matches!(input, Input::Volumes | Input::Attachments | Input::Devices);
        match self.inputs.binary_search_by(|(i, _)| i.cmp(&input)) {
            Ok(at) => self.inputs[at].1 = state,
            Err(at) => self.inputs.insert(at, (input, state)),
        }
        if of_storage {
            let pods = self.storage.all_users();
            self.resolve(Touched { pods, ..Touched::default() });
        }
    }

    fn put_node(&mut self, key: NodeName, node: Option<Arc<Node>>) {
        match node {
            Some(node) => {
                self.nodes.insert(key.clone(), node);
                self.resolve(Touched { nodes: [key].into(), ..Touched::default() });
            }
            None => drop(self.nodes.remove(&key)),
        }
    }

    /// A pod with what its claims ask for, as it would stand in the cluster.
    pub fn joined_pod(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        match self.storage.resolved(pod, self.seen()) {
            Some(shape) => Arc::new(Pod { shape, ..Pod::clone(pod) }),
            None => Arc::clone(pod),
        }
    }

    /// A node with what it is fitted with, as it would stand in the cluster.
    pub fn joined_node(&self, node: &Arc<Node>) -> Arc<Node> {
        let fittings = self.storage.fittings(&node.name, &self.pods);
        let allocatable = self.storage.allocatable(node);
        if node.fittings == fittings && allocatable.is_none() {
            return Arc::clone(node);
        }
        let allocatable = allocatable.unwrap_or_else(|| node.allocatable.clone());
        Arc::new(Node { allocatable, fittings, ..Node::clone(node) })
    }

    fn seen(&self) -> Seen {
        Seen::of(|input| self.input(input) == Some(&InputState::Fresh))
    }

    /// Works out again what claims ask of pods' nodes and what nodes are fitted with.
    fn resolve(&mut self, touched: Touched) {
        if !(touched.pods.is_empty() && touched.nodes.is_empty()) {
            self.standing.renew();
        }
        for key in touched.pods {
            let Some(pod) = self.pods.get(&key) else { continue };
            let joined = self.joined_pod(pod);
            if !Arc::ptr_eq(&joined, pod) {
                self.swap_pod(joined);
            }
        }
        for name in touched.nodes {
            let Some(node) = self.nodes.get(&name) else { continue };
            let joined = self.joined_node(node);
            self.nodes.insert(name, joined);
        }
    }

    /// Drops the outcomes and alerts that a round has read.
    pub fn forget_outcomes(&mut self) {
        self.alerts.clear();
        self.outcomes.clear();
    }

    fn put_machine(&mut self, key: MachineId, machine: Option<Arc<Machine>>) {
        if let Some(old) = self.machines.remove(&key)
            && let Some(ids) = self.machines_by_pool.get_mut(&old.pool)
        {
            ids.remove(&key);
            if ids.is_empty() {
                self.machines_by_pool.remove(&old.pool);
            }
        }
        if let Some(machine) = machine {
            self.machines_by_pool.entry(machine.pool.clone()).or_default().insert(key.clone());
            self.machines.insert(key, machine);
        }
    }

    fn put_pod(&mut self, key: PodKey, pod: Option<Arc<Pod>>) {
        let mut touched = Touched::default();
        let old = self.pods.remove(&key);
        let alike = match (&old, &pod) {
            (Some(old), Some(new)) => standing::stands_alike(old, new),
            (Some(one), None) | (None, Some(one)) => one.node.is_none() && one.claims.is_none(),
            (None, None) => true,
        };
        if !alike {
            self.standing.renew();
        }
        if let Some(old) = old {
            self.unindex(&old);
            touched = self.storage.forget(&old);
        }
        if let Some(pod) = pod {
            if pod.claims.is_some() {
                touched.add(self.storage.note(&pod));
                touched.pods.insert(key.clone());
            }
            self.index(&pod);
            self.pods.insert(key, pod);
        }
        self.resolve(touched);
    }

    /// Puts a pod in the place of itself, resolved anew.
    fn swap_pod(&mut self, pod: Arc<Pod>) {
        let holders = if let Some(node) = &pod.node {
            self.pods_by_node.entry(node.clone()).or_default()
        } else {
            if let Some(old) = self.pods.get(&pod.key) {
                self.cohorts.remove(old);
            }
            self.cohorts.add(&pod);
            &mut self.waiting
        };
        self.shapes.add(&pod.shape);
        holders.insert(pod.key.clone(), Arc::clone(&pod));
        if let Some(old) = self.pods.insert(pod.key.clone(), pod) {
            self.shapes.remove(&old.shape);
        }
    }

    fn index(&mut self, pod: &Arc<Pod>) {
        if self.shapes.add(&pod.shape) {
            self.standing.renew();
        }
        if let Some(node) = &pod.node {
            self.pods_by_node.entry(node.clone()).or_default().insert(pod.key.clone(), Arc::clone(pod));
        } else {
            self.waiting.insert(pod.key.clone(), Arc::clone(pod));
            self.cohorts.add(pod);
        }
        if let Some(owner) = live_owner(pod) {
            *self.live_by_owner.entry(owner.clone()).or_default() += 1;
        }
    }

    fn unindex(&mut self, pod: &Arc<Pod>) {
        if self.shapes.remove(&pod.shape) {
            self.standing.renew();
        }
        if let Some(node) = &pod.node {
            if let Some(keys) = self.pods_by_node.get_mut(node) {
                keys.remove(&pod.key);
                if keys.is_empty() {
                    self.pods_by_node.remove(node);
                }
            }
        } else {
            self.waiting.remove(&pod.key);
            self.cohorts.remove(pod);
        }
        if let Some(owner) = live_owner(pod)
            && let Some(count) = self.live_by_owner.get_mut(owner)
        {
            *count -= 1;
            if *count == 0 {
                self.live_by_owner.remove(owner);
            }
        }
    }

    pub fn nodes(&self) -> &BTreeMap<NodeName, Arc<Node>> {
        &self.nodes
    }

    pub fn pods(&self) -> &BTreeMap<PodKey, Arc<Pod>> {
        &self.pods
    }

    pub fn pools(&self) -> &BTreeMap<PoolId, Arc<Pool>> {
        &self.pools
    }

    pub fn machines(&self) -> &BTreeMap<MachineId, Arc<Machine>> {
        &self.machines
    }

    /// The machines of a pool, in id order.
    pub fn machines_of<'a>(&'a self, pool: &PoolId) -> impl Iterator<Item = &'a Arc<Machine>> + use<'a> {
        self.machines_by_pool.get(pool).into_iter().flatten().filter_map(|id| self.machines.get(id))
    }

    /// The machine behind a node; `None` where no provider of ours names it.
    pub fn machine_of(&self, node: &Node) -> Option<&Arc<Machine>> {
        node.machine.as_ref().and_then(|id| self.machines.get(id))
    }

    /// The pool that a node belongs to; `None` where it is not ours.
    pub fn pool_of(&self, node: &Node) -> Option<&Arc<Pool>> {
        self.machine_of(node).and_then(|machine| self.pools.get(&machine.pool))
    }

    pub fn workloads(&self) -> &BTreeMap<WorkloadKey, Arc<Workload>> {
        &self.workloads
    }

    pub fn daemon_sets(&self) -> &BTreeMap<DaemonSetKey, Arc<DaemonSet>> {
        &self.daemon_sets
    }

    pub fn pdbs(&self) -> &BTreeMap<PdbKey, Arc<Pdb>> {
        &self.pdbs
    }

    /// The labels of each namespace that is known.
    pub fn namespaces(&self) -> &BTreeMap<Arc<str>, Arc<Labels>> {
        &self.namespaces
    }

    pub fn rule_sets(&self) -> &BTreeMap<RuleSetKey, Arc<RuleSet>> {
        &self.rule_sets
    }

    /// A mark that stays the same while nothing but waiting pods changes.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    pub fn outlooks(&self) -> &BTreeMap<OutlookKey, Arc<Outlook>> {
        &self.outlooks
    }

    /// Room that is wanted for pods that do not exist.
    pub fn headroom(&self) -> &BTreeMap<WorkloadKey, Arc<Headroom>> {
        &self.headroom
    }

    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    pub fn alerts(&self) -> &[Arc<AlertDemand>] {
        &self.alerts
    }

    pub fn outcomes(&self) -> &[Arc<Outcome>] {
        &self.outcomes
    }

    pub fn inputs(&self) -> &[(Input, InputState)] {
        &self.inputs
    }

    /// The state of an input; `None` where nothing was ever heard of it, which counts as not fresh.
    pub fn input(&self, input: &Input) -> Option<&InputState> {
        self.inputs.binary_search_by(|(i, _)| i.cmp(input)).ok().map(|at| &self.inputs[at].1)
    }

    /// Shapes of pods that name labels of nodes or pods, each once or more, in no order that means anything.
    pub fn shapes_naming_labels(&self) -> impl Iterator<Item = &PodShape> {
        self.shapes.all()
    }

    /// Pods bound to a node, in key order, ended ones included.
    pub fn pods_on<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = &'a Arc<Pod>> + use<'a> {
        self.pods_by_node.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// Pods that are bound to no node, in key order.
    pub fn waiting_pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.waiting.values()
    }

    /// The same, sorted into those that are alike, in an order that follows from what they are.
    pub fn waiting_cohorts(&self) -> impl Iterator<Item = &Cohort> {
        self.cohorts.all()
    }

    /// How many pods of an owner exist and are neither ended nor being deleted.
    pub fn live_pods_of(&self, owner: &Uid) -> u32 {
        self.live_by_owner.get(owner).copied().unwrap_or(0)
    }
}

fn live_owner(pod: &Pod) -> Option<&Uid> {
    use crate::PodPhase::{Failed, Succeeded};
    let ended = matches!(pod.phase, Succeeded | Failed) || pod.deletion_at.is_some();
    pod.owner.as_ref().filter(|_| !ended).map(|owner| &owner.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Owner, PodShape};

    fn pod(name: &str, node: Option<&str>) -> Arc<Pod> {
        Arc::new(Pod {
            key: PodKey::new("default", name),
            uid: Uid::from(name),
            shape: Arc::new(PodShape::default()),
            labels: crate::Labels::new(),
            owner: Some(Owner { kind: "ReplicaSet".into(), name: "web".into(), uid: "rs".into() }),
            created_at: Timestamp::UNIX_EPOCH,
            phase: crate::PodPhase::Pending,
            ready: false,
            node: node.map(NodeName::from),
            nominated: None,
            unschedulable_since: None,
            gated: false,
            deletion_at: None,
            grace_seconds: 30,
            safe_to_evict: crate::SafeToEvict::Unset,
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

    #[test]
    fn indexes_follow_every_change_and_survive_a_checkpoint() {
        let mut cluster = Cluster::default();
        cluster.apply(Change::Pod(PodKey::new("default", "a"), Some(pod("a", None))));
        cluster.apply(Change::Pod(PodKey::new("default", "b"), Some(pod("b", None))));
        cluster.apply(Change::Pod(PodKey::new("default", "a"), Some(pod("a", Some("n1")))));
        assert_eq!(cluster.pods_on(&"n1".into()).count(), 1);
        assert_eq!(cluster.waiting_pods().count(), 1);
        assert_eq!(cluster.live_pods_of(&"rs".into()), 2);

        let text = serde_json::to_string(&cluster).unwrap();
        let again: Cluster = serde_json::from_str(&text).unwrap();
        assert_eq!(again.reindexed(), cluster);

        cluster.apply(Change::Pod(PodKey::new("default", "a"), None));
        assert_eq!(cluster.pods_on(&"n1".into()).count(), 0);
        assert_eq!(cluster.live_pods_of(&"rs".into()), 1);
    }
}
