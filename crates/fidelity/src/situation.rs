//! A cluster at the moment of a question: its nodes, the pods that hold room, and the pod asked about.

use crate::plane::text;
use serde_json::{Value, json};

/// Nodes and bound pods as the API server shows them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Situation {
    pub(crate) nodes: Vec<Value>,
    pub(crate) storage: Vec<Value>,
    /// Bound and not finished; those that are asked to end carry a deletion timestamp.
    pub(crate) pods: Vec<Value>,
}

impl Situation {
    pub(crate) fn node_names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| text(node, "/metadata/name")).collect()
    }

    pub(crate) fn bind(&mut self, mut pod: Value, node: &str) {
        pod["spec"]["nodeName"] = json!(node);
        self.pods.push(pod);
    }
}

/// A copy of a pod that may run on one node only, by a `matchFields` term on the node's name.
pub(crate) fn pinned(pod: &Value, node: &str) -> Value {
    let mut pod = pod.clone();
    let pin = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let terms = &mut pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"];
    match terms.as_array_mut().filter(|terms| !terms.is_empty()) {
        None => *terms = json!([{"matchFields": [pin]}]),
        Some(terms) => {
            for term in terms {
                // A term without any requirement selects nothing, and a pin would change that.
                if term.as_object().is_none_or(serde_json::Map::is_empty) {
                    continue;
                }
                match term["matchFields"].as_array_mut() {
                    Some(fields) => fields.push(pin.clone()),
                    None => term["matchFields"] = json!([pin]),
                }
            }
        }
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_holds_beside_what_the_pod_asks_for() {
        let pin = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
        let terms = |pod: &Value| {
            pod.pointer("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")
                .cloned()
                .unwrap()
        };
        assert_eq!(terms(&pinned(&json!({"spec": {}}), "n1")), json!([{"matchFields": [pin]}]));
        let exists = json!({"key": "disk", "operator": "Exists"});
        let required = json!({"nodeSelectorTerms": [{"matchExpressions": [exists]}, {}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
        let both = pinned(&json!({"spec": {"affinity": affinity}}), "n1");
        assert_eq!(terms(&both), json!([{"matchExpressions": [exists], "matchFields": [pin]}, {}]));
    }
}
