//! One run of the algorithm as a job: read the portrait, ask for its metrics, leave the plan in a ConfigMap.
//!
//! Owns the order of a run and its errors; a job that fails is started again by its Job, so nothing is retried here.

use super::result::written;
use super::{Questions, data};
use api::kapacity::HorizontalPortrait;
use forecast::{NotPredictable, Predictor, PredictorSettings};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, Resource as _, ResourceExt as _};
use metrics::MetricSource;
use std::sync::Arc;
use workloads::reactive::ContainerRequest;

/// A run.
pub struct Once {
    pub namespace: String,
    /// The HorizontalPortrait.
    pub name: String,
    pub history: SignedDuration,
    /// How far the plan reaches beyond the present step.
    pub settings: PredictorSettings,
}

/// Why a run left no result.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    #[error("could not {attempted}: {source}")]
    Api { attempted: String, source: Box<kube::Error> },
    #[error("HorizontalPortrait {portrait}: {why}")]
    Portrait { portrait: String, why: String },
    #[error("replicas estimation failed: {0}")]
    NotPredictable(#[from] NotPredictable),
}

impl Once {
    /// Runs; returns the ConfigMap's keys as they were written.
    pub async fn run(
        mut self,
        client: &Client,
        source: &dyn MetricSource,
        now: Timestamp,
    ) -> Result<ConfigMap, OnceError> {
        let portraits: Api<HorizontalPortrait> = Api::namespaced(client.clone(), &self.namespace);
        let portrait = portraits.get(&self.name).await.map_err(|error| {
            failed(format!("read HorizontalPortrait {}/{}", self.namespace, self.name), error)
        })?;
        let wrong =
            |why: String| OnceError::Portrait { portrait: format!("{}/{}", self.namespace, self.name), why };
        let questions = Questions::of(&self.namespace, &portrait.spec).map_err(wrong)?;
        let asked = if questions.target(&[]).is_ok() {
            Vec::new()
        } else {
            requests(client, &self.namespace, &portrait).await?
        };
        self.settings.target = questions.target(&asked).map_err(wrong)?;
        let from = now.saturating_sub(self.history).unwrap_or(Timestamp::UNIX_EPOCH);
        let history = questions.history(source, from, now).await.map_err(wrong)?;
        let ahead = Predictor::learn(self.settings.clone(), &history)?.ahead()?;
        self.leave(client, &portrait, &data(&ahead)).await
    }

    async fn leave(
        &self,
        client: &Client,
        portrait: &HorizontalPortrait,
        data: &api::kapacity::PortraitData,
    ) -> Result<ConfigMap, OnceError> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &self.namespace);
        let name = format!("{}-result", self.name);
        let attempted = |what: &str| format!("{what} ConfigMap {}/{name}", self.namespace);
        let old = maps.get_opt(&name).await.map_err(|error| failed(attempted("read"), error))?;
        let mut map = old.clone().unwrap_or_default();
        map.metadata.name = Some(name.clone());
        map.metadata.owner_references = portrait.controller_owner_ref(&()).map(|owner| vec![owner]);
        map.data = Some(written(data));
        map.binary_data = None;
        let params = PostParams::default();
        match old {
            Some(_) => maps.replace(&name, &params, &map).await.map_err(|e| failed(attempted("write"), e)),
            None => maps.create(&params, &map).await.map_err(|error| failed(attempted("create"), error)),
        }
    }
}

fn failed(attempted: String, source: kube::Error) -> OnceError {
    OnceError::Api { attempted, source: Box::new(source) }
}

/// What the containers of one of the workload's pods ask for, the first by name.
async fn requests(
    client: &Client,
    namespace: &str,
    portrait: &HorizontalPortrait,
) -> Result<Vec<ContainerRequest>, OnceError> {
    let target = &portrait.spec.scale_target_ref;
    let wrong =
        |why: String| OnceError::Portrait { portrait: format!("{namespace}/{}", portrait.name_any()), why };
    let resource = match &*target.kind {
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "ReplicaSet" => ApiResource::erase::<ReplicaSet>(&()),
        "StatefulSet" => ApiResource::erase::<StatefulSet>(&()),
        other => {
            return Err(wrong(format!(
                "averageUtilization is served for Deployment, ReplicaSet and StatefulSet, not {other}; use averageValue"
            )));
        }
    };
    let workloads: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let attempted = format!("read the scale of {} {namespace}/{}", target.kind, target.name);
    let scale = workloads.get_scale(&target.name).await.map_err(|error| failed(attempted, error))?;
    let selector = scale.status.and_then(|status| status.selector).unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(&selector).limit(500);
    let pods = pods.list(&params).await.map_err(|e| failed(format!("list pods of {selector}"), e))?;
    let Some(pod) = pods.items.into_iter().min_by_key(Pod::name_any).filter(|_| !selector.is_empty()) else {
        return Err(wrong("it has no pod whose requests averageUtilization could be of; start one".into()));
    };
    let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
    Ok(containers
        .iter()
        .map(|container| {
            let asked = |resource: &str| {
                let requests = container.resources.as_ref()?.requests.as_ref()?;
                let milli = intake::quantity::milli(&requests.get(resource)?.0).ok()?;
                i64::try_from(milli).ok()
            };
            let name = Arc::from(container.name.as_str());
            ContainerRequest { name, cpu: asked("cpu"), memory: asked("memory") }
        })
        .collect())
}
