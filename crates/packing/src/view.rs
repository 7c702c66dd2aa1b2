//! A node as the filters see it: what it is, and what is left of it.
//!
//! Owns the bookkeeping of free resources and used host ports of one node; many nodes together are a `Room`.

use crate::NodeVolumes;
use model::{HostPort, Labels, Node, NodeName, PodShape, Resources, Taint};
use std::sync::Arc;

/// One node, or one that a template promises, with what is free on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    node: Arc<Node>,
    free: Resources,
    used_ports: Vec<HostPort>,
    volumes: NodeVolumes,
}

impl NodeView {
    /// An empty node.
    pub fn new(node: Arc<Node>) -> Self {
        let free = node.allocatable.clone();
        Self { node, free, used_ports: Vec::new(), volumes: NodeVolumes::default() }
    }

    /// A node that holds pods of these shapes.
    pub fn holding<'a>(node: Arc<Node>, shapes: impl IntoIterator<Item = &'a PodShape>) -> Self {
        let mut view = Self::new(node);
        for shape in shapes {
            view.take(shape);
        }
        view
    }

    /// A node with what is left on it.
    pub(crate) fn with(
        node: Arc<Node>,
        free: Resources,
        used_ports: Vec<HostPort>,
        volumes: NodeVolumes,
    ) -> Self {
        Self { node, free, used_ports, volumes }
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

    /// What the volumes of the pods here use.
    pub fn volumes(&self) -> &NodeVolumes {
        &self.volumes
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
        if let Some(needs) = &shape.volumes {
            self.volumes.add(needs, 1);
        }
    }
}
