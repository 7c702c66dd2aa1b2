//! Lists of pod metrics, decoded straight into what is kept of them.
//!
//! Owns the wire form. A pod that cannot be read is left out, as if it had no metrics yet: one odd quantity must not
//! blind all others.

use super::elements::Elements;
use crate::fetch::{Parts, unexpected};
use calls::Failure;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
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
    name: String,
    #[serde(default)]
    usage: Usage,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    cpu: Option<String>,
    memory: Option<String>,
}

/// A list while it comes, pod by pod: neither its text nor a second form of it is ever in memory as a whole.
#[derive(Debug, Default)]
pub(super) struct Answer {
    elements: Elements,
    snapshot: Snapshot,
    /// Containers of one workload have one name.
    names: BTreeSet<Arc<str>>,
    broken: Option<serde_json::Error>,
}

impl Parts for Answer {
    fn take(&mut self, part: &[u8]) {
        let Self { elements, snapshot, names, broken } = self;
        elements.take(part, |element| match serde_json::from_slice::<PodMetrics>(element) {
            Ok(pod) => snapshot.add(pod, names),
            Err(error) => *broken = broken.take().or(Some(error)),
        });
    }
}

impl Answer {
    /// The list, if it was one.
    pub(super) fn whole(self) -> Result<Snapshot, Failure> {
        match self.broken {
            Some(error) => Err(unexpected(&error)),
            None if !self.elements.is_whole() => Err(unexpected(&"a list of pod metrics is expected")),
            None => Ok(self.snapshot),
        }
    }
}

impl Snapshot {
    fn add(&mut self, pod: PodMetrics, names: &mut BTreeSet<Arc<str>>) {
        let mut named = |name: String| {
            let known = names.get(&*name).cloned();
            known.unwrap_or_else(|| {
                let new: Arc<str> = Arc::from(name);
                names.insert(new.clone());
                new
            })
        };
        let containers = pod.containers.into_iter().map(|container| ContainerUsage {
            name: named(container.name),
            cpu_cores: container.usage.cpu.and_then(|text| cores(&text)),
            memory_bytes: container.usage.memory.and_then(|text| bytes(&text)),
        });
        let usage = PodUsage {
            at: pod.timestamp,
            window: intake::go_duration(&pod.window).ok(),
            containers: containers.collect(),
        };
        let namespace = self.pods.entry(Arc::from(pod.metadata.namespace)).or_default();
        namespace.insert(Arc::from(pod.metadata.name), usage);
    }
}

/// Thousandths of a core, as the Kubernetes autoscaler reads them.
fn cores(text: &str) -> Option<f64> {
    intake::quantity::milli(text).ok().map(|milli| milli as f64 / 1000.0)
}

fn bytes(text: &str) -> Option<f64> {
    intake::quantity::whole(text).ok().map(|whole| whole as f64)
}
