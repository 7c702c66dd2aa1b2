//! What a NodePool says of itself: its conditions, its machines, what they hold; and pools of a fixed number.
//!
//! Owns the pools' status and the claims of pools with `replicas`, which no pod's demand makes or ends.

use crate::cloud::{Class, NoClass};
use crate::conditions::{Conditions, INITIALIZED, READY};
use crate::guard::{Held, NOT_KNOWN_YET};
use crate::orders;
use crate::overlays::Refusal;
use crate::shared::{Next, Shared, StepError, unless_gone};
use api::karpenter::{NodeClaim, NodeOverlay, NodePool};
use clouds::watching::{code, within};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use model::{Resources, claim_name};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const NODE_CLASS_READY: &str = "NodeClassReady";
const VALIDATED: &str = "ValidationSucceeded";
/// Claims of a fixed pool that one look makes or ends.
const MOST_AT_ONCE: usize = 50;
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// Somebody else acts on the pool, or its owner keeps it back: it is left as it is.
const ANOTHER_CONTROLLER: &str = "AnotherController";

/// What is known of a pool.
pub(crate) struct PoolCase {
    pub pool: Arc<NodePool>,
    pub class: Result<Arc<Class>, NoClass>,
    pub claims: Vec<Arc<NodeClaim>>,
}

pub(crate) async fn keep(shared: &Shared, case: &PoolCase) -> Result<Next, StepError> {
    let now = shared.clock.now();
    write_status(shared, case, now).await?;
    let Some(replicas) = case.pool.spec.replicas else { return Ok(Next::Wait) };
    if case.pool.metadata.deletion_timestamp.is_some() {
        return Ok(Next::Wait);
    }
    let live: Vec<&Arc<NodeClaim>> =
        case.claims.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none()).collect();
    let wanted = usize::try_from(replicas).unwrap_or(0).min(node_limit(&case.pool));
    if live.len() < wanted {
        let Ok(class) = &case.class else { return Ok(Next::Wait) };
        for number in 0..(wanted - live.len()).min(MOST_AT_ONCE) {
            make(shared, &case.pool, class, &live, number).await?;
        }
        return Ok(Next::At(now.saturating_add(LOOK_AGAIN).unwrap_or(now)));
    }
    for claim in surplus(live, wanted) {
        shared.delete_claim(&claim).await?;
    }
    Ok(Next::Wait)
}

/// Says on a pool that is not ours why nothing is done with it; nothing else of its status is touched.
pub(crate) async fn hold(shared: &Shared, pool: &NodePool, held: &Held) -> Result<Next, StepError> {
    let known = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let mut conditions = Conditions::of(known, pool.metadata.generation, shared.clock.now());
    conditions.set(ANOTHER_CONTROLLER, "True", held.reason, &held.message);
    // Until it is known, nothing is written: it is about to be.
    if conditions.changed && held.reason != NOT_KNOWN_YET {
        shared.warn(pool, ANOTHER_CONTROLLER, held.message.clone());
        // Another writes this status, too: nothing of it may be lost.
        shared.write_pool_conditions(pool, &conditions).await?;
    }
    Ok(Next::Wait)
}

/// Says on an overlay whether it is applied.
pub(crate) async fn overlay(
    shared: &Shared,
    overlay: &NodeOverlay,
    refusal: Option<&Refusal>,
) -> Result<Next, StepError> {
    let known = overlay.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let mut conditions = Conditions::of(known, overlay.metadata.generation, shared.clock.now());
    match refusal {
        None => conditions.set_true(READY),
        Some(refusal) => conditions.set(READY, "False", refusal.reason, &refusal.message),
    }
    if conditions.changed {
        let api: Api<NodeOverlay> = Api::all(shared.client.clone());
        let patch = Patch::Merge(json!({"status": {"conditions": conditions.list}}));
        let name = overlay.name_any();
        unless_gone(within(shared.limit, api.patch_status(&name, &PatchParams::default(), &patch)).await)?;
    }
    Ok(Next::Wait)
}

/// Claims that go when a fixed pool is too large: those without a machine first, then the youngest.
fn surplus(mut live: Vec<&Arc<NodeClaim>>, wanted: usize) -> Vec<Arc<NodeClaim>> {
    live.sort_by_key(|claim| {
        let launched = claim.status.as_ref().is_some_and(|status| status.provider_id.is_some());
        let created = claim.creation_timestamp().map(|time| time.0);
        (launched, std::cmp::Reverse(created), claim.name_any())
    });
    let too_many = live.len().saturating_sub(wanted).min(MOST_AT_ONCE);
    live.into_iter().take(too_many).cloned().collect()
}

fn node_limit(pool: &NodePool) -> usize {
    let limit = pool.spec.limits.as_ref().and_then(|limits| limits.get("nodes"));
    limit
        .and_then(|text| intake::quantity::whole(&text.0).ok())
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX)
}

/// The claim's name follows from those that exist, so that a look that is repeated before its claim is seen writes
/// the same one.
async fn make(
    shared: &Shared,
    pool: &NodePool,
    class: &Class,
    live: &[&Arc<NodeClaim>],
    number: usize,
) -> Result<(), StepError> {
    let names: Vec<String> = live.iter().map(|claim| claim.name_any()).collect();
    let seed = orders::hash_of(&(pool.uid(), names, number));
    let seed = u64::from_str_radix(&seed, 16).unwrap_or(0);
    let claim = orders::bare(pool, class, &claim_name(&pool.name_any(), seed));
    match within(shared.limit, shared.claims.create(&PostParams::default(), &claim)).await {
        Ok(_) => Ok(()),
        Err(error) if code(&error) == Some(409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn write_status(shared: &Shared, case: &PoolCase, now: Timestamp) -> Result<(), StepError> {
    let pool = &*case.pool;
    let old = pool.status.clone().unwrap_or_default();
    let mut conditions = Conditions::of(&old.conditions, pool.metadata.generation, now);
    let readable = serde_json::to_value(pool).map_err(|error| error.to_string());
    let readable = readable.and_then(|v| intake::node_pool(&v).map_err(|error| error.to_string()));
    match readable {
        Ok(_) => conditions.set_true(VALIDATED),
        Err(why) => conditions.set(VALIDATED, "False", "NodePoolValidationFailed", &why),
    }
    match &case.class {
        Ok(_) => conditions.set_true(NODE_CLASS_READY),
        Err(no) => conditions.set(NODE_CLASS_READY, "False", no.reason, &no.message),
    }
    conditions.remove(ANOTHER_CONTROLLER);
    conditions.sum_up(&[VALIDATED, NODE_CLASS_READY]);
    let (resources, nodes) = sums(&case.claims);
    let observed = case.class.as_ref().ok().map(|class| class.generation);
    let same = old.resources == resources && old.nodes == nodes && !conditions.changed;
    if same && old.node_class_observed_generation == observed {
        return Ok(());
    }
    let status = json!({
        "resources": resources,
        "nodes": nodes,
        "nodeClassObservedGeneration": observed,
        "conditions": conditions.list,
    });
    shared.write_pool_status(pool, status).await
}

/// What the machines of a pool hold together.
fn sums(claims: &[Arc<NodeClaim>]) -> (BTreeMap<String, Quantity>, i64) {
    let mut sum = Resources::default();
    let mut nodes = 0;
    for claim in claims {
        let status = claim.status.clone().unwrap_or_default();
        if let Ok(capacity) = intake::resources(&status.capacity) {
            sum.add(&capacity);
        }
        nodes += i64::from(status.conditions.iter().any(|c| c.type_ == INITIALIZED && c.status == "True"));
    }
    let mut resources = orders::quantities(&sum);
    resources.insert("nodes".to_owned(), Quantity(claims.len().to_string()));
    (resources, nodes)
}
