//! A decision carried out: status, then profile.
//!
//! Owns what state a decision begins with and the writing of the profile, with its events once the write is done.

use super::translate::{autoscaler, behaviors};
use super::{Look, session, stability};
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
use workloads::{Counts, Decision, Held, State, decide};

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
        let mut state = State { history, ..self.state() };
        let mut checked = None;
        if let Some(session) = state.session.filter(|_| self.next_check(state.session.as_ref()).is_some()) {
            let found = self.check().await;
            state.held = found.hold(&session, state.held, self.now);
            checked = Some(found);
        }
        let decision = decide(&autoscaler, &state, self.now);
        let mut status = self.told(&autoscaler, &decision);
        self.tell_stability(&mut status, checked.as_ref(), state.held);
        let online = status.current_replicas;
        self.context.figures.memory.note(self.key, &autoscaler, &decision, online, self.now);
        self.write_status(status).await?;
        if autoscaler.preview {
            self.drop_profile().await?;
        } else if let Some(plan) = decision.plan
            && let Err(error) = self.write_profile(plan, &decision, state.held).await
        {
            if !matches!(error, ScalerError::Changed { .. }) {
                self.tell_failure(&error).await?;
            }
            return Err(error);
        }
        if decision.history != state.history {
            self.context.histories().insert(uid, decision.history.clone());
        }
        let checks = self.next_check(decision.session.as_ref());
        tended.map(|()| earlier(decision.wake_at, checks))
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
            held: stability::read(profile, self.now),
            ..State::default()
        }
    }

    async fn write_profile(
        &self,
        plan: Counts,
        decision: &Decision,
        held: Option<Held>,
    ) -> Result<(), ScalerError> {
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
        let held = held.as_ref().map(stability::write);
        let known = |name: &str| profile.annotations().get(name);
        let noted = known(session::SESSION) == session.as_ref() && known(stability::HELD) == held.as_ref();
        if owned && profile.spec == spec && noted {
            return Ok(());
        }
        let mut metadata = json!({"annotations": {session::SESSION: session, stability::HELD: held}});
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

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    [a, b].into_iter().flatten().min()
}
