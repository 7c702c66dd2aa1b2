//! What the controller shows of itself: pools, nodes with their fill, waiting pods with reasons, the last decisions.
//!
//! Owns the form of `GET /api/v1/state`. It is made when somebody asks and never otherwise.

mod upcoming;

pub use upcoming::{UpcomingKind, UpcomingView};

use crate::wording::pool_name;
use jiff::Timestamp;
use model::{Alternative, Cluster, Growth, Ledger, MachineState, Node, Reason, Step, Verdicts};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Waiting pods that are shown; the rest is a number.
const MOST_PENDING: usize = 2000;

/// Everything that the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateView {
    pub now: Timestamp,
    /// Rounds since the start.
    pub rounds: u64,
    pub leading: bool,
    /// Nothing is done: decisions are what would be done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What is to be said of the whole: stale inputs, limits reached.
    pub round: Vec<String>,
    pub pools: Vec<PoolView>,
    pub nodes: Vec<NodeView>,
    pub pending: Vec<PodView>,
    pub pending_total: usize,
    /// The newest first.
    pub decisions: Vec<DecisionView>,
    /// What time alone will bring, the soonest first.
    #[serde(default)]
    pub upcoming: Vec<UpcomingView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    pub id: String,
    pub name: String,
    pub min: u32,
    pub max: u32,
    pub target: u32,
    pub machines: usize,
    pub price_micro_usd_per_hour: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeState {
    Ready,
    /// A machine on its way, or a node that has not been ready yet.
    Coming,
    /// Being removed.
    Going,
    NotReady,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    pub state: NodeState,
    pub pods: usize,
    pub requested: Fill,
    pub allocatable: Fill,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    pub pod: String,
    pub since: Timestamp,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionView {
    pub at: Timestamp,
    pub round: u64,
    pub intent: String,
    pub what: String,
    /// How it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a purchase: pools that were not bought from, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<OtherView>,
}

/// What was not done in place of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherView {
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_micro_usd_per_hour: Option<u64>,
    pub why: String,
}

/// The alternatives of a step, where it is a purchase.
pub(crate) fn others(cluster: &Cluster, step: &Step, growth: &Growth) -> Vec<OtherView> {
    if !matches!(step, Step::Buy(_)) {
        return Vec::new();
    }
    let view = |other: &Alternative| {
        let pool = pool_name(cluster, &other.pool);
        OtherView {
            what: match other.machines {
                0 => format!("pool {pool}"),
                1 => format!("1 machine of pool {pool}"),
                count => format!("{count} machines of pool {pool}"),
            },
            price_micro_usd_per_hour: other.price.map(|price| price.0),
            why: other.why.to_string(),
        }
    };
    growth.alternatives.iter().map(view).collect()
}

/// Puts the state together.
pub(crate) fn state(
    cluster: &Cluster,
    verdicts: &Verdicts,
    ledger: Option<&Ledger>,
    now: Timestamp,
) -> StateView {
    let mut nodes: Vec<NodeView> =
        cluster.nodes().values().map(|node| node_view(cluster, verdicts, ledger, node)).collect();
    nodes.extend(coming_machines(cluster));
    let waiting = || {
        verdicts.pods.iter().filter_map(|(key, reason)| {
            let pod = cluster.pods().get(key).filter(|pod| pod.node.is_none())?;
            Some((key, pod, reason))
        })
    };
    let view = |(key, pod, reason): (&model::PodKey, &std::sync::Arc<model::Pod>, &Reason)| PodView {
        pod: key.to_string(),
        since: pod.unschedulable_since.unwrap_or(pod.created_at),
        reason: reason.to_string(),
    };
    StateView {
        now,
        rounds: 0,
        leading: ledger.is_some(),
        dry_run: false,
        round: verdicts.round.iter().map(ToString::to_string).collect(),
        pools: pools(cluster, verdicts),
        nodes,
        pending: waiting().take(MOST_PENDING).map(view).collect(),
        pending_total: waiting().count(),
        decisions: Vec::new(),
        upcoming: upcoming::upcoming(cluster, verdicts, ledger, now),
    }
}

fn pools(cluster: &Cluster, verdicts: &Verdicts) -> Vec<PoolView> {
    let view = |pool: &std::sync::Arc<model::Pool>| {
        let frozen = pool.frozen.as_ref().map(ToString::to_string);
        PoolView {
            id: pool.id.to_string(),
            name: pool.name.to_string(),
            min: pool.min,
            max: pool.max,
            target: pool.target,
            machines: cluster.machines_of(&pool.id).count(),
            price_micro_usd_per_hour: pool.price.0,
            reason: verdicts.pools.get(&pool.id).map(ToString::to_string).or(frozen),
        }
    };
    cluster.pools().values().map(view).collect()
}

fn node_view(cluster: &Cluster, verdicts: &Verdicts, ledger: Option<&Ledger>, node: &Node) -> NodeView {
    let mut requested = Fill::default();
    let mut pods = 0;
    for pod in cluster.pods_on(&node.name).filter(|pod| pod.occupies()) {
        requested.cpu = requested.cpu.saturating_add(pod.shape.requests.cpu.0);
        requested.memory = requested.memory.saturating_add(pod.shape.requests.memory.0);
        pods += 1;
    }
    let reason = verdicts.nodes.get(&node.name);
    let going = node.deleting || ledger.is_some_and(|ledger| ledger.removals.contains_key(&node.name));
    NodeView {
        name: node.name.to_string(),
        pool: cluster.pool_of(node).map(|pool| pool.name.to_string()),
        state: match reason {
            _ if going => NodeState::Going,
            Some(Reason::StartingUp { .. }) => NodeState::Coming,
            _ if node.is_ready() => NodeState::Ready,
            // It joined after the last round.
            None => NodeState::Coming,
            Some(_) => NodeState::NotReady,
        },
        pods,
        requested,
        allocatable: Fill { cpu: node.allocatable.cpu.0, memory: node.allocatable.memory.0 },
        reason: reason.map(ToString::to_string),
    }
}

/// Machines that are not nodes yet.
fn coming_machines(cluster: &Cluster) -> Vec<NodeView> {
    let joined: BTreeSet<_> = cluster.nodes().values().filter_map(|node| node.machine.as_ref()).collect();
    let is_coming = |machine: &&std::sync::Arc<model::Machine>| {
        !joined.contains(&machine.id) && !matches!(machine.state, MachineState::Deleting)
    };
    let view = |machine: &std::sync::Arc<model::Machine>| {
        let template = cluster.pools().get(&machine.pool).and_then(|pool| pool.template.as_ref());
        let failed = match &machine.state {
            MachineState::Failed { code, message } => Some(format!("{code}: {message}")),
            _ => None,
        };
        NodeView {
            name: machine.id.as_str().rsplit('/').next().unwrap_or_default().to_owned(),
            pool: Some(pool_name(cluster, &machine.pool).to_owned()),
            state: if failed.is_some() { NodeState::NotReady } else { NodeState::Coming },
            pods: 0,
            requested: Fill::default(),
            allocatable: template.map_or(Fill::default(), |template| Fill {
                cpu: template.allocatable.cpu.0,
                memory: template.allocatable.memory.0,
            }),
            reason: failed.or_else(|| Some(format!("on its way since {:.0}", machine.created_at))),
        }
    };
    cluster.machines().values().filter(is_coming).map(view).collect()
}
