//! Objects, wherever they come from, into the cluster that is decided on.
//!
//! Owns which kinds are read and what is assumed where files say less than an API server would: a pending pod
//! without conditions counts as unschedulable, a node without conditions as ready, and a machine is made up for a
//! node that names its simulated pool. Every assumption is a note for the user.

use super::manifest;
use super::offerings::{self, OfferingFlags};
use super::seen::Seen;
use super::storage::Storage;
use crate::error::CommandError;
use api::simulated::{SimulatedMachine, SimulatedPool};
use clock::Clock;
use intake::files::Object;
use intake::stream::{Item, each_object};
use intake::{IntakeError, Interner, NodePool, slim};
use jiff::Timestamp;
use kube::api::DynamicObject;
use model::{Change, Cluster, Input, InputState, Machine, MachineState, PodKey, PodPhase, PoolId, Readiness};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was read.
pub(super) struct Gathered {
    pub(super) cluster: Cluster,
    /// The same before some pods came, where that was asked for.
    pub(super) before: Option<Cluster>,
    /// What was assumed or left out, a sentence each.
    pub(super) notes: Vec<String>,
}

/// Reads files, then those whose pods come afterwards; `-` is standard input.
pub(super) fn from_files(
    files: &[PathBuf],
    added: &[PathBuf],
    flags: &OfferingFlags,
    now: Timestamp,
) -> Result<Gathered, CommandError> {
    let mut gathering = Gathering::new(now);
    read(&mut gathering, files)?;
    if added.is_empty() {
        return gathering.finish(flags);
    }
    let there: BTreeSet<PodKey> = gathering.cluster.pods().keys().cloned().collect();
    read(&mut gathering, added)?;
    let mut gathered = gathering.finish(flags)?;
    let mut before = gathered.cluster.clone();
    for pod in gathered.cluster.pods().keys().filter(|pod| !there.contains(*pod)) {
        before.apply(Change::Pod(pod.clone(), None));
    }
    gathered.before = Some(before);
    Ok(gathered)
}

fn read(gathering: &mut Gathering, files: &[PathBuf]) -> Result<(), CommandError> {
    for path in files {
        let mut take = |item| gathering.take(item);
        if path == Path::new("-") {
            each_object("standard input", &mut std::io::stdin().lock(), &mut take)?;
            continue;
        }
        let mut file =
            std::fs::File::open(path).map_err(|source| CommandError::Read { path: path.clone(), source })?;
        each_object(&path.display().to_string(), &mut file, &mut take)?;
    }
    Ok(())
}

/// Lists a live cluster; nothing is written to it.
pub(super) fn from_cluster(
    kubeconfig: &Path,
    flags: &OfferingFlags,
    now: Timestamp,
) -> Result<Gathered, CommandError> {
    let runtime = crate::commands::runtime()?;
    let (objects, refused) = runtime.block_on(async {
        let client = crate::commands::client(Some(kubeconfig)).await?;
        list(client).await
    })?;
    let mut gathering = Gathering::new(now);
    gathering.live = true;
    for (plural, why) in refused {
        gathering.storage.refused(is_of_devices(plural), why);
    }
    for object in objects {
        gathering.take_object(&object)?;
    }
    gathering.finish(flags)
}

/// The kinds that a plan looks at: group, version, kind, plural, and whether every cluster has it.
const KINDS: &[(&str, &str, &str, &str, bool)] = &[
    ("", "v1", "Node", "nodes", true),
    ("", "v1", "Namespace", "namespaces", true),
    ("", "v1", "Pod", "pods", true),
    ("", "v1", "ReplicationController", "replicationcontrollers", true),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("", "v1", "PersistentVolume", "persistentvolumes", true),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", true),
    ("storage.k8s.io", "v1", "CSIDriver", "csidrivers", false),
    ("storage.k8s.io", "v1", "CSINode", "csinodes", false),
    ("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", false),
    ("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", false),
    ("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", false),
    ("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", false),
    ("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", false),
    ("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates", false),
    ("apps", "v1", "ReplicaSet", "replicasets", true),
    ("apps", "v1", "StatefulSet", "statefulsets", true),
    ("apps", "v1", "DaemonSet", "daemonsets", true),
    ("batch", "v1", "Job", "jobs", true),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("tideline.dev", "v1alpha1", "SimulatedPool", "simulatedpools", false),
    ("tideline.dev", "v1alpha1", "SimulatedMachine", "simulatedmachines", false),
    (api::node_rules::GROUP, "v1alpha1", api::node_rules::KIND, api::node_rules::PLURAL, false),
    ("karpenter.sh", "v1", "NodePool", "nodepools", false),
    ("cluster.x-k8s.io", "v1beta1", "Cluster", "clusters", false),
    ("cluster.x-k8s.io", "v1beta1", "MachineDeployment", "machinedeployments", false),
    ("cluster.x-k8s.io", "v1beta1", "Machine", "machines", false),
];

/// Objects that one request answers with at most.
const PAGE: u32 = 500;

/// A kind that may not be listed, and the server's words.
type Refused = (&'static str, String);

/// Everything that is there, and what we may not list although only some pods need it.
async fn list(client: kube::Client) -> Result<(Vec<Object>, Vec<Refused>), CommandError> {
    use kube::core::{ApiResource, GroupVersionKind};
    let mut all = Vec::new();
    let mut refused = Vec::new();
    for (group, version, kind, plural, everywhere) in KINDS {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: kube::Api<DynamicObject> = kube::Api::all_with(client.clone(), &resource);
        let mut parameters = kube::api::ListParams::default().limit(PAGE);
        loop {
            let page = match api.list(&parameters).await {
                Ok(page) => page,
                Err(kube::Error::Api(status)) if status.code == 404 && !everywhere => break,
                Err(kube::Error::Api(status)) if status.code == 403 && is_storage(plural) => {
                    refused.push((*plural, format!("{plural} may not be listed: {}", status.message)));
                    break;
                }
                Err(source) => {
                    return Err(CommandError::Api {
                        attempted: format!("list {plural}"),
                        source: Box::new(source),
                    });
                }
            };
            for object in page.items {
                let mut value = serde_json::to_value(&object).map_err(|error| CommandError::Encode {
                    what: format!("a {kind} of the cluster"),
                    why: error.to_string(),
                })?;
                value["kind"] = (*kind).into();
                value["apiVersion"] =
                    if group.is_empty() { (*version).into() } else { format!("{group}/{version}").into() };
                all.push(Object { origin: "the cluster".to_owned(), value });
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => break,
            }
        }
    }
    Ok((all, refused))
}

/// Kinds that roles from before volumes were planned for may not grant.
fn is_storage(plural: &str) -> bool {
    plural.starts_with("persistentvolume")
        || plural.starts_with("csi")
        || plural.starts_with("storage")
        || plural == "volumeattachments"
        || is_of_devices(plural)
}

fn is_of_devices(plural: &str) -> bool {
    plural == "deviceclasses" || plural.starts_with("resource")
}

/// A cluster under construction.
struct Gathering {
    cluster: Cluster,
    now: Timestamp,
    /// From an API server: nothing needs to be assumed.
    live: bool,
    seen: Seen,
    interner: Interner,
    cluster_api: Vec<DynamicObject>,
    storage: Storage,
    node_pools: Vec<NodePool>,
    left_out: BTreeMap<String, usize>,
    assumed_unschedulable: usize,
    assumed_ready: usize,
}

impl Gathering {
    fn new(now: Timestamp) -> Self {
        Self {
            cluster: Cluster::default(),
            now,
            live: false,
            seen: Seen::default(),
            interner: Interner::default(),
            cluster_api: Vec::new(),
            storage: Storage::default(),
            node_pools: Vec::new(),
            left_out: BTreeMap::new(),
            assumed_unschedulable: 0,
            assumed_ready: 0,
        }
    }

    fn take(&mut self, item: Item) -> Result<(), CommandError> {
        match item {
            Item::Pod(origin, pod) => self.take_pod(&pod, &origin),
            Item::Node(origin, node) => {
                let name = named(&origin, "Node", node.metadata.name.as_deref())?;
                self.seen.note("Node", name, &origin)?;
                self.take_node(&node, &origin)
            }
            Item::Other(object) => self.take_object(&object),
        }
    }

    fn take_object(&mut self, object: &Object) -> Result<(), CommandError> {
        let kind = object.kind().to_owned();
        let group = object.api_version().split_once('/').map_or("", |(group, _)| group).to_owned();
        let kind = kind.as_str();
        match (group.as_str(), kind) {
            (
                "",
                "Pod"
                | "Node"
                | "Namespace"
                | "ReplicationController"
                | "PersistentVolumeClaim"
                | "PersistentVolume",
            )
            | (
                "storage.k8s.io",
                "StorageClass" | "CSIDriver" | "CSINode" | "CSIStorageCapacity" | "VolumeAttachment",
            )
            | (
                "resource.k8s.io",
                "ResourceSlice" | "DeviceClass" | "ResourceClaim" | "ResourceClaimTemplate",
            )
            | ("apps", "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Deployment")
            | ("batch", "Job")
            | ("policy", "PodDisruptionBudget")
            | ("tideline.dev", "SimulatedPool" | "SimulatedMachine")
            | (api::node_rules::GROUP, api::node_rules::KIND)
            | ("karpenter.sh", "NodePool")
            | ("cluster.x-k8s.io", "MachineDeployment" | "Machine" | "Cluster") => {}
            _ => {
                *self.left_out.entry(kind.to_owned()).or_default() += 1;
                return Ok(());
            }
        }
        if kind != "Pod" {
            self.seen.note(kind, &full_name(object)?, &object.origin)?;
        }
        if !self.live && manifest::is_unapplied(object) && manifest::makes_pods(kind) {
            for mut pod in manifest::pods(object)? {
                if kind == "StatefulSet" {
                    let name = pod.metadata.name.clone().unwrap_or_default();
                    let claims = self.storage.claims_of_manifest(object, &name, &mut self.cluster)?;
                    pod.spec.volumes.get_or_insert_default().extend(claims);
                }
                self.take_pod(&pod, &object.origin)?;
            }
            return Ok(());
        }
        self.take_known(kind, object)
    }

    fn take_known(&mut self, kind: &str, object: &Object) -> Result<(), CommandError> {
        let origin = &object.origin;
        let workload = match kind {
            "Pod" => return self.take_pod(&object.decode()?, origin),
            "Node" => return self.take_node(&object.decode()?, origin),
            "ReplicaSet" => intake::replica_set(&object.decode()?),
            "ReplicationController" => intake::replication_controller(&object.decode()?),
            "StatefulSet" => intake::stateful_set(&object.decode()?),
            "Job" => intake::job(&object.decode()?),
            _ => return self.take_rest(kind, object),
        };
        self.cluster.apply(Change::Workload(workload.key.clone(), Some(Arc::new(workload))));
        Ok(())
    }

    fn take_rest(&mut self, kind: &str, object: &Object) -> Result<(), CommandError> {
        let origin = &object.origin;
        let change = match kind {
            "Namespace" => {
                let (name, labels) = intake::namespace(&object.decode()?);
                Change::Namespace(name, Some(Arc::new(labels)))
            }
            "DaemonSet" => {
                let set = located(origin, intake::daemon_set(&object.decode()?))?;
                Change::DaemonSet(set.key.clone(), Some(Arc::new(set)))
            }
            "PodDisruptionBudget" => {
                let budget = located(origin, intake::pdb(&object.decode()?))?;
                Change::Pdb(budget.key.clone(), Some(Arc::new(budget)))
            }
            "SimulatedPool" => {
                let pool = located(origin, intake::simulated_pool(&decode::<SimulatedPool>(object)?))?;
                Change::Pool(pool.id.clone(), Some(Arc::new(pool)))
            }
            "SimulatedMachine" => {
                let machine = intake::simulated_machine(&decode::<SimulatedMachine>(object)?);
                Change::Machine(machine.id.clone(), Some(Arc::new(machine)))
            }
            api::node_rules::KIND => {
                let set = intake::rule_set(&object.decode()?);
                if let Some(problem) = &set.problem {
                    return Err(CommandError::Input(format!("{origin}: {problem}")));
                }
                Change::RuleSet(set.key.clone(), Some(Arc::new(set)))
            }
            "NodePool" => {
                self.node_pools.push(located(origin, intake::node_pool(&object.value))?);
                return Ok(());
            }
            "MachineDeployment" | "Machine" | "Cluster" => {
                self.cluster_api.push(decode(object)?);
                return Ok(());
            }
            // A Deployment of a live cluster has its ReplicaSets beside it.
            "Deployment" => return Ok(()),
            _ => return self.storage.take(object, &mut self.cluster),
        };
        self.cluster.apply(change);
        Ok(())
    }

    fn take_pod(&mut self, pod: &slim::Pod, origin: &str) -> Result<(), CommandError> {
        named(origin, "Pod", pod.metadata.name.as_deref())?;
        let undecided =
            pod.status.conditions.iter().flatten().all(|condition| condition.type_ != "PodScheduled");
        let mut pod = located(origin, intake::pod(pod))?;
        let waits = pod.node.is_none() && pod.phase == PodPhase::Pending && !pod.gated;
        if !self.live && undecided && waits {
            pod.unschedulable_since = Some(pod.created_at.max(Timestamp::UNIX_EPOCH).min(self.now));
            self.assumed_unschedulable += 1;
        }
        // Of many pods only the names differ: what they share is kept once.
        let change = self.interner.shared(Change::Pod(pod.key.clone(), Some(Arc::new(pod))));
        if let Change::Pod(key, _) = &change
            && self.cluster.pods().contains_key(key)
        {
            let twice = format!("{origin}: Pod {key} was given before; leave one of them out");
            return Err(CommandError::Input(twice));
        }
        self.cluster.apply(change);
        Ok(())
    }

    fn take_node(&mut self, node: &slim::Node, origin: &str) -> Result<(), CommandError> {
        let silent = node.status.conditions.as_ref().is_none_or(Vec::is_empty);
        let mut node = located(origin, intake::node(node))?;
        if !self.live && silent {
            node.readiness = Readiness::Ready { since: node.created_at };
            self.assumed_ready += 1;
        }
        self.cluster.apply(self.interner.shared(Change::Node(node.name.clone(), Some(Arc::new(node)))));
        Ok(())
    }

    fn finish(mut self, flags: &OfferingFlags) -> Result<Gathered, CommandError> {
        let clock = Clock::starting_at(self.now);
        for change in clouds::cluster_api::changes_of(std::mem::take(&mut self.cluster_api), clock) {
            self.cluster.apply(change);
        }
        let node_pools = std::mem::take(&mut self.node_pools);
        let (pools, pool_notes) = offerings::pools(flags, node_pools, &self.cluster)?;
        for pool in pools {
            if self.cluster.pools().contains_key(&pool.id) {
                let twice = format!("pool {} is given twice; leave one of them out", pool.name);
                return Err(CommandError::Input(twice));
            }
            self.cluster.apply(Change::Pool(pool.id.clone(), Some(Arc::new(pool))));
        }
        let made_up = self.make_up_machines();
        if !self.live {
            self.storage.assume_classes(&mut self.cluster);
        }
        self.storage.declare(self.live, &mut self.cluster);
        self.declare_fresh();
        let mut notes = Vec::new();
        let mut note = |count: usize, text: &str| {
            if count > 0 {
                notes.push(format!("{count} {text}"));
            }
        };
        note(self.assumed_unschedulable, "pending pods say nothing of scheduling; taken as unschedulable");
        note(self.assumed_ready, "nodes have no conditions; taken as ready");
        note(made_up, "nodes have no SimulatedMachine beside them; taken as running machines of their pool");
        notes.extend(self.storage.notes());
        for (kind, count) in &self.left_out {
            notes.push(format!("{count} objects of kind {kind} play no part in a plan; left out"));
        }
        notes.extend(pool_notes);
        Ok(Gathered { cluster: self.cluster, before: None, notes })
    }

    /// Nodes of simulated pools whose machines were not given: the provider id names both.
    fn make_up_machines(&mut self) -> usize {
        let mut changes = Vec::new();
        for node in self.cluster.nodes().values() {
            let Some(id) = &node.machine else { continue };
            let pool = id
                .as_str()
                .strip_prefix("simulated://")
                .and_then(|path| path.split('/').next())
                .map(|name| PoolId::from(format!("simulated/{name}")));
            let Some(pool) = pool.filter(|pool| self.cluster.pools().contains_key(pool)) else { continue };
            if self.cluster.machines().contains_key(id) {
                continue;
            }
            let machine = Machine {
                id: id.clone(),
                pool,
                state: MachineState::Running,
                created_at: node.created_at,
                node: Some(node.name.clone()),
                aliases: Vec::new(),
                direct: None,
            };
            changes.push(Change::Machine(id.clone(), Some(Arc::new(machine))));
        }
        let count = changes.len();
        for change in changes {
            self.cluster.apply(change);
        }
        count
    }

    /// A plan is about what was given, so all of it counts as current.
    fn declare_fresh(&mut self) {
        let providers = ["simulated", "clusterapi", "karpenter"].map(|name| Input::Pools(Arc::from(name)));
        let inputs = [
            Input::Nodes,
            Input::Pods,
            Input::Workloads,
            Input::DaemonSets,
            Input::Pdbs,
            Input::Namespaces,
            Input::NodeRules,
            Input::Outlooks,
        ];
        for input in inputs.into_iter().chain(providers) {
            self.cluster.apply(Change::Input(input, InputState::Fresh));
        }
    }
}

/// The name of an object, which must have one.
fn named<'n>(origin: &str, kind: &str, name: Option<&'n str>) -> Result<&'n str, CommandError> {
    name.filter(|name| !name.is_empty())
        .ok_or_else(|| CommandError::Input(format!("{origin}: a {kind} has no metadata.name; give it one")))
}

/// `namespace/name`, or the name where the object has no namespace.
fn full_name(object: &Object) -> Result<String, CommandError> {
    let text = |field: &str| object.value.pointer(field).and_then(serde_json::Value::as_str);
    let name = named(&object.origin, object.kind(), text("/metadata/name"))?;
    Ok(text("/metadata/namespace").map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}")))
}

fn decode<T: DeserializeOwned>(object: &Object) -> Result<T, CommandError> {
    Ok(object.decode()?)
}

/// An error of an object, with the file that it came from.
fn located<T>(origin: &str, read: Result<T, IntakeError>) -> Result<T, CommandError> {
    read.map_err(|error| CommandError::Input(format!("{origin}: {error}")))
}
