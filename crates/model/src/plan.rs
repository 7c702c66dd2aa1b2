//! What a round decided to do: a list of steps that leave nothing to choose.
//!
//! Each step names its intent, which is durable in the ledger before the step is taken, and everything that the
//! executor needs as a precondition. Steps of one plan may be carried out in any order and each more than once.

use crate::{
    IntentId, Launch, Ledger, MachineId, MicroUsdPerHour, NodeName, OutlookKey, PodKey, PodNames, PoolId,
    RuleSetKey, Taint, Uid, Verdicts, WorkloadKey,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why a node goes. Forceful causes are a closed list (none in this version is).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RemovalCause {
    /// Nothing on it needs to move.
    Empty,
    /// Requests at or under the threshold, and every pod has a place elsewhere.
    UnderUsed,
    /// Not ready for longer than the limit, and nothing needs to move from it.
    Unready,
    /// A machine that its provider reports as failed, or that never became a node in time.
    NeverJoined,
    /// It is no longer what its pool asks for.
    Drifted,
    /// It has reached the age at which machines of its pool are replaced.
    Expired,
}

/// A demand that a purchase serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Served {
    Pod(PodKey),
    /// Replicas that the workload wants and has not created yet.
    Missing {
        workload: WorkloadKey,
        replicas: u32,
    },
    /// Nodes that a rule asks for.
    Rule {
        set: RuleSetKey,
        rule: Arc<str>,
        nodes: u32,
    },
    /// Replicas that are known to come.
    Ahead(AheadDemand),
}

/// Replicas that an outlook tells of and that do not live yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AheadDemand {
    pub outlook: OutlookKey,
    pub due: Timestamp,
    pub replicas: u32,
}

/// All demands that a purchase serves: pods by name, and replicas to come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Served>", into = "Vec<Served>")]
pub struct Serves {
    pub pods: PodNames,
    pub missing: Vec<(WorkloadKey, u32)>,
    /// Nodes by rule.
    pub rules: Vec<(RuleSetKey, Arc<str>, u32)>,
    /// Replicas that are known to come.
    pub ahead: Vec<AheadDemand>,
}

impl Serves {
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.missing.is_empty() && self.rules.is_empty() && self.ahead.is_empty()
    }

    pub fn len(&self) -> usize {
        self.pods.len() + self.missing.len() + self.rules.len() + self.ahead.len()
    }

    /// One after the other, pods first.
    pub fn iter(&self) -> impl Iterator<Item = Served> + '_ {
        let missing = self.missing.iter();
        let missing =
            missing.map(|(workload, n)| Served::Missing { workload: workload.clone(), replicas: *n });
        let rules = self.rules.iter().map(|(set, rule, nodes)| Served::Rule {
            set: set.clone(),
            rule: Arc::clone(rule),
            nodes: *nodes,
        });
        let ahead = self.ahead.iter().cloned().map(Served::Ahead);
        self.pods.iter().map(|pod| Served::Pod(pod.clone())).chain(missing).chain(rules).chain(ahead)
    }

    /// Adds replicas that are known to come; those of one moment are one demand.
    pub fn expect(&mut self, demand: AheadDemand) {
        let same = |known: &&mut AheadDemand| known.outlook == demand.outlook && known.due == demand.due;
        match self.ahead.iter_mut().find(same) {
            Some(known) => known.replicas = known.replicas.saturating_add(demand.replicas),
            None => self.ahead.push(demand),
        }
    }
}

impl From<Vec<Served>> for Serves {
    fn from(all: Vec<Served>) -> Self {
        let (mut pods, mut missing, mut rules) = (Vec::new(), Vec::new(), Vec::new());
        let mut ahead = Vec::new();
        for served in all {
            match served {
                Served::Pod(pod) => pods.push(pod),
                Served::Missing { workload, replicas } => missing.push((workload, replicas)),
                Served::Rule { set, rule, nodes } => rules.push((set, rule, nodes)),
                Served::Ahead(demand) => ahead.push(demand),
            }
        }
        Self { pods: pods.into_iter().collect(), missing, rules, ahead }
    }
}

impl From<Serves> for Vec<Served> {
    fn from(serves: Serves) -> Self {
        serves.iter().collect()
    }
}

/// Raise a pool's target to `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Buy {
    pub intent: IntentId,
    pub pool: PoolId,
    pub from: u32,
    /// Absolute: sent again it asks for the same. Never less than what is observed just before.
    pub to: u32,
    pub max: u32,
    pub serves: Serves,
    /// The machines, where the pool launches them one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub launches: Vec<Launch>,
}

/// Lower a pool's target to `to` because machines that were asked for never came; never under what exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lower {
    pub intent: IntentId,
    pub pool: PoolId,
    pub from: u32,
    pub to: u32,
}

/// Put our taints on a node, and cordon it if asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarkNode {
    pub intent: IntentId,
    pub node: NodeName,
    pub uid: Uid,
    pub taints: Vec<Taint>,
    pub cordon: bool,
}

/// Evict one pod through the eviction API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evict {
    pub intent: IntentId,
    pub node: NodeName,
    pub pod: PodKey,
    pub uid: Uid,
    /// Upper bound that replaces a longer grace period of the pod's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u32>,
}

/// Terminate named machines of one pool, lowering its target by their number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    pub intent: IntentId,
    pub pool: PoolId,
    pub machine: MachineId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    pub cause: RemovalCause,
    /// The pool's minimum: the provider call refuses to go under it.
    pub min: u32,
}

/// Take our taints and our cordon off a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndoNode {
    pub intent: IntentId,
    pub node: NodeName,
    pub uid: Uid,
    /// Keys of the taints to remove.
    pub taints: Vec<Arc<str>>,
    pub uncordon: bool,
}

/// Put the soft taint of an unneeded node on it, or take it off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SoftTaint {
    pub intent: IntentId,
    pub node: NodeName,
    pub uid: Uid,
    pub taint: Taint,
    pub put: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    Buy(Buy),
    Lower(Lower),
    MarkNode(MarkNode),
    Evict(Evict),
    Release(Release),
    UndoNode(UndoNode),
    /// Delete the Node object of a machine that is gone, where no cloud controller does.
    DeleteNode {
        intent: IntentId,
        node: NodeName,
        uid: Uid,
    },
    SoftTaint(SoftTaint),
}

impl Step {
    pub fn intent(&self) -> &IntentId {
        match self {
            Self::Buy(step) => &step.intent,
            Self::Lower(step) => &step.intent,
            Self::MarkNode(step) => &step.intent,
            Self::Evict(step) => &step.intent,
            Self::Release(step) => &step.intent,
            Self::UndoNode(step) => &step.intent,
            Self::DeleteNode { intent, .. } => intent,
            Self::SoftTaint(step) => &step.intent,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// A machine that a plan adds, with the pods that are to run on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMachine {
    pub pool: PoolId,
    /// The flavour's place in its pool: of [`crate::DirectPool::flavours`], or 0 for a group's template.
    pub flavour: u32,
    pub price: MicroUsdPerHour,
    pub pods: PodNames,
}

/// All that a plan adds, for people to read and for the checker: steps carry what is acted on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Growth {
    pub machines: Vec<NewMachine>,
    /// No plan that serves the same pods costs less; zero where nothing is known.
    pub bound: MicroUsdPerHour,
    /// Pools that were not bought from, each with why; empty where nothing was bought.
    #[serde(skip)]
    pub alternatives: Vec<crate::Alternative>,
    /// What somebody outside has to answer before more is bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<crate::ExpanderQuestion>,
}

/// What a round concludes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[must_use = "a decision that nobody carries out or reads is lost"]
pub struct Decision {
    pub plan: Plan,
    /// What would be done and is only said, because the cluster or the pool is in dry run.
    #[serde(default, skip_serializing_if = "Plan::is_empty")]
    pub rehearsed: Plan,
    /// To be made durable before the plan is acted on.
    pub ledger: Ledger,
    pub verdicts: Verdicts,
    /// Left out of records: the steps say what is done, and this can be worked out again.
    #[serde(skip)]
    pub growth: Growth,
    /// When time alone changes the answer; `None` while only an event can.
    pub wake_at: Option<Timestamp>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub at: Timestamp,
    pub step: Step,
    pub kind: OutcomeKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutcomeKind {
    /// Done, or found done.
    Done,
    /// The world moved on: the object is gone or another one; nothing was changed.
    Obsolete { why: Arc<str> },
    /// Refused for now (a budget, throttling, a conflict): may be tried again not before this moment.
    Deferred { until: Timestamp, why: Arc<str> },
    /// The provider or the API refused for good, or the answer is unknown after bounded retries.
    Failed { code: Arc<str>, message: Arc<str> },
}
