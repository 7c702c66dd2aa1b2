//! `PodTopologySpread`: no domain may have more matching pods than the emptiest and the allowed skew together.

use super::Ask;
use crate::NodeView;
use crate::room::{Spread, Topology};
use model::PoolRejection;

pub(super) fn check(ask: &Ask<'_>, _: &NodeView) -> Option<PoolRejection> {
    ask.around.and_then(|around| around.spread_rejection())
}

/// How many pods, up to `most`, the constraints allow at a spot while nothing else changes.
pub(crate) fn times(
    topology: &Topology,
    constraints: &[Spread],
    spot: usize,
    most: u32,
) -> Result<u32, PoolRejection> {
    let mut times = most;
    for spread in constraints {
        if !topology.has_domain(spread.counter, spot) {
            return Err(PoolRejection::SpreadLabelMissing);
        }
        let here = u64::from(topology.count_at(spread.counter, spot));
        let highest = u64::from(spread.max_skew) + u64::from(topology.fewest(spread));
        if here + u64::from(spread.self_match) > highest {
            return Err(PoolRejection::SpreadMismatch);
        }
        if spread.counts_itself {
            times = times.min(u32::try_from(highest - here).unwrap_or(u32::MAX));
        }
    }
    Ok(times)
}
