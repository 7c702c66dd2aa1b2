//! The course of one random cluster: pods come one at a time, and every question is put to both sides.

use crate::dice::Dice;
use crate::error::Error;
use crate::extender::PASSES;
use crate::generate::storage::is_open;
use crate::generate::{self, Change};
use crate::ours::{Judged, judge};
use crate::plane::{Answer, Plane, text};
use crate::situation::{Situation, pinned};
use crate::watched::Seen;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The scheduler hears of changes through watches; what differs is asked again after this long.
const SETTLE: Duration = Duration::from_millis(300);

/// How thoroughly a cluster is gone through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    pub(crate) pods: usize,
    /// Whether each pod is asked about pinned to each node, or to one node of its cluster drawn at random.
    pub(crate) pin_to_every_node: bool,
}

/// Both sides differ, also when asked again.
#[derive(Clone, Debug)]
pub(crate) struct Disagreement {
    pub(crate) situation: Situation,
    pub(crate) pod: Value,
    pub(crate) real: Answer,
    pub(crate) ours: Judged,
}

/// What was compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) clusters: usize,
    pub(crate) pods: usize,
    pub(crate) questions: usize,
    /// Pairs of a pod and a node about which both sides said the same or not.
    pub(crate) pairs: usize,
    pub(crate) bound: usize,
    /// Pods that the API server found invalid.
    pub(crate) invalid: usize,
    /// Questions about rules that `packing` says it does not model.
    pub(crate) not_modelled: usize,
    /// Differences that were gone when asked again.
    pub(crate) settled: usize,
    /// How often the real scheduler gave each reason.
    pub(crate) reasons: BTreeMap<String, usize>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.clusters += other.clusters;
        self.pods += other.pods;
        self.questions += other.questions;
        self.pairs += other.pairs;
        self.bound += other.bound;
        self.invalid += other.invalid;
        self.not_modelled += other.not_modelled;
        self.settled += other.settled;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }

    fn count_reasons(&mut self, answer: &Answer) {
        let filters = filters_part(&answer.message);
        let list = filters.split_once(": ").map_or(filters, |(_, list)| list).trim_end_matches('.');
        for part in list.split(", ") {
            let (count, reason) = part.split_once(' ').unwrap_or(("1", part));
            // What refuses the pod before any node is looked at has no count.
            let (count, reason) = count.parse().map_or((1, part), |count| (count, reason));
            // Claims have names of their own; what counts is the rule.
            let reason = reason.split(['{', '[', '"']).next().unwrap_or(reason).trim();
            *self.reasons.entry(reason.to_owned()).or_default() += count;
        }
    }
}

/// Goes through the cluster of a seed on a control plane. Ends early at the first disagreement.
pub(crate) async fn run(
    plane: &mut Plane,
    seed: u64,
    depth: Depth,
) -> Result<(Tally, Option<Disagreement>), Error> {
    let cluster = generate::cluster(seed, depth.pods);
    let mut dice = Dice::new(!seed);
    let mut tally = Tally { clusters: 1, ..Tally::default() };
    plane.clear().await?;
    let storage = plane.create_storage(&cluster.storage).await?;
    let mut situation =
        Situation { nodes: plane.create_nodes(&cluster.nodes).await?, storage, pods: Vec::new() };
    for step in &cluster.steps {
        if let Some(change) = &step.before {
            apply(plane, &mut situation, change).await?;
        }
        tally.pods += 1;
        let names = situation.node_names();
        let mut questions = vec![step.pod.clone()];
        if depth.pin_to_every_node {
            questions.extend(names.iter().map(|name| pinned(&step.pod, name)));
        } else {
            questions.push(pinned(&step.pod, &names[dice.index(names.len())]));
        }
        if let Some(found) = put(plane, &situation, &questions, &mut tally).await? {
            return Ok((tally, Some(found)));
        }
        if is_open(&step.pod) {
            continue;
        }
        match plane.schedule(&step.pod).await? {
            Ok((pod, Seen::Bound(node))) => {
                tally.bound += 1;
                renew_claims(plane, &mut situation, &pod).await?;
                situation.bind(pod, &node);
            }
            // It is not waited for: the next pods are asked about as if it were not there.
            Ok((pod, Seen::Refused { .. })) => plane.delete_pod(&pod, 0).await?,
            Err(_) => {}
        }
    }
    Ok((tally, None))
}

/// Reads the claims that a pod names again: the scheduler has written into them what it gave.
async fn renew_claims(plane: &Plane, situation: &mut Situation, pod: &Value) -> Result<(), Error> {
    let named = |claim: &Value| claim["resourceClaimName"].as_str().unwrap_or_default().to_owned();
    let claims = pod["spec"]["resourceClaims"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<String> = claims.iter().map(named).collect();
    for object in &mut situation.storage {
        if object["kind"] == "ResourceClaim" && names.contains(&text(object, "/metadata/name")) {
            *object = plane.reread(object).await?;
        }
    }
    Ok(())
}

async fn apply(plane: &Plane, situation: &mut Situation, change: &Change) -> Result<(), Error> {
    let chosen = |which: &usize| which.checked_rem(situation.pods.len());
    match change {
        Change::Terminate(which) => {
            if let Some(i) = chosen(which) {
                situation.pods[i]["metadata"] =
                    plane.terminate(&situation.pods[i]).await?["metadata"].clone();
            }
        }
        Change::Complete(which) => {
            if let Some(i) = chosen(which) {
                plane.complete(&situation.pods[i]).await?;
                situation.pods.remove(i);
            }
        }
        Change::Resize { pod, actual } => {
            if let Some(i) = chosen(pod)
                && let Ok(resized) = plane.resize(&situation.pods[i], actual).await?
            {
                situation.pods[i]["status"] = resized["status"].clone();
            }
        }
        Change::Node { node, patch } => {
            let at = node % situation.nodes.len();
            situation.nodes[at] = plane.patch_node(&situation.nodes[at], patch).await?;
        }
        Change::Plant { pod, node } => {
            let names = situation.node_names();
            let mut pod = pod.clone();
            pod["spec"]["nodeName"] = json!(names[node % names.len()]);
            if let Ok(planted) = plane.plant(&pod).await? {
                situation.pods.push(planted);
            }
        }
    }
    Ok(())
}

/// Puts questions to both sides and gives the first on which they differ, twice.
pub(crate) async fn put(
    plane: &mut Plane,
    situation: &Situation,
    questions: &[Value],
    tally: &mut Tally,
) -> Result<Option<Disagreement>, Error> {
    let answers = plane.ask(questions).await?;
    for (question, answer) in questions.iter().zip(answers) {
        let Ok(real) = answer else {
            tally.invalid += 1;
            continue;
        };
        tally.questions += 1;
        tally.pairs += situation.nodes.len();
        tally.count_reasons(&real);
        let Some(ours) = judge(situation, &real.pod)? else {
            tally.not_modelled += 1;
            continue;
        };
        if agree(&real, &ours) {
            continue;
        }
        tokio::time::sleep(SETTLE).await;
        let again = plane.ask(std::slice::from_ref(question)).await?.pop();
        if let Some(Ok(again)) = again
            && !agree(&again, &ours)
        {
            return Ok(Some(Disagreement {
                situation: situation.clone(),
                pod: question.clone(),
                real: again,
                ours,
            }));
        }
        tally.settled += 1;
    }
    Ok(None)
}

fn agree(real: &Answer, ours: &Judged) -> bool {
    real.passed == ours.passed
        && real.reason == ours.reason
        && filters_part(&real.message) == filters_part(&ours.message)
}

/// The message up to what preemption has to say, which is a sentence of its own.
fn filters_part(message: &str) -> &str {
    message.find(". ").map_or(message, |end| &message[..=end])
}

/// Puts a situation up from nothing and asks about a pod in it.
pub(crate) async fn replay(
    plane: &mut Plane,
    situation: &Situation,
    pod: &Value,
) -> Result<Option<Disagreement>, Error> {
    plane.clear().await?;
    let nodes: Vec<Value> = situation.nodes.iter().map(fresh).collect();
    let storage: Vec<Value> = situation.storage.iter().map(fresh).collect();
    let storage = plane.create_storage(&storage).await?;
    let mut built = Situation { nodes: plane.create_nodes(&nodes).await?, storage, pods: Vec::new() };
    for pod in &situation.pods {
        let Ok(mut planted) = plane.plant(&fresh(pod)).await? else { return Ok(None) };
        if let Some(statuses) = pod.pointer("/status/containerStatuses/0/allocatedResources")
            && let Ok(resized) = plane.resize(&planted, statuses).await?
        {
            planted["status"] = resized["status"].clone();
        }
        if pod.pointer("/metadata/deletionTimestamp").is_some() {
            planted = plane.terminate(&planted).await?;
        }
        built.pods.push(planted);
    }
    put(plane, &built, std::slice::from_ref(pod), &mut Tally::default()).await
}

/// An object as it was asked for, without what the API server knows of it.
fn fresh(object: &Value) -> Value {
    let mut object = object.clone();
    let name = text(&object, "/metadata/name");
    let mut metadata = json!({"name": name});
    for field in ["namespace", "labels", "annotations"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    object["metadata"] = metadata;
    if object["kind"] == "Pod" {
        object["status"] = json!({});
    }
    object
}

impl Disagreement {
    /// Both answers, side by side.
    pub(crate) fn difference(&self) -> String {
        let mut lines = Vec::new();
        let only = |a: &Answer, b: &Judged| {
            let real: Vec<&String> = a.passed.difference(&b.passed).collect();
            let ours: Vec<&String> = b.passed.difference(&a.passed).collect();
            (format!("{real:?}"), format!("{ours:?}"))
        };
        if self.real.passed != self.ours.passed {
            let (real, ours) = only(&self.real, &self.ours);
            lines.push(format!("{PASSES}, only really: {real}, only by our rules: {ours}"));
        }
        lines.push(format!("real: {}", self.real.message));
        lines.push(format!("ours: {}", self.ours.message));
        lines.join("\n")
    }
}
