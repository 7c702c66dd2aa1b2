//! The eviction subresource: deletes a pod if its disruption budget lets go of one more.
//!
//! Owns the rules of the real server: one budget a pod, stale budgets, unhealthy pods, retries of the client. Leaves
//! computing `disruptionsAllowed` to the disruption controller.

use super::body::ApiBody;
use super::reply;
use super::route::Target;
use super::selector::matches_selector;
use super::service::Call;
use super::write::delete_options;
use crate::store::resource::{POD_DISRUPTION_BUDGETS, PODS};
use crate::store::{ApiError, Cause, DeleteOptions, MODIFIED, Object, Part, Store};
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// Seconds after which an eviction is worth another try when only the budget's status lags behind its spec.
const RETRY_SECONDS: u32 = 10;
/// Disrupted pods that a budget remembers before it refuses more, as in Kubernetes.
const MOST_DISRUPTED: usize = 2000;

pub(crate) fn evict(store: &Store, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let eviction = call.json()?;
    let name = target.name()?;
    if let Some(given) = eviction["metadata"]["name"].as_str()
        && given != name
    {
        return Err(ApiError::BadRequest("name in URL does not match name in Eviction object".to_owned()));
    }
    let mut options = delete_options(&eviction["deleteOptions"])?;
    options.dry_run |= call.query.dry_run()?;
    let pod = store.get(PODS, &target.namespace, name)?;
    check_preconditions(&pod, &options)?;
    if !ignores_budgets(&pod) {
        debit(store, &pod, options.dry_run)?;
    }
    if !options.dry_run && !pod.is_terminating() {
        say_why(store, &pod)?;
        // It was met; the condition has changed the version since.
        options.resource_version = None;
    }
    store.delete(PODS, &target.namespace, name, &options)?;
    Ok(reply::json(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// Notes on the pod that its coming end is a disruption, as Jobs with a failure policy want to know.
fn say_why(store: &Store, pod: &Object) -> Result<(), ApiError> {
    let now = store.clock().now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    store.modify(PODS, pod.namespace(), pod.name(), Part::Status, |value| {
        let conditions = &mut value["status"]["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        if let Some(list) = conditions.as_array_mut() {
            list.retain(|known| known["type"] != "DisruptionTarget");
            list.push(json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
            }));
        }
        true
    })?;
    Ok(())
}

/// A pod that is finished, not started, or going anyway, may go without asking.
fn ignores_budgets(pod: &Object) -> bool {
    matches!(pod.text("status.phase"), Some("Succeeded" | "Failed" | "Pending")) || pod.is_terminating()
}

/// A budget must not be debited for a deletion that its preconditions refuse.
fn check_preconditions(pod: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
    let uid = options.uid.as_ref().is_none_or(|uid| uid == pod.uid());
    let version = options.resource_version.as_ref().is_none_or(|v| *v == pod.revision().to_string());
    if uid && version {
        return Ok(());
    }
    let message = match &options.uid {
        Some(given) if !uid => {
            format!("Precondition failed: UID in precondition: {given}, UID in object meta: {}", pod.uid())
        }
        _ => MODIFIED.to_owned(),
    };
    Err(ApiError::conflict(PODS, pod.name(), message))
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.at("status.conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn debit(store: &Store, pod: &Object, dry_run: bool) -> Result<(), ApiError> {
    let selects = |budget: &Arc<Object>| matches_selector(budget.at("spec.selector"), pod);
    let budgets: Vec<Arc<Object>> =
        store.list_in(POD_DISRUPTION_BUDGETS, pod.namespace()).into_iter().filter(selects).collect();
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(ApiError::Internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                    .to_owned(),
            ));
        }
    };
    if !is_ready(pod) && lets_unhealthy_go(budget) {
        return Ok(());
    }
    allow(budget)?;
    let now = store.clock().now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    store.try_modify(
        POD_DISRUPTION_BUDGETS,
        pod.namespace(),
        budget.name(),
        Part::Status,
        dry_run,
        |value| {
            let status = &mut value["status"];
            status["disruptionsAllowed"] = json!(status["disruptionsAllowed"].as_i64().unwrap_or(0) - 1);
            status["disruptedPods"][pod.name()] = json!(now);
            Ok(true)
        },
    )?;
    Ok(())
}

/// Whether a pod that is not ready may go whatever the budget has left.
fn lets_unhealthy_go(budget: &Object) -> bool {
    let number =
        |field: &str| budget.at("status").and_then(|s| s.get(field)).and_then(Value::as_i64).unwrap_or(0);
    match budget.text("spec.unhealthyPodEvictionPolicy") {
        Some("AlwaysAllow") => true,
        // IfHealthyBudget, the default: only while the application is not disrupted already.
        _ => number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0,
    }
}

fn refused(budget: &Object, detail: &str, retry_after_seconds: u32) -> ApiError {
    ApiError::TooManyRequests {
        message: "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
        retry_after_seconds,
        cause: Some(Cause {
            reason: "DisruptionBudget",
            field: String::new(),
            message: format!("The disruption budget {} {detail}", budget.name()),
        }),
    }
}

fn allow(budget: &Object) -> Result<(), ApiError> {
    let status = |field: &str| budget.at("status").and_then(|s| s.get(field));
    let number = |field: &str| status(field).and_then(Value::as_i64).unwrap_or(0);
    let generation = budget.at("metadata.generation").and_then(Value::as_i64).unwrap_or(0);
    if number("observedGeneration") < generation {
        return Err(refused(budget, "is still being processed by the server.", RETRY_SECONDS));
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 0 {
        return Err(ApiError::Forbidden {
            resource: POD_DISRUPTION_BUDGETS,
            name: budget.name().to_owned(),
            message: "pdb disruptions allowed is negative".to_owned(),
            cause: None,
        });
    }
    if status("disruptedPods").and_then(Value::as_object).is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return Err(ApiError::Forbidden {
            resource: POD_DISRUPTION_BUDGETS,
            name: budget.name().to_owned(),
            message: "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
                .to_owned(),
            cause: None,
        });
    }
    if allowed == 0 {
        let (wanted, healthy) = (number("desiredHealthy"), number("currentHealthy"));
        let detail = if healthy <= wanted {
            format!("needs {wanted} healthy pods and has {healthy} currently")
        } else {
            "does not allow evicting pods currently".to_owned()
        };
        // As in the real server nothing says when: that depends on the application.
        return Err(refused(budget, &detail, 0));
    }
    Ok(())
}
