//! Why no node takes a pod, in the words of kube-scheduler's `FailedScheduling` event.
//!
//! Owns the counting of reasons and the form of the sentence; the reasons themselves are the filters'. A pod whose
//! required affinity names nodes by `matchFields` is a case of its own: kube-scheduler looks at no other node.

use model::{NodeName, NodeSelectorTerm, Operator, PodShape, PoolRejection, VolumeRefusal};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The nodes that a pod's required affinity names, where every alternative names some; `None` where any node may do.
///
/// An empty set means that the names contradict each other.
pub fn named_nodes(shape: &PodShape) -> Option<BTreeSet<&str>> {
    let terms = shape.node_affinity.as_ref().filter(|terms| !terms.is_empty())?;
    terms.iter().map(names_of).try_fold(BTreeSet::new(), |mut all, names| {
        all.extend(names?);
        Some(all)
    })
}

/// All requirements of a term hold, so that what it names is the intersection.
fn names_of(term: &NodeSelectorTerm) -> Option<BTreeSet<&str>> {
    term.match_fields
        .iter()
        .filter(|field| &*field.key == "metadata.name" && field.operator == Operator::In)
        .map(|field| field.values.iter().map(AsRef::as_ref).collect::<BTreeSet<&str>>())
        .reduce(|a, b| a.intersection(&b).copied().collect())
}

/// The message for one pod, made of what each node says.
#[derive(Clone, Debug)]
pub struct FailedScheduling<'a> {
    named: Option<BTreeSet<&'a str>>,
    nodes: usize,
    /// Volumes may keep a pod off every node before any is looked at.
    refused: Option<&'a VolumeRefusal>,
    reasons: BTreeMap<String, usize>,
}

impl<'a> FailedScheduling<'a> {
    pub fn of(shape: &'a PodShape) -> Self {
        let refused = shape.volumes.as_ref().and_then(|needs| needs.refused.as_ref());
        Self { named: named_nodes(shape), nodes: 0, refused, reasons: BTreeMap::new() }
    }

    /// Counts a node that refuses the pod.
    pub fn refused_by(&mut self, node: &NodeName, rejection: &PoolRejection) {
        match rejection {
            // Each short resource is a reason of its own.
            PoolRejection::Insufficient { resources } => {
                let each = |name: &_| PoolRejection::Insufficient { resources: vec![Clone::clone(name)] };
                self.refused_because(node, resources.iter().map(|name| each(name).to_string()));
            }
            // And so is each conflict of volumes.
            PoolRejection::VolumeConflicts { conflicts } => {
                self.refused_because(node, conflicts.iter().map(ToString::to_string));
            }
            other => self.refused_because(node, [other.to_string()]),
        }
    }

    /// Counts a node that refuses the pod for reasons in words.
    pub fn refused_because(&mut self, node: &NodeName, reasons: impl IntoIterator<Item = String>) {
        self.nodes += 1;
        if self.named.as_ref().is_some_and(|named| !named.contains(node.as_str())) {
            let unseen = "node(s) didn't satisfy plugin(s) [NodeAffinity]".to_owned();
            *self.reasons.entry(unseen).or_default() += 1;
            return;
        }
        for reason in reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }
}

impl fmt::Display for FailedScheduling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available: ", self.nodes)?;
        if self.named.as_ref().is_some_and(BTreeSet::is_empty) {
            return f.write_str("pod affinity terms conflict.");
        }
        if let Some(why) = self.refused {
            return write!(f, "{why}.");
        }
        // Sorted as text, numbers included, as kube-scheduler has it.
        let mut parts: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort();
        write!(f, "{}.", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Requirement, ResourceName};

    fn names(lists: &[&[&str]]) -> NodeSelectorTerm {
        let field = |values: &&[&str]| Requirement {
            key: "metadata.name".into(),
            operator: Operator::In,
            values: values.iter().map(|v| (*v).into()).collect(),
        };
        NodeSelectorTerm { match_fields: lists.iter().map(field).collect(), ..Default::default() }
    }

    fn shape(terms: Option<Vec<NodeSelectorTerm>>) -> PodShape {
        PodShape { node_affinity: terms, ..Default::default() }
    }

    #[test]
    fn alternatives_add_names_and_requirements_narrow_them() {
        let named = |terms: &[NodeSelectorTerm]| {
            let shape = shape(Some(terms.to_vec()));
            named_nodes(&shape).map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(named_nodes(&shape(None)), None);
        assert_eq!(named(&[]), None);
        assert_eq!(named(&[names(&[&["a", "b"], &["b", "c"]]), names(&[&["d"]])]).unwrap(), ["b", "d"]);
        assert_eq!(named(&[names(&[&["a"]]), NodeSelectorTerm::default()]), None);
        assert!(named(&[names(&[&["a"], &["b"]])]).unwrap().is_empty());
    }

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let shape = shape(None);
        let mut message = FailedScheduling::of(&shape);
        assert_eq!(message.to_string(), "no nodes available to schedule pods");
        let short = |names: &[&str]| PoolRejection::Insufficient {
            resources: names.iter().map(ResourceName::new).collect(),
        };
        message.refused_by(&NodeName::new("a"), &short(&["cpu", "memory"]));
        message.refused_by(&NodeName::new("b"), &short(&["cpu"]));
        message.refused_by(&NodeName::new("c"), &PoolRejection::PortConflict);
        assert_eq!(
            message.to_string(),
            "0/3 nodes are available: 1 Insufficient memory, \
             1 node(s) didn't have free ports for the requested pod ports, 2 Insufficient cpu."
        );
    }

    #[test]
    fn nodes_that_a_pod_does_not_name_are_not_looked_at() {
        let one = shape(Some(vec![names(&[&["a"]])]));
        let mut message = FailedScheduling::of(&one);
        message.refused_by(&NodeName::new("a"), &PoolRejection::Unschedulable);
        message.refused_by(&NodeName::new("b"), &PoolRejection::Unschedulable);
        assert_eq!(
            message.to_string(),
            "0/2 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], \
             1 node(s) were unschedulable."
        );
        let contradiction = shape(Some(vec![names(&[&["a"], &["b"]])]));
        let mut message = FailedScheduling::of(&contradiction);
        message.refused_by(&NodeName::new("a"), &PoolRejection::AffinityMismatch);
        assert_eq!(message.to_string(), "0/1 nodes are available: pod affinity terms conflict.");
    }
}
