//! Labels, requirements on them, and the two selector languages of Kubernetes.
//!
//! Owns matching of labels; which labels matter for which decision is the callers'.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Label keys and values, ordered.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// One condition on one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Requirement {
    pub key: Arc<str>,
    pub operator: Operator,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Arc<str>>,
}

impl Requirement {
    /// Whether a label set satisfies this requirement, by kube-scheduler's rules: `NotIn` and `DoesNotExist` hold
    /// where the key is absent; `Gt` and `Lt` compare integers and fail on anything else.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.key).map(AsRef::as_ref))
    }

    /// The same on one value, absent or present.
    pub fn matches_value(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|x| &**x == v);
        match (self.operator, value) {
            (Operator::In, Some(v)) => listed(v),
            (Operator::NotIn, Some(v)) => !listed(v),
            (Operator::Exists, Some(_)) | (Operator::NotIn | Operator::DoesNotExist, None) => true,
            (Operator::DoesNotExist, Some(_))
            | (Operator::In | Operator::Exists | Operator::Gt | Operator::Lt, None) => false,
            (Operator::Gt, Some(v)) => self.bound().zip(v.parse::<i64>().ok()).is_some_and(|(b, v)| v > b),
            (Operator::Lt, Some(v)) => self.bound().zip(v.parse::<i64>().ok()).is_some_and(|(b, v)| v < b),
        }
    }

    fn bound(&self) -> Option<i64> {
        match self.values.as_slice() {
            [one] => one.parse().ok(),
            _ => None,
        }
    }
}

/// One term of a node selector: all its requirements must hold; terms are alternatives.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelectorTerm {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
    /// On fields of the node; Kubernetes knows only `metadata.name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_fields: Vec<Requirement>,
}

impl NodeSelectorTerm {
    /// An empty term matches nothing, as in Kubernetes.
    pub fn matches(&self, node_name: &str, labels: &Labels) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        self.match_expressions.iter().all(|r| r.matches(labels))
            && self
                .match_fields
                .iter()
                .all(|r| &*r.key == "metadata.name" && r.matches_value(Some(node_name)))
    }
}

/// A selector over pods' labels, as budgets and workloads carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: Labels,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

impl LabelSelector {
    /// The empty selector matches everything.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v))
            && self.match_expressions.iter().all(|r| r.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(operator: Operator, values: &[&str]) -> Requirement {
        Requirement { key: "k".into(), operator, values: values.iter().map(|v| Arc::from(*v)).collect() }
    }

    #[test]
    fn operators_follow_the_scheduler() {
        let table = [
            (Operator::In, &["a"][..], Some("a"), true),
            (Operator::In, &["a"], None, false),
            (Operator::NotIn, &["a"], None, true),
            (Operator::NotIn, &["a"], Some("a"), false),
            (Operator::Exists, &[], Some(""), true),
            (Operator::DoesNotExist, &[], None, true),
            (Operator::Gt, &["3"], Some("4"), true),
            (Operator::Gt, &["3"], Some("x"), false),
            (Operator::Lt, &["3"], Some("2"), true),
            (Operator::Lt, &["3", "4"], Some("2"), false),
        ];
        for (operator, values, value, expected) in table {
            assert_eq!(
                requirement(operator, values).matches_value(value),
                expected,
                "{operator:?} {values:?} {value:?}"
            );
        }
    }

    #[test]
    fn an_empty_term_matches_nothing_and_an_empty_selector_everything() {
        assert!(!NodeSelectorTerm::default().matches("n", &Labels::new()));
        assert!(LabelSelector::default().matches(&Labels::new()));
    }
}
