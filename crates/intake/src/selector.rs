//! Selectors and affinities of Kubernetes objects.

use crate::IntakeError;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use model::{LabelSelector, Labels, NodeSelectorTerm, Operator, Requirement};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) fn labels(map: Option<&BTreeMap<String, String>>) -> Labels {
    map.into_iter().flatten().map(|(k, v)| (Arc::from(k.as_str()), Arc::from(v.as_str()))).collect()
}

fn values(list: Option<&Vec<String>>) -> Vec<Arc<str>> {
    list.into_iter().flatten().map(|v| Arc::from(v.as_str())).collect()
}

/// A selector over pods' labels.
pub fn label_selector(selector: &meta::LabelSelector) -> Result<LabelSelector, IntakeError> {
    let mut expressions = Vec::new();
    for (i, e) in selector.match_expressions.iter().flatten().enumerate() {
        let operator = operator(&e.operator, &["In", "NotIn", "Exists", "DoesNotExist"])
            .map_err(|error| error.under(&format!("matchExpressions[{i}]")))?;
        expressions.push(Requirement {
            key: Arc::from(e.key.as_str()),
            operator,
            values: values(e.values.as_ref()),
        });
    }
    Ok(LabelSelector { match_labels: labels(selector.match_labels.as_ref()), match_expressions: expressions })
}

/// The alternatives of a required node affinity.
pub(crate) fn node_selector(selector: &core::NodeSelector) -> Result<Vec<NodeSelectorTerm>, IntakeError> {
    let read =
        |(i, term)| node_selector_term(term).map_err(|error| error.under(&format!("nodeSelectorTerms[{i}]")));
    selector.node_selector_terms.iter().enumerate().map(read).collect()
}

pub(crate) fn node_selector_term(term: &core::NodeSelectorTerm) -> Result<NodeSelectorTerm, IntakeError> {
    Ok(NodeSelectorTerm {
        match_expressions: requirements(term.match_expressions.as_ref())
            .map_err(|error| error.under("matchExpressions"))?,
        match_fields: requirements(term.match_fields.as_ref()).map_err(|error| error.under("matchFields"))?,
    })
}

fn requirements(list: Option<&Vec<core::NodeSelectorRequirement>>) -> Result<Vec<Requirement>, IntakeError> {
    let all = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
    list.into_iter()
        .flatten()
        .map(|r| {
            Ok(Requirement {
                key: Arc::from(r.key.as_str()),
                operator: operator(&r.operator, &all)?,
                values: values(r.values.as_ref()),
            })
        })
        .collect()
}

fn operator(text: &str, allowed: &[&str]) -> Result<Operator, IntakeError> {
    let operator = match text {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        _ => return Err(unknown_operator(text, allowed)),
    };
    if allowed.contains(&text) { Ok(operator) } else { Err(unknown_operator(text, allowed)) }
}

fn unknown_operator(text: &str, allowed: &[&str]) -> IntakeError {
    IntakeError::field(
        "operator",
        format!("\"{text}\" is unknown"),
        format!("use one of {}", allowed.join(", ")),
    )
}
