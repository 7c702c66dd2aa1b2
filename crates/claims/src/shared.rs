//! What every look at a claim or a pool needs: the calls to the API server, and what a look ends with.
//!
//! Owns the writing. Every write has a precondition or may be repeated; what is gone already is no failure.

use crate::classes::Clouds;
use crate::cloud::{Class, CloudMachine, LaunchError, MachineKey, NoClass};
use crate::conditions::Conditions;
use crate::overlays::Resolved;
use crate::repair::Ill;
use crate::shortages::Shortages;
use api::karpenter::{NodeClaim, NodePool, TERMINATION};
use clock::Clock;
use clouds::events::Recorder;
use clouds::watching::{code, describe, within};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Who says it: the peer's name, which dashboards and alerts select by.
const COMPONENT: &str = "karpenter";

/// When a claim is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// When something about it changes.
    Wait,
    At(Timestamp),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("the API server answered: {}", describe(.0))]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Cloud(#[from] LaunchError),
    #[error("{0}")]
    Unreadable(String),
}

/// What every look needs.
pub(crate) struct Shared {
    pub client: Client,
    pub clock: Clock,
    pub claims: Api<NodeClaim>,
    pub nodes: Api<Node>,
    pub pools: Api<NodePool>,
    pub clouds: Clouds,
    pub shortages: Arc<Shortages>,
    pub recorder: Recorder,
    pub limit: Duration,
    /// Whether machines of nodes that are ill are replaced.
    pub repairs: bool,
}

/// One claim with what belongs to it.
pub(crate) struct Case {
    pub claim: Arc<NodeClaim>,
    pub node: Option<Arc<Node>>,
    /// More than one node says that it is the machine.
    pub several_nodes: bool,
    pub pool: Option<Arc<NodePool>>,
    pub class: Result<Arc<Class>, NoClass>,
    /// What overlays say of it.
    pub overlays: Arc<Resolved>,
    /// The cloud no longer has the machine that was launched.
    pub machine_gone: bool,
    /// The machine as the cloud shows it.
    pub machine: Option<Arc<CloudMachine>>,
    /// Its node has a condition that its cloud replaces machines for.
    pub ill: Option<Ill>,
}

impl Case {
    pub(crate) fn conditions(&self, now: Timestamp) -> Conditions {
        let known = self.claim.status.as_ref().map_or(&[][..], |status| &status.conditions);
        Conditions::of(known, self.claim.metadata.generation, now)
    }
}

impl Shared {
    /// Tells of an object in an event.
    pub(crate) fn say<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        reason: &'static str,
        message: String,
    ) {
        self.recorder.normal(COMPONENT, about, reason, message);
    }

    /// The same, of something that somebody should look at.
    pub(crate) fn warn<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        reason: &'static str,
        message: String,
    ) {
        self.recorder.warning(COMPONENT, about, reason, message);
    }

    /// Deletes a claim that came to nothing, with a line that says why.
    pub(crate) async fn give_up(
        &self,
        claim: &NodeClaim,
        reason: &'static str,
        why: &str,
    ) -> Result<Next, StepError> {
        tracing::warn!(nodeclaim = claim.name_any(), reason, why, "deleting nodeclaim");
        self.warn(claim, reason, why.to_owned());
        self.delete_claim(claim).await?;
        Ok(Next::Wait)
    }

    /// Asks the claim's cloud for the end of its machine; true when it is gone. A class that no cloud serves here has no
    /// machine that could be ended, which is waited for: the cloud may be given with the next start.
    pub(crate) async fn terminate(&self, claim: &NodeClaim) -> Result<bool, StepError> {
        let status = claim.status.as_ref();
        let machine = MachineKey {
            claim: Arc::from(claim.name_any()),
            uid: Arc::from(claim.uid().unwrap_or_default()),
            provider_id: status.and_then(|status| status.provider_id.clone()),
        };
        match self.clouds.of(&claim.spec.node_class_ref) {
            Some((_, cloud)) => Ok(cloud.terminate(&machine).await?),
            // Nothing was launched for it.
            None => Ok(machine.provider_id.is_none()),
        }
    }

    pub(crate) async fn delete_claim(&self, claim: &NodeClaim) -> Result<(), StepError> {
        let same = Preconditions { uid: claim.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        unless_gone(within(self.limit, self.claims.delete(&claim.name_any(), &params)).await)
    }

    pub(crate) async fn patch_claim(&self, claim: &NodeClaim, patch: Value) -> Result<(), StepError> {
        let patch = Patch::Merge(patch);
        within(self.limit, self.claims.patch(&claim.name_any(), &PatchParams::default(), &patch)).await?;
        Ok(())
    }

    /// Writes conditions and more of the status, if the claim is still as it was read.
    pub(crate) async fn write_conditions(
        &self,
        claim: &NodeClaim,
        conditions: &Conditions,
        status: Value,
    ) -> Result<(), StepError> {
        let version = claim.resource_version();
        self.put_status(claim, conditions, status, json!({"resourceVersion": version})).await
    }

    /// The same after the claim's metadata was written.
    pub(crate) async fn write_conditions_anew(
        &self,
        claim: &NodeClaim,
        conditions: &Conditions,
        status: Value,
    ) -> Result<(), StepError> {
        self.put_status(claim, conditions, status, json!({})).await
    }

    async fn put_status(
        &self,
        claim: &NodeClaim,
        conditions: &Conditions,
        mut status: Value,
        metadata: Value,
    ) -> Result<(), StepError> {
        if let Some(fields) = status.as_object_mut() {
            fields.insert("conditions".to_owned(), json!(conditions.list));
        }
        let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
        let name = claim.name_any();
        within(self.limit, self.claims.patch_status(&name, &PatchParams::default(), &patch)).await?;
        Ok(())
    }

    pub(crate) async fn write_pool_status(&self, pool: &NodePool, status: Value) -> Result<(), StepError> {
        let patch = Patch::Merge(json!({"status": status}));
        let call = self.pools.patch_status(&pool.name_any(), &PatchParams::default(), &patch).await;
        unless_gone(call)
    }

    /// Writes a pool's conditions, if the pool is still as it was read.
    pub(crate) async fn write_pool_conditions(
        &self,
        pool: &NodePool,
        conditions: &Conditions,
    ) -> Result<(), StepError> {
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": pool.resource_version()},
            "status": {"conditions": conditions.list},
        }));
        let name = pool.name_any();
        unless_gone(within(self.limit, self.pools.patch_status(&name, &PatchParams::default(), &patch)).await)
    }

    /// Writes a node as it was read and changed since.
    pub(crate) async fn write_node(&self, node: &Node) -> Result<(), StepError> {
        let name = node.name_any();
        within(self.limit, self.nodes.replace(&name, &PostParams::default(), node)).await?;
        Ok(())
    }

    pub(crate) async fn label_node(&self, name: &str, key: &str, value: &str) -> Result<(), StepError> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {key: value}}}));
        within(self.limit, self.nodes.patch(name, &PatchParams::default(), &patch)).await?;
        Ok(())
    }

    /// Takes our finalizer off a node and deletes it.
    pub(crate) async fn delete_node(&self, node: &Node) -> Result<(), StepError> {
        let name = node.name_any();
        without_finalizer(&self.nodes, node, self.limit).await?;
        let same = Preconditions { uid: node.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match within(self.limit, self.nodes.delete(&name, &params)).await {
            Err(error) if code(&error) == Some(409) => Ok(()),
            answer => unless_gone(answer),
        }
    }

    pub(crate) async fn drop_finalizer(&self, claim: &NodeClaim) -> Result<(), StepError> {
        without_finalizer(&self.claims, claim, self.limit).await
    }
}

/// Writes an object's finalizers without ours; the version that was read guards those of others.
pub(crate) async fn without_finalizer<K>(api: &Api<K>, object: &K, limit: Duration) -> Result<(), StepError>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Serialize,
{
    let name = object.name_any();
    let fresh = match within(limit, api.get(&name)).await {
        Ok(fresh) => fresh,
        Err(error) if code(&error) == Some(404) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if fresh.uid() != object.uid() || !fresh.finalizers().iter().any(|finalizer| finalizer == TERMINATION) {
        return Ok(());
    }
    let left: Vec<&String> =
        fresh.finalizers().iter().filter(|finalizer| *finalizer != TERMINATION).collect();
    let patch = json!({"metadata": {"resourceVersion": fresh.resource_version(), "finalizers": left}});
    unless_gone(within(limit, api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))).await)
}

pub(crate) fn unless_gone<T>(answer: kube::Result<T>) -> Result<(), StepError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if code(&error) == Some(404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
