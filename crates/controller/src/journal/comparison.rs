//! What a dry run would have done beside what the autoscaler of that time did.
//!
//! Owns how the two are told apart: the dry run is what the journal's rounds rehearse, the other one shows in the sizes of
//! pools and in nodes that go. A rehearsal that is repeated round after round is one deed.

use super::moment::walk;
use crate::ControllerError;
use crate::start::Decide;
use crate::wording::{pool_name, sentence};
use jiff::{SignedDuration, Timestamp};
use model::{NodeName, Plan, PoolId, Step};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Deeds and episodes that are told; more are counted only.
const MOST: usize = 5000;

/// Who did it, or would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Doer {
    /// The autoscaler that acted, or a person.
    Present,
    /// We, had we not been in dry run.
    Tideline,
}

/// One thing that was done, or would have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deed {
    pub at: Timestamp,
    pub by: Doer,
    pub what: String,
    /// Machines more (or, below zero, fewer).
    pub machines: i64,
}

/// A time in which pods found no node, and who answered when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Episode {
    pub from: Timestamp,
    /// The most pods at once.
    pub pods: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present_answered_after_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tideline_answered_after_seconds: Option<i64>,
}

/// Both beside each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub rounds: u64,
    /// In the order of time.
    pub deeds: Vec<Deed>,
    pub episodes: Vec<Episode>,
    /// Time for which nodes ran that we would have given back, all of them together. What would have followed from
    /// their going is not in it.
    pub idle_machine_seconds: i64,
    /// The share of it that is priced, at the pools' prices, in millionths of a dollar.
    pub idle_micro_usd: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

impl Comparison {
    /// Machines that one of them added and took away.
    pub fn machines(&self, by: Doer) -> (i64, i64) {
        let of = self.deeds.iter().filter(|deed| deed.by == by);
        of.fold((0, 0), |(more, fewer), deed| (more + deed.machines.max(0), fewer - deed.machines.min(0)))
    }
}

/// Compares over the whole journal of a dry run.
///
/// # Errors
/// Where it cannot be read, or is of a controller that acted.
pub fn compare(path: &Path, decide: Decide) -> Result<Comparison, ControllerError> {
    let mut scribe = Scribe::default();
    let reached = walk(path, None, decide, &mut |reached, rehearsed| scribe.round(reached, rehearsed))?;
    if !reached.policies.dry_run {
        return Err(ControllerError::Journal {
            path: path.display().to_string(),
            problem: "it is of a controller that acted; compare the journal of one with --dry-run".into(),
        });
    }
    Ok(Comparison { damage: reached.damage, ..scribe.told })
}

#[derive(Default)]
struct Scribe {
    told: Comparison,
    targets: BTreeMap<PoolId, u32>,
    nodes: BTreeSet<NodeName>,
    /// What the last round rehearsed.
    rehearsed: BTreeSet<String>,
    /// Nodes that the last round would have been rid of, with what one costs an hour.
    idle: BTreeMap<NodeName, u64>,
    open: Option<Episode>,
}

impl Scribe {
    fn round(&mut self, reached: &super::Reached, rehearsed: &Plan) {
        let now = reached.now;
        self.idle_until(now);
        self.told.from.get_or_insert(now);
        self.told.to = Some(now);
        self.told.rounds += 1;
        self.episode(reached, now);
        self.present(reached, now);
        self.ours(reached, rehearsed, now);
    }

    fn deed(&mut self, at: Timestamp, by: Doer, what: String, machines: i64) {
        if machines > 0
            && let Some(episode) = &mut self.open
        {
            let after = at.duration_since(episode.from).as_secs();
            match by {
                Doer::Present => episode.present_answered_after_seconds.get_or_insert(after),
                Doer::Tideline => episode.tideline_answered_after_seconds.get_or_insert(after),
            };
        }
        if self.told.deeds.len() < MOST {
            self.told.deeds.push(Deed { at, by, what, machines });
        }
    }

    fn present(&mut self, reached: &super::Reached, now: Timestamp) {
        let cluster = &reached.cluster;
        let targets: BTreeMap<PoolId, u32> =
            cluster.pools().iter().map(|(id, pool)| (id.clone(), pool.target)).collect();
        // The first round only shows what there is.
        if self.told.rounds > 1 {
            for (id, target) in &targets {
                let Some(before) = self.targets.get(id).filter(|before| *before != target) else { continue };
                let what = format!("pool {} {before}->{target}", pool_name(cluster, id));
                self.deed(now, Doer::Present, what, i64::from(*target) - i64::from(*before));
            }
        }
        self.targets = targets;
        let nodes: BTreeSet<NodeName> = cluster.nodes().keys().cloned().collect();
        let gone: Vec<NodeName> = self.nodes.difference(&nodes).cloned().collect();
        for node in gone {
            self.deed(now, Doer::Present, format!("node {node} is gone"), 0);
        }
        self.nodes = nodes;
    }

    fn ours(&mut self, reached: &super::Reached, rehearsed: &Plan, now: Timestamp) {
        let cluster = &reached.cluster;
        let mut said = BTreeSet::new();
        for step in &rehearsed.steps {
            let machines = match step {
                Step::Buy(order) => i64::from(order.to) - i64::from(order.from),
                Step::MarkNode(mark) => {
                    let pool = cluster.nodes().get(&mark.node).and_then(|node| cluster.pool_of(node));
                    self.idle.insert(mark.node.clone(), pool.map_or(0, |pool| pool.price.0));
                    -1
                }
                _ => continue,
            };
            let what = sentence(cluster, step);
            if !self.rehearsed.contains(&what) {
                self.deed(now, Doer::Tideline, what.clone(), machines);
            }
            said.insert(what);
        }
        self.rehearsed = said;
    }

    /// The time since the last round, for every node that it would have been rid of.
    fn idle_until(&mut self, now: Timestamp) {
        let Some(before) = self.told.to else { return };
        let seconds = now.duration_since(before).max(SignedDuration::ZERO).as_secs();
        for price in std::mem::take(&mut self.idle).into_values() {
            self.told.idle_machine_seconds += seconds;
            let price = i64::try_from(price).unwrap_or(i64::MAX);
            self.told.idle_micro_usd += price.saturating_mul(seconds) / 3600;
        }
    }

    fn episode(&mut self, reached: &super::Reached, now: Timestamp) {
        let waiting = reached.cluster.waiting_pods().filter(|pod| pod.is_unschedulable()).count();
        if waiting > 0 {
            let fresh = || Episode {
                from: now,
                pods: 0,
                present_answered_after_seconds: None,
                tideline_answered_after_seconds: None,
            };
            let episode = self.open.get_or_insert_with(fresh);
            episode.pods = episode.pods.max(waiting);
        } else if let Some(episode) = self.open.take()
            && self.told.episodes.len() < MOST
        {
            self.told.episodes.push(episode);
        }
    }
}
