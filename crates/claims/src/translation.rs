//! The old kinds kept in step: what a Provisioner or template means is written, each claim of theirs has its Machine.
//!
//! Owns the writing. An object of the same name that somebody else made is left alone, and what is written already is
//! not written again.

use crate::legacy::{self, TRANSLATED_FROM, Untranslatable};
use crate::shared::{Next, Shared, StepError, unless_gone, without_finalizer};
use api::karpenter::v1alpha5::{AwsNodeTemplate, Machine, Provisioner};
use api::karpenter::{Ec2NodeClass, NodeClaim, NodePool, TERMINATION};
use clouds::watching::{code, within};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

pub(crate) async fn provisioner(shared: &Shared, old: &Provisioner) -> Result<Next, StepError> {
    if old.metadata.deletion_timestamp.is_some() {
        // What it owns goes with it.
        return Ok(Next::Wait);
    }
    let pool = match legacy::node_pool(old) {
        Ok(pool) => pool,
        Err(why) => return Ok(refuse(&why)),
    };
    if let Some(class) = legacy::class_of_provisioner(old) {
        let api: Api<Ec2NodeClass> = Api::all(shared.client.clone());
        write(shared, &api, &class, |class| json!(class.spec)).await?;
    }
    let api: Api<NodePool> = Api::all(shared.client.clone());
    write(shared, &api, &pool, |pool| json!(pool.spec)).await?;
    Ok(Next::Wait)
}

pub(crate) async fn template(shared: &Shared, old: &AwsNodeTemplate) -> Result<Next, StepError> {
    if old.metadata.deletion_timestamp.is_some() {
        return Ok(Next::Wait);
    }
    let class = match legacy::class_of_template(old) {
        Ok(class) => class,
        Err(why) => return Ok(refuse(&why)),
    };
    let api: Api<Ec2NodeClass> = Api::all(shared.client.clone());
    write(shared, &api, &class, |class| json!(class.spec)).await?;
    tell(shared, old, &class).await;
    Ok(Next::Wait)
}

/// What Karpenter says of a template in its log, at the level and with the words that people look for.
async fn tell(shared: &Shared, old: &AwsNodeTemplate, class: &Ec2NodeClass) {
    let name = old.name_any();
    let terms = &class.spec.security_group_selector_terms;
    // Groups that are chosen by tags are found by the cloud, which says so itself.
    let groups: Vec<&str> = terms.iter().filter_map(|term| term.id.as_deref()).collect();
    if !groups.is_empty() {
        tracing::debug!(
            target: "controller.awsnodetemplate",
            awsnodetemplate = name,
            "security-groups" = ?groups,
            "discovered security groups"
        );
    }
    if let Ok(info) = within(shared.limit, shared.client.apiserver_version()).await {
        let version = format!("{}.{}", info.major, info.minor.trim_end_matches('+'));
        tracing::debug!(
            target: "controller.awsnodetemplate",
            awsnodetemplate = name,
            version,
            "discovered kubernetes version"
        );
    }
}

fn refuse(why: &Untranslatable) -> Next {
    tracing::error!(%why, "an object of v1alpha5 cannot be translated");
    Next::Wait
}

/// Writes an object unless it is there and says the same; one that was not translated from the same object is somebody else's.
async fn write<K>(
    shared: &Shared,
    api: &Api<K>,
    wanted: &K,
    spec: impl Fn(&K) -> serde_json::Value,
) -> Result<(), StepError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = wanted.name_any();
    match within(shared.limit, api.get(&name)).await {
        Ok(found)
            if found.annotations().get(TRANSLATED_FROM) != wanted.annotations().get(TRANSLATED_FROM) =>
        {
            let kind = K::kind(&());
            tracing::warn!(
                kind = &*kind,
                name,
                "is there and was not translated from this object: it is left as it is"
            );
            Ok(())
        }
        Ok(found) if spec(&found) == spec(wanted) => Ok(()),
        Ok(found) => {
            let patch = json!({
                "metadata": {"resourceVersion": found.resource_version()},
                "spec": spec(wanted),
            });
            within(shared.limit, api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))).await?;
            Ok(())
        }
        Err(error) if code(&error) == Some(404) => {
            within(shared.limit, api.create(&PostParams::default(), wanted)).await?;
            tracing::info!(kind = &*K::kind(&()), name, "translated from v1alpha5");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Brings the Machine of a claim in line with it, and the other way round: who deletes the Machine deletes the claim.
pub(crate) async fn mirror(
    shared: &Shared,
    claim: Option<&NodeClaim>,
    machine: Option<&Machine>,
) -> Result<Next, StepError> {
    let api: Api<Machine> = Api::all(shared.client.clone());
    let Some(claim) = claim else {
        let Some(machine) = machine else { return Ok(Next::Wait) };
        without_finalizer(&api, machine, shared.limit).await?;
        unless_gone(within(shared.limit, api.delete(&machine.name_any(), &DeleteParams::default())).await)?;
        return Ok(Next::Wait);
    };
    let wanted = legacy::machine(claim);
    let Some(found) = machine else {
        if claim.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        return match within(shared.limit, api.create(&PostParams::default(), &wanted)).await {
            Ok(_) => Ok(Next::Wait),
            Err(error) if code(&error) == Some(409) => Ok(Next::Wait),
            Err(error) => Err(error.into()),
        };
    };
    if found.metadata.deletion_timestamp.is_some() {
        if claim.metadata.deletion_timestamp.is_none() {
            shared.delete_claim(claim).await?;
        }
        return Ok(Next::Wait);
    }
    let name = found.name_any();
    if found.labels() != wanted.labels() || !found.finalizers().iter().any(|f| f == TERMINATION) {
        let metadata = json!({"labels": wanted.labels(), "finalizers": [TERMINATION]});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        unless_gone(within(shared.limit, api.patch(&name, &PatchParams::default(), &patch)).await)?;
    }
    if found.status != wanted.status {
        let patch = Patch::Merge(json!({"status": wanted.status}));
        unless_gone(within(shared.limit, api.patch_status(&name, &PatchParams::default(), &patch)).await)?;
    }
    Ok(Next::Wait)
}
