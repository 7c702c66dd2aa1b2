//! A node as the filters see it: what it is, and what is left of it.
//!
//! Owns the bookkeeping of free resources and used host ports of one node; many nodes together are a `Room`.

use model::{HostPort, Labels, Node, NodeName, PodShape, Resources, Taint};
use std::sync::Arc;

/// One node, or one that a template promises, with what is free on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    node: Arc<Node>,
    free: Resources,
    used_ports: Vec<HostPort>,
}

impl NodeView {
    /// An empty node.
    pub fn new(node: Arc<Node>) -> Self {
        let free = node.allocatable.clone();
        Self { node, free, used_ports: Vec::new() }
    }

    /// A node that holds pods of these shapes.
    pub fn holding<'a>(node: Arc<Node>, shapes: impl IntoIterator<Item = &'a PodShape>) -> Self {
        let mut view = Self::new(node);
        for shape in shapes {
            view.take(shape);
        }
        view
    }

    pub fn name(&self) -> &NodeName {
        &self.node.name
    }

    pub fn labels(&self) -> &Labels {
        &self.node.labels
    }

    pub fn taints(&self) -> &[Taint] {
        &self.node.taints
    }

    pub fn unschedulable(&self) -> bool {
        self.node.unschedulable
    }

    pub fn allocatable(&self) -> &Resources {
        &self.node.allocatable
    }

    pub fn free(&self) -> &Resources {
        &self.free
    }

    pub fn used_ports(&self) -> &[HostPort] {
        &self.used_ports
    }

    /// Pods on the node, as far as the kubelet's limit counts them.
    pub fn pod_count(&self) -> u32 {
        self.node.allocatable.pods.saturating_sub(self.free.pods)
    }

    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Takes a pod's room, whether or not it fits: what is bound is bound.
    pub fn take(&mut self, shape: &PodShape) {
        self.free.subtract(&shape.requests);
        self.used_ports.extend(shape.host_ports.iter().cloned());
    }

    /// How many pods of one shape fit by resources and host ports; the lasting filters are the caller's.
    pub(crate) fn capacity_for(&self, shape: &PodShape) -> u32 {
        let taken = |port: &HostPort| self.used_ports.iter().any(|used| used.conflicts_with(port));
        if shape.host_ports.iter().any(taken) {
            return 0;
        }
        let by_resources = times(&shape.requests, &self.free);
        if shape.host_ports.is_empty() { by_resources } else { by_resources.min(1) }
    }

    /// Takes the room of `count` pods that are known to fit.
    pub(crate) fn take_many(&mut self, shape: &PodShape, count: u32) {
        for _ in 0..count {
            self.take(shape);
        }
    }

    pub(crate) fn restore(&mut self, free: Resources, ports: usize) {
        self.free = free;
        self.used_ports.truncate(ports);
    }
}

/// How often `requests` fits into `free`.
fn times(requests: &Resources, free: &Resources) -> u32 {
    let one = |ask: u64, have: u64| have.checked_div(ask).unwrap_or(u64::MAX);
    let mut most = one(u64::from(requests.pods), u64::from(free.pods))
        .min(one(requests.cpu.0, free.cpu.0))
        .min(one(requests.memory.0, free.memory.0))
        .min(one(requests.ephemeral_storage.0, free.ephemeral_storage.0));
    for (name, ask) in &requests.extended {
        most = most.min(one(*ask, free.extended.get(name).copied().unwrap_or(0)));
    }
    u32::try_from(most).unwrap_or(u32::MAX)
}
