//! What there is: each node in its state, each pool with its count of machines.
//!
//! Owns the classes of nodes and the sums that all limits are checked against. It sees and judges nothing: what
//! follows from a machine that is late is `deliveries`', from a node that is not ready `idle`'s.

use crate::ceiling::Ceiling;
use crate::freshness::Freshness;
use crate::round::{Round, after};
use crate::supply::DELETION_CANDIDATE;
use crate::{back_off, leftovers, pool_policy, rules};
use jiff::{SignedDuration, Timestamp};
use model::{Machine, MachineId, MachineState, Node, NodeName, Pool, PoolId, Readiness};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// A node that turned not ready this long after it was made had been ready before: it is ill, not starting.
const FIRST_READY_GRACE: SignedDuration = SignedDuration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeState {
    Ready,
    /// Not ready yet, and young enough to become so.
    Starting {
        since: Timestamp,
    },
    /// Was ready, or never became so in time.
    Unready {
        since: Timestamp,
    },
    /// Its machine or the node itself is being deleted, by whomever.
    Leaving,
}

/// A node with its state and, where it is ours, its machine and pool.
pub(crate) struct FleetNode {
    pub node: Arc<Node>,
    pub state: NodeState,
    pub machine: Option<Arc<Machine>>,
}

/// One pool's machines, counted.
#[derive(Clone)]
pub(crate) struct PoolAccount {
    pub pool: Arc<Pool>,
    /// The pool's minimum without what rules hold now.
    pub own_min: u32,
    /// Its provider's view is up to date.
    pub fresh: bool,
    /// The size that the provider has been asked for, an order in flight included.
    pub target: u32,
    /// The smallest size that it may have at this moment: no order that is not seen yet counts, every lowering does.
    pub certain: u32,
    pub ready: u32,
    pub unready: u32,
    /// Nodes that exist and are not ready yet.
    pub starting: u32,
    /// Machines that exist and may still become nodes.
    pub coming: u32,
    /// Machines that were asked for and that the provider does not show yet.
    pub unborn: u32,
    /// Machines without a node that will not become one: failed, or too late.
    pub failed: Vec<Arc<Machine>>,
    pub late: Vec<Arc<Machine>>,
    /// All machines that are not being deleted.
    pub machines: u32,
    /// Named removals that the target may still include.
    pub removals_in_flight: u32,
    /// Those of them that the provider has not taken yet.
    pub removals_open: u32,
    /// An order was handed out and nothing is known of it yet.
    pub order_open: bool,
    /// A machine is being given back and the pool's size may not show it yet: an absolute size sent now would buy it
    /// again.
    pub giving_back: bool,
}

impl PoolAccount {
    /// Machines that can be counted on to become ready nodes.
    pub(crate) fn upcoming(&self) -> u32 {
        self.starting + self.coming + self.unborn
    }

    /// Machines that exist or were asked for and have no node.
    pub(crate) fn without_node(&self) -> u32 {
        self.coming + self.unborn + count(&self.failed) + count(&self.late)
    }

    /// Whether the minimum holds when everything that is going is gone.
    pub(crate) fn minimum_holds(&self) -> bool {
        self.certain.saturating_sub(self.removals_open) >= self.pool.min
    }

    /// Machines that may be taken away before the minimum is reached.
    pub(crate) fn removable(&self) -> u32 {
        self.certain.saturating_sub(self.removals_in_flight).saturating_sub(self.pool.min)
    }
}

/// All nodes, and which of them those are that few steps of a round have to look at.
pub(crate) struct Register {
    pub nodes: BTreeMap<NodeName, FleetNode>,
    /// Nodes that carry the mark of a removal, ours or somebody else's.
    pub marked: Vec<NodeName>,
    /// Nodes that carry the soft taint of what is not needed.
    pub softly_tainted: Vec<NodeName>,
    pub any_unready: bool,
    any_starting: bool,
    any_direct: bool,
}

#[derive(Clone)]
pub(crate) struct Fleet {
    register: Arc<Register>,
    pub pools: BTreeMap<PoolId, PoolAccount>,
    /// What may still be bought in the whole cluster.
    pub ceiling: Ceiling,
}

impl Fleet {
    pub(crate) fn survey(round: &mut Round<'_>, fresh: &Freshness) -> Self {
        let mut pools: BTreeMap<PoolId, PoolAccount> = round
            .cluster
            .pools()
            .iter()
            .map(|(id, pool)| (id.clone(), open_account(round, pool, fresh.provider_of(id))))
            .collect();
        for account in pools.values_mut() {
            raise_minimum(round, account);
        }
        let mut nodes = BTreeMap::new();
        let mut node_of: BTreeMap<MachineId, NodeState> = BTreeMap::new();
        for node in round.cluster.nodes().values() {
            let machine = round.cluster.machine_of(node).cloned();
            let pool = machine.as_ref().map(|machine| &machine.pool);
            let limit = pool_policy::startup_time(round, pool);
            let state = node_state(round, node, machine.as_deref(), limit);
            if let Some(machine) = &machine {
                node_of.insert(machine.id.clone(), state);
            }
            nodes.insert(node.name.clone(), FleetNode { node: Arc::clone(node), state, machine });
        }
        for (id, account) in &mut pools {
            for machine in round.cluster.machines_of(id) {
                count_machine(round, account, machine, node_of.get(&machine.id).copied());
            }
            account.giving_back = gives_back(round, id);
            account.unborn = account.target.saturating_sub(account.machines);
            if back_off::of(round, id).is_some() && !account.order_open {
                // What a failing pool has not even begun to make is not counted on.
                account.unborn = 0;
            }
        }
        let register = Arc::new(Register::of(nodes));
        let mut fleet = Self { register, pools, ceiling: Ceiling::default() };
        fleet.ceiling = Ceiling::of(round, &fleet);
        fleet
    }

    /// Whether nothing is on its way or failed to come, so that no limit of time bears on it.
    pub(crate) fn rests(&self) -> bool {
        let at_rest = |account: &PoolAccount| {
            account.upcoming() == 0 && account.failed.is_empty() && account.late.is_empty()
        };
        !self.any_starting && self.pools.values().all(at_rest)
    }

    /// Nodes of the whole cluster, ours or not, machines on their way included.
    pub(crate) fn total_nodes(&self) -> u32 {
        let on_their_way: u32 = self.pools.values().map(PoolAccount::without_node).sum();
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX).saturating_add(on_their_way)
    }
}

impl Deref for Fleet {
    type Target = Register;

    fn deref(&self) -> &Register {
        &self.register
    }
}

impl Register {
    fn of(nodes: BTreeMap<NodeName, FleetNode>) -> Self {
        let names = |which: fn(&FleetNode) -> bool| {
            nodes.iter().filter(|(_, node)| which(node)).map(|(name, _)| name.clone()).collect()
        };
        let any = |which: fn(&FleetNode) -> bool| nodes.values().any(which);
        Self {
            marked: names(|node| leftovers::is_marked(&node.node)),
            softly_tainted: names(|node| node.node.has_taint(DELETION_CANDIDATE)),
            any_unready: any(|node| matches!(node.state, NodeState::Unready { .. })),
            any_starting: any(|node| matches!(node.state, NodeState::Starting { .. })),
            any_direct: any(|node| node.machine.as_ref().is_some_and(|machine| machine.direct.is_some())),
            nodes,
        }
    }

    /// Nodes whose machines were launched by themselves, in name order.
    pub(crate) fn direct_nodes(&self) -> impl Iterator<Item = (&NodeName, &FleetNode)> {
        let all = self.any_direct.then(|| self.nodes.iter()).into_iter().flatten();
        all.filter(|(_, node)| node.machine.as_ref().is_some_and(|machine| machine.direct.is_some()))
    }
}

fn count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

/// What floors by schedule hold now is the least that is kept.
fn raise_minimum(round: &mut Round<'_>, account: &mut PoolAccount) {
    let floor = rules::floor_of(round, account).min(account.pool.max);
    if floor > account.pool.min {
        let mut pool = Pool::clone(&account.pool);
        pool.min = floor;
        account.pool = Arc::new(pool);
    }
}

fn gives_back(round: &Round<'_>, pool: &PoolId) -> bool {
    let ledger = &round.ledger;
    let machines = round.cluster.machines();
    let releasing = ledger.removals.values().filter(|r| r.phase == model::RemovalPhase::Releasing);
    let orphans = ledger.orphans.values().filter(|orphan| orphan.asked.is_some() || orphan.released);
    releasing
        .chain(orphans)
        .filter(|removal| removal.pool == *pool)
        .any(|removal| machines.get(&removal.machine).is_some_and(|m| m.state != MachineState::Deleting))
}

/// Whether an order was planned whose size the pool has not shown yet: were a machine given back now, that size would
/// never be seen, or be bought on top.
pub(crate) fn order_unseen(round: &Round<'_>, pool: &PoolId) -> bool {
    round.ledger.scale_ups.get(pool).is_some_and(|order| !order.confirmed && !order.lowering)
}

fn open_account(round: &Round<'_>, pool: &Arc<Pool>, fresh: bool) -> PoolAccount {
    let order = round.ledger.scale_ups.get(&pool.id);
    let pending = order.filter(|o| !o.confirmed && !o.lowering && o.to > pool.target);
    let ledger = &round.ledger;
    let in_flight: Vec<&model::Removal> = ledger
        .removals
        .values()
        .filter(|r| r.phase != model::RemovalPhase::Undoing)
        .chain(ledger.orphans.values().filter(|r| r.asked.is_some() || r.released))
        .filter(|removal| removal.pool == pool.id)
        .collect();
    let open = in_flight.iter().filter(|removal| !removal.released).count();
    let pool = &pool_policy::laid_over(round, pool);
    PoolAccount {
        pool: Arc::clone(pool),
        own_min: pool.min,
        fresh,
        target: pending.map_or(pool.target, |order| order.to),
        certain: order.filter(|o| o.lowering).map_or(pool.target, |order| order.to.min(pool.target)),
        ready: 0,
        unready: 0,
        starting: 0,
        coming: 0,
        unborn: 0,
        failed: Vec::new(),
        late: Vec::new(),
        machines: 0,
        removals_in_flight: count(&in_flight),
        removals_open: u32::try_from(open).unwrap_or(u32::MAX),
        order_open: pending.is_some_and(|order| !order.ordered),
        giving_back: false,
    }
}

fn node_state(
    round: &mut Round<'_>,
    node: &Node,
    machine: Option<&Machine>,
    limit: SignedDuration,
) -> NodeState {
    let going = machine.is_some_and(|machine| machine.state == MachineState::Deleting);
    if node.deleting || going {
        return NodeState::Leaving;
    }
    if machine.is_some_and(|m| m.direct.as_ref().is_some_and(|direct| direct.initialized_at.is_none())) {
        // Its claim has the time limits.
        return NodeState::Starting { since: node.created_at };
    }
    let starts = || node.taints.iter().any(|taint| round.policies.taints.is_startup(&taint.key));
    if node.is_ready() && !starts() {
        return NodeState::Ready;
    }
    let since = match node.readiness {
        Readiness::NotReady { since } => since,
        // Its kubelet answers, a condition keeps it from counting: it is as old as the node.
        Readiness::Ready { .. } => node.created_at,
    };
    let never_ready = since <= after(node.created_at, FIRST_READY_GRACE);
    if never_ready && !round.reached(after(node.created_at, limit)) {
        return NodeState::Starting { since: node.created_at };
    }
    NodeState::Unready { since }
}

fn count_machine(
    round: &mut Round<'_>,
    account: &mut PoolAccount,
    machine: &Arc<Machine>,
    node: Option<NodeState>,
) {
    if machine.state == MachineState::Deleting {
        return;
    }
    account.machines += 1;
    match node {
        Some(NodeState::Ready) => account.ready += 1,
        Some(NodeState::Starting { .. }) => account.starting += 1,
        Some(NodeState::Unready { .. }) => account.unready += 1,
        Some(NodeState::Leaving) => {}
        None if matches!(machine.state, MachineState::Failed { .. }) => {
            account.failed.push(Arc::clone(machine));
        }
        // How long a claimed machine may take, and what becomes of it then, its claim says.
        None if machine.direct.is_some() => account.coming += 1,
        None => {
            let limit = account.pool.options.max_provision_time.unwrap_or(round.policies.max_provision_time);
            if round.ledger.orphans.contains_key(&machine.id)
                || round.reached(after(machine.created_at, limit))
            {
                account.late.push(Arc::clone(machine));
            } else {
                account.coming += 1;
            }
        }
    }
}
