//! What our rules say of a pod in a situation, in the words of the real scheduler's condition.

use crate::error::Error;
use crate::extender::PASSES;
use crate::plane::text;
use crate::situation::Situation;
use intake::slim;
use model::PoolRejection;
use packing::{Ask, FailedScheduling, NodeView, first_rejection};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Our answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) passed: BTreeSet<String>,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Judges a pod by crate `packing`; `None` where it says itself that a rule is not modelled.
pub(crate) fn judge(situation: &Situation, pod: &Value) -> Result<Option<Judged>, Error> {
    let asked = read_pod(pod)?;
    if asked.gated {
        return Ok(Some(Judged {
            passed: BTreeSet::new(),
            reason: "SchedulingGated".to_owned(),
            message: "Scheduling is blocked due to non-empty scheduling gates".to_owned(),
        }));
    }
    let mut held: BTreeMap<String, Vec<model::Pod>> = BTreeMap::new();
    for pod in &situation.pods {
        held.entry(text(pod, "/spec/nodeName")).or_default().push(read_pod(pod)?);
    }
    let unmodelled = |pod: &model::Pod| !pod.shape.unmodelled.is_empty();
    if unmodelled(&asked) || held.values().flatten().any(unmodelled) {
        return Ok(None);
    }
    let ask = Ask::of(&asked.shape);
    let mut passed = BTreeSet::new();
    let mut message = FailedScheduling::of(&asked.shape);
    for node in &situation.nodes {
        let node = read_node(node)?;
        let pods = held.get(node.name.as_str()).into_iter().flatten().map(|pod| &*pod.shape);
        let view = NodeView::holding(Arc::new(node), pods);
        match first_rejection(&ask, &view) {
            None => {
                message.refused_because(view.name(), [PASSES.to_owned()]);
                passed.insert(view.name().as_str().to_owned());
            }
            // Releases up to 1.35 name the taint, as we do, since it helps; later ones do not.
            Some(PoolRejection::UntoleratedTaint { .. }) => {
                message.refused_because(view.name(), ["node(s) had untolerated taint(s)".to_owned()]);
            }
            Some(rejection) => message.refused_by(view.name(), &rejection),
        }
    }
    Ok(Some(Judged { passed, reason: "Unschedulable".to_owned(), message: message.to_string() }))
}

fn read_pod(pod: &Value) -> Result<model::Pod, Error> {
    let what = || format!("pod {}", text(pod, "/metadata/name"));
    let slim: slim::Pod = serde_json::from_value(pod.clone())
        .map_err(|error| Error::Intake { what: what(), why: error.to_string() })?;
    intake::pod(&slim).map_err(|error| Error::Intake { what: what(), why: error.to_string() })
}

fn read_node(node: &Value) -> Result<model::Node, Error> {
    let what = || format!("node {}", text(node, "/metadata/name"));
    let slim: slim::Node = serde_json::from_value(node.clone())
        .map_err(|error| Error::Intake { what: what(), why: error.to_string() })?;
    intake::node(&slim).map_err(|error| Error::Intake { what: what(), why: error.to_string() })
}
