//! A decision as people and programs read it.
//!
//! Owns the answer's fields (`docs/plan.md` lists them) and the join of plan, ledger and verdicts into them. The
//! sentences are the model's own.

use super::Timings;
use crate::steps::{Words, pool_name, words};
use jiff::Timestamp;
use model::{Cluster, Decision, MicroUsdPerHour, NewMachine, NodeName, PodKey, Reason, Step};
use serde::Serialize;
use std::collections::BTreeMap;

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
    /// No plan that serves the same pods costs less; 0 where that was not worked out.
    pub(super) bound_per_hour: f64,
    /// What an independent check found wrong with the plan; absent where it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) violations: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) load_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decide_ms: Option<f64>,
    /// The most memory that the process has held so far, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_mb: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct StepAnswer {
    /// Absent for what is planned and cannot be carried out yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<Step>,
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
        let machines = &decision.growth.machines;
        let new_nodes: Vec<NewNode> = machines.iter().map(|machine| new_node(cluster, machine)).collect();
        let Placements { placed_on_existing, placed_on_coming, unplaced } = Placements::of(cluster, decision);
        let sentences = |reasons: Vec<(String, &Reason)>| {
            reasons.into_iter().map(|(name, reason)| (name, reason.to_string())).collect()
        };
        let verdicts = &decision.verdicts;
        let milliseconds = |d: std::time::Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            steps: steps(cluster, decision),
            price_per_hour: dollars(MicroUsdPerHour(machines.iter().map(|machine| machine.price.0).sum())),
            bound_per_hour: dollars(decision.growth.bound),
            new_nodes,
            placed_on_existing,
            placed_on_coming,
            unplaced,
            removals: removals(cluster, decision),
            nodes: sentences(verdicts.nodes.iter().map(|(n, r)| (n.to_string(), r)).collect()),
            pools: sentences(verdicts.pools.iter().map(|(p, r)| (p.to_string(), r)).collect()),
            round: verdicts.round.iter().map(ToString::to_string).collect(),
            violations: None,
            load_ms: timings.map(|t| milliseconds(t.load)),
            decide_ms: timings.map(|t| milliseconds(t.decide)),
            peak_mb: timings.and_then(|t| t.peak_mb),
        }
    }
}

fn dollars(price: MicroUsdPerHour) -> f64 {
    price.0 as f64 / 1_000_000.0
}

fn new_node(cluster: &Cluster, machine: &NewMachine) -> NewNode {
    let pool = cluster.pools().get(&machine.pool);
    let flavour =
        pool.and_then(|pool| pool.direct()).and_then(|d| d.flavours().get(machine.flavour as usize));
    let template = flavour.map(|f| &f.template).or(pool.and_then(|pool| pool.template.as_ref()));
    let label = |key: &str| template.and_then(|template| template.labels.get(key)).map(ToString::to_string);
    NewNode {
        pool: pool_name(cluster, &machine.pool),
        machine_type: label(api::labels::INSTANCE_TYPE),
        zone: label(api::labels::ZONE),
        capacity_type: label("karpenter.sh/capacity-type"),
        price_per_hour: dollars(machine.price),
        pods: machine.pods.iter().cloned().collect(),
    }
}

fn steps(cluster: &Cluster, decision: &Decision) -> Vec<StepAnswer> {
    decision.plan.steps.iter().map(|step| step_answer(step, cluster, decision)).collect()
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
                Reason::TriggeredScaleUp { .. } | Reason::Launching { .. } => {}
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
    StepAnswer { step: Some(step.clone()), what, reason }
}
