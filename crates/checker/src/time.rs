//! What came of the plans: the invariants over time, on the truth of the API.
//!
//! Owns a small memory of what was last seen. The simulator shows it the cluster after each step, and every eviction
//! as it is asked for; it answers what is wrong at once, and at the end what was left undone.

use crate::drains::{allowance, belongs_to_node, budgets_over, counts_against, movable_on, protection};
use crate::fit::Bin;
use crate::{Rule, Violation};
use jiff::{SignedDuration, Timestamp};
use model::{Cluster, NodeName, PodKey, Policies, PoolId, Uid};
use std::collections::{BTreeMap, BTreeSet};

const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
const INTENT: &str = "tideline.dev/intent";

/// A pool as it was last seen.
#[derive(Clone, Copy)]
struct Seen {
    target: u32,
    min: u32,
    max: u32,
}

/// Looks at the cluster over time.
pub struct Watcher {
    policies: Policies,
    pools: BTreeMap<PoolId, Seen>,
    marked: BTreeMap<NodeName, Vec<PodKey>>,
    /// Since when nothing changes but by us, and which pools were taken down since.
    quiet: Option<(Timestamp, BTreeSet<PoolId>)>,
}

impl Watcher {
    pub fn new(policies: Policies) -> Self {
        Self { policies, pools: BTreeMap::new(), marked: BTreeMap::new(), quiet: None }
    }

    /// From now on demand, pools and machines change by our doing only.
    pub fn quiet_since(&mut self, now: Timestamp) {
        self.quiet = Some((now, BTreeSet::new()));
    }

    /// Faults and changes from outside are back.
    pub fn not_quiet(&mut self) {
        self.quiet = None;
    }

    /// The cluster as the API has it after a step.
    pub fn observe(&mut self, now: Timestamp, truth: &Cluster) -> Vec<Violation> {
        let mut found = Vec::new();
        self.observe_pools(truth, &mut found);
        self.observe_nodes(now, truth, &mut found);
        found
    }

    fn observe_pools(&mut self, truth: &Cluster, found: &mut Vec<Violation>) {
        for (id, pool) in truth.pools() {
            let now = Seen { target: pool.target, min: pool.min, max: pool.max };
            let Some(last) = self.pools.insert(id.clone(), now) else { continue };
            let same_bounds = last.min == now.min && last.max == now.max;
            if same_bounds && now.target < last.target && now.target < now.min {
                let detail = format!("went from {} to {}, at least {}", last.target, now.target, now.min);
                found.push(Violation::new(Rule::Minimum, id, detail));
            }
            if same_bounds && now.target > last.target && now.target > now.max {
                let detail = format!("went from {} to {}, at most {}", last.target, now.target, now.max);
                found.push(Violation::new(Rule::Maximum, id, detail));
            }
            if let Some((_, lowered)) = &mut self.quiet {
                if now.target < last.target {
                    lowered.insert(id.clone());
                } else if now.target > last.target && lowered.contains(id) {
                    let detail = format!("went down and up again to {} on unchanged demand", now.target);
                    found.push(Violation::new(Rule::Oscillation, id, detail));
                }
            }
        }
        self.pools.retain(|id, _| truth.pools().contains_key(id));
    }

    /// Nodes that we marked and that are gone took nothing with them that had to move.
    fn observe_nodes(&mut self, now: Timestamp, truth: &Cluster, found: &mut Vec<Violation>) {
        for (node, pods) in std::mem::take(&mut self.marked) {
            if truth.nodes().contains_key(&node) {
                continue;
            }
            for key in pods {
                let lost = truth.pods().get(&key).is_none_or(|pod| pod.node.as_ref() == Some(&node));
                if lost {
                    let detail = format!("went with {key} on it, which nobody had evicted");
                    found.push(Violation::new(Rule::EmptyBeforeRelease, &node, detail));
                }
            }
        }
        for node in truth.nodes().values().filter(|node| node.annotations.contains_key(INTENT)) {
            // A machine that its cloud has taken already takes its node along, whatever is on it: no doing of ours.
            let taken = node.machine.is_some() && truth.machine_of(node).is_none();
            let ready = node.is_ready() && !taken;
            let staying = movable_on(truth, &node.name, now)
                .into_iter()
                .filter(|pod| ready && pod.deletion_at.is_none())
                .map(|pod| pod.key.clone())
                .collect();
            self.marked.insert(node.name.clone(), staying);
        }
    }

    /// An eviction that was asked for, taken or not, on the cluster just before it. One that names another pod than
    /// the one that has the name now is refused by the API server and touches nobody.
    pub fn evicted(
        &mut self,
        now: Timestamp,
        truth: &Cluster,
        key: &PodKey,
        uid: Option<&Uid>,
    ) -> Vec<Violation> {
        let mut found = Vec::new();
        if uid.is_none() {
            let detail = "is evicted by name alone: a pod of that name that comes later could be meant";
            found.push(Violation::new(Rule::Precondition, key, detail));
        }
        let Some(pod) = truth.pods().get(key) else { return found };
        if uid.is_some_and(|uid| *uid != pod.uid) {
            return found;
        }
        let Some(node) = pod.node.as_ref().and_then(|node| truth.nodes().get(node)) else { return found };
        if !node.has_taint(TO_BE_DELETED) {
            found.push(Violation::new(
                Rule::MarkedBeforeEvicted,
                &node.name,
                format!("{key} is evicted from it"),
            ));
        }
        if belongs_to_node(&self.policies, pod) {
            found.push(Violation::new(Rule::DrainRules, key, "belongs to its node"));
        } else if pod.daemon {
            // Its DaemonSet does without it; only budgets protect it.
        } else if let Some(why) = protection(truth, &self.policies, pod, now) {
            found.push(Violation::new(Rule::DrainRules, key, why));
        }
        found
    }

    /// An eviction that the API took, on the cluster just before it.
    pub fn eviction_accepted(&mut self, truth: &Cluster, key: &PodKey) -> Vec<Violation> {
        let Some(pod) = truth.pods().get(key) else { return Vec::new() };
        budgets_over(truth, pod)
            .into_iter()
            .filter(|pdb| counts_against(pdb, pod) && allowance(pdb) == 0)
            .map(|pdb| {
                Violation::new(
                    Rule::DisruptionBudget,
                    &pdb.key,
                    format!("{key} was evicted with nothing allowed"),
                )
            })
            .collect()
    }

    /// What is left undone when a quiet phase has lasted long enough.
    pub fn finish(&self, now: Timestamp, truth: &Cluster, patience: SignedDuration) -> Vec<Violation> {
        let mut found = Vec::new();
        for node in truth.nodes().values() {
            if node.has_taint(TO_BE_DELETED) || node.annotations.contains_key(INTENT) {
                found.push(Violation::new(Rule::LostMark, &node.name, "still carries a mark of ours"));
            }
        }
        for pod in
            truth.waiting_pods().filter(|pod| pod.is_unschedulable() && !pod.daemon && pod.consumes.is_none())
        {
            let since = pod.unschedulable_since.unwrap_or(now);
            let expendable = pod.shape.priority < self.policies.expendable_pods_priority_cutoff;
            if expendable || now.duration_since(since) < patience {
                continue;
            }
            let taker = truth.pools().values().find(|pool| {
                let room = pool.target < pool.max && pool.frozen.is_none();
                room && Bin::promised(truth, pool).is_some_and(|bin| bin.takes(&pod.shape))
            });
            let ceiling = self.policies.max_nodes_total;
            let full = ceiling > 0 && truth.nodes().len() >= ceiling as usize;
            if let Some(pool) = taker.filter(|_| !full) {
                let detail = format!("waits since {since}, though {} could take it", pool.id);
                found.push(Violation::new(Rule::Liveness, &pod.key, detail));
            }
        }
        found
    }
}
