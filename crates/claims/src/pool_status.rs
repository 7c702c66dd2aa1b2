//! What a NodePool says of itself: its conditions, its machines, what they hold.
//!
//! Owns the pools' status and that of overlays; pools with `replicas` are kept in `fixed`.

use crate::cloud::{Class, NoClass};
use crate::conditions::{Conditions, INITIALIZED, READY};
use crate::fixed;
use crate::guard::{Held, NOT_KNOWN_YET};
use crate::orders;
use crate::overlays::Refusal;
use crate::shared::{Next, Shared, StepError, unless_gone};
use api::karpenter::{NodeClaim, NodeOverlay, NodePool};
use clouds::watching::within;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use model::Resources;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const NODE_CLASS_READY: &str = "NodeClassReady";
const VALIDATED: &str = "ValidationSucceeded";

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
    if case.pool.metadata.deletion_timestamp.is_some() {
        return Ok(Next::Wait);
    }
    let class = case.class.as_deref().ok();
    fixed::keep(shared, &case.pool, class, &case.claims, now).await
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
