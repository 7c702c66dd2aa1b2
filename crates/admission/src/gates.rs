//! Opens the gate of pods that have none who opened it: made while the webhook was away, or with the gate in their
//! template.
//!
//! Owns a watch on the pods that asked for the gate. A pod in a state of ours (cut off, standby) is the scaler's.

use crate::opted_in;
use api::kapacity::{ONLINE, POD_STATE};
use clock::Clock;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod as FullPod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, DefaultBackoff, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Pods whose gate could not be opened are tried again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// Pods that are remembered for another try; the rest comes back with the watch.
const MOST_REMEMBERED: usize = 10_000;

/// A pod, decoded only as far as its gate goes.
#[derive(Clone, Debug, Deserialize, Serialize, Resource)]
#[resource(inherit = FullPod)]
struct Pod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    readiness_gates: Vec<Gate>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Gate {
    condition_type: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Status {
    phase: String,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
}

impl Pod {
    fn waits_for_its_gate(&self) -> bool {
        self.metadata.deletion_timestamp.is_none()
            && !matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
            && self.spec.readiness_gates.iter().any(|gate| gate.condition_type == ONLINE)
            && !self.status.conditions.iter().any(|condition| condition.kind == ONLINE)
            && self.labels().get(POD_STATE).is_none_or(|state| state == "Online")
    }
}

/// Opens gates until its task is dropped.
pub async fn open_gates(client: Client, clock: Clock) {
    let all: Api<Pod> = Api::all(client.clone());
    let mut pods = watcher(all, Config::default().labels(&opted_in()))
        .backoff(DefaultBackoff::default())
        .applied_objects()
        .boxed();
    let mut again: BTreeMap<(String, String), Pod> = BTreeMap::new();
    loop {
        let due = async {
            if again.is_empty() { std::future::pending().await } else { tokio::time::sleep(AGAIN).await }
        };
        tokio::select! {
            biased;
            pod = pods.next() => match pod {
                Some(Ok(pod)) => {
                    let key = (pod.namespace().unwrap_or_default(), pod.name_any());
                    again.remove(&key);
                    if pod.waits_for_its_gate() && !open(&client, clock, &pod).await && again.len() < MOST_REMEMBERED {
                        again.insert(key, pod);
                    }
                }
                Some(Err(error)) => tracing::debug!(%error, "pods that ask for a readiness gate cannot be watched"),
                None => return,
            },
            () = due => {
                for (key, pod) in std::mem::take(&mut again) {
                    if !open(&client, clock, &pod).await {
                        again.insert(key, pod);
                    }
                }
            }
        }
    }
}

/// False where it is worth another try.
async fn open(client: &Client, clock: Clock, pod: &Pod) -> bool {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let patch = json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [
            {"type": ONLINE, "status": "True", "lastTransitionTime": format!("{:.0}", clock.now())},
        ]},
    });
    let api: Api<FullPod> = Api::namespaced(client.clone(), &namespace);
    match api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Ok(_) => true,
        // Gone, or another pod of the same name, which the watch brings.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => true,
        Err(error) => {
            tracing::warn!(%error, pod = %format!("{namespace}/{name}"), "its readiness gate cannot be opened");
            false
        }
    }
}
