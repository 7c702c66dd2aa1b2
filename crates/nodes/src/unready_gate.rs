//! What rests while too many nodes are not ready.
//!
//! Owns where the gate is closed: by default in the zones and pools that are ill and for removals only, because a zone
//! that is gone is no reason not to replace what it held; as in Cluster Autoscaler, where that is asked for, for
//! everything and everywhere.

use crate::fleet::{Fleet, FleetNode, NodeState};
use crate::round::Round;
use model::{PoolId, Reason, UnreadyGate};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The zone of nodes that name none: there it is the whole cluster.
const NO_ZONE: &str = "";
const ZONE_LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];

/// Nodes that are not ready, and of how many.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    unready: u32,
    of: u32,
}

impl Share {
    fn count(&mut self, node: &FleetNode) {
        self.of += 1;
        self.unready += u32::from(matches!(node.state, NodeState::Unready { .. }));
    }

    /// Over the tolerated number and over the tolerated share.
    fn closes(self, round: &Round<'_>) -> bool {
        let policies = round.policies;
        self.unready > policies.ok_total_unready_count
            && u64::from(self.unready) * 100
                > u64::from(self.of) * u64::from(policies.max_total_unready_percent)
    }
}

#[derive(Default)]
pub(crate) struct Gate {
    whole: Option<Share>,
    zones: BTreeMap<Arc<str>, Share>,
    pools: BTreeMap<PoolId, Share>,
}

impl Gate {
    /// Counts all registered nodes, ours or not.
    pub(crate) fn of(round: &Round<'_>, fleet: &Fleet) -> Self {
        if !fleet.any_unready {
            return Self::default();
        }
        let (mut whole, mut zones, mut pools) = (Share::default(), BTreeMap::new(), BTreeMap::new());
        for node in fleet.nodes.values() {
            whole.count(node);
            zones.entry(zone(node)).or_insert_with(Share::default).count(node);
            if let Some(machine) = &node.machine {
                pools.entry(machine.pool.clone()).or_insert_with(Share::default).count(node);
            }
        }
        match round.policies.unready_gate {
            UnreadyGate::Cluster => {
                Self { whole: Some(whole).filter(|share| share.closes(round)), ..Self::default() }
            }
            UnreadyGate::Zone => {
                zones.retain(|_, share| share.closes(round));
                pools.retain(|_, share| share.closes(round));
                Self { whole: None, zones, pools }
            }
        }
    }

    /// Why nothing may be bought or removed anywhere.
    pub(crate) fn everywhere(&self) -> Option<Reason> {
        self.whole.map(|share| Reason::Suspended { unready: share.unready, of: share.of })
    }

    /// Why this node may not be removed.
    pub(crate) fn at(&self, node: &FleetNode) -> Option<Reason> {
        if let Some(reason) = self.everywhere() {
            return Some(reason);
        }
        let zone = zone(node);
        if let Some(share) = self.zones.get(&zone) {
            let whole = Reason::TooManyUnready { unready: share.unready, of: share.of };
            let of_zone =
                Reason::ZoneUnready { zone: Arc::clone(&zone), unready: share.unready, of: share.of };
            return Some(if &*zone == NO_ZONE { whole } else { of_zone });
        }
        let pool = &node.machine.as_ref()?.pool;
        let share = self.pools.get(pool)?;
        Some(Reason::PoolUnready { pool: pool.clone(), unready: share.unready, of: share.of })
    }

    /// What is said of the round.
    pub(crate) fn sentences(&self) -> Vec<Reason> {
        let zones = self.zones.iter().map(|(zone, share)| match &**zone {
            NO_ZONE => Reason::TooManyUnready { unready: share.unready, of: share.of },
            _ => Reason::ZoneUnready { zone: Arc::clone(zone), unready: share.unready, of: share.of },
        });
        self.everywhere().into_iter().chain(zones).collect()
    }
}

fn zone(node: &FleetNode) -> Arc<str> {
    let labels = &node.node.labels;
    let named = ZONE_LABELS.iter().find_map(|key| labels.get(*key).cloned());
    named.unwrap_or_else(|| Arc::from(NO_ZONE))
}
