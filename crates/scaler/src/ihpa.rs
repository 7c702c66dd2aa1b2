//! IntelligentHorizontalPodAutoscaler: portraits looked after, one of them followed, the profile written.
//!
//! Owns the order of a look: who else acts, what is asked for, what portraits say, status, profile, and the clean-up of
//! what an autoscaler no longer asks for. The decision is `workloads::decide`'s; reading and writing it out is in the
//! modules below.

mod decided;
mod owned;
mod session;
mod stability;
mod status;
mod translate;

use crate::ScalerError;
use crate::cache::{Key, TargetKey};
use crate::conditions::{self, Say};
use crate::context::Context;
use api::kapacity::{
    FINALIZER, HorizontalPortrait, IHPA_COMPONENT, IhpaStatus, IntelligentHorizontalPodAutoscaler as Ihpa,
    ReplicaProfile, ScaleMode,
};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use std::sync::Arc;

const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";
const PROGRESSING: &str = "GrayProgressing";
/// Ours: what is wrong with single portraits.
const PORTRAITS: &str = "PortraitsUsable";
/// Ours: somebody else scales the same workload.
const CONFLICT: &str = "Conflict";
/// Ours: another controller acts on these kinds.
const ANOTHER: &str = "AnotherController";
/// Reasons that are worth a warning, once, when they become true.
const WARNINGS: &[&str] = &[
    "NoValidPortraitValue",
    "FailedUpdateAndFetchPortraitValue",
    "FailedCreateReplicaProfile",
    "FailedUpdateReplicaProfile",
    "ConflictingAutoscaler",
    "StabilityCheckFailed",
    "FailedCheckStability",
];

/// Everything that a look at one autoscaler begins with.
struct Look<'a> {
    context: &'a Context,
    key: &'a Key,
    ihpa: Arc<Ihpa>,
    /// Portraits that it controls.
    portraits: Vec<Arc<HorizontalPortrait>>,
    /// The profile of its name, whoever controls it.
    profile: Option<Arc<ReplicaProfile>>,
    now: Timestamp,
}

/// Looks at one autoscaler.
pub(crate) async fn look(context: &Context, key: &Key) -> Result<Option<Timestamp>, ScalerError> {
    let (look, peer, rival) = {
        let cache = context.cache();
        let Some(ihpa) = cache.ihpas.get(key).cloned() else { return Ok(None) };
        let look = Look {
            context,
            key,
            portraits: cache.portraits_of(ihpa.metadata.uid.as_deref().unwrap_or_default()),
            profile: cache.profiles.get(key).cloned(),
            now: context.clock.now(),
            ihpa: ihpa.clone(),
        };
        (look, cache.peer().cloned(), rival(&cache, key, &ihpa))
    };
    if let Some(peer) = peer {
        return look.stand_aside(&peer).await;
    }
    if look.ihpa.metadata.deletion_timestamp.is_some() {
        return look.finish().await;
    }
    let look = look.claim().await?;
    if let Some(rival) = rival {
        return look.give_way(&rival).await;
    }
    if look.ihpa.spec.paused {
        return look.pause().await;
    }
    look.follow().await
}

/// Who else scales the workload: an HPA, or an older autoscaler of this kind.
fn rival(cache: &crate::cache::Cache, key: &Key, ihpa: &Ihpa) -> Option<String> {
    let target = TargetKey::of(&key.namespace, &ihpa.spec.scale_target_ref);
    if let Some(hpa) = cache.hpa_of(&target) {
        return Some(format!("HorizontalPodAutoscaler {hpa}"));
    }
    let age = |ihpa: &Ihpa| (ihpa.metadata.creation_timestamp.as_ref().map(|time| time.0), ihpa.name_any());
    let others = cache.ihpas_of(&target).filter(|other| *other != key);
    let acting = others.filter_map(|other| cache.ihpas.get(other)).filter(|other| {
        other.metadata.deletion_timestamp.is_none()
            && !other.spec.paused
            && other.spec.scale_mode == ScaleMode::Auto
            && age(other) < age(ihpa)
    });
    acting.min_by_key(|other| age(other)).map(|other| {
        format!("IntelligentHorizontalPodAutoscaler {}/{}, which is older", key.namespace, other.name_any())
    })
}

impl Look<'_> {
    fn api(&self) -> Api<Ihpa> {
        Api::namespaced(self.context.client.clone(), &self.key.namespace)
    }

    /// The peer acts: nothing is done but to say so.
    async fn stand_aside(&self, peer: &Key) -> Result<Option<Timestamp>, ScalerError> {
        let mut status = self.ihpa.status.clone().unwrap_or_default();
        let message = format!(
            "the Deployment {peer} acts on this object; scale it to 0 to hand its autoscalers over, with all their state"
        );
        self.set(&mut status, &Say::yes(ANOTHER, "DeploymentRuns", message));
        self.write_status(status).await?;
        Ok(None)
    }

    /// The finalizer, before anything is made that would have to be cleaned up.
    async fn claim(mut self) -> Result<Self, ScalerError> {
        let finalizers = self.ihpa.metadata.finalizers.iter().flatten();
        if finalizers.clone().any(|name| name == FINALIZER) {
            return Ok(self);
        }
        let all: Vec<&str> = finalizers.map(String::as_str).chain([FINALIZER]).collect();
        self.ihpa = Arc::new(self.set_finalizers(&json!(all)).await?);
        self.context.cache().note_ihpa((*self.ihpa).clone());
        Ok(self)
    }

    async fn set_finalizers(&self, finalizers: &serde_json::Value) -> Result<Ihpa, ScalerError> {
        let patch = json!({"metadata": {
            "resourceVersion": self.ihpa.metadata.resource_version, "finalizers": finalizers,
        }});
        let (api, params, patch) = (self.api(), PatchParams::default(), Patch::Merge(&patch));
        let call = api.patch(&self.key.name, &params, &patch);
        self.context.write(&format!("set the finalizers of IHPA {}", self.key), call).await
    }

    /// Deleted: first the profile gives its pods back, then the object may go.
    async fn finish(&self) -> Result<Option<Timestamp>, ScalerError> {
        let finalizers = self.ihpa.metadata.finalizers.iter().flatten();
        if !finalizers.clone().any(|name| name == FINALIZER) {
            return Ok(None);
        }
        for portrait in &self.portraits {
            self.delete_portrait(portrait).await?;
        }
        if !self.drop_profile().await? {
            // Heard of when it is gone.
            return Ok(None);
        }
        if let Some(uid) = &self.ihpa.metadata.uid {
            self.context.histories().remove(uid);
        }
        let left: Vec<&String> = finalizers.filter(|name| *name != FINALIZER).collect();
        match self.set_finalizers(&json!(left)).await {
            Err(error) if error.is_absence() => Ok(None),
            other => other.map(|_| None),
        }
    }

    /// Somebody else scales the workload: the profile goes, so that there is no fight and no pod stays cut off.
    async fn give_way(&self, rival: &str) -> Result<Option<Timestamp>, ScalerError> {
        self.drop_profile().await?;
        let mut status = self.ihpa.status.clone().unwrap_or_default();
        status.gray = None;
        status.outlook.clear();
        let message = format!("{rival} scales the same workload; remove one of the two");
        self.set(&mut status, &Say::yes(CONFLICT, "SameTarget", message.clone()));
        self.set(&mut status, &Say::no(ACTIVE, "ConflictingAutoscaler", message));
        self.write_status(status).await?;
        Ok(None)
    }

    async fn pause(&self) -> Result<Option<Timestamp>, ScalerError> {
        if let Some(profile) = self.own_profile()
            && !profile.spec.paused
        {
            self.patch_profile(profile, &json!({"spec": {"paused": true}})).await?;
        }
        let mut status = self.ihpa.status.clone().unwrap_or_default();
        status.outlook.clear();
        self.set(&mut status, &Say::no(ACTIVE, "ScalingPaused", "scaling is paused"));
        self.write_status(status).await?;
        Ok(None)
    }

    fn set(&self, status: &mut IhpaStatus, say: &Say) {
        conditions::set(&mut status.conditions, say, self.ihpa.metadata.generation, self.now);
    }

    async fn write_status(&self, mut status: IhpaStatus) -> Result<(), ScalerError> {
        status.observed_generation = self.ihpa.metadata.generation;
        if Some(&status) == self.ihpa.status.as_ref() {
            return Ok(());
        }
        let current = self.context.cache().ihpas.get(self.key).cloned();
        let version = current.and_then(|current| current.resource_version());
        let mut written = Ihpa { status: Some(status), ..(*self.ihpa).clone() };
        written.metadata.resource_version = version.or(written.metadata.resource_version);
        let (api, params) = (self.api(), PostParams::default());
        let call = api.replace_status(&self.key.name, &params, &written);
        let written = self.context.write(&format!("write the status of IHPA {}", self.key), call).await?;
        let told =
            |ihpa: &Ihpa| ihpa.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        for (reason, message) in conditions::warnings(&told(&self.ihpa), &told(&written), WARNINGS) {
            self.context.recorder.warning(IHPA_COMPONENT, &*self.ihpa, reason, message);
        }
        self.context.cache().note_ihpa(written);
        Ok(())
    }
}
