//! Claims as objects: written for an order, read back as a machine.
//!
//! Owns the form of a NodeClaim that we write, and the two hashes by which drift is found.

use crate::classes::label_of;
use crate::cloud::{Class, Offer};
use api::karpenter::{
    CAPACITY_TYPE, CLASS_HASH, ClaimResources, HASH_VERSION, INITIALIZED, NODE_POOL, NodeClaim,
    NodeClaimSpec, NodePool, NodeRequirement, ORDER, PLANNED, POOL_HASH, POOL_HASH_VERSION, REGISTERED,
    RequirementOperator, TERMINATION,
};
use api::labels::{INSTANCE_TYPE, ZONE};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource as _, ResourceExt as _};
use model::{DirectMachine, DirectPool, Flavour, Launch, Machine, MachineState, Resources, claimed_machine};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the plan that made a claim counts on; an annotation of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Planned {
    #[serde(rename = "type")]
    pub instance_type: String,
    pub zone: String,
    pub capacity_type: String,
    /// Pods that it was bought for, by fingerprint of their shape.
    pub pods: BTreeMap<u64, u32>,
}

/// A text that changes when the value does.
pub(crate) fn hash_of(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    // FNV-1a: the same in every build and on every machine.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// What makes a pool's claims drift when it changes: the template without its requirements, whose drift is told by
/// the labels of each claim, and without the order of its lists.
pub(crate) fn pool_hash(pool: &NodePool) -> String {
    let mut template = pool.spec.template.clone();
    template.spec.requirements.clear();
    template.spec.taints.sort_by(|a, b| (&a.key, &a.effect).cmp(&(&b.key, &b.effect)));
    template.spec.startup_taints.sort_by(|a, b| (&a.key, &a.effect).cmp(&(&b.key, &b.effect)));
    // The name of the class is part of it; its own drift is told by the class.
    hash_of(&template)
}

/// The claim of one machine of an order.
pub(crate) fn claim(pool: &NodePool, class: &Class, order: &str, launch: &Launch, name: &str) -> NodeClaim {
    let flavour = &launch.flavour;
    let planned = Planned {
        instance_type: text(flavour.instance_type.as_deref()),
        zone: text(flavour.zone.as_deref()),
        capacity_type: flavour.capacity_type.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        pods: launch.serves.clone(),
    };
    let mut requirements = pool.spec.template.spec.requirements.clone();
    let types: Vec<String> = launch.types.iter().map(ToString::to_string).collect();
    narrow(&mut requirements, INSTANCE_TYPE, types);
    narrow(&mut requirements, ZONE, vec![planned.zone.clone()]);
    narrow(&mut requirements, CAPACITY_TYPE, vec![planned.capacity_type.clone()]);
    // Where the pool leaves a label open, the plan has chosen.
    for requirement in &mut requirements {
        if let Some(value) = flavour.template.labels.get(requirement.key.as_str())
            && requirement.key != INSTANCE_TYPE
            && requirement.min_values.is_none()
        {
            *requirement = NodeRequirement {
                key: requirement.key.clone(),
                values: vec![value.to_string()],
                ..NodeRequirement::default()
            };
        }
    }
    let mut claim = bare(pool, class, name);
    claim.spec.requirements = requirements;
    claim.spec.resources = ClaimResources { requests: quantities(&launch.requests) };
    let annotations = claim.annotations_mut();
    annotations.insert(ORDER.to_owned(), order.to_owned());
    annotations.insert(PLANNED.to_owned(), serde_json::to_string(&planned).unwrap_or_default());
    claim
}

/// A claim with what every claim of a pool has.
pub(crate) fn bare(pool: &NodePool, class: &Class, name: &str) -> NodeClaim {
    let template = &pool.spec.template;
    let reference = template.spec.node_class_ref.clone();
    let mut labels = template.metadata.labels.clone();
    labels.insert(NODE_POOL.to_owned(), pool.name_any());
    labels.insert(label_of(&reference), reference.name.clone());
    let mut annotations = template.metadata.annotations.clone();
    annotations.insert(POOL_HASH.to_owned(), pool_hash(pool));
    annotations.insert(POOL_HASH_VERSION.to_owned(), HASH_VERSION.to_owned());
    annotations.insert(CLASS_HASH.to_owned(), class.hash.clone());
    let owner = OwnerReference {
        api_version: NodePool::api_version(&()).into_owned(),
        kind: NodePool::kind(&()).into_owned(),
        name: pool.name_any(),
        uid: pool.uid().unwrap_or_default(),
        controller: None,
        block_owner_deletion: Some(true),
    };
    NodeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations),
            finalizers: Some(vec![TERMINATION.to_owned()]),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: NodeClaimSpec {
            taints: template.spec.taints.clone(),
            startup_taints: template.spec.startup_taints.clone(),
            requirements: template.spec.requirements.clone(),
            resources: ClaimResources::default(),
            node_class_ref: reference,
            termination_grace_period: template.spec.termination_grace_period.clone(),
            expire_after: template.spec.expire_after.clone(),
        },
        status: None,
    }
}

/// Sets the values of one key, keeping the variety that was asked for.
fn narrow(requirements: &mut Vec<NodeRequirement>, key: &str, values: Vec<String>) {
    if values.iter().all(String::is_empty) {
        return;
    }
    let min_values = requirements.iter().filter(|r| r.key == key).filter_map(|r| r.min_values).max();
    requirements.retain(|requirement| requirement.key != key);
    requirements.push(NodeRequirement {
        key: key.to_owned(),
        operator: RequirementOperator::In,
        values,
        min_values,
    });
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

/// Amounts as Kubernetes writes them.
pub(crate) fn quantities(amounts: &Resources) -> BTreeMap<String, Quantity> {
    let mut list = BTreeMap::new();
    let mut put = |name: &str, amount: u64, text: String| {
        if amount > 0 {
            list.insert(name.to_owned(), Quantity(text));
        }
    };
    let millis = amounts.cpu.0;
    put(
        "cpu",
        millis,
        if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") },
    );
    put("memory", amounts.memory.0, bytes(amounts.memory.0));
    put("ephemeral-storage", amounts.ephemeral_storage.0, bytes(amounts.ephemeral_storage.0));
    put("pods", u64::from(amounts.pods), amounts.pods.to_string());
    for (name, amount) in &amounts.extended {
        put(&name.to_string(), *amount, amount.to_string());
    }
    list
}

fn bytes(amount: u64) -> String {
    for (shift, unit) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if amount.is_multiple_of(1 << shift) {
            return format!("{}{unit}", amount >> shift);
        }
    }
    amount.to_string()
}

/// A machine as its claim says; `pool` is where it belongs, where that is known.
pub(crate) fn machine(claim: &NodeClaim, pool: Option<&DirectPool>) -> Machine {
    let status = claim.status.clone().unwrap_or_default();
    let state = if claim.metadata.deletion_timestamp.is_some() {
        MachineState::Deleting
    } else if status.provider_id.is_some() {
        MachineState::Running
    } else {
        MachineState::Creating
    };
    let created_at = claim.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let pool_name = claim.labels().get(NODE_POOL).map(String::as_str).unwrap_or_default();
    let planned = planned(claim);
    let flavour = flavour(claim, &planned, pool);
    let condition = |kind: &str| {
        status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
    };
    let expires_at = duration(&claim.spec.expire_after).and_then(|age| created_at.saturating_add(age).ok());
    Machine {
        id: claimed_machine(&claim.name_any()),
        pool: model::PoolId::from(format!("{}/{pool_name}", crate::NAME)),
        state,
        created_at,
        node: status.node_name.clone().map(model::NodeName::from),
        aliases: Vec::new(),
        direct: Some(Arc::new(DirectMachine {
            flavour: Arc::new(flavour),
            serves: planned.pods,
            initialized_at: condition("Initialized").map(|condition| condition.last_transition_time.0),
            last_pod_event_at: status.last_pod_event_time.as_ref().map(|time| time.0),
            drifted: condition("Drifted").map(|condition| Arc::from(condition.reason.as_str())),
            expires_at,
            termination_grace: claim.spec.termination_grace_period.as_deref().and_then(duration),
        })),
    }
}

/// What a launched claim's machine was sold as.
pub(crate) fn offer_of(claim: &NodeClaim) -> Offer {
    let label =
        |key: &str| claim.labels().get(key).map_or_else(Arc::default, |value| Arc::from(value.as_str()));
    (label(INSTANCE_TYPE), label(ZONE), label(CAPACITY_TYPE))
}

/// A wait as these kinds write it; `None` for `Never` and for what cannot be read.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    if text == "Never" { None } else { intake::go_duration(text).ok() }
}

pub(crate) fn planned(claim: &NodeClaim) -> Planned {
    let noted = claim.annotations().get(PLANNED).and_then(|text| serde_json::from_str(text).ok());
    let mut planned: Planned = noted.unwrap_or_default();
    // Once it is launched, its labels say what it is.
    for (key, field) in [
        (INSTANCE_TYPE, &mut planned.instance_type),
        (ZONE, &mut planned.zone),
        (CAPACITY_TYPE, &mut planned.capacity_type),
    ] {
        if let Some(value) = claim.labels().get(key) {
            field.clone_from(value);
        }
    }
    planned
}

/// The kind of node that the claim becomes: as it was launched, or as the pool would make it.
fn flavour(claim: &NodeClaim, planned: &Planned, pool: Option<&DirectPool>) -> Flavour {
    let is = |field: &Option<Arc<str>>, wanted: &str| field.as_deref() == Some(wanted);
    let known = pool.and_then(|pool| {
        pool.flavours().iter().find(|flavour| {
            is(&flavour.instance_type, &planned.instance_type)
                && is(&flavour.zone, &planned.zone)
                && flavour.capacity_type.is_some_and(|kind| kind.as_str() == planned.capacity_type)
        })
    });
    // An offering that is sold out by now is in the catalogue all the same.
    let mut flavour = known.cloned().or_else(|| listed(planned, pool)).unwrap_or_default();
    let status = claim.status.clone().unwrap_or_default();
    if let Ok(capacity) = intake::resources(&status.capacity)
        && capacity.cpu.0 > 0
    {
        flavour.capacity = capacity;
    }
    if let Ok(allocatable) = intake::resources(&status.allocatable)
        && allocatable.cpu.0 > 0
    {
        flavour.template.allocatable = allocatable;
    }
    let labels = &mut flavour.template.labels;
    for (key, value) in claim.labels() {
        labels.insert(Arc::from(key.as_str()), Arc::from(value.as_str()));
    }
    for key in [REGISTERED, INITIALIZED] {
        labels.insert(Arc::from(key), Arc::from("true"));
    }
    flavour
}

fn listed(planned: &Planned, pool: Option<&DirectPool>) -> Option<Flavour> {
    let spec = pool?.spec();
    let entry = spec.catalogue.iter().find(|entry| *entry.name == *planned.instance_type)?;
    let offering = entry.offerings.iter().find(|offering| {
        *offering.zone == *planned.zone && offering.capacity_type.as_str() == planned.capacity_type
    })?;
    let one = |r: &model::Requirement| Some((r.key.clone(), r.values.first()?.clone()));
    let mut labels = spec.labels.clone();
    labels.extend(entry.requirements.iter().filter_map(one));
    labels.insert(INSTANCE_TYPE.into(), entry.name.clone());
    labels.insert(ZONE.into(), offering.zone.clone());
    labels.insert(CAPACITY_TYPE.into(), offering.capacity_type.as_str().into());
    Some(Flavour {
        template: model::NodeTemplate {
            labels,
            taints: spec.taints.clone(),
            allocatable: entry.allocatable.clone(),
            fittings: None,
        },
        capacity: entry.capacity.clone(),
        instance_type: Some(entry.name.clone()),
        zone: Some(offering.zone.clone()),
        capacity_type: Some(offering.capacity_type),
        price: offering.price,
        remaining: offering.remaining,
    })
}

/// Whether a label's value meets a requirement.
pub(crate) fn meets(requirement: &NodeRequirement, value: Option<&str>) -> bool {
    let listed = || value.is_some_and(|value| requirement.values.iter().any(|known| known == value));
    let bound = |holds: fn(i64, i64) -> bool| {
        let number = value.and_then(|value| value.parse::<i64>().ok());
        let limit = requirement.values.first().and_then(|text| text.parse::<i64>().ok());
        number.zip(limit).is_some_and(|(number, limit)| holds(number, limit))
    };
    match requirement.operator {
        RequirementOperator::In => listed(),
        RequirementOperator::NotIn => !listed(),
        RequirementOperator::Exists => value.is_some(),
        RequirementOperator::DoesNotExist => value.is_none(),
        RequirementOperator::Gt => bound(|a, b| a > b),
        RequirementOperator::Lt => bound(|a, b| a < b),
        RequirementOperator::Gte => bound(|a, b| a >= b),
        RequirementOperator::Lte => bound(|a, b| a <= b),
    }
}
