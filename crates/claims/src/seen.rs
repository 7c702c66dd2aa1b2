//! What the keeper has seen: objects and machines, with the ways from one to the other.
//!
//! Owns the indexes: a claim by its machine's id, a node by its machine's id, the claims of a pool.

use crate::classes::{Classes, Clouds};
use crate::cloud::{Class, MachineList, NoClass};
use crate::mirror::Mirror;
use crate::overlays::Overlays;
use crate::repair::{self, Ill};
use crate::shared::Case;
use api::karpenter::v1alpha5::{AwsNodeTemplate, Machine, Provisioner};
use api::karpenter::{NODE_POOL, NodeClaim, NodePool};
use clouds::watching::Seen;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One name to several others.
#[derive(Default)]
struct Index(BTreeMap<String, BTreeSet<String>>);

impl Index {
    fn set(&mut self, before: Option<&str>, after: Option<&str>, name: &str) {
        if before == after {
            return;
        }
        if let Some(before) = before
            && let Some(names) = self.0.get_mut(before)
        {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(before);
            }
        }
        if let Some(after) = after {
            self.0.entry(after.to_owned()).or_default().insert(name.to_owned());
        }
    }

    fn of(&self, key: &str) -> impl Iterator<Item = &String> {
        self.0.get(key).into_iter().flatten()
    }
}

pub(crate) struct World {
    pub classes: Classes,
    pub pools: Mirror<NodePool>,
    pub claims: Mirror<NodeClaim>,
    pub nodes: Mirror<Node>,
    pub provisioners: Mirror<Provisioner>,
    pub templates: Mirror<AwsNodeTemplate>,
    pub mirrors: Mirror<Machine>,
    pub overlays: Overlays,
    clouds: Clouds,
    lists: Vec<Option<Arc<MachineList>>>,
    /// For each cloud the launched claims that its list does not have.
    unlisted: Vec<BTreeSet<String>>,
    claims_by_machine: Index,
    claims_by_pool: Index,
    nodes_by_machine: Index,
}

impl World {
    pub(crate) fn new(clouds: &Clouds) -> Self {
        Self {
            classes: Classes::new(clouds.clone()),
            pools: Mirror::new(),
            claims: Mirror::new(),
            nodes: Mirror::new(),
            provisioners: Mirror::new(),
            templates: Mirror::new(),
            mirrors: Mirror::new(),
            overlays: Overlays::new(),
            clouds: clouds.clone(),
            lists: vec![None; clouds.0.len()],
            unlisted: vec![BTreeSet::new(); clouds.0.len()],
            claims_by_machine: Index::default(),
            claims_by_pool: Index::default(),
            nodes_by_machine: Index::default(),
        }
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.pools.synced && self.claims.synced && self.nodes.synced && self.overlays.synced()
    }

    /// Takes claims in: those that changed.
    pub(crate) fn take_claim(&mut self, seen: Seen<NodeClaim>) -> Vec<ChangedClaim> {
        // A new list says what is gone without the objects, so what was known is looked up first.
        let before: BTreeMap<String, Arc<NodeClaim>> = match &seen {
            Seen::Object(object) | Seen::Gone(object) => {
                let name = object.name_any();
                self.claims.get(&name).map(|claim| (name, claim.clone())).into_iter().collect()
            }
            Seen::Synced => self.claims.all().map(|claim| (claim.name_any(), claim.clone())).collect(),
            Seen::Begin | Seen::Broken { .. } => BTreeMap::new(),
        };
        let mut changed = Vec::new();
        for name in self.claims.take(seen) {
            let (old, new) = (before.get(&name).cloned(), self.claims.get(&name).cloned());
            let (old, new) = (old.as_deref(), new.as_deref());
            let pools = [old.and_then(pool_of), new.and_then(pool_of)];
            self.claims_by_machine.set(old.and_then(machine_of), new.and_then(machine_of), &name);
            self.claims_by_pool.set(pools[0], pools[1], &name);
            let uids = [old.and_then(kube::ResourceExt::uid), new.and_then(kube::ResourceExt::uid)];
            let gone = if uids[0] == uids[1] { None } else { uids[0].clone() };
            let pools = pools.into_iter().flatten().map(str::to_owned).collect();
            self.note_unlisted(&name);
            changed.push(ChangedClaim { name, pools, gone });
        }
        changed
    }

    /// Takes nodes in: the claims that are concerned.
    pub(crate) fn take_node(&mut self, seen: Seen<Node>) -> BTreeSet<String> {
        let before: BTreeMap<String, Arc<Node>> = match &seen {
            Seen::Object(object) | Seen::Gone(object) => {
                let name = object.name_any();
                self.nodes.get(&name).map(|node| (name, node.clone())).into_iter().collect()
            }
            Seen::Synced => self.nodes.all().map(|node| (node.name_any(), node.clone())).collect(),
            Seen::Begin | Seen::Broken { .. } => BTreeMap::new(),
        };
        let mut concerned = BTreeSet::new();
        for name in self.nodes.take(seen) {
            let (old, new) = (before.get(&name).cloned(), self.nodes.get(&name).cloned());
            let ids = [old.as_deref().and_then(id_of), new.as_deref().and_then(id_of)];
            self.nodes_by_machine.set(ids[0], ids[1], &name);
            for id in ids.into_iter().flatten() {
                concerned.extend(self.claims_by_machine.of(id).cloned());
            }
        }
        concerned
    }

    /// Takes in what a cloud has now: claims that are concerned, and machines whose claim is not there.
    pub(crate) fn take_list(
        &mut self,
        cloud: usize,
        new: Option<Arc<MachineList>>,
    ) -> (BTreeSet<String>, Vec<Stray>) {
        let (mut concerned, mut strays) = (BTreeSet::new(), Vec::new());
        let Some(known) = self.lists.get_mut(cloud) else { return (concerned, strays) };
        let old = std::mem::replace(known, new.clone());
        let Some(new) = new else { return (concerned, strays) };
        for (uid, machine) in &new.machines {
            let before = old.as_ref().and_then(|old| old.machines.get(uid));
            if before.is_none_or(|before| !Arc::ptr_eq(before, machine) && before != machine) {
                concerned.insert(machine.claim.to_string());
                strays.push(Stray { cloud, uid: uid.clone() });
            }
        }
        for (uid, machine) in old.iter().flat_map(|old| &old.machines) {
            if !new.machines.contains_key(uid) {
                concerned.insert(machine.claim.to_string());
            }
        }
        // What was launched and is in no list is looked at with each new one: the list says until when it is whole.
        let different: Vec<String> = match old {
            Some(_) => concerned.iter().cloned().collect(),
            None => self.claims.all().map(|claim| claim.name_any()).collect(),
        };
        for name in different {
            self.note_unlisted(&name);
        }
        concerned.extend(self.unlisted[cloud].iter().cloned());
        strays.retain(|stray| self.is_stray(stray));
        (concerned, strays)
    }

    /// Whether a claim is one that was launched and that its cloud's list does not have.
    fn note_unlisted(&mut self, name: &str) {
        for of_cloud in &mut self.unlisted {
            of_cloud.remove(name);
        }
        let Some(claim) = self.claims.get(name).filter(|claim| machine_of(claim).is_some()) else { return };
        let Some((cloud, _)) = self.clouds.of(&claim.spec.node_class_ref) else { return };
        let listed =
            |list: &Arc<MachineList>| claim.uid().is_none_or(|uid| list.machines.contains_key(&*uid));
        if self.lists[cloud].as_ref().is_some_and(|list| !listed(list)) {
            self.unlisted[cloud].insert(name.to_owned());
        }
    }

    /// Machines that were launched for a claim that is no longer there.
    pub(crate) fn strays_of(&self, uid: &str) -> Vec<Stray> {
        let has = |(cloud, list): (usize, &Option<Arc<MachineList>>)| {
            let (uid, _) = list.as_ref()?.machines.get_key_value(uid)?;
            Some(Stray { cloud, uid: uid.clone() })
        };
        self.lists.iter().enumerate().filter_map(has).filter(|stray| self.is_stray(stray)).collect()
    }

    /// All machines whose claim is not there.
    pub(crate) fn strays(&self) -> Vec<Stray> {
        let all = self.lists.iter().enumerate().flat_map(|(cloud, list)| {
            let uids = list.iter().flat_map(|list| list.machines.keys());
            uids.map(move |uid| Stray { cloud, uid: uid.clone() })
        });
        all.filter(|stray| self.is_stray(stray)).collect()
    }

    pub(crate) fn is_stray(&self, stray: &Stray) -> bool {
        self.machine(stray).is_some_and(|machine| {
            let claim = self.claims.get(&machine.claim);
            claim.is_none_or(|claim| claim.uid().as_deref() != Some(&*machine.uid))
        })
    }

    pub(crate) fn machine(&self, stray: &Stray) -> Option<&Arc<crate::cloud::CloudMachine>> {
        self.lists.get(stray.cloud)?.as_ref()?.machines.get(&stray.uid)
    }

    pub(crate) fn case(&self, name: &str) -> Option<Case> {
        let claim = self.claims.get(name)?.clone();
        let nodes: Vec<Arc<Node>> = machine_of(&claim)
            .into_iter()
            .flat_map(|id| self.nodes_by_machine.of(id))
            .filter_map(|name| self.nodes.get(name).cloned())
            .collect();
        let uid = claim.uid().unwrap_or_default();
        let launched_at = claim.status.as_ref().and_then(|status| {
            let launched = status.conditions.iter().find(|c| c.type_ == crate::conditions::LAUNCHED)?;
            (launched.status == "True").then_some(launched.last_transition_time.0)
        });
        let list = self.clouds.of(&claim.spec.node_class_ref).and_then(|(at, _)| self.lists[at].as_ref());
        let machine = list.and_then(|list| list.machines.get(&*uid)).cloned();
        let machine_gone = machine.is_none()
            && machine_of(&claim).is_some()
            && list.is_some_and(|list| launched_at.is_some_and(|at| at <= list.as_of));
        Some(Case {
            ill: nodes.first().and_then(|node| self.ill(&claim, node)),
            node: nodes.first().cloned(),
            several_nodes: nodes.len() > 1,
            pool: pool_of(&claim).and_then(|pool| self.pools.get(pool)).cloned(),
            class: self.class_of(&claim),
            overlays: self.overlays.resolved().clone(),
            machine_gone,
            machine,
            claim,
        })
    }

    /// A claim's class, with what overlays make of it for the claim's pool.
    fn class_of(&self, claim: &NodeClaim) -> Result<Arc<Class>, NoClass> {
        let class = self.classes.of(&claim.spec.node_class_ref)?;
        Ok(pool_of(claim).map_or_else(|| class.clone(), |pool| self.overlays.class(pool, &class)))
    }

    /// Works out what overlays come to; whether it is different from before.
    pub(crate) fn lay_over(&mut self) -> bool {
        let Self { overlays, pools, classes, .. } = self;
        overlays.refresh(pools.all().map(|pool| &**pool), |reference| classes.of(reference))
    }

    /// Whether a claim's node is ill, and how many of its pool are; of a claim without a pool, how many of all.
    fn ill(&self, claim: &NodeClaim, node: &Node) -> Option<Ill> {
        let (_, cloud) = self.clouds.of(&claim.spec.node_class_ref)?;
        let repairs = cloud.repairs();
        let (repair, from) = repair::ill(node, repairs)?;
        let pool = pool_of(claim);
        let peers = self.nodes.all().filter(|node| {
            pool.is_none_or(|pool| node.labels().get(NODE_POOL).is_some_and(|label| label == pool))
        });
        let (mut of, mut ill) = (0, 0);
        for peer in peers {
            of += 1;
            ill += usize::from(repair::ill(peer, repairs).is_some());
        }
        Some(Ill { repair, from, peers: ill, of })
    }

    pub(crate) fn claims_of(&self, pool: &str) -> Vec<Arc<NodeClaim>> {
        self.claims_by_pool.of(pool).filter_map(|name| self.claims.get(name).cloned()).collect()
    }
}

/// A claim that is another one than before.
pub(crate) struct ChangedClaim {
    pub name: String,
    /// The pools that are concerned.
    pub pools: BTreeSet<String>,
    /// The uid that it had, where it is gone or replaced by one of the same name.
    pub gone: Option<String>,
}

/// A machine whose claim may be gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stray {
    pub cloud: usize,
    pub uid: Arc<str>,
}

fn pool_of(claim: &NodeClaim) -> Option<&str> {
    claim.labels().get(NODE_POOL).map(String::as_str)
}

fn machine_of(claim: &NodeClaim) -> Option<&str> {
    claim.status.as_ref().and_then(|status| status.provider_id.as_deref())
}

fn id_of(node: &Node) -> Option<&str> {
    node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).filter(|id| !id.is_empty())
}
