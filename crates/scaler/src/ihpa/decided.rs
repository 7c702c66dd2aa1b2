//! A decision carried out: status, then profile.
//!
//! Owns what state a decision begins with and the writing of the profile, with its events once the write is done.

use super::translate::{autoscaler, behaviors};
use super::{Look, session};
use crate::ScalerError;
use crate::cache::is_controlled_by;
use crate::conditions;
use api::kapacity::{
    FINALIZER, HorizontalPortrait, IHPA_COMPONENT, ReplicaProfile, ReplicaProfileSpec, ScalingBehavior,
    ScalingDirection,
};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::PostParams;
use serde_json::json;
use std::collections::BTreeMap;
use workloads::{Counts, Decision, State, decide};

impl Look<'_> {
    /// Portraits are tended, one is followed, and the profile is written.
    pub(super) async fn follow(mut self) -> Result<Option<Timestamp>, ScalerError> {
        let tended = self.tend_portraits().await;
        if self.profile_is_elsewhere() {
            // The old workload's pods are given back first; we hear of its end.
            self.drop_profile().await?;
            self.profile = None;
            return tended.map(|()| None);
        }
        if let Some(profile) = &self.profile
            && profile.metadata.deletion_timestamp.is_some()
        {
            return tended.map(|()| None);
        }
        let named: Vec<(String, &HorizontalPortrait)> =
            self.portraits.iter().map(|portrait| (portrait.name_any(), &**portrait)).collect();
        let by_name: BTreeMap<&str, &HorizontalPortrait> =
            named.iter().map(|(name, portrait)| (name.as_str(), *portrait)).collect();
        let autoscaler = autoscaler(&self.ihpa.name_any(), &self.ihpa.spec, &by_name);
        let uid = self.ihpa.metadata.uid.clone().unwrap_or_default();
        let history = self.context.histories().get(&uid).cloned().unwrap_or_default();
        let state = State { history, ..self.state() };
        let decision = decide(&autoscaler, &state, self.now);
        self.write_status(self.told(&autoscaler, &decision)).await?;
        if autoscaler.preview {
            self.drop_profile().await?;
        } else if let Some(plan) = decision.plan
            && let Err(error) = self.write_profile(plan, &decision).await
        {
            if !matches!(error, ScalerError::Changed { .. }) {
                self.tell_failure(&error).await?;
            }
            return Err(error);
        }
        if decision.history != state.history {
            self.context.histories().insert(uid, decision.history.clone());
        }
        tended.map(|()| decision.wake_at)
    }

    /// What was decided before, out of the profile.
    fn state(&self) -> State {
        let Some(profile) = self.own_profile() else { return State::default() };
        let (spec, count) = (&profile.spec, |count: i32| u32::try_from(count).unwrap_or(0));
        let ensured =
            profile.status.as_ref().and_then(|status| conditions::find(&status.conditions, "Ensured"));
        State {
            planned: Some(Counts {
                online: count(spec.online_replicas),
                cutoff: count(spec.cutoff_replicas),
                standby: count(spec.standby_replicas),
            }),
            session: profile.annotations().get(session::SESSION).and_then(|text| session::read(text)),
            settled: ensured.is_some_and(|ensured| {
                ensured.status == "True" && ensured.observed_generation == profile.metadata.generation
            }),
            ..State::default()
        }
    }

    async fn write_profile(&self, plan: Counts, decision: &Decision) -> Result<(), ScalerError> {
        let signed = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        let behavior = self.ihpa.spec.behavior.as_ref().and_then(|behavior| behavior.replica_profile.clone());
        let spec = ReplicaProfileSpec {
            scale_target_ref: self.ihpa.spec.scale_target_ref.clone(),
            online_replicas: signed(plan.online),
            cutoff_replicas: signed(plan.cutoff),
            standby_replicas: signed(plan.standby),
            paused: false,
            allowed_scaling_direction: self.direction(),
            behavior: behavior.unwrap_or_default(),
        };
        let session = decision.session.as_ref().map(session::write);
        let Some(profile) = &self.profile else { return self.create_profile(spec, session).await };
        let owned = is_controlled_by(&profile.metadata, &*self.ihpa);
        if !owned && profile.owner_references().iter().any(|owner| owner.controller == Some(true)) {
            return Err(ScalerError::Unusable(format!(
                "ReplicaProfile {} is controlled by another object; give the autoscaler another name",
                self.key
            )));
        }
        let known = profile.annotations().get(session::SESSION);
        if owned && profile.spec == spec && known == session.as_ref() {
            return Ok(());
        }
        let mut metadata = json!({"annotations": {session::SESSION: session}});
        if !owned {
            metadata["ownerReferences"] = json!(self.metadata("").owner_references);
        }
        let mut patch = json!({"metadata": metadata, "spec": spec});
        // A merge keeps what it does not name.
        for field in ["podSorter", "podTrafficController"] {
            if patch["spec"]["behavior"][field]["external"].is_null() {
                patch["spec"]["behavior"][field]["external"] = serde_json::Value::Null;
            }
        }
        self.patch_profile(profile, &patch).await?;
        let (old, new) = (&profile.spec, &spec);
        let counts =
            |spec: &ReplicaProfileSpec| (spec.online_replicas, spec.cutoff_replicas, spec.standby_replicas);
        if counts(old) != counts(new) {
            let message = format!(
                "update ReplicaProfile with onlineReplcas: {} -> {}, cutoffReplicas: {} -> {}, standbyReplicas: {} -> {}",
                old.online_replicas,
                new.online_replicas,
                old.cutoff_replicas,
                new.cutoff_replicas,
                old.standby_replicas,
                new.standby_replicas
            );
            self.context.recorder.normal(IHPA_COMPONENT, &*self.ihpa, "UpdateReplicaProfile", message);
        }
        Ok(())
    }

    async fn create_profile(
        &self,
        spec: ReplicaProfileSpec,
        session: Option<String>,
    ) -> Result<(), ScalerError> {
        let message = format!(
            "create ReplicaProfile with onlineReplcas: {}, cutoffReplicas: {}, standbyReplicas: {}",
            spec.online_replicas, spec.cutoff_replicas, spec.standby_replicas
        );
        let mut metadata = self.metadata(&self.key.name);
        metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        metadata.annotations = session.map(|text| [(session::SESSION.to_owned(), text)].into());
        let profile = ReplicaProfile { metadata, spec, status: None };
        let (api, params) = (self.profiles_api(), PostParams::default());
        let attempted = format!("create ReplicaProfile {}", self.key);
        let made = self.context.write(&attempted, api.create(&params, &profile)).await?;
        self.context.cache().note_profile(made);
        self.context.recorder.normal(IHPA_COMPONENT, &*self.ihpa, "CreateReplicaProfile", message);
        Ok(())
    }

    fn direction(&self) -> ScalingDirection {
        let (up, down) = behaviors(&self.ihpa.spec);
        let off = |behavior: Option<&ScalingBehavior>| behavior.is_some_and(|behavior| behavior.disabled);
        match (off(up), off(down)) {
            (false, false) => ScalingDirection::Both,
            (false, true) => ScalingDirection::Up,
            (true, false) => ScalingDirection::Down,
            (true, true) => ScalingDirection::Neither,
        }
    }
}
