//! The scheduler's filters as one visible table, in kube-scheduler's order and by its names.
//!
//! Owns the order and the walk through it; each filter has a file of its own. Preferences (`PreferNoSchedule`,
//! preferred affinity) are not filters: the scheduler may ignore them, so nothing here counts on them. The two rules
//! that other pods decide are asked only where the ask says what is around; a node alone cannot answer them.

mod dynamic_resources;
pub(crate) mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
pub(crate) mod node_volume_limits;
pub(crate) mod pod_topology_spread;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use crate::room::{ClassIx, Room, SpotIx};
use crate::{ClusterVolumes, NodeView};
use model::{FilterName, NodeName, PodShape, PoolRejection};

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub shape: &'a PodShape,
    /// `spec.nodeName`, where it is set before the scheduler has seen the pod.
    pub node_name: Option<&'a NodeName>,
    /// Where the pod stands among others.
    pub around: Option<Around<'a>>,
    /// Volumes and claims of the whole cluster; where nothing is known of them, none are open and none in use.
    pub volumes: Option<&'a ClusterVolumes>,
}

/// A spot of a room, with all that the room knows of other pods.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    pub room: &'a Room,
    pub class: ClassIx,
    pub spot: SpotIx,
}

impl Around<'_> {
    fn spread_rejection(&self) -> Option<PoolRejection> {
        self.room.spread_rejection(self.class, self.spot)
    }

    fn affinity_rejection(&self) -> Option<PoolRejection> {
        self.room.affinity_rejection(self.class, self.spot)
    }
}

impl<'a> Ask<'a> {
    pub fn of(shape: &'a PodShape) -> Self {
        Self { shape, node_name: None, around: None, volumes: None }
    }
}

/// One rule: `None` where the node passes it.
pub struct Filter {
    pub name: FilterName,
    /// True where the answer depends only on what the node is and which volumes are open, not on the pods that it
    /// holds.
    pub lasting: bool,
    pub check: fn(&Ask<'_>, &NodeView) -> Option<PoolRejection>,
}

/// Every filter that is modelled, in the order in which kube-scheduler asks them.
pub const FILTERS: [Filter; 13] = [
    Filter { name: FilterName::NodeUnschedulable, lasting: true, check: node_unschedulable::check },
    Filter { name: FilterName::NodeName, lasting: true, check: node_name::check },
    Filter { name: FilterName::TaintToleration, lasting: true, check: taint_toleration::check },
    Filter { name: FilterName::NodeAffinity, lasting: true, check: node_affinity::check },
    Filter { name: FilterName::NodePorts, lasting: false, check: node_ports::check },
    Filter { name: FilterName::NodeResourcesFit, lasting: false, check: node_resources_fit::check },
    Filter { name: FilterName::VolumeRestrictions, lasting: false, check: volume_restrictions::check },
    Filter { name: FilterName::NodeVolumeLimits, lasting: false, check: node_volume_limits::check },
    Filter { name: FilterName::VolumeBinding, lasting: true, check: volume_binding::check },
    Filter { name: FilterName::VolumeZone, lasting: true, check: volume_zone::check },
    Filter { name: FilterName::PodTopologySpread, lasting: false, check: pod_topology_spread::check },
    Filter { name: FilterName::InterPodAffinity, lasting: false, check: inter_pod_affinity::check },
    Filter { name: FilterName::DynamicResources, lasting: false, check: dynamic_resources::check },
];

/// The first filter that refuses, as kube-scheduler reports it; `None` where the pod fits.
pub fn first_rejection(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    FILTERS.iter().find_map(|filter| (filter.check)(ask, node))
}

/// The first refusal that no leaving pod could lift.
pub fn first_lasting_rejection(ask: &Ask<'_>, node: &NodeView) -> Option<PoolRejection> {
    FILTERS.iter().filter(|filter| filter.lasting).find_map(|filter| (filter.check)(ask, node))
}

/// Every filter's refusal, by its name.
pub fn rejections(ask: &Ask<'_>, node: &NodeView) -> Vec<(FilterName, PoolRejection)> {
    FILTERS
        .iter()
        .filter_map(|filter| (filter.check)(ask, node).map(|rejection| (filter.name, rejection)))
        .collect()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod volume_tests;
