//! The part of a node that its kubelet works with: is it alive, and what does it report.

use crate::cluster::cloud::{KUBELET, MachineFault};
use crate::cluster::deadlines::after;
use crate::cluster::delays::Delays;
use crate::cluster::nodes::ready_condition;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node as FullNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A node, decoded only as far as its kubelet reads it.
#[derive(Clone, Debug, Deserialize, Serialize, Resource)]
#[resource(inherit = FullNode)]
pub(super) struct Node {
    metadata: ObjectMeta,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct NodeStatus {
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The kubelet answers but is not ready yet.
    Starting,
    Ready,
    /// The kubelet fell silent; the control plane has not noticed yet.
    Silent,
    /// Silent for longer than the control plane believes in it.
    Lost,
    Gone,
}

impl State {
    /// Whether the kubelet does its work.
    pub(super) fn answers(self) -> bool {
        matches!(self, Self::Starting | Self::Ready)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) state: State,
    /// When to look again, where the state changes by itself.
    pub(super) until: Option<Timestamp>,
}

impl Node {
    /// Whether a user or the cloud says that this kubelet is silent from now on.
    pub(super) fn is_declared_dead(&self) -> bool {
        self.annotations().get(KUBELET).is_some_and(|text| text == "dead")
    }

    /// The state that follows from the node's age and from the fault written on it.
    pub(super) fn health(&self, declared_dead: Option<Timestamp>, now: Timestamp, delays: &Delays) -> Health {
        let created = self.creation_timestamp().map_or(now, |time| time.0);
        let steady = |state| Health { state, until: None };
        let ready_at = after(created, delays.node_ready);
        let fault = self.annotations().get(KUBELET).and_then(|text| MachineFault::parse(text));
        let silent_from = match (declared_dead, fault) {
            (_, Some(MachineFault::NeverReady)) => return steady(State::Starting),
            (_, Some(MachineFault::NotReadyAfter(delay))) => Some(after(created, delay)),
            (declared, _) => declared,
        };
        let lost_at = silent_from.map(|from| after(from, delays.node_monitor_grace));
        match (silent_from, lost_at) {
            (_, Some(lost)) if lost <= now || self.lost_since().is_some() => steady(State::Lost),
            (Some(from), lost) if from <= now => Health { state: State::Silent, until: lost },
            (from, _) if ready_at <= now => Health { state: State::Ready, until: from },
            (from, _) => {
                let until = from.map_or(ready_at, |from| from.min(ready_at));
                Health { state: State::Starting, until: Some(until) }
            }
        }
    }

    fn ready(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|c| c.kind == "Ready")
    }

    fn lost_since(&self) -> Option<Timestamp> {
        let ready = self.ready().filter(|ready| ready.status == "Unknown")?;
        ready.last_transition_time.as_ref().map(|time| time.0)
    }

    /// The status patch that a state asks for, where the node does not show it yet.
    pub(super) fn status_for(
        &self,
        state: State,
        control_plane_watches: bool,
        now: Timestamp,
    ) -> Option<Value> {
        let shown = self.ready().map(|c| c.status.as_str());
        let (wanted, reason, message) = match state {
            State::Starting => ("False", "KubeletNotReady", "starting"),
            State::Ready => ("True", "KubeletReady", "kubelet is posting ready status"),
            // A real control plane notices by itself.
            State::Lost if control_plane_watches => return None,
            State::Lost => ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
            State::Silent | State::Gone => return None,
        };
        if shown == Some(wanted) {
            return None;
        }
        let condition = ready_condition(wanted, reason, message, now);
        Some(json!({"metadata": {"uid": self.metadata.uid}, "status": {"conditions": [condition]}}))
    }
}

pub(super) fn lease(node: &str, now: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some("kube-node-lease".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: Some(40),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}
