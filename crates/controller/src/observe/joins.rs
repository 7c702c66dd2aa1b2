//! What no single object says: which machine a node is, and what a new node of a pool would look like.
//!
//! Owns the two joins over nodes, machines and pools. Their results are ordinary changes, so that the journal
//! records them and a replay needs nothing else.

use api::{labels, taints};
use clouds::cluster_api;
use model::{
    Change, Cluster, Machine, MachineId, MachineState, Node, NodeName, NodeTemplate, Pool, PoolId, Readiness,
    claimed_machine,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What must be remembered for the joins.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// Pools whose provider describes no node, with what a live node has shown. A pool keeps this when its last
    /// node goes: better a description that was true than none.
    shown: BTreeMap<PoolId, Option<NodeTemplate>>,
    /// Machines that a node may know by another name: of Cluster API, where an id may be written with another path, and
    /// of clouds whose nodes may have no id at all.
    foreign: BTreeMap<MachineId, Option<NodeName>>,
    /// Those of them that are not claimed by name: for these alone all machines are gone through.
    spelled: BTreeSet<MachineId>,
    /// Foreign machines by the node that they say they are.
    by_node: BTreeMap<NodeName, MachineId>,
    /// Nodes whose machine is not known yet.
    unknown: BTreeSet<NodeName>,
    /// Nodes that say no machine themselves, with the addresses by which theirs was found: what is heard of them again
    /// says the same, and is no news.
    found: BTreeMap<NodeName, (Vec<Arc<str>>, MachineId)>,
    touched: bool,
}

impl Joins {
    /// Looks at a change before it is applied, and completes it.
    pub(crate) fn complete(&mut self, change: Change) -> Change {
        match change {
            Change::Pool(id, Some(pool)) => Change::Pool(id, Some(self.describe(pool))),
            Change::Pool(id, None) => {
                self.shown.remove(&id);
                Change::Pool(id, None)
            }
            Change::Machine(id, machine) => {
                self.touched = true;
                self.note(&id, machine.as_deref());
                Change::Machine(id, machine)
            }
            Change::Node(name, Some(node)) => {
                self.touched = true;
                let known = self.found.get(&name).filter(|(addresses, machine)| {
                    *addresses == node.addresses && self.foreign.contains_key(machine)
                });
                let known = known.map(|(_, machine)| machine).filter(|_| node.machine.is_none());
                let claimed = self.by_node.get(&name).filter(|id| !self.spelled.contains(*id));
                if let Some(machine) = known.or(claimed) {
                    let node = Node { machine: Some(machine.clone()), ..(*node).clone() };
                    Change::Node(name, Some(Arc::new(node)))
                } else {
                    self.unknown.insert(name.clone());
                    Change::Node(name, Some(node))
                }
            }
            Change::Node(name, None) => {
                self.touched = true;
                self.found.remove(&name);
                Change::Node(name, None)
            }
            other => other,
        }
    }

    /// Notes how nodes may know a machine.
    fn note(&mut self, id: &MachineId, machine: Option<&Machine>) {
        if let Some(Some(node)) = self.foreign.remove(id)
            && self.by_node.get(&node) == Some(id)
        {
            self.by_node.remove(&node);
            self.unknown.insert(node);
        }
        self.spelled.remove(id);
        let Some(machine) = machine.filter(|machine| {
            machine.pool.provider() == cluster_api::NAME
                || machine.direct.is_some()
                || !machine.aliases.is_empty()
        }) else {
            return;
        };
        if machine.direct.is_none() || !machine.aliases.is_empty() {
            self.spelled.insert(id.clone());
        }
        if let Some(node) = &machine.node {
            self.by_node.insert(node.clone(), id.clone());
            self.unknown.insert(node.clone());
        }
        self.foreign.insert(id.clone(), machine.node.clone());
    }

    fn describe(&mut self, pool: Arc<Pool>) -> Arc<Pool> {
        // A pool that launches single machines knows what each of them is.
        if pool.template.is_some() || pool.direct().is_some() {
            self.shown.remove(&pool.id);
            return pool;
        }
        self.touched = true;
        match self.shown.entry(pool.id.clone()).or_default() {
            Some(template) => Arc::new(Pool { template: Some(template.clone()), ..(*pool).clone() }),
            None => pool,
        }
    }

    /// The changes that follow from those just applied.
    pub(crate) fn follow_up(&mut self, cluster: &Cluster) -> Vec<Change> {
        if !std::mem::take(&mut self.touched) {
            return Vec::new();
        }
        let mut changes = match (self.foreign.is_empty(), self.spelled.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => self.identify_claimed(cluster),
            (false, false) => self.identify(cluster),
        };
        if !self.shown.is_empty() {
            changes.extend(self.learn(cluster));
        }
        changes
    }

    /// Nodes of machines that are claimed by name, where there are no others: each is asked for by itself.
    fn identify_claimed(&mut self, cluster: &Cluster) -> Vec<Change> {
        let mut changes = Vec::new();
        self.unknown.retain(|name| {
            let Some(node) = cluster.nodes().get(name) else { return false };
            if node.machine.as_ref().is_some_and(|id| cluster.machines().contains_key(id)) {
                return false;
            }
            let named = node.machine.as_ref().map(|id| claimed_machine(last_segment(id.as_str())));
            let named = named.filter(|id| self.foreign.contains_key(id));
            let Some(id) = named.or_else(|| self.by_node.get(name).cloned()) else { return true };
            if !cluster.machines().contains_key(&id) {
                return true;
            }
            let node = Node { machine: Some(id), ..(**node).clone() };
            changes.push(Change::Node(name.clone(), Some(Arc::new(node))));
            false
        });
        changes
    }

    /// Nodes whose machine is known by another spelling of its id, or by the node's name only.
    fn identify(&mut self, cluster: &Cluster) -> Vec<Change> {
        let unknown =
            |node: &&Arc<Node>| node.machine.as_ref().is_none_or(|id| !cluster.machines().contains_key(id));
        let nodes: Vec<&Arc<Node>> = cluster.nodes().values().filter(unknown).collect();
        if nodes.is_empty() {
            return Vec::new();
        }
        let machines: Vec<&Arc<Machine>> =
            self.foreign.keys().filter_map(|id| cluster.machines().get(id)).collect();
        let by_node: BTreeMap<&NodeName, &MachineId> =
            machines.iter().filter_map(|machine| Some((machine.node.as_ref()?, &machine.id))).collect();
        let by_segment: BTreeMap<&str, &MachineId> =
            machines.iter().map(|machine| (last_segment(machine.id.as_str()), &machine.id)).collect();
        let by_alias = by_alias(&machines);
        let mut changes = Vec::new();
        for node in nodes {
            let spelled = node.machine.as_ref().and_then(|id| by_segment.get(last_segment(id.as_str())));
            let called = || {
                let machine = node.addresses.iter().find_map(|name| *by_alias.get(&**name)?)?;
                // What has been silent since before the machine was made is another's remains at the same address.
                let remains =
                    matches!(node.readiness, Readiness::NotReady { since } if since < machine.created_at);
                (!remains).then_some(&machine.id)
            };
            let own = spelled.or_else(|| by_node.get(&node.name)).copied();
            if let Some(id) = own.or_else(called) {
                if own.is_none() {
                    self.found.insert(node.name.clone(), (node.addresses.clone(), id.clone()));
                }
                let node = Node { machine: Some(id.clone()), ..(**node).clone() };
                changes.push(Change::Node(node.name.clone(), Some(Arc::new(node))));
            }
        }
        changes
    }

    /// Reads templates off live nodes: the first ready one by name that nobody is about to remove.
    fn learn(&mut self, cluster: &Cluster) -> Vec<Change> {
        let mut found: BTreeMap<PoolId, NodeTemplate> = BTreeMap::new();
        for node in cluster.nodes().values().filter(|node| is_exemplary(node)) {
            if let Some(pool) = cluster.pool_of(node)
                && self.shown.contains_key(&pool.id)
                && !found.contains_key(&pool.id)
            {
                found.insert(pool.id.clone(), template_of(node));
            }
        }
        let mut changes = Vec::new();
        for (id, template) in found {
            if self.shown.get(&id).is_some_and(|known| known.as_ref() == Some(&template)) {
                continue;
            }
            self.shown.insert(id.clone(), Some(template.clone()));
            if let Some(pool) = cluster.pools().get(&id) {
                let pool = Pool { template: Some(template), ..(**pool).clone() };
                changes.push(Change::Pool(id, Some(Arc::new(pool))));
            }
        }
        changes
    }
}

/// Machines by their other names; `None` where two that stay share one: then it says nothing. An address that one
/// machine gives up as another takes it is the other's.
fn by_alias<'a>(machines: &[&'a Arc<Machine>]) -> BTreeMap<&'a str, Option<&'a Machine>> {
    let mut found: BTreeMap<&str, Option<&Machine>> = BTreeMap::new();
    for leaving in [false, true] {
        let known: BTreeSet<&str> = found.keys().copied().collect();
        for machine in machines.iter().filter(|one| (one.state == MachineState::Deleting) == leaving) {
            for alias in machine.aliases.iter().filter(|alias| !known.contains(&***alias)) {
                let unique = !found.contains_key(&**alias);
                found.insert(alias, unique.then_some(&**machine));
            }
        }
    }
    found
}

fn last_segment(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

fn is_exemplary(node: &Node) -> bool {
    node.is_ready() && !node.unschedulable && !node.deleting && !node.has_taint(taints::TO_BE_DELETED)
}

/// What a sister of this node would look like: without its name, and without what passes.
fn template_of(node: &Node) -> NodeTemplate {
    let mut labels = node.labels.clone();
    labels.remove(labels::HOSTNAME);
    NodeTemplate {
        labels,
        taints: node.taints.iter().filter(|taint| !taints::is_transient(&taint.key)).cloned().collect(),
        allocatable: node.allocatable.clone(),
        fittings: node.fittings.as_deref().map(|fittings| Arc::new(fittings.of_a_new_node())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::Resources;

    const BORN: i64 = 1000;

    fn machine(id: &str, address: &str, state: MachineState) -> Change {
        let machine = Machine {
            id: id.into(),
            pool: "alicloud/asg-1".into(),
            state,
            created_at: Timestamp::from_second(BORN).unwrap(),
            node: None,
            aliases: vec![Arc::from(address)],
            direct: None,
        };
        Change::Machine(machine.id.clone(), Some(Arc::new(machine)))
    }

    /// A node without providerID, not ready since a moment.
    fn node(name: &str, address: &str, since: i64) -> Change {
        let node = Node {
            name: name.into(),
            uid: name.into(),
            machine: None,
            addresses: vec![Arc::from(address)],
            labels: model::Labels::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable: Resources::default(),
            readiness: Readiness::NotReady { since: Timestamp::from_second(since).unwrap() },
            conditions: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
            deleting: false,
            fittings: None,
        };
        Change::Node(node.name.clone(), Some(Arc::new(node)))
    }

    /// The machine that the node is found to be after these changes; and whether hearing of it again is news.
    fn found(changes: Vec<Change>) -> (Option<String>, bool) {
        let (mut joins, mut cluster) = (Joins::default(), Cluster::default());
        let again = changes.last().cloned();
        for change in changes {
            let change = joins.complete(change);
            cluster.apply(change);
        }
        for change in joins.follow_up(&cluster) {
            cluster.apply(change);
        }
        let known = cluster.nodes()[&NodeName::from("n")].clone();
        let again = again.map(|change| joins.complete(change));
        let news = !matches!(again, Some(Change::Node(_, Some(node))) if node == known);
        (known.machine.as_ref().map(ToString::to_string), news)
    }

    #[test]
    fn a_node_without_provider_id_is_known_by_its_address() {
        let running = |id, address| machine(id, address, MachineState::Running);
        let one =
            vec![running("r.i-1", "10.0.0.1"), running("r.i-2", "10.0.0.2"), node("n", "10.0.0.2", BORN)];
        assert_eq!(found(one), (Some("r.i-2".to_owned()), false));
        let twice =
            vec![running("r.i-1", "10.0.0.1"), running("r.i-2", "10.0.0.1"), node("n", "10.0.0.1", BORN)];
        assert_eq!(found(twice).0, None, "an address of two machines leads nowhere");
        let leaving = machine("r.i-1", "10.0.0.1", MachineState::Deleting);
        let handed_on = vec![leaving, running("r.i-2", "10.0.0.1"), node("n", "10.0.0.1", BORN)];
        assert_eq!(found(handed_on).0, Some("r.i-2".to_owned()));
        let remains = vec![running("r.i-1", "10.0.0.1"), node("n", "10.0.0.1", BORN - 1)];
        assert_eq!(found(remains).0, None, "silent since before the machine was made");
    }
}
