//! One thing explained: what it is doing, why, until when, and what would change that.
//!
//! Owns the form of an explanation and what belongs into it. It is put together from the cluster, the ledger and the
//! verdicts of the last round, or of a round that a journal has decided again; nothing is decided here.

use crate::view::DecisionView;
use crate::wording::pool_name;
use jiff::Timestamp;
use model::{
    Cluster, HeadroomVerdict, Ledger, Node, NodeName, Pod, PodKey, Pool, PoolRejection, Reason, Served, Step,
    Verdicts, WorkloadKey,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Decisions that are told of one thing, the newest first.
const MOST_DECISIONS: usize = 10;
/// Reasons told of one thing; more are a number.
const MOST_REASONS: usize = 40;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Pod {
        namespace: String,
        name: String,
    },
    Node(String),
    /// By name or by id.
    Pool(String),
    /// A Deployment, ReplicaSet, StatefulSet, Job or any other owner of pods.
    Workload {
        namespace: String,
        name: String,
    },
    /// Room for pods that do not exist, by the object that asks for it.
    Headroom {
        namespace: String,
        name: String,
    },
    /// By the name of its intent.
    Decision(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "pod {namespace}/{name}"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Pool(name) => write!(f, "pool {name}"),
            Self::Workload { namespace, name } => write!(f, "workload {namespace}/{name}"),
            Self::Headroom { namespace, name } => write!(f, "headroom {namespace}/{name}"),
            Self::Decision(intent) => write!(f, "decision {intent}"),
        }
    }
}

/// `pod NAMESPACE/NAME`, `node NAME`, `pool NAME`, `workload NAMESPACE/NAME`, `headroom NAMESPACE/NAME`,
/// `decision INTENT`.
impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(' ').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(format!(
                "\"{text}\" names nothing; write a kind and a name, such as pod default/web-1"
            ));
        }
        let parts = || match name.split_once('/') {
            Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
            None => ("default".to_owned(), name.to_owned()),
        };
        match kind {
            "pod" => {
                let (namespace, name) = parts();
                Ok(Self::Pod { namespace, name })
            }
            "node" => Ok(Self::Node(name.to_owned())),
            "pool" => Ok(Self::Pool(name.to_owned())),
            "workload" => {
                let (namespace, name) = parts();
                Ok(Self::Workload { namespace, name })
            }
            "headroom" => {
                let (namespace, name) = parts();
                Ok(Self::Headroom { namespace, name })
            }
            "decision" => Ok(Self::Decision(name.to_owned())),
            _ => Err(format!(
                "\"{kind}\" cannot be explained; ask for a pod, node, pool, workload, headroom or decision"
            )),
        }
    }
}

/// One reason, as people read it and as programs do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Because {
    /// What it speaks of, where that is not the thing itself: a pool that refuses, a pod that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The reason's stable name.
    pub code: String,
    pub sentence: String,
    /// When time alone ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What would change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// Everything there is to say of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The moment that it speaks of.
    pub now: Timestamp,
    pub subject: String,
    pub state: String,
    pub because: Vec<Because>,
    /// Reasons left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
    /// What was decided about it lately, the newest first.
    pub decisions: Vec<DecisionView>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What is known at one moment.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub cluster: &'a Cluster,
    pub verdicts: &'a Verdicts,
    /// `None` where another one leads.
    pub ledger: Option<&'a Ledger>,
    pub now: Timestamp,
    /// The newest first.
    pub decisions: &'a [(Step, DecisionView)],
}

/// The reason's stable name: what its record in a journal is called.
pub fn code(reason: &impl Serialize) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

impl Because {
    fn reason(reason: &Reason) -> Self {
        Self {
            of: None,
            code: code(reason),
            sentence: reason.to_string(),
            until: reason.until(),
            change: reason.advice().map(Into::into),
        }
    }

    fn rejection(pool: &str, rejection: &PoolRejection) -> Self {
        Self {
            of: Some(format!("pool {pool}")),
            code: code(rejection),
            sentence: rejection.to_string(),
            until: rejection.until(),
            change: rejection.advice().map(Into::into),
        }
    }
}

/// Explains one thing; `None` where nothing of that name is known.
pub fn explain(moment: Moment<'_>, subject: &Subject) -> Option<Explanation> {
    let (state, mut because) = match subject {
        Subject::Pod { namespace, name } => {
            let key = PodKey { namespace: namespace.as_str().into(), name: name.as_str().into() };
            pod(moment, moment.cluster.pods().get(&key)?)
        }
        Subject::Node(name) => node(moment, moment.cluster.nodes().get(&NodeName::from(name.as_str()))?),
        Subject::Pool(name) => {
            let named = |pool: &&std::sync::Arc<Pool>| *pool.name == **name || pool.id.as_str() == name;
            pool(moment, moment.cluster.pools().values().find(named)?)
        }
        Subject::Workload { namespace, name } => workload(moment, namespace, name)?,
        Subject::Headroom { namespace, name } => headroom(moment, namespace, name)?,
        Subject::Decision(intent) => {
            let known = moment.decisions.iter().any(|(step, _)| step.intent().as_str() == intent);
            known.then(|| ("decided".to_owned(), Vec::new()))?
        }
    };
    let more = because.len().saturating_sub(MOST_REASONS);
    because.truncate(MOST_REASONS);
    let concerns = |(step, _): &&(Step, DecisionView)| touches(moment, step, subject);
    let decisions =
        moment.decisions.iter().filter(concerns).take(MOST_DECISIONS).map(|(_, view)| view.clone()).collect();
    Some(Explanation { now: moment.now, subject: subject.to_string(), state, because, more, decisions })
}

fn pod(moment: Moment<'_>, pod: &Pod) -> (String, Vec<Because>) {
    let verdict = moment.verdicts.pods.get(&pod.key);
    let Some(on) = &pod.node else {
        let since = pod.unschedulable_since.unwrap_or(pod.created_at);
        let mut because: Vec<Because> = verdict.map(Because::reason).into_iter().collect();
        if let Some(Reason::NoPoolHelps { rejections }) = verdict {
            because.extend(
                rejections.iter().map(|(id, why)| Because::rejection(pool_name(moment.cluster, id), why)),
            );
        }
        return (format!("waits for a node since {since:.0}"), because);
    };
    let mut because = Vec::new();
    if let Some(reason) = moment.verdicts.nodes.get(on) {
        because.push(Because { of: Some(format!("node {on}")), ..Because::reason(reason) });
        because.extend(blocks(reason, Some(&pod.key)));
    }
    (format!("is on node {on}"), because)
}

/// What holds the pods of a node, or one of them.
fn blocks(reason: &Reason, only: Option<&PodKey>) -> Vec<Because> {
    let Reason::BlockedBy { pods } = reason else { return Vec::new() };
    let of_interest = pods.iter().filter(|blocked| only.is_none_or(|key| *key == blocked.pod));
    of_interest
        .flat_map(|blocked| {
            blocked.by.iter().map(|block| Because {
                of: Some(format!("pod {}", blocked.pod)),
                code: code(block),
                sentence: block.to_string(),
                until: None,
                change: block.advice().map(Into::into),
            })
        })
        .collect()
}

fn node(moment: Moment<'_>, node: &Node) -> (String, Vec<Because>) {
    let pods = moment.cluster.pods_on(&node.name).filter(|pod| pod.occupies()).count();
    let pool =
        moment.cluster.pool_of(node).map_or_else(String::new, |pool| format!(" of pool {}", pool.name));
    let ready = if node.is_ready() { "ready" } else { "not ready" };
    let because = moment.verdicts.nodes.get(&node.name).map(of_node).unwrap_or_default();
    (format!("{ready}{pool}, with {pods} pods"), because)
}

/// A node's verdict: several things that keep it are told one by one, and each with the pods that it speaks of.
fn of_node(reason: &Reason) -> Vec<Because> {
    if let Reason::KeptBy { reasons } = reason {
        return reasons.iter().flat_map(of_node).collect();
    }
    let mut all = vec![Because::reason(reason)];
    all.extend(blocks(reason, None));
    all
}

fn pool(moment: Moment<'_>, pool: &Pool) -> (String, Vec<Because>) {
    let machines = moment.cluster.machines_of(&pool.id).count();
    let state =
        format!("{machines} machines, {} asked for, {} to {} allowed", pool.target, pool.min, pool.max);
    let mut because: Vec<Because> =
        moment.verdicts.pools.get(&pool.id).map(Because::reason).into_iter().collect();
    if let Some(why) = &pool.frozen {
        because.push(Because::rejection(&pool.name, &PoolRejection::Frozen { why: why.clone() }));
    }
    let back_off = moment.ledger.and_then(|ledger| ledger.back_offs.get(&pool.id));
    if let Some(back_off) = back_off.filter(|back_off| back_off.until > moment.now) {
        let rejection = PoolRejection::BackOff { until: back_off.until, code: back_off.code.clone() };
        let mut because_of = Because::rejection(&pool.name, &rejection);
        because_of.sentence = format!("{}: {}: {}", because_of.sentence, back_off.code, back_off.message);
        because.push(because_of);
    }
    // Its nodes, by what is said of them.
    let mut kinds: BTreeMap<String, (usize, &Reason)> = BTreeMap::new();
    let nodes = moment
        .cluster
        .nodes()
        .values()
        .filter(|node| moment.cluster.pool_of(node).is_some_and(|of| of.id == pool.id));
    for reason in nodes.filter_map(|node| moment.verdicts.nodes.get(&node.name)) {
        kinds.entry(code(reason)).or_insert((0, reason)).0 += 1;
    }
    because.extend(kinds.into_values().map(|(count, reason)| Because {
        of: Some(if count == 1 { "one node".to_owned() } else { format!("{count} nodes, such as one") }),
        ..Because::reason(reason)
    }));
    (state, because)
}

/// Whether a pod belongs to a workload of that name: directly, or through the ReplicaSet of a Deployment, whose name
/// ends in a hash.
fn belongs(pod: &Pod, namespace: &str, name: &str) -> bool {
    *pod.key.namespace == *namespace
        && pod.owner.as_ref().is_some_and(|owner| {
            *owner.name == *name
                || (&*owner.kind == "ReplicaSet"
                    && owner.name.rsplit_once('-').is_some_and(|(deployment, _)| deployment == name))
        })
}

fn is_of(target: &model::WorkloadKey, namespace: &str, name: &str) -> bool {
    *target.namespace == *namespace && *target.name == *name
}

fn workload(moment: Moment<'_>, namespace: &str, name: &str) -> Option<(String, Vec<Because>)> {
    let pods = moment.cluster.pods().values().filter(|pod| belongs(pod, namespace, name));
    let (mut running, mut waiting) = (0_usize, 0_usize);
    let mut kinds: BTreeMap<String, (usize, &Reason)> = BTreeMap::new();
    for pod in pods {
        if pod.node.is_some() {
            running += 1;
            continue;
        }
        waiting += 1;
        if let Some(reason) = moment.verdicts.pods.get(&pod.key) {
            kinds.entry(reason.to_string()).or_insert((0, reason)).0 += 1;
        }
    }
    let wanted: u32 = moment
        .cluster
        .workloads()
        .values()
        .filter(|workload| {
            let own = &workload.key;
            *own.namespace == *namespace
                && (*own.name == *name
                    || own.name.rsplit_once('-').is_some_and(|(deployment, _)| deployment == name))
        })
        .map(|workload| workload.desired)
        .sum();
    let outlooks = moment.verdicts.outlooks.iter();
    let outlooks: Vec<_> = outlooks.filter(|(_, told)| is_of(&told.target, namespace, name)).collect();
    if running + waiting == 0 && wanted == 0 && outlooks.is_empty() {
        return None;
    }
    let because = kinds.into_values().flat_map(|(count, reason)| {
        let pods = if count == 1 { "one pod".to_owned() } else { format!("{count} pods") };
        let whole = Because { of: Some(pods), ..Because::reason(reason) };
        let each = match reason {
            Reason::NoPoolHelps { rejections } => rejections
                .iter()
                .map(|(id, why)| Because::rejection(pool_name(moment.cluster, id), why))
                .collect(),
            _ => Vec::new(),
        };
        std::iter::once(whole).chain(each)
    });
    let ahead = outlooks.into_iter().flat_map(|(key, told)| {
        let came = told.came.iter().map(|one| Because {
            of: Some(key.to_string()),
            code: "cameOfIt".to_owned(),
            sentence: format!("{} were told of for {:.0}, {} lived then", one.told, one.due, one.came),
            until: None,
            change: None,
        });
        std::iter::once(Because { of: Some(key.to_string()), ..Because::reason(&told.reason) }).chain(came)
    });
    let because = because.chain(ahead);
    Some((
        format!("pods wanted: {wanted}, on nodes: {running}, waiting for one: {waiting}"),
        because.collect(),
    ))
}

/// Whether a key is of this name, whatever its kind.
fn is_called(key: &WorkloadKey, namespace: &str, name: &str) -> bool {
    *key.namespace == *namespace && *key.name == *name
}

fn headroom(moment: Moment<'_>, namespace: &str, name: &str) -> Option<(String, Vec<Because>)> {
    let named = |(key, _): &(&WorkloadKey, &HeadroomVerdict)| is_called(key, namespace, name);
    let (key, verdict) = moment.verdicts.headroom.iter().find(named)?;
    let mut because: Vec<Because> = verdict.why.iter().map(Because::reason).collect();
    if let Some(Reason::NoPoolHelps { rejections }) = &verdict.why {
        let each = |(id, why)| Because::rejection(pool_name(moment.cluster, id), why);
        because.extend(rejections.iter().map(each));
    }
    // The nodes that stay for it.
    for (node, reason) in &moment.verdicts.nodes {
        if matches!(reason, Reason::HoldsHeadroom { of } if of == key) {
            because.push(Because { of: Some(format!("node {node}")), ..Because::reason(reason) });
        }
    }
    Some((format!("{}: {verdict}", key.kind), because))
}

fn touches(moment: Moment<'_>, step: &Step, subject: &Subject) -> bool {
    match subject {
        Subject::Decision(intent) => step.intent().as_str() == intent,
        Subject::Node(name) => node_of(step).is_some_and(|node| node.as_str() == name),
        Subject::Pool(name) => {
            let of = |id| pool_name(moment.cluster, id) == name || model::PoolId::as_str(id) == name;
            match step {
                Step::Buy(step) => of(&step.pool),
                Step::Lower(step) => of(&step.pool),
                Step::Release(step) => of(&step.pool),
                _ => false,
            }
        }
        Subject::Pod { namespace, name } => {
            let is = |key: &PodKey| *key.namespace == **namespace && *key.name == **name;
            match step {
                Step::Buy(step) => step.serves.iter().any(|one| matches!(&one, Served::Pod(key) if is(key))),
                Step::Evict(step) => is(&step.pod),
                _ => false,
            }
        }
        Subject::Headroom { namespace, name } => match step {
            Step::Buy(step) => step.serves.missing.iter().any(|(key, _)| is_called(key, namespace, name)),
            _ => false,
        },
        Subject::Workload { namespace, name } => {
            let of = |key: &PodKey| {
                moment.cluster.pods().get(key).is_some_and(|pod| belongs(pod, namespace, name))
            };
            match step {
                Step::Buy(step) => step.serves.iter().any(|one| match &one {
                    Served::Pod(key) => of(key),
                    Served::Rule { .. } => false,
                    Served::Ahead(demand) => {
                        let outlook = moment.cluster.outlooks().get(&demand.outlook);
                        outlook.is_some_and(|outlook| is_of(&outlook.target, namespace, name))
                    }
                    Served::Missing { workload, .. } => {
                        *workload.namespace == **namespace && workload.name.starts_with(name.as_str())
                    }
                }),
                Step::Evict(step) => of(&step.pod),
                _ => false,
            }
        }
    }
}

fn node_of(step: &Step) -> Option<&NodeName> {
    match step {
        Step::MarkNode(step) => Some(&step.node),
        Step::Evict(step) => Some(&step.node),
        Step::Release(step) => step.node.as_ref(),
        Step::UndoNode(step) => Some(&step.node),
        Step::DeleteNode { node, .. } => Some(node),
        Step::SoftTaint(step) => Some(&step.node),
        Step::Buy(_) | Step::Lower(_) => None,
    }
}
