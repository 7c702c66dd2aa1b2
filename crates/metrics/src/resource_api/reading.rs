//! Lists of pod metrics, decoded straight into what is kept of them.
//!
//! Owns the wire form. A pod that cannot be read is left out, as if it had no metrics yet: one odd quantity must not
//! blind all others.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The use of all pods of a list.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pods: BTreeMap<Arc<str>, BTreeMap<Arc<str>, PodUsage>>,
}

impl Snapshot {
    pub(super) fn namespace(&self, name: &str) -> Option<&BTreeMap<Arc<str>, PodUsage>> {
        self.pods.get(name)
    }
}

#[derive(Debug)]
pub(super) struct PodUsage {
    pub(super) at: Timestamp,
    pub(super) window: Option<SignedDuration>,
    pub(super) containers: Box<[ContainerUsage]>,
}

#[derive(Debug)]
pub(super) struct ContainerUsage {
    pub(super) name: Arc<str>,
    pub(super) cpu_cores: Option<f64>,
    pub(super) memory_bytes: Option<f64>,
}

#[derive(Deserialize)]
struct PodMetricsList {
    #[serde(default)]
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Metadata,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: Arc<str>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    cpu: Option<String>,
    memory: Option<String>,
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = PodMetricsList::deserialize(deserializer)?;
        let mut snapshot = Self::default();
        for pod in list.items {
            let containers = pod.containers.into_iter().map(|container| ContainerUsage {
                name: container.name,
                cpu_cores: container.usage.cpu.and_then(|text| cores(&text)),
                memory_bytes: container.usage.memory.and_then(|text| bytes(&text)),
            });
            let usage = PodUsage {
                at: pod.timestamp,
                window: intake::go_duration(&pod.window).ok(),
                containers: containers.collect(),
            };
            let namespace = snapshot.pods.entry(Arc::from(pod.metadata.namespace)).or_default();
            namespace.insert(Arc::from(pod.metadata.name), usage);
        }
        Ok(snapshot)
    }
}

/// Thousandths of a core, as the Kubernetes autoscaler reads them.
fn cores(text: &str) -> Option<f64> {
    intake::quantity::milli(text).ok().map(|milli| milli as f64 / 1000.0)
}

fn bytes(text: &str) -> Option<f64> {
    intake::quantity::whole(text).ok().map(|whole| whole as f64)
}
