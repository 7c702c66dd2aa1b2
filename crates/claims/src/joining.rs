//! From a machine to a node that takes pods.
//!
//! Owns registration (the node gets its claim's labels and taints and loses the taint that kept pods off) and
//! initialisation (the node is ready and whole), each with its time limit.

use crate::cloud::Notice;
use crate::conditions::{Conditions, DRIFTED, INITIALIZED, LAUNCHED, REGISTERED};
use crate::orders;
use crate::repair;
use crate::shared::{Case, Next, Shared, StepError};
use api::karpenter::{
    CLASS_HASH, DO_NOT_SYNC_TAINTS, HASH_VERSION, INITIALIZED as INITIALIZED_LABEL, NodeClaim, NodeTaint,
    POOL_HASH, POOL_HASH_VERSION, REGISTERED as REGISTERED_LABEL, TERMINATION, UNREGISTERED,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

/// How long a launched machine may take to join, and a node that has joined to be whole.
const REGISTRATION_LIMIT: SignedDuration = SignedDuration::from_mins(15);
const INITIALIZATION_LIMIT: SignedDuration = SignedDuration::from_mins(15);
/// Taints that a node loses by itself on its way to being ready.
const PASSING: [&str; 4] =
    [api::taints::NOT_READY, api::taints::UNREACHABLE, api::taints::UNINITIALIZED, UNREGISTERED];
const READINESS_PREFIX: &str = "readiness.k8s.io/";
const PARTS: [&str; 3] = [LAUNCHED, REGISTERED, INITIALIZED];

/// Everything after the launch, until the claim is ready; afterwards its drift.
pub(crate) async fn join(shared: &Shared, case: &Case) -> Result<Next, StepError> {
    let now = shared.clock.now();
    let claim = &*case.claim;
    let mut conditions = case.conditions(now);
    if !conditions.is_true(REGISTERED) {
        return register(shared, case, conditions, now).await;
    }
    let Some(node) = case.node.as_deref() else {
        // The keeper finds out whether the machine is gone; without a node nothing can be said of the rest.
        return if case.machine_gone {
            shared.give_up(claim, "InstanceGone", "its machine is gone").await
        } else {
            Ok(Next::Wait)
        };
    };
    if case.machine_gone && !is_ready(node) {
        return shared.give_up(claim, "InstanceGone", "its machine is gone and its node is not ready").await;
    }
    if !conditions.is_true(INITIALIZED) {
        return initialize(shared, case, node, conditions, now).await;
    }
    look_for_drift(case, &mut conditions);
    if conditions.changed {
        shared.write_conditions(claim, &conditions, json!({})).await?;
        // The write is seen, and this is looked at again.
        return Ok(Next::Wait);
    }
    match case.ill.as_ref().filter(|_| shared.repairs) {
        Some(ill) => repair::look(shared, claim, node, ill, now).await,
        None => Ok(Next::Wait),
    }
}

async fn register(
    shared: &Shared,
    case: &Case,
    mut conditions: Conditions,
    now: Timestamp,
) -> Result<Next, StepError> {
    let claim = &*case.claim;
    if case.several_nodes {
        let message = "more than one node says that it is the claim's machine";
        conditions.set(REGISTERED, "False", "MultipleNodesFound", message);
        conditions.sum_up(&PARTS);
        if conditions.changed {
            shared.write_conditions(claim, &conditions, json!({})).await?;
        }
        return Ok(Next::Wait);
    }
    let Some(node) = case.node.as_deref() else {
        let since = conditions.since(REGISTERED).or_else(|| conditions.since(LAUNCHED)).unwrap_or(now);
        let deadline = since.saturating_add(REGISTRATION_LIMIT).unwrap_or(Timestamp::MAX);
        if deadline <= now {
            tracing::warn!(nodeclaim = claim.name_any(), reason = "registration_timeout", "claim given up");
            return shared.give_up(claim, "RegistrationTimeout", "its node did not join in time").await;
        }
        return Ok(Next::At(deadline));
    };
    if !node.labels().contains_key(REGISTERED_LABEL) || has_taint(node, UNREGISTERED) {
        if !has_taint(node, UNREGISTERED) && !node.labels().contains_key(REGISTERED_LABEL) {
            let text =
                format!("Missing {UNREGISTERED} taint which prevents registration-related race conditions");
            shared.warn(claim, "UnregisteredTaintMissing", text);
        }
        shared.write_node(&registered(claim, node)).await?;
    }
    conditions.set_true(REGISTERED);
    conditions.set(INITIALIZED, "Unknown", "NodeNotReady", "the node is not ready yet");
    conditions.sum_up(&PARTS);
    shared.write_conditions(claim, &conditions, json!({"nodeName": node.name_any()})).await?;
    tracing::info!(nodeclaim = claim.name_any(), node = node.name_any(), "registered nodeclaim");
    Ok(Next::Wait)
}

/// The node as its claim wants it.
fn registered(claim: &NodeClaim, node: &Node) -> Node {
    let mut node = node.clone();
    let labels = node.labels_mut();
    for (key, value) in claim.labels() {
        labels.insert(key.clone(), value.clone());
    }
    labels.insert(REGISTERED_LABEL.to_owned(), "true".to_owned());
    let keeps_taints = labels.get(DO_NOT_SYNC_TAINTS).is_some_and(|value| value == "true");
    for (key, value) in claim.annotations() {
        if !key.starts_with("tideline.dev/") {
            node.annotations_mut().insert(key.clone(), value.clone());
        }
    }
    let finalizers = node.finalizers_mut();
    if !finalizers.iter().any(|finalizer| finalizer == TERMINATION) {
        finalizers.push(TERMINATION.to_owned());
    }
    let owner = k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
        api_version: NodeClaim::api_version(&()).into_owned(),
        kind: NodeClaim::kind(&()).into_owned(),
        name: claim.name_any(),
        uid: claim.uid().unwrap_or_default(),
        controller: None,
        block_owner_deletion: Some(true),
    };
    if !node.owner_references().iter().any(|known| known.uid == owner.uid) {
        node.owner_references_mut().push(owner);
    }
    let spec = node.spec.get_or_insert_default();
    let taints = spec.taints.get_or_insert_default();
    taints.retain(|taint| taint.key != UNREGISTERED);
    if !keeps_taints {
        for wanted in claim.spec.taints.iter().chain(&claim.spec.startup_taints) {
            if !taints.iter().any(|taint| taint.key == wanted.key && taint.effect == wanted.effect) {
                taints.push(plain(wanted));
            }
        }
    }
    node
}

fn plain(taint: &NodeTaint) -> Taint {
    Taint {
        key: taint.key.clone(),
        value: Some(taint.value.clone()).filter(|value| !value.is_empty()),
        effect: taint.effect.clone(),
        time_added: None,
    }
}

async fn initialize(
    shared: &Shared,
    case: &Case,
    node: &Node,
    mut conditions: Conditions,
    now: Timestamp,
) -> Result<Next, StepError> {
    let claim = &*case.claim;
    if let Some((reason, message)) = missing(claim, node) {
        let since = conditions.since(REGISTERED).unwrap_or(now);
        let deadline = since.saturating_add(INITIALIZATION_LIMIT).unwrap_or(Timestamp::MAX);
        if deadline <= now {
            tracing::warn!(nodeclaim = claim.name_any(), reason = "initialization_timeout", "claim given up");
            return shared.give_up(claim, "InitializationTimeout", &message).await;
        }
        conditions.set(INITIALIZED, "Unknown", reason, &message);
        conditions.sum_up(&PARTS);
        if conditions.changed {
            shared.write_conditions(claim, &conditions, json!({})).await?;
        }
        return Ok(Next::At(deadline));
    }
    if !node.labels().contains_key(INITIALIZED_LABEL) {
        shared.label_node(&node.name_any(), INITIALIZED_LABEL, "true").await?;
    }
    conditions.set_true(INITIALIZED);
    conditions.sum_up(&PARTS);
    let mut status = json!({});
    if let Some(seen) = &node.status {
        put(&mut status, "capacity", &seen.capacity);
        put(&mut status, "allocatable", &seen.allocatable);
    }
    shared.write_conditions(claim, &conditions, status).await?;
    tracing::info!(nodeclaim = claim.name_any(), node = node.name_any(), "initialized nodeclaim");
    Ok(Next::Wait)
}

fn put(status: &mut Value, field: &str, value: &impl serde::Serialize) {
    let value = json!(value);
    if let (Some(fields), false) = (status.as_object_mut(), value.is_null()) {
        fields.insert(field.to_owned(), value);
    }
}

/// What a node lacks before pods can be counted on to run there: a reason and a message.
fn missing(claim: &NodeClaim, node: &Node) -> Option<(&'static str, String)> {
    if !is_ready(node) {
        return Some(("NodeNotReady", "the node is not ready yet".to_owned()));
    }
    let startup = claim.spec.startup_taints.iter().find(|taint| {
        taints_of(node).iter().any(|known| known.key == taint.key && known.effect == taint.effect)
    });
    if let Some(taint) = startup {
        return Some(("StartupTaintsExist", format!("the startup taint {} is still on it", taint.key)));
    }
    let passing = taints_of(node)
        .iter()
        .find(|taint| PASSING.contains(&taint.key.as_str()) || taint.key.starts_with(READINESS_PREFIX));
    if let Some(taint) = passing {
        return Some(("KnownEphemeralTaintsExist", format!("the taint {} is still on it", taint.key)));
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let short = claim.spec.resources.requests.iter().find(|(name, wanted)| {
        let has = allocatable.and_then(|list| list.get(*name));
        wanted.0 != "0" && has.is_none_or(|has| has.0 == "0")
    });
    short.map(|(name, _)| ("ResourceNotRegistered", format!("the node does not offer {name} yet")))
}

pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

pub(crate) fn taints_of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

pub(crate) fn has_taint(node: &Node, key: &str) -> bool {
    taints_of(node).iter().any(|taint| taint.key == key)
}

/// A claim has drifted when its pool or its class would make another machine now.
fn look_for_drift(case: &Case, conditions: &mut Conditions) {
    match drift(case) {
        Some((reason, message)) => conditions.set(DRIFTED, "True", reason, &message),
        None => conditions.remove(DRIFTED),
    }
}

fn drift(case: &Case) -> Option<(&'static str, String)> {
    let (claim, pool) = (&case.claim, case.pool.as_deref()?);
    let noted = |key: &str| claim.annotations().get(key);
    if noted(POOL_HASH_VERSION).is_some_and(|version| version == HASH_VERSION)
        && noted(POOL_HASH).is_some_and(|hash| *hash != orders::pool_hash(pool))
    {
        return Some(("NodePoolDrifted", "the pool's template has changed since the launch".to_owned()));
    }
    let unmet = pool.spec.template.spec.requirements.iter().find(|requirement| {
        let value = claim.labels().get(&requirement.key).map(String::as_str);
        !orders::meets(requirement, value)
    });
    if let Some(requirement) = unmet {
        let message = format!("the pool now asks for another {}", requirement.key);
        return Some(("RequirementsDrifted", message));
    }
    let class = case.class.as_ref().ok()?;
    if noted(CLASS_HASH).is_some_and(|hash| *hash != class.hash) {
        return Some(("NodeClassDrifted", "the class has changed since the launch".to_owned()));
    }
    let machine = case.machine.as_deref()?;
    // Replaced like one that has drifted: the new machine first, within budgets.
    match &machine.notice {
        Some(Notice::AtRisk { reason, message }) => Some((reason, message.clone())),
        _ => machine.drift.clone(),
    }
}
