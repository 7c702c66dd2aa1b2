//! What stands and what is coming, as one room: nodes fullest first, then those that could stay, then machines on their
//! way.
//!
//! Owns the reading of nodes and their pods into a room, and the meaning of its spots. It is the part of a round that
//! walks all nodes; what it finds changes only when they do, so a planner may keep it. Who waits is not looked at.

use super::{TO_BE_DELETED, daemons, is_passing, template, template_of};
use crate::fleet::{Fleet, FleetNode, NodeState, PoolAccount};
use crate::launches;
use crate::planted::PlantedBug;
use crate::round::{Round, after};
use crate::settled::Settled;
use crate::utilization::{self, Utilization};
use model::{Cluster, MachineState, Node, NodeName, PoolId, RemovalPhase, Resources, Uid};
use packing::{ClassIx, ClusterVolumes, Room, SpotIx, Template, Vocabulary};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// How long the scheduler may take to bind what a new node was bought for.
const JUST_COME: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SpotKind {
    Ready(NodeName),
    /// Marked for removal; nothing has been moved yet, so it can stay.
    Marked(NodeName),
    OnItsWay(PoolId),
}

/// What the spots of a room are.
#[derive(Default)]
pub(crate) struct Ground {
    pub(super) kinds: Vec<SpotKind>,
    spot_of: BTreeMap<NodeName, SpotIx>,
    /// Ready nodes are the spots before this one.
    pub ready_end: usize,
    /// Nodes that exist, those that can stay after all included, are the spots before this one.
    pub standing_end: usize,
    /// Machines on their way are the spots from there to before this one.
    pub(super) coming_end: usize,
    pub(super) of_pool: BTreeMap<PoolId, Range<usize>>,
    /// Machines of direct pools that the pods of certain shapes were bought for.
    pub(super) reserved: Vec<(SpotIx, BTreeMap<u64, u32>)>,
    pub utilization: BTreeMap<NodeName, Utilization>,
    /// Nodes on which nothing but `DaemonSet` and mirror pods runs.
    pub idle: BTreeSet<NodeName>,
    /// What is said of nodes that stay whoever waits, found out when it is first asked.
    pub settled: OnceLock<Arc<Settled>>,
}

impl Ground {
    pub(crate) fn spot(&self, node: &NodeName) -> Option<SpotIx> {
        self.spot_of.get(node).copied()
    }

    /// The node of a spot; `None` for a machine on its way.
    pub(crate) fn node_at(&self, spot: SpotIx) -> Option<&NodeName> {
        match self.kinds.get(spot.0)? {
            SpotKind::Ready(node) | SpotKind::Marked(node) => Some(node),
            SpotKind::OnItsWay(_) => None,
        }
    }
}

/// A ground and its room, as they are found.
pub(super) struct Survey {
    pub room: Room,
    pub ground: Ground,
    /// Some of it would be otherwise at another time.
    pub awaits_the_clock: bool,
}

impl Survey {
    pub(super) fn of(round: &mut Round<'_>, fleet: &Fleet) -> Self {
        let room = empty_room(round.cluster);
        let mut survey = Self { room, ground: Ground::default(), awaits_the_clock: false };
        survey.add_ready(round, fleet);
        survey.add_marked(round, fleet);
        survey.ground.standing_end = survey.room.len();
        if !round.planted.has(PlantedBug::DoubleBuy) {
            survey.add_on_their_way(round, fleet);
        }
        survey.ground.coming_end = survey.room.len();
        survey.add_others(round, fleet);
        survey
    }

    /// Nodes that take no pods and whose own pods the scheduler still counts.
    fn add_others(&mut self, round: &Round<'_>, fleet: &Fleet) {
        for (name, node) in &fleet.nodes {
            let out = matches!(node.state, NodeState::Unready { .. } | NodeState::Leaving);
            if out && !round.ledger.removals.contains_key(name) {
                let pods = utilization::load(round, &node.node, &mut self.room).pods;
                let spot = self.room.add(Arc::clone(&node.node));
                self.hold(spot, &pods);
                self.room.bar(spot);
            }
        }
    }

    /// Fullest first: what moves fills nodes that stay before nodes that could go.
    fn add_ready(&mut self, round: &Round<'_>, fleet: &Fleet) {
        let mut ready = Vec::new();
        for (name, node) in &fleet.nodes {
            let load = utilization::load(round, &node.node, &mut self.room);
            self.ground.utilization.insert(name.clone(), load.utilization);
            if load.idle {
                self.ground.idle.insert(name.clone());
            }
            if node.state == NodeState::Ready && !round.ledger.removals.contains_key(name) {
                ready.push((Reverse(load.utilization.permille()), name, &node.node, load.pods));
            }
        }
        ready.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        for (_, name, node, pods) in ready {
            let spot = self.room.add(Arc::clone(node));
            self.hold(spot, &pods);
            self.ground.kinds.push(SpotKind::Ready(name.clone()));
            self.ground.spot_of.insert(name.clone(), spot);
            let machine = fleet.nodes.get(name).and_then(|node| node.machine.as_ref());
            let new = machine
                .and_then(|machine| machine.direct.as_ref())
                .filter(|direct| direct.initialized_at.is_some_and(|at| round.now < after(at, JUST_COME)));
            self.awaits_the_clock |= new.is_some();
            self.reserve(new.map(|direct| &direct.serves));
        }
        self.ground.ready_end = self.room.len();
    }

    /// Nodes whose removal has moved nothing yet, or is being undone.
    fn add_marked(&mut self, round: &Round<'_>, fleet: &Fleet) {
        for (name, removal) in &round.ledger.removals {
            let Some(node) = fleet.nodes.get(name).filter(|node| node.state == NodeState::Ready) else {
                continue;
            };
            if !matches!(removal.phase, RemovalPhase::Marking | RemovalPhase::Undoing) {
                continue;
            }
            let mut plain = Node::clone(&node.node);
            plain.taints.retain(|taint| &*taint.key != TO_BE_DELETED && !is_passing(round, taint));
            plain.unschedulable &= !removal.cordoned;
            let pods = utilization::load(round, &plain, &mut self.room).pods;
            let spot = self.room.add(Arc::new(plain));
            self.hold(spot, &pods);
            self.ground.kinds.push(SpotKind::Marked(name.clone()));
            self.ground.spot_of.insert(name.clone(), spot);
        }
    }

    /// Pool by pool, the machines that have a node already first.
    fn add_on_their_way(&mut self, round: &Round<'_>, fleet: &Fleet) {
        for (id, account) in &fleet.pools {
            let begin = self.room.len();
            for (name, node) in &fleet.nodes {
                if starting_pool(node) == Some(id) && !round.ledger.removals.contains_key(name) {
                    self.add_starting(round, fleet, node);
                    let machine = node.machine.as_ref().and_then(|machine| machine.direct.as_ref());
                    self.reserve(machine.map(|direct| &direct.serves));
                }
            }
            if account.pool.direct().is_some() {
                self.add_claimed(round, fleet, account);
            } else if let Some(template) = template(round, account, &mut self.room) {
                for _ in 0..account.coming + account.unborn {
                    let spot = self.room.add_promised(Arc::clone(&template.node));
                    for class in &template.overhead {
                        self.room.hold(*class, spot, 1);
                    }
                }
            }
            self.ground.kinds.resize(self.room.len(), SpotKind::OnItsWay(id.clone()));
            self.ground.of_pool.insert(id.clone(), begin..self.room.len());
        }
    }

    /// Machines that are claimed and have no node yet, then those whose claims are not seen yet.
    fn add_claimed(&mut self, round: &Round<'_>, fleet: &Fleet, account: &PoolAccount) {
        let id = &account.pool.id;
        let joined: BTreeSet<&model::MachineId> = fleet
            .nodes
            .values()
            .filter_map(|node| node.machine.as_ref().map(|machine| &machine.id))
            .collect();
        let mut coming: Vec<(Arc<model::Flavour>, BTreeMap<u64, u32>)> = Vec::new();
        for machine in round.cluster.machines_of(id).filter(|machine| !joined.contains(&machine.id)) {
            let may_come = matches!(machine.state, MachineState::Creating | MachineState::Running);
            if let Some(direct) = machine.direct.as_ref().filter(|_| may_come) {
                coming.push((Arc::clone(&direct.flavour), direct.serves.clone()));
            }
        }
        if let Some(order) = round.ledger.scale_ups.get(id) {
            for (launch, _) in launches::unseen(round, order) {
                coming.push((Arc::clone(&launch.flavour), launch.serves.clone()));
            }
        }
        // Alike machines share one reading of their kind.
        let mut known: Vec<(Arc<model::Flavour>, Template)> = Vec::new();
        for (flavour, serves) in coming {
            let found =
                known.iter().position(|(other, _)| Arc::ptr_eq(other, &flavour) || **other == *flavour);
            let at = found.unwrap_or_else(|| {
                let template = template_of(round, id, &flavour.template, &mut self.room);
                known.push((flavour, template));
                known.len() - 1
            });
            let template = &known[at].1;
            let spot = self.room.add_promised(Arc::clone(&template.node));
            for class in &template.overhead {
                self.room.hold(*class, spot, 1);
            }
            self.reserve(Some(&serves));
        }
    }

    /// Keeps the machine that was added last for the pods that it was bought for.
    fn reserve(&mut self, serves: Option<&BTreeMap<u64, u32>>) {
        if let Some(serves) = serves.filter(|serves| !serves.is_empty()) {
            self.ground.reserved.push((SpotIx(self.room.len() - 1), serves.clone()));
        }
    }

    fn hold(&mut self, spot: SpotIx, pods: &[(ClassIx, u32)]) {
        for (class, count) in pods {
            self.room.hold(*class, spot, *count);
        }
    }

    /// A node that is there and not ready: as it will be, with the DaemonSet pods that it does not have yet.
    fn add_starting(&mut self, round: &Round<'_>, fleet: &Fleet, node: &FleetNode) {
        let plain = Arc::new(starting_node(round, fleet, node));
        let pods = utilization::load(round, &plain, &mut self.room).pods;
        let spot = self.room.add(Arc::clone(&plain));
        self.hold(spot, &pods);
        let present: BTreeSet<&Uid> = round
            .cluster
            .pods_on(&node.node.name)
            .filter(|pod| pod.daemon)
            .filter_map(|pod| pod.owner.as_ref().map(|owner| &owner.uid))
            .collect();
        for class in daemons(round, &plain, &present, &mut self.room) {
            self.room.hold(class, spot, 1);
        }
    }
}

/// A room without spots that can tell apart all pods of the cluster.
fn empty_room(cluster: &Cluster) -> Room {
    let mut vocabulary = Vocabulary::of(cluster.shapes_naming_labels());
    for set in cluster.daemon_sets().values() {
        vocabulary.add(&set.shape);
    }
    for outlook in cluster.outlooks().values() {
        if let Some(template) = &outlook.template {
            vocabulary.add(&template.shape);
        }
    }
    for part in cluster.headroom().values().flat_map(|headroom| &headroom.parts) {
        vocabulary.add(&part.shape);
    }
    Room::new(vocabulary, cluster.namespaces()).with_volumes(ClusterVolumes::of(cluster))
}

fn starting_pool(node: &FleetNode) -> Option<&PoolId> {
    matches!(node.state, NodeState::Starting { .. }).then_some(())?;
    node.machine.as_ref().map(|machine| &machine.pool)
}

/// A node that is there and not ready, as it will be.
fn starting_node(round: &Round<'_>, fleet: &Fleet, node: &FleetNode) -> Node {
    let mut plain = Node::clone(&node.node);
    plain.taints.retain(|taint| !is_passing(round, taint));
    let machine = node.machine.as_ref();
    let of_pool = || fleet.pools.get(&machine?.pool)?.pool.template.as_ref();
    let direct = machine.and_then(|machine| machine.direct.as_ref());
    let template = direct.map(|direct| &direct.flavour.template).or_else(of_pool);
    if let Some(template) = template {
        // Until its kubelet and device plug-ins have reported, the template knows better.
        fill_gaps(&mut plain.allocatable, &template.allocatable);
        if plain.fittings.is_none() {
            plain.fittings.clone_from(&template.fittings);
        }
        model::add_zone_aliases(&mut plain.labels);
        if direct.is_some() {
            // Startup taints go; what stays is what was planned.
            plain.taints.clone_from(&template.taints);
        }
    }
    plain
}

fn fill_gaps(seen: &mut Resources, promised: &Resources) {
    if seen.cpu.0 == 0 && seen.memory.0 == 0 {
        *seen = promised.clone();
        return;
    }
    for (name, amount) in &promised.extended {
        let entry = seen.extended.entry(name.clone()).or_default();
        *entry = (*entry).max(*amount);
    }
}
