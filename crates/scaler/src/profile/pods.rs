//! One pod brought into a state: its condition, its label, its mark.
//!
//! Owns these three writes and their order, each bound to the pod's UID, and the pods that belong to no profile: a gate
//! without a condition is opened, and whatever a profile that is gone left behind is taken back.

use crate::ScalerError;
use crate::cache::{DELETION_COST, Key, MARK, OWN_COST, PodRecord};
use crate::context::Context;
use api::kapacity::{ONLINE, POD_STATE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};
use std::sync::atomic::Ordering::Relaxed;
use workloads::PodState;

/// Brings a pod into a state, whatever of it differs; nothing that is as it should be is written.
pub(crate) async fn bring(
    context: &Context,
    pod: &PodRecord,
    state: PodState,
    by_number: bool,
) -> Result<(), ScalerError> {
    let online = state == PodState::Online;
    let open = match pod.serving {
        Some(serving) => serving == online,
        // Without a gate nobody asks for the condition; what is cut off is told all the same.
        None => online && !pod.gated,
    };
    if !open {
        set_condition(context, pod, online).await?;
    }
    let mut metadata = Map::new();
    if pod.state != state {
        context.figures.pods_touched.fetch_add(1, Relaxed);
        let label = match state {
            PodState::Online => Value::Null,
            PodState::Cutoff => json!("Cutoff"),
            PodState::Standby => json!("Standby"),
        };
        metadata.insert("labels".to_owned(), json!({POD_STATE: label}));
    }
    if pod.marked && online {
        let before = pod.own_cost.as_deref().map_or(Value::Null, |cost| json!(cost));
        let costs = json!({DELETION_COST: before, OWN_COST: Value::Null});
        metadata.insert("annotations".to_owned(), costs);
    } else if !online && !pod.marked && !by_number {
        let before = pod.own_cost.as_deref().unwrap_or_default();
        metadata.insert("annotations".to_owned(), json!({DELETION_COST: MARK, OWN_COST: before}));
    }
    if metadata.is_empty() {
        return Ok(());
    }
    metadata.insert("uid".to_owned(), json!(&*pod.uid));
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let attempted = format!("label pod {}", pod.key);
    let (api, params) = (api(context, pod), PatchParams::default());
    let call = api.patch_metadata(&pod.key.name, &params, &patch);
    context.write(&attempted, call).await.map(drop)
}

async fn set_condition(context: &Context, pod: &PodRecord, online: bool) -> Result<(), ScalerError> {
    let status = if online { "True" } else { "False" };
    let patch = Patch::Strategic(json!({
        "metadata": {"uid": &*pod.uid},
        "status": {"conditions": [{
            "type": ONLINE, "status": status, "lastTransitionTime": Time(context.clock.now()),
        }]},
    }));
    let attempted = format!("set the condition {ONLINE} of pod {} to {status}", pod.key);
    let (api, params) = (api(context, pod), PatchParams::default());
    let call = api.patch_status(&pod.key.name, &params, &patch);
    context.write(&attempted, call).await.map(drop)
}

fn api(context: &Context, pod: &PodRecord) -> Api<Pod> {
    Api::namespaced(context.client.clone(), &pod.key.namespace)
}

/// Whether a pod needs a look of its own.
pub(crate) fn needs_look(pod: &PodRecord) -> bool {
    pod.is_active() && ((pod.gated && pod.serving.is_none()) || pod.is_touched())
}

/// Looks at one pod: opens a gate that nobody opened, and takes back what belongs to no profile.
pub(crate) async fn look(context: &Context, key: &Key) -> Result<Option<Timestamp>, ScalerError> {
    let (pod, wanted) = {
        let cache = context.cache();
        let pod = cache.pods.get(key).filter(|pod| needs_look(pod) && cache.peer().is_none()).cloned();
        let wanted = pod.as_ref().is_some_and(|pod| cache.profiles_of_pod(pod).next().is_some());
        (pod, wanted)
    };
    let Some(pod) = pod else { return Ok(None) };
    let result = if pod.gated && pod.serving.is_none() && pod.state == PodState::Online {
        set_condition(context, &pod, true).await
    } else if pod.is_touched() && !wanted {
        tracing::info!(pod = %key, "no replica profile has it any more: it comes back online");
        bring(context, &pod, PodState::Online, false).await
    } else {
        Ok(())
    };
    match result {
        Err(error) if error.is_absence() => Ok(None),
        other => other.map(|()| None),
    }
}
