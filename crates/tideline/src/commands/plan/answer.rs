//! A decision as people and programs read it.
//!
//! Owns the answer's fields (`docs/plan.md` lists them) and the join of plan, ledger and verdicts into them. The
//! sentences are the model's own.

use super::Timings;
use crate::steps::{Words, pool_name, words};
use jiff::Timestamp;
use model::{
    Buy, Cluster, Decision, MicroUsdPerHour, Node, NodeName, NodeTemplate, PodKey, PodShape, Readiness,
    Reason, Served, Step, Uid,
};
use packing::{NodeView, Room, Vocabulary};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) steps: Vec<StepAnswer>,
    pub(super) new_nodes: Vec<NewNode>,
    pub(super) placed_on_existing: Vec<Placement>,
    /// Pods counted on machines that were asked for before.
    pub(super) placed_on_coming: Vec<OnComing>,
    pub(super) unplaced: Vec<Unplaced>,
    pub(super) removals: Vec<Removal>,
    /// Why each node is as it is.
    pub(super) nodes: BTreeMap<String, String>,
    /// Pools that there is something to say of.
    pub(super) pools: BTreeMap<String, String>,
    /// What holds for the round as a whole.
    pub(super) round: Vec<String>,
    /// US dollars an hour that the new nodes cost together.
    pub(super) price_per_hour: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) load_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decide_ms: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct StepAnswer {
    pub(super) step: Step,
    /// The step as one line.
    pub(super) what: String,
    pub(super) reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewNode {
    pub(super) pool: String,
    #[serde(rename = "type")]
    pub(super) machine_type: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) capacity_type: Option<String>,
    pub(super) price_per_hour: f64,
    pub(super) pods: Vec<PodKey>,
}

#[derive(Serialize)]
pub(super) struct Placement {
    pub(super) node: NodeName,
    pub(super) pods: Vec<PodKey>,
}

#[derive(Serialize)]
pub(super) struct OnComing {
    pub(super) pool: String,
    pub(super) pods: Vec<PodKey>,
}

#[derive(Serialize)]
pub(super) struct Unplaced {
    pub(super) pod: PodKey,
    pub(super) reasons: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Removal {
    pub(super) node: NodeName,
    pub(super) cause: String,
    /// Pods that have to move.
    pub(super) pods: Vec<PodKey>,
    /// Absent where the removal begins now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_before: Option<Timestamp>,
}

impl Answer {
    pub(super) fn of(cluster: &Cluster, decision: &Decision, timings: Option<Timings>) -> Self {
        let new_nodes: Vec<NewNode> = buys(decision).flat_map(|buy| new_nodes(cluster, buy)).collect();
        let Placements { placed_on_existing, placed_on_coming, unplaced } = Placements::of(cluster, decision);
        let sentences = |reasons: Vec<(String, &Reason)>| {
            reasons.into_iter().map(|(name, reason)| (name, reason.to_string())).collect()
        };
        let verdicts = &decision.verdicts;
        let milliseconds = |d: std::time::Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            steps: decision.plan.steps.iter().map(|step| step_answer(step, cluster, decision)).collect(),
            price_per_hour: buys(decision).map(|buy| dollars(price_of(cluster, buy))).sum(),
            new_nodes,
            placed_on_existing,
            placed_on_coming,
            unplaced,
            removals: removals(cluster, decision),
            nodes: sentences(verdicts.nodes.iter().map(|(n, r)| (n.to_string(), r)).collect()),
            pools: sentences(verdicts.pools.iter().map(|(p, r)| (p.to_string(), r)).collect()),
            round: verdicts.round.iter().map(ToString::to_string).collect(),
            load_ms: timings.map(|t| milliseconds(t.load)),
            decide_ms: timings.map(|t| milliseconds(t.decide)),
        }
    }
}

fn buys(decision: &Decision) -> impl Iterator<Item = &Buy> {
    decision.plan.steps.iter().filter_map(|step| match step {
        Step::Buy(buy) => Some(buy),
        _ => None,
    })
}

fn price_of(cluster: &Cluster, buy: &Buy) -> MicroUsdPerHour {
    cluster.pools().get(&buy.pool).map(|pool| pool.price.times(buy.to - buy.from)).unwrap_or_default()
}

fn dollars(price: MicroUsdPerHour) -> f64 {
    price.0 as f64 / 1_000_000.0
}

/// The machines of one purchase, with the pods that it serves spread over them.
fn new_nodes(cluster: &Cluster, buy: &Buy) -> Vec<NewNode> {
    let Some(pool) = cluster.pools().get(&buy.pool) else { return Vec::new() };
    let label = |key: &str| {
        pool.template.as_ref().and_then(|template| template.labels.get(key)).map(ToString::to_string)
    };
    let served = buy.serves.iter().filter_map(|served| match served {
        Served::Pod(key) => cluster.pods().get(key).map(|pod| (key, &pod.shape)),
        Served::Missing { .. } => None,
    });
    let count = buy.to.saturating_sub(buy.from) as usize;
    let pods = pool.template.as_ref().map(|template| spread(cluster, template, count, served));
    let mut pods = pods.unwrap_or_default();
    pods.resize(count, Vec::new());
    pods.into_iter()
        .map(|pods| NewNode {
            pool: pool.name.to_string(),
            machine_type: label(api::labels::INSTANCE_TYPE),
            zone: label(api::labels::ZONE),
            capacity_type: label("karpenter.sh/capacity-type"),
            price_per_hour: dollars(pool.price),
            pods,
        })
        .collect()
}

/// Which pod goes on which of `count` equal new nodes: first fit, largest first, as they were counted.
fn spread<'a>(
    cluster: &Cluster,
    template: &NodeTemplate,
    count: usize,
    pods: impl Iterator<Item = (&'a PodKey, &'a Arc<PodShape>)>,
) -> Vec<Vec<PodKey>> {
    let mut by_shape: BTreeMap<&Arc<PodShape>, Vec<&PodKey>> = BTreeMap::new();
    for (key, shape) in pods {
        by_shape.entry(shape).or_default().push(key);
    }
    let mut order: Vec<_> = by_shape.into_iter().collect();
    let share = |shape: &PodShape| {
        let part = |ask: u64, all: u64| u128::from(ask) * 1_000_000 / u128::from(all.max(1));
        part(shape.requests.cpu.0, template.allocatable.cpu.0)
            + part(shape.requests.memory.0, template.allocatable.memory.0)
    };
    order.sort_by_key(|(shape, _)| std::cmp::Reverse(share(shape)));

    let node = Arc::new(blank_node(template));
    let view = NodeView::new(Arc::clone(&node));
    let daemons: Vec<_> = cluster
        .daemon_sets()
        .values()
        .filter(|set| packing::first_lasting_rejection(&packing::Ask::of(&set.shape), &view).is_none())
        .collect();
    let shapes = order.iter().map(|(shape, _)| &***shape).chain(daemons.iter().map(|set| &*set.shape));
    let mut room = Room::new(Vocabulary::of(shapes), cluster.namespaces())
        .with_volumes(packing::ClusterVolumes::of(cluster));
    for _ in 0..count {
        let spot = room.add_promised(Arc::clone(&node));
        for set in &daemons {
            let class = room.class(&set.shape, &set.key.namespace, &set.labels);
            room.hold(class, spot, 1);
        }
    }
    let mut spread = vec![Vec::new(); count];
    for (shape, keys) in order {
        let labels = keys.first().and_then(|key| cluster.pods().get(*key)).map(|pod| pod.labels.clone());
        let namespace = keys.first().map_or_else(|| Arc::from(""), |key| Arc::clone(&key.namespace));
        let class = room.class(shape, &namespace, &labels.unwrap_or_default());
        let mut keys = keys.into_iter();
        let wanted = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        for placed in room.place(class, wanted, 0..count) {
            spread[placed.spot.0].extend(keys.by_ref().take(placed.count as usize).cloned());
        }
    }
    spread
}

fn blank_node(template: &NodeTemplate) -> Node {
    Node {
        name: NodeName::from("new"),
        uid: Uid::from("new"),
        machine: None,
        addresses: Vec::new(),
        labels: template.labels.clone(),
        annotations: BTreeMap::new(),
        taints: template.taints.clone(),
        unschedulable: false,
        allocatable: template.allocatable.clone(),
        readiness: Readiness::Ready { since: Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        fittings: None,
        created_at: Timestamp::UNIX_EPOCH,
        deleting: false,
    }
}

/// Where the waiting pods come to be, new nodes apart.
struct Placements {
    placed_on_existing: Vec<Placement>,
    placed_on_coming: Vec<OnComing>,
    unplaced: Vec<Unplaced>,
}

impl Placements {
    fn of(cluster: &Cluster, decision: &Decision) -> Self {
        let mut existing: BTreeMap<NodeName, Vec<PodKey>> = BTreeMap::new();
        let mut coming: BTreeMap<String, Vec<PodKey>> = BTreeMap::new();
        let mut unplaced = Vec::new();
        for (pod, reason) in &decision.verdicts.pods {
            match reason {
                Reason::FitsOn { node } => existing.entry(node.clone()).or_default().push(pod.clone()),
                Reason::WaitsForMachine { pool } => {
                    coming.entry(pool_name(cluster, pool)).or_default().push(pod.clone());
                }
                Reason::TriggeredScaleUp { .. } => {}
                reason => unplaced.push(Unplaced { pod: pod.clone(), reasons: vec![reason.to_string()] }),
            }
        }
        Self {
            placed_on_existing: existing.into_iter().map(|(node, pods)| Placement { node, pods }).collect(),
            placed_on_coming: coming.into_iter().map(|(pool, pods)| OnComing { pool, pods }).collect(),
            unplaced,
        }
    }
}

/// Nodes that go: those whose removal begins now, then those that are only waiting for their time.
fn removals(cluster: &Cluster, decision: &Decision) -> Vec<Removal> {
    let moving = |node: &NodeName| {
        let stays = |pod: &model::Pod| pod.daemon || pod.mirror || !pod.occupies();
        cluster.pods_on(node).filter(|pod| !stays(pod)).map(|pod| pod.key.clone()).collect()
    };
    let mut all: Vec<Removal> = decision
        .ledger
        .removals
        .iter()
        .map(|(node, removal)| Removal {
            node: node.clone(),
            cause: removal.cause.to_string(),
            pods: moving(node),
            not_before: None,
        })
        .collect();
    for (node, reason) in &decision.verdicts.nodes {
        if let Reason::Unneeded { cause, removable_at, .. } = reason {
            all.push(Removal {
                node: node.clone(),
                cause: cause.to_string(),
                pods: moving(node),
                not_before: Some(*removable_at),
            });
        }
    }
    all
}

fn step_answer(step: &Step, cluster: &Cluster, decision: &Decision) -> StepAnswer {
    let Words { what, reason } = words(step, cluster, decision);
    StepAnswer { step: step.clone(), what, reason }
}
