//! Nodes that stay whoever waits, whatever moves and however much time passes.
//!
//! Owns which nodes these are. They are found once for each survey, so that a round looks only at the others; who may go
//! is `idle`'s.

use crate::fleet::{Fleet, FleetNode, NodeState};
use crate::idle::{forbids, in_use, is_let_go, owner};
use crate::round::Round;
use crate::supply::{Supply, TO_BE_DELETED};
use crate::waits;
use model::{NodeName, Reason};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is said of nodes that stay, and which nodes are to be looked at in each round.
pub(crate) struct Settled {
    pub said: Arc<BTreeMap<NodeName, Reason>>,
    pub open: Vec<NodeName>,
}

/// Sorts out, once for each survey, the nodes of which neither time nor who waits nor a budget decides anything.
pub(crate) fn settled(round: &Round<'_>, fleet: &Fleet, supply: &Supply) -> Arc<Settled> {
    let find = || {
        let (mut said, mut open) = (BTreeMap::new(), Vec::new());
        for (name, node) in &fleet.nodes {
            match stays_anyway(round, fleet, supply, name, node) {
                Some(reason) => drop(said.insert(name.clone(), reason)),
                None => open.push(name.clone()),
            }
        }
        Arc::new(Settled { said: Arc::new(said), open })
    };
    Arc::clone(supply.ground.settled.get_or_init(find))
}

/// Why a node stays, where nothing but what stands decides that: it is not ours to remove, or simply in use.
fn stays_anyway(
    round: &Round<'_>,
    fleet: &Fleet,
    supply: &Supply,
    name: &NodeName,
    node: &FleetNode,
) -> Option<Reason> {
    let account = match owner(round, fleet, node) {
        Ok(account) => account,
        Err(reason) => return Some(reason),
    };
    let plain = account.fresh
        && account.pool.frozen.is_none()
        && node.state == NodeState::Ready
        && !node.node.has_taint(TO_BE_DELETED)
        && supply.spot(name).is_some()
        && !forbids(&node.node)
        && waits::too_new(round, node, account).is_none()
        && !is_let_go(round, node, account);
    plain.then(|| in_use(round, supply, name, node, account).err()).flatten()
}
