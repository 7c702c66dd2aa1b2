//! Handing workloads back: no pod stays cut off, no finalizer or mark of ours is left, sizes stay as they are.
//!
//! Owns what is looked for and in which order: the Lease first, then pods, then what would hold objects back. The
//! user's autoscalers stay, and so do the definitions.

use crate::cache::{Key, OWN_COST, PodRecord};
use crate::context::Context;
use crate::profile::pods::bring;
use crate::shared::Shared;
use crate::{Config, Figures, ScalerError};
use api::kapacity::{
    FINALIZER, HorizontalPortrait, IntelligentHorizontalPodAutoscaler as Ihpa, ReplicaProfile,
};
use clock::Clock;
use clouds::watching::{code, within};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, Resource, ResourceExt as _};
use leadership::{Election, Fence, Leadership};
use metrics::ResourceApi;
use metrics::resource_api::ResourceApiSettings;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use workloads::PodState;

/// Objects in one page of a list, and pages read at most.
const PAGE: u32 = 500;
const MOST_PAGES: usize = 1000;

/// What an exit did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// One sentence for each object that was put right.
    pub done: Vec<String>,
    /// What could not be put right, and why; empty after a clean exit.
    pub left: Vec<String>,
}

/// Takes every mark of ours off pods and autoscalers. In a dry run nothing is changed and no Lease is taken.
pub async fn hand_back(
    client: &Client,
    clock: Clock,
    config: &Config,
    dry_run: bool,
) -> Result<Handed, ScalerError> {
    let group = format!("{}/v1alpha1", api::kapacity::GROUP);
    let defined = within(config.call_timeout, client.list_api_group_resources(&group)).await;
    if defined.is_err_and(|error| code(&error) == Some(404)) {
        return Ok(Handed::default());
    }
    let election = if dry_run || !config.leader_election.enabled {
        None
    } else {
        Some(take_lease(client, clock, config).await?)
    };
    let source = ResourceApi::new(client.clone(), clock, ResourceApiSettings::default());
    let config = Config { events: false, ..config.clone() };
    let figures = Arc::new(Figures::new(clock));
    let context = Context::new(client.clone(), clock, config, Fence::open(), Arc::new(source), figures);
    let mut handed = Handed::default();
    let result = async {
        free_pods(&context, dry_run, &mut handed).await?;
        free::<ReplicaProfile>(&context, dry_run, &mut handed).await?;
        free::<HorizontalPortrait>(&context, dry_run, &mut handed).await?;
        free::<Ihpa>(&context, dry_run, &mut handed).await
    };
    let result = result.await;
    if let Some(election) = election {
        election.release().await;
    }
    result.map(|()| handed)
}

/// Waits for the Lease for a little longer than a dead holder's takes to run out.
async fn take_lease(client: &Client, clock: Clock, config: &Config) -> Result<Election, ScalerError> {
    let lease = &config.leader_election;
    let identity = leadership::identity("tideline-exit", clock);
    let mut election = Election::start(client, clock, &config.namespace, lease, identity);
    let patience = Duration::from_secs(u64::from(lease.lease_seconds + 3 * lease.retry_seconds));
    let leads = election.state.wait_for(|state| *state == Leadership::Leader);
    if matches!(tokio::time::timeout(patience + config.call_timeout, leads).await, Ok(Ok(_))) {
        return Ok(election);
    }
    election.release().await;
    let why = format!(
        "the Lease {}/{} cannot be taken; stop the controller that holds it first (scale its Deployment to 0)",
        config.namespace, lease.name
    );
    Err(ScalerError::LostLeadership { why })
}

async fn free_pods(context: &Context, dry_run: bool, handed: &mut Handed) -> Result<(), ScalerError> {
    let pods: Api<intake::slim::Pod> = Api::all(context.client.clone());
    let mut shared = Shared::default();
    for pod in all(context, &pods, "pods").await? {
        let costly = pod.annotations().contains_key(OWN_COST);
        let record = PodRecord::read(&pod, Key::of(&pod.metadata), &mut shared);
        if !record.is_active() || !(record.is_touched() || costly) {
            continue;
        }
        let brought = if dry_run { Ok(()) } else { bring(context, &record, PodState::Online, false).await };
        match brought {
            Err(error) if !error.is_absence() => handed.left.push(format!("{error}; run it again")),
            _ => handed.done.push(format!("pod {}: back online", record.key)),
        }
    }
    Ok(())
}

/// Takes our finalizer off every object of a kind.
async fn free<K>(context: &Context, dry_run: bool, handed: &mut Handed) -> Result<(), ScalerError>
where
    K: Resource<DynamicType = ()>,
{
    let resource = ApiResource::erase::<K>(&());
    let everywhere: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource);
    let objects = match all(context, &everywhere, &resource.plural).await {
        Err(error) if error.is_absence() => return Ok(()),
        other => other?,
    };
    for object in objects {
        let finalizers = object.finalizers();
        if !finalizers.iter().any(|name| name == FINALIZER) {
            continue;
        }
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let what = format!("{} {namespace}/{name}", resource.kind);
        let left: Vec<&String> = finalizers.iter().filter(|name| *name != FINALIZER).collect();
        let patch = Patch::Merge(json!({"metadata": {
            "resourceVersion": object.resource_version(), "finalizers": left,
        }}));
        let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &resource);
        let params = PatchParams::default();
        let call = api.patch(&name, &params, &patch);
        let freed =
            if dry_run { Ok(()) } else { context.write(&format!("free {what}"), call).await.map(drop) };
        match freed {
            Err(error) if !error.is_absence() => handed.left.push(format!("{error}; run it again")),
            _ => handed.done.push(format!("{what}: finalizer taken off")),
        }
    }
    Ok(())
}

/// Every object of a kind, in pages.
async fn all<K>(context: &Context, api: &Api<K>, what: &str) -> Result<Vec<K>, ScalerError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut params = ListParams::default().limit(PAGE);
    let mut objects = Vec::new();
    for _ in 0..MOST_PAGES {
        let page = context.read(&format!("list {what}"), api.list(&params)).await?;
        objects.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            break;
        }
    }
    Ok(objects)
}
