//! What ESS's answers mean in the model's words.
//!
//! Owns ids, sizes, states of machines, and why a group or a machine is not ours to change; all pure functions.

use super::ess::{ScalingActivity, ScalingGroup, ScalingInstance};
use jiff::Timestamp;
use model::{MachineId, MachineState};
use std::sync::Arc;

/// Begins the last part of the id of a machine that was asked for and could not be made.
const UNBORN: &str = "unborn-";

/// The id of a machine, in the form of `spec.providerID` on Alibaba Cloud.
pub(super) fn machine_id(region: &str, instance: &str) -> MachineId {
    MachineId::from(format!("{region}.{instance}"))
}

pub(super) fn placeholder_id(region: &str, activity: &str, number: u32) -> MachineId {
    MachineId::from(format!("{region}.{UNBORN}{activity}-{number}"))
}

pub(super) fn is_placeholder(machine: &MachineId) -> bool {
    instance_of(machine).starts_with(UNBORN)
}

/// The instance's own id: what stands after the last dot or slash, whichever form the id has.
pub(super) fn instance_of(machine: &MachineId) -> &str {
    machine.as_str().rsplit(['.', '/']).next().unwrap_or_default()
}

/// The size that a group is asked for: its desired capacity, or without one what it has and is not losing.
pub(super) fn capacity(group: &ScalingGroup) -> u32 {
    match group.desired_capacity {
        Some(desired) if group.enable_desired_capacity => desired,
        _ => [
            group.active_capacity,
            group.pending_capacity,
            group.pending_wait_capacity,
            group.protected_capacity,
            group.standby_capacity,
        ]
        .iter()
        .sum(),
    }
}

/// Why a group must not be changed by us; `None` where it may.
pub(super) fn refused_by_group(group: &ScalingGroup) -> Option<String> {
    let id = &group.scaling_group_id;
    if group.lifecycle_state != "Active" {
        return Some(format!("{id} is {} in ESS; enable the scaling group", group.lifecycle_state));
    }
    if group.system_suspended {
        return Some(format!(
            "{id} is suspended by ESS (an unpaid bill or a security lock); see its console"
        ));
    }
    if let Some(process) =
        group.suspended_processes.iter().find(|process| matches!(process.as_str(), "ScaleOut" | "ScaleIn"))
    {
        return Some(format!("the process {process} of {id} is suspended; resume it in ESS"));
    }
    if !matches!(group.group_type.as_str(), "" | "ECS") {
        return Some(format!(
            "{id} makes {} instances; only groups of ECS instances are served",
            group.group_type
        ));
    }
    if group.total_instance_count.is_some_and(|count| count < group.total_capacity) {
        return Some(format!("{id} counts weighted capacity; give all its instance types the weight 1"));
    }
    None
}

/// Why a machine must not be removed by us.
pub(super) fn closed(instance: &ScalingInstance) -> Option<String> {
    let id = &instance.instance_id;
    match instance.lifecycle_state.as_str() {
        "Protected" => return Some(format!("{id} is protected in ESS; take its protection off first")),
        "Standby" => return Some(format!("{id} is on standby in ESS; take it back into service first")),
        _ => {}
    }
    (instance.creation_type == "Attached" && !instance.entrusted)
        .then(|| format!("{id} was attached to the group by hand, so ESS would not release it"))
}

/// Whether a machine counts as there: not on its way out, not switched off to wait.
pub(super) fn is_staying(instance: &ScalingInstance) -> bool {
    let state = instance.lifecycle_state.as_str();
    !state.starts_with("Removing") && state != "Stopped"
}

/// `None` for instances that are no machines of the cluster: switched off in economical mode.
pub(super) fn state_of(instance: &ScalingInstance) -> Option<MachineState> {
    match instance.lifecycle_state.as_str() {
        "Stopped" => None,
        "Pending" | "Pending:Wait" => Some(MachineState::Creating),
        "Removing" | "Removing:Wait" => Some(MachineState::Deleting),
        _ => Some(MachineState::Running),
    }
}

pub(super) fn created_at(instance: &ScalingInstance) -> Timestamp {
    let texts = [&instance.created_time, &instance.creation_time];
    texts.into_iter().find_map(|text| moment(text)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Times come to the second or to the minute (`2026-01-02T03:04Z`).
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Names by which a node without providerID may be known to be this machine: its private address, and the host name
/// that ECS gives where nobody chose one.
pub(super) fn aliases(instance: &ScalingInstance) -> Vec<Arc<str>> {
    let mut names = vec![Arc::from(instance.instance_id.as_str())];
    if !instance.private_ip_address.is_empty() {
        names.push(Arc::from(instance.private_ip_address.as_str()));
    }
    if let Some(rest) = instance.instance_id.strip_prefix("i-") {
        names.push(Arc::from(format!("iz{rest}z")));
    }
    names
}

pub(super) fn is_running(activity: &ScalingActivity) -> bool {
    activity.status_code == "InProgress"
}

/// Why an activity brought less than was asked of it; `None` where it succeeded or still runs.
pub(super) fn shortage(activity: &ScalingActivity) -> Option<(Arc<str>, Arc<str>)> {
    if !matches!(activity.status_code.as_str(), "Failed" | "Warning" | "Rejected") {
        return None;
    }
    let first = activity.error_messages.first();
    let code = [activity.error_code.as_str(), first.map_or("", |error| &error.code)];
    let code = code.into_iter().find(|code| !code.is_empty()).unwrap_or("ScalingActivityFailed");
    let messages = [
        activity.error_message.as_str(),
        first.map_or("", |error| &error.message),
        first.map_or("", |error| &error.description),
        &activity.detail,
        &activity.status_message,
        &activity.cause,
    ];
    let message = messages.into_iter().find(|text| !text.is_empty()).unwrap_or("ESS gives no message");
    Some((Arc::from(code), Arc::from(message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_both_forms() {
        for id in ["cn-hangzhou.i-bp1", "alicloud://cn-hangzhou/i-bp1", "i-bp1"] {
            assert_eq!(instance_of(&MachineId::from(id)), "i-bp1");
        }
        assert!(is_placeholder(&placeholder_id("cn-hangzhou", "asa-1", 0)));
        assert!(!is_placeholder(&machine_id("cn-hangzhou", "i-bp1")));
    }

    #[test]
    fn times_to_the_minute_are_read() {
        let instance = ScalingInstance { creation_time: "2026-01-02T03:04Z".into(), ..Default::default() };
        assert_eq!(created_at(&instance).to_string(), "2026-01-02T03:04:00Z");
    }

    #[test]
    fn hosts_are_known_by_address_and_by_the_name_that_ecs_gives() {
        let instance = ScalingInstance {
            instance_id: "i-bp1abc".into(),
            private_ip_address: "192.168.0.7".into(),
            ..Default::default()
        };
        let names: Vec<String> = aliases(&instance).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["i-bp1abc", "192.168.0.7", "izbp1abcz"]);
    }
}
