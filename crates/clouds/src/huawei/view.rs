//! What was last read of the cluster's node pools, as changes of the model.
//!
//! Owns the asking (seldom at rest, often while something moves), what is kept between two askings, and the joins: nodes
//! that CCE cannot make stand as failed machines, a node counts as gone only when two lists in a row do not name it.

use super::cce::{CceNode, Flavor, NodePool};
use super::reading::{
    aliases, created_at, is_staying, machine_id, options, placeholder_id, refused_by_pool, shortage, state_of,
};
use super::template::{template, types_of};
use super::{Declared, NAME, Shared, pool_id};
use crate::calls::Failure;
use crate::polling::Told;
use crate::watching::Freshness;
use jiff::Timestamp;
use model::{
    Change, Input, Machine, MachineId, MachineState, MicroUsdPerHour, NodeTemplate, Pool, PoolId,
    PoolOptions, Profile, ProviderKind,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the region's types of servers count.
const FLAVORS_FRESH: Duration = Duration::from_hours(6);
/// How long after a failure types are asked for again.
const FLAVORS_AGAIN: Duration = Duration::from_mins(5);
/// Lists that must not name a machine before it counts as gone.
const MISSED: u8 = 2;

pub(super) struct View {
    shared: Arc<Shared>,
    changes: VecDeque<Change>,
    freshness: Freshness,
    nodes: BTreeMap<String, (CceNode, u8)>,
    flavors: BTreeMap<String, Flavor>,
    flavors_until: Option<Instant>,
    told: BTreeMap<PoolId, Told>,
    said: BTreeMap<PoolId, Arc<str>>,
    moves: bool,
    polled: Option<Instant>,
}

/// A pool as it is served: found, or declared and not there.
struct Served<'a> {
    id: PoolId,
    bounds: (u32, u32),
    /// As the user wrote it.
    named: &'a str,
    found: Option<&'a NodePool>,
}

impl View {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            changes: VecDeque::new(),
            freshness: Freshness::of(1, shared.stale_after),
            nodes: BTreeMap::new(),
            flavors: BTreeMap::new(),
            flavors_until: None,
            told: BTreeMap::new(),
            said: BTreeMap::new(),
            moves: false,
            polled: None,
            shared,
        }
    }

    /// The next change; waits, and asks again, as long as there is none.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return change;
            }
            if let Some(polled) = self.polled {
                self.shared.pace.turn(polled, self.moves).await;
            }
            self.poll().await;
            self.polled = Some(Instant::now());
        }
    }

    async fn poll(&mut self) {
        let shared = self.shared.clone();
        let read = futures::try_join!(shared.cce.pools(), shared.cce.nodes());
        let now = shared.clock.now();
        let state = match read {
            Ok((pools, nodes)) => {
                self.take_nodes(nodes);
                let served = serve(&shared.pools, shared.discover, &pools);
                self.read_flavors(&shared, &served).await;
                self.tell(&shared, &served, now);
                self.freshness.synced(0)
            }
            Err(failure) => {
                let why = format!("node pools of {}: {failure}", shared.cce.cluster);
                self.freshness.broken(0, &Arc::from(why), now)
            }
        };
        let input = || Input::Pools(Arc::from(NAME));
        self.changes.extend(state.map(|state| Change::Input(input(), state)));
    }

    /// A node that a list leaves out may be back in the next.
    fn take_nodes(&mut self, listed: Vec<CceNode>) {
        let mut listed: BTreeMap<String, CceNode> =
            listed.into_iter().map(|node| (node.metadata.uid.clone(), node)).collect();
        for (uid, (known, missed)) in &mut self.nodes {
            if let Some(node) = listed.remove(uid) {
                (*known, *missed) = (node, 0);
            } else {
                // One that was on its way out and is not listed any more has gone.
                *missed = if is_staying(known) { *missed + 1 } else { MISSED };
            }
        }
        self.nodes.retain(|_, (_, missed)| *missed < MISSED);
        self.nodes.extend(listed.into_iter().map(|(uid, node)| (uid, (node, 0))));
    }

    /// Asks for the types of servers where one that is needed is not known. Without them a live node shows what a node
    /// is, so a failure is said and nothing stops.
    async fn read_flavors(&mut self, shared: &Shared, served: &[Served<'_>]) {
        let wanted = served.iter().filter_map(|one| one.found).flat_map(types_of);
        let unknown = wanted.filter(|name| !self.flavors.contains_key(*name)).count() > 0;
        let due = self.flavors_until.is_none_or(|until| Instant::now() >= until);
        if !unknown || !due {
            return;
        }
        let fresh = match shared.cce.flavors().await {
            Ok(found) => {
                self.flavors = found.into_iter().map(|flavor| (flavor.id.clone(), flavor)).collect();
                FLAVORS_FRESH
            }
            Err(failure) => {
                self.say_of_flavors(&failure);
                FLAVORS_AGAIN
            }
        };
        self.flavors_until = Some(Instant::now() + fresh);
    }

    fn say_of_flavors(&mut self, failure: &Failure) {
        let told: Arc<str> = Arc::from(failure.to_string());
        if self.said.insert(pool_id(""), told.clone()) != Some(told) {
            tracing::warn!(%failure, "empty node pools cannot grow until a first node shows what a node is");
        }
    }

    /// Tells what is new since it was last told.
    fn tell(&mut self, shared: &Shared, served: &[Served<'_>], now: Timestamp) {
        self.moves = false;
        for one in served {
            let (pool, machines) = self.picture(shared, one, now);
            if let Some(why) = &pool.frozen
                && self.said.insert(pool.id.clone(), why.clone()).as_ref() != Some(why)
            {
                tracing::warn!(pool = one.named, %why, "the node pool is left as it is");
            }
            let told = self.told.entry(pool.id.clone()).or_default();
            told.tell(pool, machines.into_iter(), &mut self.changes);
        }
        let known: Vec<PoolId> = self.told.keys().cloned().collect();
        for id in known.into_iter().filter(|id| !served.iter().any(|one| one.id == *id)) {
            if let Some(told) = self.told.remove(&id) {
                told.take_back(&mut self.changes);
            }
        }
    }

    fn picture(&mut self, shared: &Shared, one: &Served<'_>, now: Timestamp) -> (Pool, Vec<Machine>) {
        let Some(found) = one.found else {
            let why = format!(
                "there is no node pool {} in the cluster {}; check --nodes and --huaweicloud-cluster",
                one.named, shared.cce.cluster
            );
            return (pool(one, Some(why), None, PoolOptions::default()), Vec::new());
        };
        let own = |node: &&CceNode| node.pool() == Some(&*found.metadata.uid);
        let nodes: Vec<&CceNode> = self.nodes.values().map(|(node, _)| node).filter(own).collect();
        let staying = nodes.iter().filter(|node| is_staying(node)).count() as u32;
        let target = found.spec.initial_node_count;
        let mut machines: Vec<Machine> = nodes.iter().map(|node| machine(&one.id, node)).collect();
        // A node that is being made is listed late: what the pool counts is not missing.
        let there = staying.max(found.status.current_node);
        if let Some((code, message)) = shortage(found) {
            let state = || MachineState::Failed { code: code.clone(), message: message.clone() };
            for number in 0..target.saturating_sub(there) {
                let id = placeholder_id(&found.metadata.uid, number);
                machines.push(made(id, &one.id, state(), now, Vec::new()));
            }
        }
        let coming = |node: &&CceNode| !matches!(state_of(node), MachineState::Running);
        self.moves |= target != staying || nodes.iter().any(coming);
        self.keep_birth(&one.id, &mut machines);
        let described = template(found, &self.flavors, &shared.region);
        let empty = (one.bounds.0 > one.bounds.1).then(|| {
            format!(
                "--nodes of {} and the bounds of its elastic scaling have nothing in common; change one of them",
                one.named
            )
        });
        let frozen = empty.or_else(|| described.as_ref().err().cloned()).or_else(|| refused_by_pool(found));
        let mut pool = pool(one, frozen, described.unwrap_or_default(), options(found));
        pool.target = target;
        pool.name = Arc::from(found.metadata.name.as_str());
        pool.priority = if found.spec.autoscaling.enable { found.spec.autoscaling.priority } else { 0 };
        (pool, machines)
    }

    /// A machine that cannot be made was seen first when it was seen first.
    fn keep_birth(&self, pool: &PoolId, machines: &mut [Machine]) {
        let Some(told) = self.told.get(pool) else { return };
        for machine in machines.iter_mut().filter(|one| matches!(one.state, MachineState::Failed { .. })) {
            if let Some(known) = told.machine(&machine.id) {
                machine.created_at = known.created_at;
            }
        }
    }
}

/// The pools to be served: those declared, and where asked for those whose elastic scaling is on.
fn serve<'a>(declared: &'a [Declared], discover: bool, pools: &'a [NodePool]) -> Vec<Served<'a>> {
    let named = |found: &&NodePool, name: &str| found.metadata.uid == name || found.metadata.name == name;
    let mut served: Vec<Served<'a>> = Vec::new();
    for one in declared {
        let found = pools.iter().find(|found| named(found, &one.pool));
        let id = pool_id(found.map_or(&one.pool, |found| &found.metadata.uid));
        let mut bounds = (one.min, one.max);
        if let Some(own) = found.map(|found| &found.spec.autoscaling).filter(|own| own.enable) {
            bounds = (bounds.0.max(own.min_node_count), bounds.1.min(own.max_node_count));
        }
        // Named twice, by name and by id: the first counts.
        if !served.iter().any(|known| known.id == id) {
            served.push(Served { id, bounds, named: &one.pool, found });
        }
    }
    for found in pools.iter().filter(|found| discover && found.spec.autoscaling.enable) {
        let id = pool_id(&found.metadata.uid);
        let own = &found.spec.autoscaling;
        if !served.iter().any(|known| known.id == id) {
            let bounds = (own.min_node_count, own.max_node_count);
            served.push(Served { id, bounds, named: &found.metadata.name, found: Some(found) });
        }
    }
    served
}

fn machine(pool: &PoolId, node: &CceNode) -> Machine {
    made(machine_id(node), pool, state_of(node), created_at(node), aliases(node))
}

fn made(
    id: MachineId,
    pool: &PoolId,
    state: MachineState,
    created_at: Timestamp,
    aliases: Vec<Arc<str>>,
) -> Machine {
    Machine { id, pool: pool.clone(), state, created_at, node: None, aliases, direct: None }
}

fn pool(
    one: &Served<'_>,
    frozen: Option<String>,
    template: Option<NodeTemplate>,
    options: PoolOptions,
) -> Pool {
    let (min, max) = one.bounds;
    Pool {
        id: one.id.clone(),
        name: Arc::from(one.named),
        provider: ProviderKind::Huaweicloud,
        profile: Profile::ClusterAutoscaler,
        min: min.min(max),
        max,
        target: 0,
        template,
        priority: 0,
        price: MicroUsdPerHour::default(),
        options,
        frozen: frozen.map(Arc::from),
        kind: model::PoolKind::default(),
    }
}
