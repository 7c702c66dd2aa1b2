//! What AWS's answers mean in the model's words.
//!
//! Owns ids, sizes, states of machines, shortages, the zone that comes next, and why a group is not ours to change;
//! all pure functions.

use super::cloud::{Activity, Group, Instance, Launch};
use model::{MachineId, MachineState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Begins the id of a machine that was asked for and could not be made; Cluster Autoscaler's form.
const PLACEHOLDER: &str = "i-placeholder-";

/// The id of a machine, in the form of `spec.providerID` on AWS.
pub(super) fn machine_id(zone: &str, instance: &str) -> MachineId {
    MachineId::from(format!("aws:///{zone}/{instance}"))
}

pub(super) fn placeholder_id(zone: &str, group: &str, activity: &str, number: u32) -> MachineId {
    machine_id(zone, &format!("{PLACEHOLDER}{group}-{activity}-{number}"))
}

pub(super) fn is_placeholder(machine: &MachineId) -> bool {
    instance_of(machine).is_some_and(|id| id.starts_with(PLACEHOLDER))
}

/// The instance's own id; `None` where it is no id of AWS's.
pub(super) fn instance_of(machine: &MachineId) -> Option<&str> {
    let path = machine.as_str().strip_prefix("aws://")?;
    path.rsplit('/').next().filter(|id| id.starts_with("i-"))
}

/// Why a group must not be changed by us; `None` where it may.
pub(super) fn refused_by_group(group: &Group) -> Option<String> {
    let name = &group.name;
    if !group.status.is_empty() {
        return Some(format!("{name} is being deleted ({})", group.status));
    }
    if let Some(process) =
        ["Launch", "Terminate"].into_iter().find(|process| group.suspended.contains(*process))
    {
        return Some(format!("the process {process} of {name} is suspended; resume it in Auto Scaling"));
    }
    if !matches!(group.unit.as_str(), "" | "units") {
        return Some(format!(
            "{name} counts its capacity in {}; set its desired capacity type to units",
            group.unit
        ));
    }
    let weighted = |launch: &Launch| match launch {
        Launch::Configuration(_) => false,
        Launch::Template { overrides, .. } => {
            overrides.iter().any(|one| one.weight.as_ref().is_some_and(|weight| weight != "1"))
        }
    };
    if group.launch.as_ref().is_some_and(weighted) {
        return Some(format!("{name} counts weighted capacity; give all its instance types the weight 1"));
    }
    None
}

/// Whether a machine counts towards what the group was asked for.
pub(super) fn is_staying(instance: &Instance) -> bool {
    let state = instance.state.as_str();
    let elsewhere = ["Terminat", "Detach", "Standby", "EnteringStandby", "Warmed:"];
    !elsewhere.iter().any(|prefix| state.starts_with(prefix))
}

pub(super) fn is_leaving(instance: &Instance) -> bool {
    instance.state.starts_with("Terminat")
}

/// `None` for instances that are no machines of the cluster: in the warm pool, or given to somebody else.
pub(super) fn state_of(instance: &Instance) -> Option<MachineState> {
    let state = instance.state.as_str();
    if state.starts_with("Warmed:") || state.starts_with("Detach") || state == "Terminated" {
        return None;
    }
    if state.starts_with("Pending") || state == "Quarantined" {
        return Some(MachineState::Creating);
    }
    Some(if is_leaving(instance) { MachineState::Deleting } else { MachineState::Running })
}

/// The instance that an activity launches, by its description.
pub(super) fn launched(activity: &Activity) -> Option<&str> {
    let (what, id) = activity.description.split_once(": ")?;
    let id = id.split_whitespace().next().filter(|id| id.starts_with("i-"))?;
    what.starts_with("Launching a new EC2 instance").then_some(id)
}

pub(super) fn is_running(activity: &Activity) -> bool {
    !matches!(activity.status.as_str(), "Successful" | "Failed" | "Cancelled")
}

/// Why an activity brought no machine; `None` where it did, still runs, or was about something else.
pub(super) fn shortage(activity: &Activity) -> Option<(Arc<str>, Arc<str>)> {
    let launches = activity.description.starts_with("Launching a new EC2 instance");
    if !launches || !matches!(activity.status.as_str(), "Failed" | "Cancelled") {
        return None;
    }
    let message = if activity.message.is_empty() { "AWS gives no message" } else { &activity.message };
    Some((Arc::from(code_of(message)), Arc::from(message)))
}

/// The code in an activity's text; AWS gives it no field of its own.
fn code_of(message: &str) -> &str {
    let known = [
        ("do not have sufficient", "InsufficientInstanceCapacity"),
        ("InsufficientInstanceCapacity", "InsufficientInstanceCapacity"),
        ("no Spot capacity available", "InsufficientInstanceCapacity"),
        ("UnfulfillableCapacity", "UnfulfillableCapacity"),
        ("vCPU limit", "VcpuLimitExceeded"),
        ("MaxSpotInstanceCountExceeded", "MaxSpotInstanceCountExceeded"),
        ("ree addresses", "InsufficientFreeAddressesInSubnet"),
        ("not authorized", "UnauthorizedOperation"),
    ];
    if let Some((_, code)) = known.iter().find(|(part, _)| message.contains(part)) {
        return code;
    }
    // "Some.Code - The sentence", as AWS writes many.
    let head = message.split(" - ").next().unwrap_or_default();
    let is_code = !head.is_empty() && head.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    if is_code && head != message { head } else { "LaunchFailed" }
}

/// The zone in which the group's next machine will be: the one with the fewest, as Auto Scaling chooses, the first of
/// several that are equal.
pub(super) fn next_zone(group: &Group) -> Option<(&str, Option<&str>)> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for instance in group.instances.iter().filter(|instance| is_staying(instance)) {
        *counts.entry(instance.zone.as_str()).or_default() += 1;
    }
    let fewest = |counts: &BTreeMap<&str, u32>| {
        let least =
            group.zones.iter().min_by_key(|(zone, _)| counts.get(zone.as_str()).copied().unwrap_or(0));
        least.map(|(zone, id)| (zone.as_str(), id.as_deref()))
    };
    let here: u32 = counts.values().sum();
    // What is on its way and not listed yet takes its places first.
    for _ in here..group.desired {
        let (zone, _) = fewest(&counts)?;
        *counts.entry(zone).or_default() += 1;
    }
    fewest(&counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn group(desired: u32, zones: &[&str], instances: &[(&str, &str)]) -> Group {
        let instance = |(number, (zone, state)): (usize, &(&str, &str))| Instance {
            id: format!("i-{number}"),
            zone: (*zone).into(),
            state: (*state).into(),
        };
        Group {
            name: "workers".into(),
            min: 0,
            max: 10,
            desired,
            zones: zones.iter().map(|zone| ((*zone).to_owned(), None)).collect(),
            instances: instances.iter().enumerate().map(instance).collect(),
            tags: BTreeMap::new(),
            suspended: [].into(),
            status: String::new(),
            unit: String::new(),
            created: None,
            launch: None,
        }
    }

    #[test]
    fn ids_are_read_as_nodes_carry_them() {
        for (id, expected) in [
            ("aws:///us-east-1a/i-260942b3", Some("i-260942b3")),
            ("aws://us-east-1a/i-260942b3", Some("i-260942b3")),
            (
                "aws:///us-east-1a/i-placeholder-K3-EKS-SPOT-18CPU-36GB-v1.2-x-0",
                Some("i-placeholder-K3-EKS-SPOT-18CPU-36GB-v1.2-x-0"),
            ),
            ("aws123", None),
            ("aws:///us-east-1a/fargate-10.0.0.1", None),
        ] {
            assert_eq!(instance_of(&MachineId::from(id)), expected, "{id}");
        }
        assert!(is_placeholder(&placeholder_id("a", "g", "x", 0)));
        assert!(!is_placeholder(&machine_id("a", "i-1")));
    }

    #[test]
    fn states_of_instances_are_sorted() {
        let state =
            |state: &str| state_of(&Instance { state: state.into(), id: "i".into(), zone: "a".into() });
        for (name, expected) in [
            ("Pending:Wait", Some(MachineState::Creating)),
            ("InService", Some(MachineState::Running)),
            ("Standby", Some(MachineState::Running)),
            ("Terminating:Proceed", Some(MachineState::Deleting)),
            ("Warmed:Stopped", None),
            ("Detached", None),
        ] {
            assert_eq!(state(name), expected, "{name}");
        }
    }

    #[test]
    fn shortages_have_a_code() {
        let activity = |status: &str, message: &str| Activity {
            description: "Launching a new EC2 instance.  Status Reason: x".into(),
            status: status.into(),
            message: message.into(),
            ..Activity::default()
        };
        let code = |status, message| shortage(&activity(status, message)).map(|(code, _)| code.to_string());
        let sold_out = "We currently do not have sufficient p4d.24xlarge capacity in zones with support for 'gp2' volumes.";
        assert_eq!(code("Failed", sold_out).as_deref(), Some("InsufficientInstanceCapacity"));
        assert_eq!(code("Failed", "Client.Unsupported - no").as_deref(), Some("Client.Unsupported"));
        assert_eq!(code("Failed", "it broke").as_deref(), Some("LaunchFailed"));
        assert_eq!(code("InProgress", sold_out), None);
        assert_eq!(
            launched(&Activity {
                description: "Launching a new EC2 instance: i-1".into(),
                ..Activity::default()
            }),
            Some("i-1")
        );
    }

    #[test]
    fn the_next_zone_is_the_emptiest_after_what_is_on_its_way() {
        let zone = |group: &Group| next_zone(group).map(|(zone, _)| zone.to_owned());
        assert_eq!(zone(&group(0, &["a", "b"], &[])).as_deref(), Some("a"));
        assert_eq!(zone(&group(1, &["a", "b"], &[("a", "InService")])).as_deref(), Some("b"));
        assert_eq!(zone(&group(1, &["a", "b"], &[])).as_deref(), Some("b"));
        let three = [("a", "InService"), ("b", "Terminating"), ("c", "Pending")];
        assert_eq!(zone(&group(2, &["a", "b", "c"], &three)).as_deref(), Some("b"));
        assert_eq!(zone(&group(0, &[], &[])), None);
    }

    #[test]
    fn groups_that_cannot_be_sized_by_number_are_refused() {
        let refused = |change: fn(&mut Group)| {
            let mut group = group(0, &["a"], &[]);
            change(&mut group);
            refused_by_group(&group)
        };
        assert_eq!(refused(|_| {}), None);
        assert!(refused(|group| group.status = "Delete in progress".into()).is_some());
        assert!(
            refused(|group| group.suspended = ["Launch".into()].into())
                .is_some_and(|why| why.contains("resume"))
        );
        assert_eq!(refused(|group| group.suspended = ["AZRebalance".into()].into()), None);
        assert!(refused(|group| group.unit = "vcpu".into()).is_some_and(|why| why.contains("units")));
    }
}
