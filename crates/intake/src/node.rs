//! Nodes into the model.

use crate::pod::effect;
use crate::selector::labels;
use crate::{IntakeError, quantity, slim};
use api::{annotations, taints};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use model::{Node, NodeCondition, NodeName, Readiness, Taint, Uid};
use std::sync::Arc;

/// Annotations that the engine reads from nodes; everything else is dropped.
const READ_ANNOTATIONS: [&str; 4] = [
    annotations::SCALE_DOWN_DISABLED,
    annotations::DO_NOT_DISRUPT,
    annotations::INTENT,
    annotations::CORDONED,
];

/// Reads a node. The error names the node and the field.
pub fn node(node: &slim::Node) -> Result<Node, IntakeError> {
    let meta = &node.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let created_at = meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    let taints = node
        .spec
        .taints
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, t)| taint(t).map_err(|error| error.under(&format!("spec.taints[{i}]"))))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.of("Node", "", name))?;
    let allocatable = node.status.allocatable.as_ref().or(node.status.capacity.as_ref());
    let allocatable = allocatable
        .map(quantity::resources)
        .transpose()
        .map_err(|error| error.under("status.allocatable").of("Node", "", name))?
        .unwrap_or_default();
    let readiness = readiness(&node.status, &taints, created_at);
    let provider_id = node.spec.provider_id.as_deref().filter(|id| !id.is_empty());
    Ok(Node {
        name: NodeName::new(name),
        uid: Uid::new(meta.uid.as_deref().unwrap_or_default()),
        machine: provider_id.map(Into::into),
        addresses: if provider_id.is_some() { Vec::new() } else { addresses(&node.status) },
        labels: labels(meta.labels.as_ref()),
        annotations: meta
            .annotations
            .iter()
            .flatten()
            .filter(|(key, _)| {
                READ_ANNOTATIONS.contains(&key.as_str())
                    || key.starts_with(annotations::DELAY_DELETION_PREFIX)
            })
            .map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str())))
            .collect(),
        unschedulable: node.spec.unschedulable.unwrap_or(false),
        allocatable,
        fittings: None,
        readiness,
        conditions: conditions(&node.status, &taints),
        taints,
        created_at,
        deleting: meta.deletion_timestamp.is_some(),
    })
}

/// Reads a taint.
fn addresses(status: &slim::NodeStatus) -> Vec<Arc<str>> {
    let known = status.addresses.iter().flatten();
    let internal = known.filter(|address| matches!(address.type_.as_str(), "InternalIP" | "Hostname"));
    internal.map(|address| Arc::from(address.address.to_ascii_lowercase())).collect()
}

pub fn taint(taint: &core::Taint) -> Result<Taint, IntakeError> {
    Ok(Taint {
        key: taint.key.as_str().into(),
        value: taint.value.as_deref().unwrap_or_default().into(),
        effect: effect(&taint.effect)?,
    })
}

/// Ready only if the kubelet says so and the not-ready taint is off: the scheduler goes by the taint.
fn readiness(status: &slim::NodeStatus, taints: &[Taint], created_at: Timestamp) -> Readiness {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    let since = ready.and_then(|c| c.last_transition_time.as_ref()).map_or(created_at, |t| t.0);
    let tainted = taints.iter().any(|t| [taints::NOT_READY, taints::UNREACHABLE].contains(&&*t.key));
    if ready.is_some_and(|c| c.status == "True") && !tainted {
        Readiness::Ready { since }
    } else {
        Readiness::NotReady { since }
    }
}

fn conditions(status: &slim::NodeStatus, taints: &[Taint]) -> Vec<NodeCondition> {
    let is_true =
        |kind: &str| status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True");
    let tainted = |key: &str| taints.iter().any(|t| &*t.key == key);
    let mut out = Vec::new();
    if is_true("DiskPressure") || tainted(taints::DISK_PRESSURE) {
        out.push(NodeCondition::DiskPressure);
    }
    if is_true("NetworkUnavailable") || tainted(taints::NETWORK_UNAVAILABLE) {
        out.push(NodeCondition::NetworkUnavailable);
    }
    if taints.iter().any(|t| taints::STARTUP_PREFIXES.iter().any(|prefix| t.key.starts_with(prefix))) {
        out.push(NodeCondition::StartupTaint);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_condition_and_no_taint() {
        let read = |yaml: &str| node(&serde_saphyr::from_str::<slim::Node>(yaml).unwrap()).unwrap();
        let ready =
            "status: {conditions: [{type: Ready, status: 'True', lastTransitionTime: 2026-01-01T00:00:00Z}]}";
        assert!(read(&format!("metadata: {{name: n}}\n{ready}")).is_ready());
        let tainted = "spec: {taints: [{key: node.kubernetes.io/not-ready, effect: NoSchedule}]}";
        assert!(!read(&format!("metadata: {{name: n}}\n{tainted}\n{ready}")).is_ready());
        assert!(!read("metadata: {name: n}").is_ready());
    }
}
