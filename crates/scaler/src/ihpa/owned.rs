//! What an autoscaler makes: its portraits and its profile.
//!
//! Owns making, changing and removing them. Which exist follows from owner references alone, so that nothing is
//! forgotten over a restart.

use super::Look;
use super::translate::portrait_name;
use crate::ScalerError;
use crate::cache::{TargetKey, is_controlled_by};
use api::kapacity::{HorizontalPortrait, HorizontalPortraitSpec, ReplicaProfile};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Look<'_> {
    fn owner(&self) -> Option<OwnerReference> {
        self.ihpa.controller_owner_ref(&())
    }

    pub(super) fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.key.namespace.to_string()),
            owner_references: self.owner().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }

    fn portraits_api(&self) -> Api<HorizontalPortrait> {
        Api::namespaced(self.context.client.clone(), &self.key.namespace)
    }

    pub(super) fn profiles_api(&self) -> Api<ReplicaProfile> {
        Api::namespaced(self.context.client.clone(), &self.key.namespace)
    }

    /// The portraits of the dynamic providers, made and changed as the spec has them; others of ours are removed.
    pub(super) async fn tend_portraits(&mut self) -> Result<(), ScalerError> {
        let mut wanted: BTreeMap<String, HorizontalPortraitSpec> = BTreeMap::new();
        let dynamic =
            self.ihpa.spec.portrait_providers.iter().filter_map(|provider| provider.dynamic.as_ref());
        for portrait in dynamic {
            let name = portrait_name(&self.ihpa.name_any(), &portrait.portrait_type);
            let scale_target_ref = self.ihpa.spec.scale_target_ref.clone();
            wanted
                .entry(name)
                .or_insert(HorizontalPortraitSpec { scale_target_ref, portrait: portrait.clone() });
        }
        let mut tended = Vec::new();
        for portrait in std::mem::take(&mut self.portraits) {
            match wanted.remove(&portrait.name_any()) {
                None => self.delete_portrait(&portrait).await?,
                Some(spec) if spec == portrait.spec => tended.push(portrait),
                Some(spec) => tended.push(self.change_portrait(&portrait, spec).await?),
            }
        }
        for (name, spec) in wanted {
            let portrait = HorizontalPortrait { metadata: self.metadata(&name), spec, status: None };
            let (api, params) = (self.portraits_api(), PostParams::default());
            let attempted = format!("create HorizontalPortrait {}/{name}", self.key.namespace);
            let made = self.context.write(&attempted, api.create(&params, &portrait)).await?;
            self.context.cache().note_portrait(made.clone());
            tended.push(Arc::new(made));
        }
        self.portraits = tended;
        Ok(())
    }

    async fn change_portrait(
        &self,
        portrait: &HorizontalPortrait,
        spec: HorizontalPortraitSpec,
    ) -> Result<Arc<HorizontalPortrait>, ScalerError> {
        let changed = HorizontalPortrait { spec, ..portrait.clone() };
        let (api, params, name) = (self.portraits_api(), PostParams::default(), portrait.name_any());
        let attempted = format!("update HorizontalPortrait {}/{name}", self.key.namespace);
        let written = self.context.write(&attempted, api.replace(&name, &params, &changed)).await?;
        self.context.cache().note_portrait(written.clone());
        Ok(Arc::new(written))
    }

    pub(super) async fn delete_portrait(&self, portrait: &HorizontalPortrait) -> Result<(), ScalerError> {
        if portrait.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let (api, name) = (self.portraits_api(), portrait.name_any());
        let (params, attempted) = (of(&portrait.metadata), format!("delete HorizontalPortrait {name}"));
        match self.context.write(&attempted, api.delete(&name, &params)).await {
            Err(error) if error.is_absence() => Ok(()),
            other => other.map(drop),
        }
    }

    /// The profile, where it is this autoscaler's.
    pub(super) fn own_profile(&self) -> Option<&ReplicaProfile> {
        self.profile.as_deref().filter(|profile| is_controlled_by(&profile.metadata, &*self.ihpa))
    }

    /// Whether the profile is of another workload than the autoscaler is by now.
    pub(super) fn profile_is_elsewhere(&self) -> bool {
        let of = |reference| TargetKey::of(&self.key.namespace, reference);
        self.own_profile()
            .is_some_and(|profile| of(&profile.spec.scale_target_ref) != of(&self.ihpa.spec.scale_target_ref))
    }

    /// Removes the profile; true once it is gone, its pods given back.
    pub(super) async fn drop_profile(&self) -> Result<bool, ScalerError> {
        let Some(profile) = self.own_profile() else { return Ok(true) };
        if profile.metadata.deletion_timestamp.is_some() {
            return Ok(false);
        }
        let attempted = format!("delete ReplicaProfile {}", self.key);
        let (api, params) = (self.profiles_api(), of(&profile.metadata));
        match self.context.write(&attempted, api.delete(&self.key.name, &params)).await {
            Err(error) if error.is_absence() => Ok(true),
            other => other.map(|_| false),
        }
    }

    pub(super) async fn patch_profile(
        &self,
        profile: &ReplicaProfile,
        patch: &Value,
    ) -> Result<(), ScalerError> {
        let mut patch = patch.clone();
        // Only what was decided on is changed: somebody else's write in between has us look again.
        patch["metadata"]["resourceVersion"] = json!(profile.metadata.resource_version);
        let (api, params, patch) = (self.profiles_api(), PatchParams::default(), Patch::Merge(&patch));
        let attempted = format!("update ReplicaProfile {}", self.key);
        let written = self.context.write(&attempted, api.patch(&self.key.name, &params, &patch)).await?;
        self.context.cache().note_profile(written);
        Ok(())
    }
}

/// Deletes exactly the object that was seen.
fn of(metadata: &ObjectMeta) -> DeleteParams {
    let preconditions = Preconditions { uid: metadata.uid.clone(), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}
