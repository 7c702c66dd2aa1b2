//! Machines whose node has been ill for too long are replaced.
//!
//! Owns when that is, and the guard: where more than a fifth of a pool's nodes are ill, the trouble is not theirs, and
//! none is replaced. Which conditions count, and for how long each is put up with, is the cloud's to say. Budgets and
//! protections do not hold up what no longer works.

use crate::cloud::Repair;
use crate::shared::{Next, Shared, StepError};
use api::karpenter::{NodeClaim, TERMINATION_TIMESTAMP};
use clouds::watching::{code, within};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use serde_json::json;

/// Of so many nodes one may be ill; of fewer, one as well.
const ONE_OF: usize = 5;
/// Between looks while too many are ill.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// A node that is ill, among its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ill {
    /// What may be done about it, and from when on.
    pub repair: Repair,
    pub from: Timestamp,
    /// Nodes of the same pool that are ill, this one included, and all of them.
    pub peers: usize,
    pub of: usize,
}

impl Ill {
    fn is_widespread(&self) -> bool {
        self.peers > self.of.div_ceil(ONE_OF)
    }
}

/// The illness of a node that is waited for the shortest.
pub(crate) fn ill(node: &Node, repairs: &[Repair]) -> Option<(Repair, Timestamp)> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let found = repairs.iter().filter_map(|repair| {
        let condition =
            conditions.iter().find(|c| c.type_ == repair.condition && c.status == repair.status)?;
        let since = condition.last_transition_time.as_ref()?.0;
        Some((*repair, since.saturating_add(repair.after).unwrap_or(Timestamp::MAX)))
    });
    found.min_by_key(|(_, from)| *from)
}

/// One look at a node that is ill.
pub(crate) async fn look(
    shared: &Shared,
    claim: &NodeClaim,
    node: &Node,
    ill: &Ill,
    now: Timestamp,
) -> Result<Next, StepError> {
    if now < ill.from {
        return Ok(Next::At(ill.from));
    }
    if ill.is_widespread() {
        let text = format!(
            "{} of {} nodes are ill, more than one in {ONE_OF}: none of them is replaced",
            ill.peers, ill.of
        );
        shared.warn(node, "NodeRepairBlocked", text.clone());
        shared.warn(claim, "NodeRepairBlocked", text);
        return Ok(Next::At(now.saturating_add(LOOK_AGAIN).unwrap_or(now)));
    }
    // It may have recovered since it was seen.
    let fresh = match within(shared.limit, shared.nodes.get(&node.name_any())).await {
        Ok(fresh) => fresh,
        Err(error) if code(&error) == Some(404) => return Ok(Next::Wait),
        Err(error) => return Err(error.into()),
    };
    let still =
        self::ill(&fresh, &[ill.repair]).filter(|(_, from)| fresh.uid() == node.uid() && *from <= now);
    if still.is_none() {
        return Ok(Next::Wait);
    }
    // A drain that ends now, and never later than it was to end before.
    let noted = claim.annotations().get(TERMINATION_TIMESTAMP).and_then(|text| text.parse().ok());
    if noted.is_none_or(|noted: Timestamp| noted > now) {
        let patch = json!({"metadata": {"annotations": {TERMINATION_TIMESTAMP: now.to_string()}}});
        shared.patch_claim(claim, patch).await?;
    }
    let Repair { condition, status, after } = ill.repair;
    let why = format!("its node's condition {condition} has been {status} for {} s", after.as_secs());
    shared.give_up(claim, "NodeUnhealthy", &why).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPAIRS: [Repair; 3] = [
        Repair { condition: "Ready", status: "False", after: SignedDuration::from_mins(30) },
        Repair { condition: "Ready", status: "Unknown", after: SignedDuration::from_mins(30) },
        Repair { condition: "KernelReady", status: "False", after: SignedDuration::from_mins(10) },
    ];

    fn node(conditions: &[(&str, &str, i64)]) -> Node {
        let of = |(kind, status, minute): &(&str, &str, i64)| {
            let time = Timestamp::from_second(minute * 60).unwrap().to_string();
            json!({"type": kind, "status": status, "lastTransitionTime": time})
        };
        let conditions: Vec<serde_json::Value> = conditions.iter().map(of).collect();
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"conditions": conditions}}))
            .unwrap()
    }

    #[test]
    fn a_node_is_ill_for_what_its_cloud_names_and_the_shortest_wait_counts() {
        let from = |conditions: &[(&str, &str, i64)]| {
            ill(&node(conditions), &REPAIRS).map(|(repair, at)| (repair.condition, at.as_second() / 60))
        };
        assert_eq!(from(&[("Ready", "True", 0)]), None);
        assert_eq!(from(&[("MemoryPressure", "True", 0)]), None, "nobody named it");
        assert_eq!(from(&[("Ready", "Unknown", 5)]), Some(("Ready", 35)));
        assert_eq!(from(&[("Ready", "False", 0), ("KernelReady", "False", 15)]), Some(("KernelReady", 25)));
    }

    #[test]
    fn more_than_a_fifth_are_too_many() {
        let blocked =
            |peers, of| Ill { repair: REPAIRS[0], from: Timestamp::UNIX_EPOCH, peers, of }.is_widespread();
        assert_eq!([blocked(1, 1), blocked(1, 3), blocked(2, 3)], [false, false, true]);
        assert_eq!([blocked(2, 10), blocked(3, 10), blocked(3, 11)], [false, true, false]);
    }
}
