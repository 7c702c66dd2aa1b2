//! The actions, one function each, with the refusals that the service documents.

use super::Refusal;
use super::query::Query;
use super::world::{Activity, Group, Instance, Rule, World};
use jiff::Timestamp;
use serde_json::{Value, json};

type Answer = Result<Value, Refusal>;

/// Machines that one removal may name.
const REMOVED_AT_ONCE: usize = 20;

pub(super) fn act(world: &mut World, product: &str, action: &str, query: &Query, now: Timestamp) -> Answer {
    match (product, action) {
        ("ess", "DescribeScalingGroups") => Ok(groups(world, query)),
        ("ess", "DescribeScalingInstances") => instances(world, query, now),
        ("ess", "DescribeScalingActivities") => activities(world, query),
        ("ess", "DescribeScalingConfigurations") => Ok(configurations(world, query)),
        ("ess", "DescribeScalingRules") => rules(world, query),
        ("ess", "ScaleWithAdjustment") => once(world, query, action, |world| {
            let group = existing(world, query)?;
            let kind = query.get("AdjustmentType");
            let value = query.number("AdjustmentValue").ok_or_else(|| missing("AdjustmentValue"))?;
            let id = adjust(world, &group, kind, value, now)?;
            Ok(json!({"ScalingActivityId": id, "ActivityType": "CapacityChange"}))
        }),
        ("ess", "CreateScalingRule") => create_rule(world, query),
        ("ess", "ModifyScalingRule") => modify_rule(world, query),
        ("ess", "ExecuteScalingRule") => once(world, query, action, |world| {
            let ari = query.get("ScalingRuleAri");
            let rule = world.rules.iter().find(|rule| ari_of(rule) == ari).cloned();
            let rule = rule.ok_or_else(|| not_found("ScalingRuleAri"))?;
            let id = adjust(world, &rule.group, &rule.adjustment_type, rule.adjustment_value, now)?;
            Ok(json!({"ScalingActivityId": id}))
        }),
        ("ess", "RemoveInstances") => once(world, query, action, |world| remove(world, query, now)),
        ("ecs", "DescribeInstanceTypes") => Ok(types(world, query)),
        _ => {
            Err(Refusal::new(404, "InvalidAction.NotFound", format!("Specified api {action} is not found.")))
        }
    }
}

/// The same token gets the same answer, and nothing is done a second time.
fn once(
    world: &mut World,
    query: &Query,
    action: &str,
    carry_out: impl FnOnce(&mut World) -> Answer,
) -> Answer {
    let token = query.get("ClientToken").to_owned();
    if token.is_empty() {
        return carry_out(world);
    }
    if token.len() > 64 {
        return Err(Refusal::new(
            400,
            "InvalidParameter",
            "The specified value of ClientToken is not valid.",
        ));
    }
    let asked = format!("{action} {}", query.canonical());
    if let Some((known, answer)) = world.tokens.get(&token) {
        if *known != asked {
            let message = "The parameters differ from those of the request with the same ClientToken.";
            return Err(Refusal::new(400, "IdempotentParameterMismatch", message));
        }
        return serde_json::from_str(answer).map_err(|error| Refusal::new(500, "", error.to_string()));
    }
    let answer = carry_out(world)?;
    world.tokens.insert(token, (asked, answer.to_string()));
    Ok(answer)
}

fn missing(name: &str) -> Refusal {
    Refusal::new(400, "MissingParameter", format!("{name} is mandatory for this action."))
}

fn not_found(name: &str) -> Refusal {
    let message = format!("The specified {name} does not exist.");
    Refusal::new(404, &format!("Invalid{name}.NotFound"), message)
}

fn existing(world: &World, query: &Query) -> Result<String, Refusal> {
    let id = query.get("ScalingGroupId");
    if id.is_empty() {
        return Err(missing("ScalingGroupId"));
    }
    if world.groups.contains_key(id) { Ok(id.to_owned()) } else { Err(not_found("ScalingGroupId")) }
}

fn paged(query: &Query, all: Vec<Value>, name: &str) -> Value {
    let size = query.number("PageSize").unwrap_or(10).clamp(1, 50) as usize;
    let page = query.number("PageNumber").unwrap_or(1).max(1) as usize;
    let total = all.len();
    let shown: Vec<Value> = all.into_iter().skip((page - 1) * size).take(size).collect();
    json!({"TotalCount": total, "PageNumber": page, "PageSize": size, name: shown})
}

fn tags(tags: &[(String, String)], key: &str, value: &str) -> Vec<Value> {
    tags.iter().map(|(name, text)| json!({key: name, value: text})).collect()
}

fn groups(world: &World, query: &Query) -> Value {
    let wanted = query.list("ScalingGroupIds");
    let all = world.groups.iter().filter(|(id, _)| wanted.is_empty() || wanted.contains(id));
    paged(query, all.map(|(id, group)| group_value(world, id, group)).collect(), "ScalingGroups")
}

fn group_value(world: &World, id: &str, group: &Group) -> Value {
    let mut value = json!({
        "ScalingGroupId": id,
        "ScalingGroupName": group.name,
        "RegionId": world.region,
        "LifecycleState": if group.inactive { "Inactive" } else { "Active" },
        "GroupType": "ECS",
        "MinSize": group.min,
        "MaxSize": group.max,
        "EnableDesiredCapacity": group.desired.is_some(),
        "TotalCapacity": group.instances.len(),
        "TotalInstanceCount": group.instances.len(),
        "ActiveCapacity": group.count("InService"),
        "PendingCapacity": group.count("Pending"),
        "PendingWaitCapacity": 0,
        "ProtectedCapacity": group.count("Protected"),
        "StandbyCapacity": 0,
        "StoppedCapacity": 0,
        "RemovingCapacity": group.count("Removing"),
        "RemovingWaitCapacity": group.count("Removing:Wait"),
        "ActiveScalingConfigurationId": group.configuration.id,
        "SuspendedProcesses": [],
        "SystemSuspended": false,
        "Tags": tags(&group.tags, "TagKey", "TagValue"),
    });
    // Without a desired capacity the field is absent, not null.
    if let Some(desired) = group.desired {
        value["DesiredCapacity"] = json!(desired);
    }
    value
}

fn instances(world: &mut World, query: &Query, now: Timestamp) -> Answer {
    let id = existing(world, query)?;
    let left_out = match &mut world.list_without {
        Some((name, times)) if *times > 0 => {
            *times -= 1;
            Some(name.clone())
        }
        _ => None,
    };
    let region = world.region.clone();
    let (delay, twice) = (world.listed_after, world.list_twice);
    let group = &world.groups[&id];
    let shown = |(name, instance): &(&String, &Instance)| {
        now.duration_since(instance.created) >= delay && left_out.as_ref() != Some(*name)
    };
    let mut all: Vec<Value> = group
        .instances
        .iter()
        .filter(shown)
        .map(|(name, instance)| {
            json!({
                "InstanceId": name,
                "ScalingGroupId": id,
                "LifecycleState": instance.state,
                "HealthStatus": "Healthy",
                "CreationType": if instance.attached { "Attached" } else { "AutoCreated" },
                "CreatedTime": instance.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "CreationTime": instance.created.strftime("%Y-%m-%dT%H:%MZ").to_string(),
                "PrivateIpAddress": instance.address,
                "ZoneId": format!("{region}-h"),
            })
        })
        .collect();
    if twice {
        all = all.iter().flat_map(|one| [one.clone(), one.clone()]).collect();
    }
    Ok(paged(query, all, "ScalingInstances"))
}

fn activities(world: &World, query: &Query) -> Answer {
    let id = existing(world, query)?;
    let all = world.activities.iter().rev().filter(|activity| activity.group == id);
    Ok(paged(query, all.map(activity_value).collect(), "ScalingActivities"))
}

fn activity_value(activity: &Activity) -> Value {
    let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%MZ").to_string();
    let mut value = json!({
        "ScalingActivityId": activity.id,
        "ScalingGroupId": activity.group,
        "StatusCode": activity.status,
        "StatusMessage": activity.cause,
        "Cause": activity.cause,
        "StartTime": time(activity.started),
        "Progress": if activity.ended.is_some() { 100 } else { 50 },
        "CreatedCapacity": activity.created.len(),
        "CreatedInstances": activity.created,
        "DestroyedCapacity": activity.destroyed.len(),
        "DestroyedInstances": activity.destroyed,
        "ScalingInstanceNumber": activity.created.len() + activity.destroyed.len(),
    });
    if let Some(ended) = activity.ended {
        value["EndTime"] = json!(time(ended));
    }
    if let Some((code, message)) = activity.error.as_ref().filter(|_| activity.ended.is_some()) {
        value["ErrorCode"] = json!(code);
        value["ErrorMessage"] = json!(message);
    }
    value
}

fn configurations(world: &World, query: &Query) -> Value {
    let wanted = query.list("ScalingConfigurationIds");
    let all = world.groups.iter().filter(|(_, group)| wanted.contains(&group.configuration.id));
    let values = all.map(|(id, group)| {
        let configuration = &group.configuration;
        json!({
            "ScalingConfigurationId": configuration.id,
            "ScalingGroupId": id,
            "InstanceType": configuration.types.first(),
            "InstanceTypes": configuration.types,
            "SystemDiskSize": configuration.disk_gib,
            "ZoneId": configuration.zone,
            "Tags": tags(&configuration.tags, "Key", "Value"),
            "LifecycleState": "Active",
        })
    });
    paged(query, values.collect(), "ScalingConfigurations")
}

fn types(world: &World, query: &Query) -> Value {
    let wanted = query.list("InstanceTypes");
    let all = world.types.iter().filter(|one| wanted.is_empty() || wanted.contains(&one.name));
    let values: Vec<Value> = all
        .map(|one| {
            json!({
                "InstanceTypeId": one.name, "CpuCoreCount": one.cpu, "MemorySize": one.memory_gib,
                "CpuArchitecture": if one.arm { "ARM" } else { "X86" },
                "GPUAmount": one.gpus, "GPUSpec": if one.gpus > 0 { "NVIDIA T4" } else { "" },
            })
        })
        .collect();
    json!({"InstanceTypes": {"InstanceType": values}, "NextToken": ""})
}

/// Sets the size of a group; answers the activity.
fn adjust(world: &mut World, id: &str, kind: &str, value: i64, now: Timestamp) -> Result<String, Refusal> {
    if world.groups.get(id).is_none_or(|group| group.inactive) {
        let message = "The current status of the specified scaling group does not support this action.";
        return Err(Refusal::new(400, "IncorrectScalingGroupStatus", message));
    }
    if world.is_busy(id) {
        let message = "You cannot perform this operation because the scaling group has an ongoing activity.";
        return Err(Refusal::new(400, "ScalingActivityInProgress", message));
    }
    let group = &world.groups[id];
    let (staying, bounds) = (group.staying(), (i64::from(group.min), i64::from(group.max)));
    let wanted = match kind {
        "TotalCapacity" => value,
        "QuantityChangeInCapacity" => i64::from(staying) + value,
        _ => return Err(Refusal::new(400, "InvalidParameter", format!("AdjustmentType {kind}"))),
    };
    // Outside of the bounds the service does less without saying so.
    let wanted = wanted.clamp(bounds.0, bounds.1.max(bounds.0)) as u32;
    if let Some(group) = world.groups.get_mut(id)
        && group.desired.is_some()
    {
        group.desired = Some(wanted);
    }
    let cause = format!("A user requests to change the total capacity to \"{wanted}\".");
    if wanted >= staying {
        return Ok(world.grow(id, wanted - staying, &cause, now));
    }
    let surplus = (staying - wanted) as usize;
    world.chosen_by_ess += surplus as u32;
    let group = &world.groups[id];
    let chosen = group.instances.iter().filter(|(_, one)| !one.state.starts_with("Removing"));
    let names: Vec<String> = chosen.map(|(name, _)| name.clone()).take(surplus).collect();
    Ok(world.shrink(id, &names, &cause, now))
}

fn ari_of(rule: &Rule) -> String {
    format!("ari:acs:ess:cn-hangzhou:140692647****:scalingrule/{}", rule.id)
}

fn rules(world: &World, query: &Query) -> Answer {
    let id = existing(world, query)?;
    let names = query.list("ScalingRuleNames");
    let all = world
        .rules
        .iter()
        .filter(|rule| rule.group == id && (names.is_empty() || names.contains(&rule.name)));
    let values = all.map(|rule| {
        json!({
            "ScalingRuleId": rule.id, "ScalingRuleAri": ari_of(rule), "ScalingRuleName": rule.name,
            "ScalingGroupId": rule.group, "ScalingRuleType": "SimpleScalingRule", "Cooldown": 0,
            "AdjustmentType": rule.adjustment_type, "AdjustmentValue": rule.adjustment_value,
        })
    });
    Ok(paged(query, values.collect(), "ScalingRules"))
}

fn create_rule(world: &mut World, query: &Query) -> Answer {
    let group = existing(world, query)?;
    let name = query.get("ScalingRuleName").to_owned();
    if world.rules.iter().any(|rule| rule.group == group && rule.name == name) {
        let message = "The specified value of parameter ScalingRuleName is duplicated.";
        return Err(Refusal::new(400, "InvalidScalingRuleName.Duplicate", message));
    }
    let id = format!("asr-bp1{:05}", world.rules.len() + 1);
    let adjustment_value = query.number("AdjustmentValue").ok_or_else(|| missing("AdjustmentValue"))?;
    let adjustment_type = query.get("AdjustmentType").to_owned();
    let rule = Rule { id, group, name, adjustment_type, adjustment_value };
    let answer = json!({"ScalingRuleId": rule.id, "ScalingRuleAri": ari_of(&rule)});
    world.rules.push(rule);
    Ok(answer)
}

fn modify_rule(world: &mut World, query: &Query) -> Answer {
    let id = query.get("ScalingRuleId");
    let rule = world.rules.iter_mut().find(|rule| rule.id == id);
    let rule = rule.ok_or_else(|| not_found("ScalingRuleId"))?;
    if let Some(value) = query.number("AdjustmentValue") {
        rule.adjustment_value = value;
    }
    if !query.get("AdjustmentType").is_empty() {
        query.get("AdjustmentType").clone_into(&mut rule.adjustment_type);
    }
    Ok(json!({}))
}

fn remove(world: &mut World, query: &Query, now: Timestamp) -> Answer {
    let id = existing(world, query)?;
    let names = query.list("InstanceIds");
    if names.is_empty() || names.len() > REMOVED_AT_ONCE {
        return Err(Refusal::new(400, "InvalidParameter", "InstanceIds needs 1 to 20 values."));
    }
    if world.is_busy(&id) {
        let message = "You cannot perform this operation because the scaling group has an ongoing activity.";
        return Err(Refusal::new(400, "ScalingActivityInProgress", message));
    }
    let group = &world.groups[&id];
    let mut ignored = Vec::new();
    let mut taken = Vec::new();
    for name in names {
        let wrong = match group.instances.get(&name).map(|one| one.state) {
            None => Some("InvalidInstanceId.NotFound"),
            Some("InService" | "Standby") => None,
            Some(_) => Some("IncorrectInstanceStatus"),
        };
        match wrong {
            None => taken.push(name),
            Some(code) if query.is_true("IgnoreInvalidInstance", false) => {
                ignored
                    .push(json!({"InstanceId": name, "Code": code, "Message": format!("{name} is ignored")}));
            }
            Some(code) => return Err(Refusal::new(400, code, format!("{name} cannot be removed"))),
        }
    }
    if group.staying() < group.min + taken.len() as u32 {
        let message = "The capacity after the removal would be less than the MinSize.";
        return Err(Refusal::new(400, "IncorrectCapacity.MinSize", message));
    }
    if let Some(group) = world.groups.get_mut(&id)
        && let Some(desired) = &mut group.desired
        && query.is_true("DecreaseDesiredCapacity", true)
    {
        *desired = desired.saturating_sub(taken.len() as u32);
    }
    let activity = world.shrink(&id, &taken, "A user requests to remove instances.", now);
    Ok(json!({"ScalingActivityId": activity, "IgnoredInstances": ignored}))
}
