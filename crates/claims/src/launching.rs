//! From a claim to its machine.
//!
//! Owns which offerings a launch may take, the launch, and what is written of it. The machine is keyed by the claim's
//! uid; what is written afterwards can be written again.

use crate::classes::canonical;
use crate::cloud::{LaunchError, LaunchOrder, Launched, NoClass, Offer};
use crate::conditions::{Conditions, INITIALIZED, LAUNCHED, REGISTERED};
use crate::orders;
use crate::shared::{Case, Next, Shared, StepError};
use crate::simulated::offer_of;
use api::karpenter::{CAPACITY_TYPE, NODE_POOL, NodeClaim};
use api::labels;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use model::{Flavour, InstanceType, Resources};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A claim that is not launched after this is given up: its pods are planned for anew.
const LAUNCH_LIMIT: SignedDuration = SignedDuration::from_mins(5);
/// News is gathered for two seconds at most, so a claim of this age has been seen.
const SEEN_AFTER: SignedDuration = SignedDuration::from_secs(5);
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// Kinds of machines that one launch may choose from.
const MOST_OPTIONS: usize = 60;
const LONGEST_MESSAGE: usize = 300;

pub(crate) async fn launch(shared: &Shared, case: &Case) -> Result<Next, StepError> {
    let now = shared.clock.now();
    let claim = &*case.claim;
    let conditions = case.conditions(now);
    let began = conditions.since(LAUNCHED).or_else(|| claim.creation_timestamp().map(|time| time.0));
    let deadline = began.and_then(|at| at.saturating_add(LAUNCH_LIMIT).ok());
    if deadline.is_some_and(|at| at <= now) {
        tracing::warn!(nodeclaim = claim.name_any(), reason = "launch_timeout", "claim given up");
        return shared.give_up(claim, "LaunchTimeout", "no machine was launched in time").await;
    }
    let class = match &case.class {
        Ok(class) => class,
        Err(NoClass { passing: true, message, reason }) => {
            return wait(shared, claim, conditions, (reason, message), deadline).await;
        }
        Err(no) => return shared.give_up(claim, "NodeClassNotReady", &no.message).await,
    };
    let reference = &claim.spec.node_class_ref;
    let Some((_, cloud)) = shared.clouds.of(reference) else {
        return shared.give_up(claim, "NodeClassNotReady", "no cloud serves its class").await;
    };
    let options = options(claim, &class.types, |offer| shared.shortages.holds(offer, now))?;
    if options.is_empty() {
        let message = "no machine that meets the claim's requirements can be had";
        return sold_out(shared, claim, conditions, message).await;
    }
    let mut taints = claim.spec.taints.clone();
    taints.extend(claim.spec.startup_taints.clone());
    let order = LaunchOrder {
        claim: Arc::from(claim.name_any()),
        uid: Arc::from(claim.uid().unwrap_or_default()),
        pool: claim.labels().get(NODE_POOL).map(|name| Arc::from(name.as_str())),
        class_ref: canonical(reference).into_owned(),
        class: class.clone(),
        options,
        requests: requests_of(claim)?,
        taints,
        labels: claim.labels().clone(),
        overlaid: case.overlays.pools.contains_key(claim.labels().get(NODE_POOL).map_or("", String::as_str)),
    };
    match cloud.launch(&order).await {
        Ok(launched) => {
            let offer =
                (launched.instance_type.clone(), launched.zone.clone(), launched.capacity_type.clone());
            let pool = order.pool.as_deref().unwrap_or_default();
            let overlaid = case.overlays.annotations(pool, &offer);
            write_launched(shared, claim, &order, &launched, &overlaid, conditions).await?;
            Ok(Next::Wait)
        }
        Err(LaunchError::SoldOut { message, offers }) => {
            for offer in offers {
                shared.shortages.note(offer, now);
            }
            sold_out(shared, claim, conditions, &message).await
        }
        Err(error) => wait(shared, claim, conditions, ("LaunchFailed", &error.to_string()), deadline).await,
    }
}

/// Gives up a claim for which nothing can be had, but not before whoever ordered it has seen it: a claim that comes
/// and goes between two of its looks would be waited for until the order's time is over.
async fn sold_out(
    shared: &Shared,
    claim: &NodeClaim,
    conditions: Conditions,
    message: &str,
) -> Result<Next, StepError> {
    let now = shared.clock.now();
    let seen = claim.creation_timestamp().and_then(|time| time.0.saturating_add(SEEN_AFTER).ok());
    if seen.is_some_and(|seen| now < seen) {
        return wait(shared, claim, conditions, ("InsufficientCapacityError", message), seen).await;
    }
    shared.give_up(claim, "InsufficientCapacityError", message).await
}

/// Says why nothing is launched yet, and when it is tried again.
async fn wait(
    shared: &Shared,
    claim: &NodeClaim,
    mut conditions: Conditions,
    (reason, message): (&str, &str),
    deadline: Option<Timestamp>,
) -> Result<Next, StepError> {
    let message = &message[..message.floor_char_boundary(LONGEST_MESSAGE)];
    conditions.set(LAUNCHED, "Unknown", reason, message);
    conditions.sum_up(&[LAUNCHED, REGISTERED, INITIALIZED]);
    if conditions.changed {
        shared.write_conditions(claim, &conditions, json!({})).await?;
    }
    let now = shared.clock.now();
    let again = now.saturating_add(TRY_AGAIN).unwrap_or(now);
    Ok(Next::At(deadline.map_or(again, |deadline| deadline.min(again))))
}

fn requests_of(claim: &NodeClaim) -> Result<Resources, StepError> {
    let requests = intake::resources(&claim.spec.resources.requests);
    requests.map_err(|error| StepError::Unreadable(error.under("spec.resources.requests").to_string()))
}

/// What would do for a claim, the cheapest first.
pub(crate) fn options(
    claim: &NodeClaim,
    types: &Arc<Vec<InstanceType>>,
    is_short: impl Fn(&Offer) -> bool,
) -> Result<Vec<Flavour>, StepError> {
    let mut labels = claim.labels().clone();
    labels.remove(NODE_POOL);
    let pool = json!({
        "apiVersion": "karpenter.sh/v1",
        "metadata": {"name": claim.name_any()},
        "spec": {"template": {
            "metadata": {"labels": labels},
            "spec": {"requirements": claim.spec.requirements, "taints": claim.spec.taints},
        }},
    });
    let unreadable = |error: intake::IntakeError| StepError::Unreadable(error.to_string());
    let pool = intake::node_pool(&pool).map_err(unreadable)?.over(types.clone(), BTreeMap::new());
    let requests = requests_of(claim)?;
    let Some(direct) = pool.direct() else { return Ok(Vec::new()) };
    let mut options: Vec<Flavour> = direct
        .flavours()
        .iter()
        .filter(|flavour| requests.fits(&flavour.template.allocatable) && !is_short(&offer_of(flavour)))
        .cloned()
        .collect();
    options.sort_by(|a, b| {
        let key = |f: &Flavour| (f.price, f.capacity_type, f.instance_type.clone(), f.zone.clone());
        key(a).cmp(&key(b))
    });
    options.truncate(MOST_OPTIONS);
    Ok(options)
}

/// The claim says what was launched: its labels first, then the status that counts as launched.
async fn write_launched(
    shared: &Shared,
    claim: &NodeClaim,
    order: &LaunchOrder,
    launched: &Launched,
    overlaid: &BTreeMap<&'static str, String>,
    mut conditions: Conditions,
) -> Result<(), StepError> {
    let flavour = order.options.iter().find(|flavour| {
        offer_of(flavour)
            == (launched.instance_type.clone(), launched.zone.clone(), launched.capacity_type.clone())
    });
    let mut of_machine: BTreeMap<String, String> = BTreeMap::new();
    if let Some(flavour) = flavour {
        of_machine.extend(flavour.template.labels.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    }
    of_machine.retain(|key, _| !key.starts_with("karpenter.sh/"));
    of_machine.insert(labels::INSTANCE_TYPE.to_owned(), launched.instance_type.to_string());
    of_machine.insert(labels::ZONE.to_owned(), launched.zone.to_string());
    of_machine.insert(CAPACITY_TYPE.to_owned(), launched.capacity_type.to_string());
    // What a user asked for wins over what the machine says of itself.
    of_machine.extend(claim.labels().clone());
    shared.patch_claim(claim, json!({"metadata": {"labels": of_machine, "annotations": overlaid}})).await?;
    conditions.set_true(LAUNCHED);
    if conditions.get(REGISTERED).is_none() {
        conditions.set(REGISTERED, "Unknown", "NodeNotFound", "no node has joined with the machine's id yet");
        conditions.set(
            INITIALIZED,
            "Unknown",
            "NodeNotFound",
            "no node has joined with the machine's id yet",
        );
    }
    conditions.sum_up(&[LAUNCHED, REGISTERED, INITIALIZED]);
    let status = match flavour {
        Some(flavour) => json!({
            "providerID": launched.provider_id,
            "imageID": launched.image,
            "capacity": orders::quantities(&flavour.capacity),
            "allocatable": orders::quantities(&flavour.template.allocatable),
        }),
        None => json!({"providerID": launched.provider_id, "imageID": launched.image}),
    };
    shared.write_conditions_anew(claim, &conditions, status).await?;
    tracing::info!(
        nodeclaim = claim.name_any(),
        "provider-id" = launched.provider_id,
        "instance-type" = &*launched.instance_type,
        zone = &*launched.zone,
        "capacity-type" = &*launched.capacity_type,
        "launched nodeclaim"
    );
    Ok(())
}
