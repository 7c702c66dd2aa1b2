//! Whether a pod could run on a machine, asked in the simplest way that is right.
//!
//! Knows resources, labels, taints, host ports and plain volumes; pods with rules beyond these fit nowhere here, so that no finding
//! rests on them.

use crate::volumes::{Attachments, suit};
use model::{Cluster, Effect, Labels, Node, NodeName, Pod, PodPhase, PodShape, Pool, Resources, Taint};

/// Taints that a node loses when it gets ready.
pub(crate) fn passes_away(taint: &Taint) -> bool {
    taint.key.starts_with("node.kubernetes.io/")
        || taint.key.starts_with("node.cloudprovider.kubernetes.io/")
        || taint.key.starts_with("startup-taint.cluster-autoscaler.kubernetes.io/")
        || taint.key.starts_with("ignore-taint.cluster-autoscaler.kubernetes.io/")
}

/// A machine with what is left on it.
#[derive(Clone, Debug)]
pub(crate) struct Bin {
    name: String,
    labels: Labels,
    taints: Vec<Taint>,
    left: Resources,
    ports: Vec<model::HostPort>,
    attachments: Attachments,
}

impl Bin {
    /// What a new machine of a pool offers, less its `DaemonSet` pods.
    pub(crate) fn promised(cluster: &Cluster, pool: &Pool) -> Option<Self> {
        let template = pool.template.as_ref()?;
        let mut labels = template.labels.clone();
        model::add_zone_aliases(&mut labels);
        let mut bin = Self {
            name: format!("{}-new", pool.id),
            labels,
            taints: template.taints.iter().filter(|taint| !passes_away(taint)).cloned().collect(),
            left: template.allocatable.clone(),
            ports: Vec::new(),
            attachments: Attachments::of(template.fittings.as_ref()),
        };
        for set in cluster.daemon_sets().values() {
            if bin.admits(&set.shape) {
                bin.put(&set.shape);
            }
        }
        Some(bin)
    }

    /// A node that exists, with the pods that are on it.
    pub(crate) fn standing(cluster: &Cluster, node: &Node, cutoff: i32) -> Self {
        let mut bin = Self {
            name: node.name.to_string(),
            labels: node.labels.clone(),
            taints: node.taints.clone(),
            left: node.allocatable.clone(),
            ports: Vec::new(),
            attachments: Attachments::of(node.fittings.as_ref()),
        };
        for pod in live_on(cluster, &node.name).filter(|pod| pod.shape.priority >= cutoff) {
            bin.put(&pod.shape);
        }
        bin
    }

    /// By all that does not change with the pods on it.
    pub(crate) fn admits(&self, shape: &PodShape) -> bool {
        let repels = |taint: &Taint| {
            taint.effect != Effect::PreferNoSchedule && !shape.tolerations.iter().any(|t| t.tolerates(taint))
        };
        shape.unmodelled.is_empty()
            && !self.taints.iter().any(repels)
            && shape.node_selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
            && shape
                .node_affinity
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(&self.name, &self.labels)))
    }

    pub(crate) fn takes(&self, shape: &PodShape) -> bool {
        let collides = |port: &model::HostPort| self.ports.iter().any(|other| other.conflicts_with(port));
        self.admits(shape)
            && shape.requests.short_of(&self.left).is_empty()
            && !shape.host_ports.iter().any(collides)
            && shape.volumes.as_ref().is_none_or(|needs| suit(needs, &self.labels, &self.attachments))
    }

    pub(crate) fn put(&mut self, shape: &PodShape) {
        self.left.subtract(&shape.requests);
        self.ports.extend(shape.host_ports.iter().cloned());
        if let Some(needs) = &shape.volumes {
            self.attachments.put(needs);
        }
    }
}

/// Whether all shapes have room in the bins together, found by putting the largest first where it fits first.
/// `false` says only that this way did not find it.
pub(crate) fn all_fit(mut bins: Vec<Bin>, mut shapes: Vec<&PodShape>) -> bool {
    shapes
        .sort_by(|a, b| (b.requests.cpu, b.requests.memory, b).cmp(&(a.requests.cpu, a.requests.memory, a)));
    shapes.iter().all(|shape| match bins.iter_mut().find(|bin| bin.takes(shape)) {
        Some(bin) => {
            bin.put(shape);
            true
        }
        None => false,
    })
}

/// Pods of a node that still hold room there.
pub(crate) fn live_on<'c>(
    cluster: &'c Cluster,
    node: &NodeName,
) -> impl Iterator<Item = &'c std::sync::Arc<Pod>> {
    cluster.pods_on(node).filter(|pod| !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed))
}
