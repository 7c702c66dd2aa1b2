//! `InterPodAffinity`: required affinity and anti-affinity of the pod, and the anti-affinity of pods that are there.

use super::Ask;
use crate::NodeView;
use crate::room::Topology;
use model::PoolRejection;

pub(super) fn check(ask: &Ask<'_>, _: &NodeView) -> Option<PoolRejection> {
    ask.around.and_then(|around| around.affinity_rejection())
}

/// The terms of a class, as counters of the pods that they speak of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// Pods that match all affinity terms at once, by each term's topology.
    pub affinity: Vec<u32>,
    /// Whether the class matches all its own affinity terms: then its first pod may start the series.
    pub affine_to_itself: bool,
    pub anti: Vec<Anti>,
}

/// An anti-affinity term of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anti {
    pub counter: u32,
    /// Whether the class itself matches it: then a domain holds one of its pods at most.
    pub repels_itself: bool,
}

/// How many pods, up to `most`, may be put at a spot while nothing else changes.
pub(crate) fn times(
    topology: &Topology,
    terms: &Terms,
    groups: &[u32],
    spot: usize,
    most: u32,
) -> Result<u32, PoolRejection> {
    let starts = starts_series(topology, terms, spot)?;
    if terms.anti.iter().any(|anti| topology.count_at(anti.counter, spot) > 0) {
        return Err(PoolRejection::PodAntiAffinityMismatch);
    }
    let repelled = |group: &u32| {
        topology.repelling_of(*group).iter().any(|counter| topology.count_at(*counter, spot) > 0)
    };
    if groups.iter().any(repelled) {
        return Err(PoolRejection::ExistingAntiAffinity);
    }
    let alone = terms.anti.iter().any(|anti| anti.repels_itself && topology.has_domain(anti.counter, spot));
    Ok(if starts || alone { most.min(1) } else { most })
}

/// Whether the pod would be the first of those that it wants to be near.
fn starts_series(topology: &Topology, terms: &Terms, spot: usize) -> Result<bool, PoolRejection> {
    let mut near = true;
    for counter in &terms.affinity {
        if !topology.has_domain(*counter, spot) {
            return Err(PoolRejection::PodAffinityMismatch);
        }
        near &= topology.count_at(*counter, spot) > 0;
    }
    if near {
        return Ok(false);
    }
    let nobody_yet = terms.affinity.iter().all(|counter| topology.total(*counter) == 0);
    if nobody_yet && terms.affine_to_itself { Ok(true) } else { Err(PoolRejection::PodAffinityMismatch) }
}
