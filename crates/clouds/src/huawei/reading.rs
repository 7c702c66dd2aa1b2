//! What CCE's answers mean in the model's words.
//!
//! Owns ids, states of machines, shortages, and why a pool is not ours to change; all pure functions.

use super::cce::{CceNode, DEFAULT_GROUP, NodePool};
use jiff::{SignedDuration, Timestamp};
use model::{MachineId, MachineState, PoolOptions};
use std::sync::Arc;

/// Begins ids of machines: the id of the node at CCE follows.
const MACHINE: &str = "cce/";
/// Begins ids of machines that were asked for and cannot be made: the pool's id and a number follow.
const UNBORN: &str = "cce-unborn/";

pub(super) fn machine_id(node: &CceNode) -> MachineId {
    MachineId::from(format!("{MACHINE}{}", node.metadata.uid))
}

pub(super) fn placeholder_id(pool: &str, number: u32) -> MachineId {
    MachineId::from(format!("{UNBORN}{pool}/{number}"))
}

/// The number of a machine that cannot be made.
pub(super) fn placeholder_number(machine: &MachineId) -> Option<u32> {
    machine.as_str().strip_prefix(UNBORN)?.rsplit_once('/')?.1.parse().ok()
}

/// The id of the node at CCE.
pub(super) fn node_of(machine: &MachineId) -> &str {
    machine.as_str().strip_prefix(MACHINE).unwrap_or(machine.as_str())
}

pub(super) fn state_of(node: &CceNode) -> MachineState {
    let status = &node.status;
    match status.phase.as_str() {
        "Build" | "Installing" => MachineState::Creating,
        "Deleting" => MachineState::Deleting,
        // One that once ran has an address: whether it still does its work, its node says.
        "Error" if status.private_ip.is_empty() => MachineState::Failed {
            code: Arc::from("NodeError"),
            message: Arc::from("CCE could not make the node; its console says why"),
        },
        _ => MachineState::Running,
    }
}

/// Whether a machine counts as there.
pub(super) fn is_staying(node: &CceNode) -> bool {
    node.status.phase != "Deleting"
}

pub(super) fn created_at(node: &CceNode) -> Timestamp {
    // Such as `2026-01-02 03:04:05.678 +0000 UTC`, or RFC 3339.
    let text = &node.metadata.creation_timestamp;
    let plain = text.strip_suffix(" UTC").unwrap_or(text);
    let spelled = || Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f %z", plain);
    text.parse().or_else(|_| spelled()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Names by which the cluster may know the machine: its address, its server's id, its name.
pub(super) fn aliases(node: &CceNode) -> Vec<Arc<str>> {
    let names = [&node.status.private_ip, &node.status.server_id, &node.metadata.name];
    names.into_iter().filter(|name| !name.is_empty()).map(|name| Arc::from(name.as_str())).collect()
}

/// Why the pool gets no more nodes for now, as code and message.
pub(super) fn shortage(pool: &NodePool) -> Option<(Arc<str>, Arc<str>)> {
    let conditions = &pool.status.conditions;
    let causes = ["ResourceInsufficient", "QuotaInsufficient", "UnexpectedError"];
    let cause = causes.iter().find_map(|kind| {
        conditions.iter().find(|condition| condition.kind == *kind && condition.status == "True")
    });
    let stopped =
        conditions.iter().find(|condition| condition.kind == "Scalable" && condition.status == "False");
    let sold_out = pool.status.phase == "SoldOut";
    if cause.is_none() && stopped.is_none() && !sold_out {
        return None;
    }
    let told = cause.or(stopped);
    let code = match (cause, told) {
        (Some(cause), _) => cause.kind.as_str(),
        (None, Some(stopped)) if !stopped.reason.is_empty() => &stopped.reason,
        _ => "SoldOut",
    };
    let message = told.map(|condition| [condition.message.as_str(), &condition.reason]).unwrap_or_default();
    let message = message.into_iter().find(|text| !text.is_empty()).unwrap_or("CCE gives no message");
    Some((Arc::from(code), Arc::from(message)))
}

/// Why a pool must not be changed by us; `None` where it may.
pub(super) fn refused_by_pool(pool: &NodePool) -> Option<String> {
    let name = &pool.metadata.name;
    if pool.status.phase == "Deleting" {
        return Some(format!("node pool {name} is being deleted"));
    }
    let error = pool.status.conditions.iter().find(|one| one.kind == "Error" && one.status == "True")?;
    Some(format!("node pool {name} is in error at CCE ({}); see its console", error.message))
}

/// The groups of a pool that new nodes may come from.
pub(super) fn groups_of(pool: &NodePool) -> Vec<&str> {
    let more = pool.spec.extension_scale_groups.iter().map(|group| group.metadata.name.as_str());
    [DEFAULT_GROUP].into_iter().chain(more).collect()
}

/// What the pool's own elastic scaling says of it.
pub(super) fn options(pool: &NodePool) -> PoolOptions {
    let own = &pool.spec.autoscaling;
    if !own.enable {
        return PoolOptions::default();
    }
    let minutes = |number: i64| (number > 0).then(|| SignedDuration::from_mins(number));
    PoolOptions {
        cool_down: minutes(own.scale_down_cooldown_time),
        unneeded_time: own.scale_down_unneeded_time.and_then(minutes),
        utilization_threshold_percent: own
            .scale_down_utilization_threshold
            .filter(|share| (0.0..=1.0).contains(share))
            .map(|share| (share * 100.0).round() as u32),
        ..PoolOptions::default()
    }
}
