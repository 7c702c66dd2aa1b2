//! Lists of pod metrics, decoded straight into what is kept of them.
//!
//! Owns the wire form. A pod that cannot be read is left out, as if it had no metrics yet: one odd quantity must not
//! blind all others.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
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

/// A list as it is answered.
#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) items: Snapshot,
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

/// Pod by pod, so that no second form of the whole list is ever in memory.
impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A Go server writes an empty list as null.
        deserializer.deserialize_any(Items)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Snapshot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of pod metrics")
    }

    fn visit_unit<E>(self) -> Result<Snapshot, E> {
        Ok(Snapshot::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Snapshot, A::Error> {
        let mut snapshot = Snapshot::default();
        // Containers of one workload have one name.
        let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut named = |name: String| {
            let known = names.get(&*name).cloned();
            known.unwrap_or_else(|| {
                let new: Arc<str> = Arc::from(name);
                names.insert(new.clone());
                new
            })
        };
        while let Some(pod) = items.next_element::<PodMetrics>()? {
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
