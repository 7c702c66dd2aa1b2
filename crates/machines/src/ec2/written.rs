//! What is written for an EC2NodeClass: its status, its finalizer, and the instance profile of its role.
//!
//! Owns the conditions' names. Only the replica that leads writes; the others find what it made.

use super::resolve::{Resolved, Wrong};
use super::{CLASS, EKS_CLUSTER, Shared, learned};
use api::karpenter::{Ec2NodeClass, Ec2NodeClassStatus, Found, FoundAmi, FoundSubnet, NodeRequirement};
use clouds::watching::{describe, within};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use std::collections::BTreeMap;

/// In the order in which they are looked at; `Ready` sums them up.
const CONDITIONS: [&str; 5] =
    ["ValidationSucceeded", "SubnetsReady", "SecurityGroupsReady", "AMIsReady", "InstanceProfileReady"];
const READY: &str = "Ready";
const FINALIZER: &str = "karpenter.k8s.aws/termination";

/// Brings a class' status in line with what was found.
pub(super) async fn keep(shared: &Shared, object: &Ec2NodeClass, found: &Result<Resolved, Wrong>) {
    if !(shared.leads)() {
        return;
    }
    let result = if object.metadata.deletion_timestamp.is_some() {
        end(shared, object).await
    } else {
        write(shared, object, found).await
    };
    if let Err(why) = result {
        tracing::warn!(ec2nodeclass = object.name_any(), why, "the class is not written; tried again");
    }
}

async fn write(
    shared: &Shared,
    object: &Ec2NodeClass,
    found: &Result<Resolved, Wrong>,
) -> Result<(), String> {
    let api: Api<Ec2NodeClass> = Api::all(shared.client.clone());
    let name = object.name_any();
    let limit = shared.settings.watches.call_timeout;
    if !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        let mut all = object.finalizers().to_vec();
        all.push(FINALIZER.to_owned());
        let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": all}});
        within(limit, api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)))
            .await
            .map_err(|error| describe(&error))?;
    }
    if let Some(note) = learned::wanted(shared, object) {
        let patch = json!({"metadata": {"annotations": {learned::NOTE: note}}});
        within(limit, api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)))
            .await
            .map_err(|error| describe(&error))?;
    }
    let before = object.status.clone().unwrap_or_default();
    let status = status(shared, object, &before, found);
    if status == before {
        return Ok(());
    }
    let value = json!({"status": {
        "subnets": status.subnets,
        "securityGroups": status.security_groups,
        "amis": status.amis,
        "instanceProfile": status.instance_profile,
        "conditions": status.conditions,
    }});
    within(limit, api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&value)))
        .await
        .map(drop)
        .map_err(|error| describe(&error))
}

fn status(
    shared: &Shared,
    object: &Ec2NodeClass,
    before: &Ec2NodeClassStatus,
    found: &Result<Resolved, Wrong>,
) -> Ec2NodeClassStatus {
    let mut status = before.clone();
    let set = |status: &mut Ec2NodeClassStatus, kind: &str, value: &str, reason: &str, message: &str| {
        let known = status.conditions.iter().find(|condition| condition.type_ == kind).cloned();
        let since = known.filter(|known| known.status == value).map(|known| known.last_transition_time);
        status.conditions.retain(|condition| condition.type_ != kind);
        status.conditions.push(Condition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: since.unwrap_or_else(|| Time(shared.now())),
            observed_generation: object.metadata.generation,
        });
    };
    match found {
        Ok(resolved) => {
            for kind in CONDITIONS.into_iter().chain([READY]) {
                set(&mut status, kind, "True", kind, "");
            }
            status.subnets = resolved
                .subnets
                .iter()
                .map(|subnet| FoundSubnet {
                    id: subnet.id.clone(),
                    zone: subnet.zone.clone(),
                    zone_id: subnet.zone_id.clone(),
                })
                .collect();
            status.security_groups = resolved
                .groups
                .iter()
                .map(|(id, name)| Found { id: id.clone(), name: Some(name.clone()) })
                .collect();
            status.amis = resolved
                .images
                .iter()
                .map(|choice| FoundAmi {
                    id: choice.image.id.clone(),
                    name: Some(choice.image.name.clone()),
                    deprecated: choice.image.deprecated,
                    requirements: vec![NodeRequirement {
                        key: api::labels::ARCH.to_owned(),
                        values: vec![choice.image.architecture.to_owned()],
                        ..NodeRequirement::default()
                    }],
                })
                .collect();
            status.instance_profile = Some(resolved.profile.clone());
        }
        Err(wrong) => {
            let value = if wrong.passing { "Unknown" } else { "False" };
            set(&mut status, wrong.condition, value, wrong.reason, &wrong.message);
            set(&mut status, READY, value, wrong.reason, &wrong.message);
        }
    }
    status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    status
}

/// A class that is being deleted goes once no machine is made of it; its instance profile goes with it.
async fn end(shared: &Shared, object: &Ec2NodeClass) -> Result<(), String> {
    if !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    let name = object.name_any();
    let used = {
        let state = shared.state();
        let of_class =
            |seen: &super::held::Seen| seen.instance.tags.get(CLASS).is_some_and(|class| *class == name);
        shared.list.borrow().is_none() || state.held.values().any(of_class)
    };
    if used {
        return Ok(());
    }
    if let Some(role) = &object.spec.role {
        let profile = profile_name(shared, object);
        if let Some(roles) = shared.beside.profile(&profile).await.map_err(|why| why.to_string())? {
            if roles.contains(role) {
                shared.beside.remove_role(&profile, role).await.map_err(|why| why.to_string())?;
            }
            shared.beside.delete_profile(&profile).await.map_err(|why| why.to_string())?;
        }
    }
    let left: Vec<&String> = object.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": left}});
    let api: Api<Ec2NodeClass> = Api::all(shared.client.clone());
    within(
        shared.settings.watches.call_timeout,
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)),
    )
    .await
    .map(drop)
    .map_err(|error| describe(&error))
}

/// The name of the profile that is made for a class' role: of this cluster, region, class and role only.
fn profile_name(shared: &Shared, object: &Ec2NodeClass) -> String {
    let role = object.spec.role.as_deref().unwrap_or_default();
    let all =
        format!("{}/{}/{}/{role}", shared.region, shared.settings.cluster, object.uid().unwrap_or_default());
    let cluster: String = shared.settings.cluster.chars().take(80).collect();
    format!("{cluster}_{:016x}", clouds::backoff::seed_for(0, &all))
}

/// The instance profile that machines of a class are started with, made where the class names a role.
pub(super) async fn profile(shared: &Shared, object: &Ec2NodeClass) -> Result<String, Wrong> {
    let wrong = |why: clouds::calls::Failure| Wrong {
        condition: "InstanceProfileReady",
        reason: "InstanceProfileFailed",
        message: why.to_string(),
        passing: why.is_passing(),
    };
    if let Some(name) = &object.spec.instance_profile {
        return Ok(name.clone());
    }
    let Some(role) = &object.spec.role else {
        return Err(Wrong {
            condition: "ValidationSucceeded",
            reason: "ValidationFailed",
            message: "give spec.role or spec.instanceProfile".to_owned(),
            passing: false,
        });
    };
    let name = profile_name(shared, object);
    let known = shared.state().resolved.get(&object.name_any()).is_some_and(|known| known.profile == name);
    if known {
        return Ok(name);
    }
    if !(shared.leads)() {
        // Whoever leads has made it, or another Karpenter has.
        let written = object.status.as_ref().and_then(|status| status.instance_profile.clone());
        return Ok(written.unwrap_or(name));
    }
    let roles = shared.beside.profile(&name).await.map_err(wrong)?;
    if roles.is_none() {
        let uid = object.uid().unwrap_or_default();
        let path = format!("/karpenter/{}/{}/{uid}/", shared.region, shared.settings.cluster);
        let mut tags: BTreeMap<String, String> = object.spec.tags.clone();
        tags.insert(format!("kubernetes.io/cluster/{}", shared.settings.cluster), "owned".to_owned());
        tags.insert(EKS_CLUSTER.to_owned(), shared.settings.cluster.clone());
        tags.insert(CLASS.to_owned(), object.name_any());
        tags.insert("topology.kubernetes.io/region".to_owned(), shared.region.clone());
        shared.beside.make_profile(&name, &path, &tags).await.map_err(wrong)?;
        tracing::info!(ec2nodeclass = object.name_any(), profile = name, role, "instance profile made");
    }
    if !roles.unwrap_or_default().contains(role) {
        shared.beside.add_role(&name, role).await.map_err(wrong)?;
    }
    Ok(name)
}
