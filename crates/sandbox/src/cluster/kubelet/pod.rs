//! The part of a pod that a kubelet works with, and the statuses that it writes.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as FullPod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// A pod, decoded only as far as a kubelet reads it.
#[derive(Clone, Debug, Deserialize, Serialize, Resource)]
#[resource(inherit = FullPod)]
pub(super) struct Pod {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: PodSpec,
    #[serde(default)]
    pub(super) status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) node_name: Option<String>,
    containers: Vec<Container>,
    readiness_gates: Vec<Gate>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Container {
    name: String,
    image: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Gate {
    condition_type: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    pub(super) phase: String,
    pub(super) start_time: Option<Time>,
    conditions: Vec<Condition>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct ContainerStatus {
    state: State,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct State {
    running: Option<Running>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Running {
    started_at: Option<Time>,
}

impl Pod {
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Seconds from an annotation; anything unreadable counts as absent.
    pub(super) fn seconds(&self, key: &str) -> Option<Duration> {
        let seconds: f64 = self.annotation(key)?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// When the containers began to run, once they do.
    pub(super) fn running_since(&self) -> Option<Timestamp> {
        self.status
            .container_statuses
            .iter()
            .find_map(|c| Some(c.state.running.as_ref()?.started_at.as_ref()?.0))
    }

    fn condition(&self, kind: &str) -> Option<&str> {
        self.status.conditions.iter().find(|c| c.kind == kind).map(|c| c.status.as_str())
    }

    /// Whether every readiness gate is open.
    fn gates_open(&self) -> bool {
        self.spec.readiness_gates.iter().all(|gate| self.condition(&gate.condition_type) == Some("True"))
    }

    /// Whether a running pod's Ready condition says something else than its gates.
    pub(super) fn readiness_is_stale(&self) -> bool {
        (self.condition("Ready") == Some("True")) != self.gates_open()
    }

    fn identity(&self) -> Value {
        // With the uid, a patch never reaches another pod of the same name.
        json!({"uid": self.metadata.uid})
    }

    fn containers(&self, ready: bool, state: &Value, uid: &str) -> Vec<Value> {
        let status = |container: &Container| {
            json!({
                "name": container.name, "image": container.image, "imageID": "", "ready": ready,
                "started": ready, "restartCount": 0, "state": state,
                "containerID": format!("simulated://{}/{}", uid, container.name),
            })
        };
        self.spec.containers.iter().map(status).collect()
    }

    /// A strategic patch: the containers are being made.
    pub(super) fn creating(&self, host_ip: &str, now: Timestamp) -> Value {
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        let uid = self.metadata.uid.clone().unwrap_or_default();
        json!({"metadata": self.identity(), "status": {
            "phase": "Pending", "startTime": Time(now), "hostIP": host_ip, "hostIPs": [{"ip": host_ip}],
            "containerStatuses": self.containers(false, &waiting, &uid),
            "conditions": [
                condition("Initialized", true, now),
                condition("Ready", false, now),
                condition("ContainersReady", false, now),
            ],
        }})
    }

    /// A strategic patch: running, and ready where the gates allow it.
    pub(super) fn running(&self, host_ip: &str, pod_ip: &str, now: Timestamp) -> Value {
        let running = json!({"running": {"startedAt": Time(now)}});
        let uid = self.metadata.uid.clone().unwrap_or_default();
        let started = self.status.start_time.clone().unwrap_or(Time(now));
        json!({"metadata": self.identity(), "status": {
            "phase": "Running", "startTime": started, "hostIP": host_ip, "hostIPs": [{"ip": host_ip}],
            "podIP": pod_ip, "podIPs": [{"ip": pod_ip}],
            "containerStatuses": self.containers(true, &running, &uid),
            "conditions": [
                condition("Initialized", true, now),
                self.ready_condition(now),
                condition("ContainersReady", true, now),
            ],
        }})
    }

    /// A strategic patch: only the readiness, after a gate moved.
    pub(super) fn readiness(&self, now: Timestamp) -> Value {
        json!({"metadata": self.identity(), "status": {"conditions": [self.ready_condition(now)]}})
    }

    fn ready_condition(&self, now: Timestamp) -> Value {
        let open = self.gates_open();
        let mut ready = condition("Ready", open, now);
        if !open {
            ready["reason"] = "ReadinessGatesNotReady".into();
            ready["message"] = "the status of a readiness gate is not \"True\"".into();
        }
        ready
    }

    /// A strategic patch: the containers ended by themselves.
    pub(super) fn finished(&self, exit_code: i32, now: Timestamp) -> Value {
        let (phase, reason) = if exit_code == 0 { ("Succeeded", "Completed") } else { ("Failed", "Error") };
        let terminated = json!({"terminated": {
            "exitCode": exit_code, "reason": reason, "finishedAt": Time(now),
            "startedAt": self.running_since().map(Time),
        }});
        let uid = self.metadata.uid.clone().unwrap_or_default();
        let not_ready = |kind| {
            let mut ended = condition(kind, false, now);
            ended["reason"] = if exit_code == 0 { "PodCompleted" } else { "PodFailed" }.into();
            ended
        };
        json!({"metadata": self.identity(), "status": {
            "phase": phase,
            "containerStatuses": self.containers(false, &terminated, &uid),
            "conditions": [not_ready("Ready"), not_ready("ContainersReady")],
        }})
    }
}

fn condition(kind: &str, holds: bool, now: Timestamp) -> Value {
    let status = if holds { "True" } else { "False" };
    json!({"type": kind, "status": status, "lastTransitionTime": Time(now)})
}
