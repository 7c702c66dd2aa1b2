//! Why everything is as it is after a round: one reason for each waiting pod, each node and each pool.

use crate::{NodeName, PodKey, PoolId, Reason};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[must_use = "an unread verdict helps nobody"]
pub struct Verdicts {
    /// Every pod that waits for a node.
    pub pods: BTreeMap<PodKey, Reason>,
    pub nodes: BTreeMap<NodeName, Reason>,
    /// Pools that cannot or need not grow, where there is something to say.
    pub pools: BTreeMap<PoolId, Reason>,
    /// Of the round as a whole.
    pub round: Vec<Reason>,
}
