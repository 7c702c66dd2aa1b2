//! Workloads that are scaled: how many replicas they are told to have, which pods are theirs, and changing the number.
//!
//! Owns reading the three watched kinds from what is known and every other kind by its scale subresource, and the one
//! write: an absolute number, sent only if what is there is still what was decided on.

use crate::ScalerError;
use crate::cache::{Kind, PodRecord, TargetKey};
use crate::context::Context;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use std::sync::Arc;
use workloads::Ordering;

/// Kinds that are remembered.
const MOST_KINDS: usize = 256;

/// A workload as it is.
pub(crate) struct Target {
    /// Replicas that it is told to have.
    pub(crate) replicas: u32,
    pub(crate) ordering: Ordering,
    pub(crate) rolling: bool,
    /// Its pods that neither ended nor are on their way out.
    pub(crate) pods: Vec<Arc<PodRecord>>,
}

/// Reads a workload and its pods.
pub(crate) async fn observe(
    context: &Context,
    namespace: &str,
    reference: &CrossVersionObjectReference,
) -> Result<Target, ScalerError> {
    let name = TargetKey::of(namespace, reference);
    if let Kind::Custom { .. } = name.kind {
        return by_scale(context, &name, reference).await;
    }
    let cache = context.cache();
    let Some(record) = cache.workloads.get(&name) else {
        return Err(ScalerError::Unusable(format!(
            "there is no {} {}; create it, or correct scaleTargetRef",
            reference.kind, name.key
        )));
    };
    let pods = cache.pods_of(&record.uid).into_iter().filter(|pod| pod.is_active()).collect();
    Ok(Target {
        replicas: record.replicas,
        ordering: if name.kind == Kind::StatefulSet { Ordering::Ordinal } else { Ordering::Ranked },
        rolling: record.rolling,
        pods,
    })
}

/// Reads a workload of any kind by its scale; its pods are those that the scale's selector matches.
async fn by_scale(
    context: &Context,
    name: &TargetKey,
    reference: &CrossVersionObjectReference,
) -> Result<Target, ScalerError> {
    let api = api(context, name, reference).await?;
    let attempted = format!("read the scale of {} {}", reference.kind, name.key);
    let scale = context.read(&attempted, api.get_scale(&name.key.name)).await?;
    let text = scale.status.as_ref().and_then(|status| status.selector.as_deref()).unwrap_or_default();
    if text.is_empty() {
        return Err(ScalerError::Unusable(format!(
            "the scale of {} {} has no status.selector, so its pods cannot be found; its definition must name \
             labelSelectorPath",
            reference.kind, name.key
        )));
    }
    let selector = metrics::parse_selector(text).map_err(|why| {
        ScalerError::Unusable(format!("the selector of the scale of {} {}: {why}", reference.kind, name.key))
    })?;
    let pods = context.cache().pods_matching(&name.key.namespace, &selector);
    let replicas = scale.spec.and_then(|spec| spec.replicas).and_then(|count| u32::try_from(count).ok());
    Ok(Target {
        replicas: replicas.unwrap_or(0),
        ordering: Ordering::Ranked,
        rolling: false,
        pods: pods.into_iter().filter(|pod| pod.is_active()).collect(),
    })
}

/// Tells a workload another number of replicas, if it is still told to have `from`.
pub(crate) async fn rescale(
    context: &Context,
    namespace: &str,
    reference: &CrossVersionObjectReference,
    from: u32,
    to: u32,
) -> Result<(), ScalerError> {
    let name = TargetKey::of(namespace, reference);
    let api = api(context, &name, reference).await?;
    let attempted = format!("set the scale of {} {} to {to}", reference.kind, name.key);
    let mut scale = context.read(&attempted, api.get_scale(&name.key.name)).await?;
    let spec = scale.spec.get_or_insert_default();
    let now = spec.replicas.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    if now == to {
        return Ok(());
    }
    if now != from {
        return Err(ScalerError::Changed { attempted });
    }
    spec.replicas = Some(i32::try_from(to).unwrap_or(i32::MAX));
    // The version that was read goes along, so nobody's write in between is lost.
    context.write(&attempted, api.replace_scale(&name.key.name, &PostParams::default(), &scale)).await?;
    Ok(())
}

async fn api(
    context: &Context,
    name: &TargetKey,
    reference: &CrossVersionObjectReference,
) -> Result<Api<DynamicObject>, ScalerError> {
    let resource = match &name.kind {
        Kind::Deployment => ApiResource::erase::<Deployment>(&()),
        Kind::ReplicaSet => ApiResource::erase::<ReplicaSet>(&()),
        Kind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        Kind::Custom { group, kind } => discovered(context, name, group, kind, reference).await?,
    };
    Ok(Api::namespaced_with(context.client.clone(), &name.key.namespace, &resource))
}

async fn discovered(
    context: &Context,
    name: &TargetKey,
    group: &str,
    kind: &str,
    reference: &CrossVersionObjectReference,
) -> Result<ApiResource, ScalerError> {
    let known = context.resources().get(&name.kind).cloned();
    if let Some(known) = known {
        return Ok(known);
    }
    let version = reference.api_version.as_deref().unwrap_or_default();
    let version = version.rsplit_once('/').map_or(version, |(_, version)| version);
    if version.is_empty() {
        return Err(ScalerError::Unusable(format!(
            "scaleTargetRef names the kind {kind} without apiVersion, which only Deployment, ReplicaSet and \
             StatefulSet can do without; add it"
        )));
    }
    let attempted = format!("find the kind {kind} of {group}/{version}");
    let wanted = GroupVersionKind::gvk(group, version, kind);
    let found = kube::discovery::pinned_kind(&context.client, &wanted);
    let (resource, _) = match tokio::time::timeout(context.config.call_timeout, found).await {
        Ok(Err(kube::Error::Discovery(_))) => {
            return Err(ScalerError::Unusable(format!(
                "{attempted}: it is not served; correct scaleTargetRef"
            )));
        }
        Ok(found) => context.read(&attempted, std::future::ready(found)).await?,
        Err(_) => {
            let message = "no answer in time".to_owned();
            return Err(ScalerError::Api { attempted, message, code: None });
        }
    };
    let mut resources = context.resources();
    if resources.len() >= MOST_KINDS {
        resources.clear();
    }
    resources.insert(name.kind.clone(), resource.clone());
    Ok(resource)
}
