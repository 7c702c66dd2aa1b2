//! ReplicaProfile: counts of pods by state, made true.
//!
//! Owns the order of acting on a workload: pods come back first, then pods are cut off, then the scale is written, and
//! lowered only once the pods that go are seen to be out of traffic. Which pods, `workloads` decides.

pub(crate) mod pods;

use crate::ScalerError;
use crate::cache::{Key, Kind, PodRecord, TargetKey};
use crate::conditions::{self, Say};
use crate::context::Context;
use crate::target::{self, Target};
use api::kapacity::{
    FINALIZER, PROFILE_COMPONENT, PodSorterType, ReplicaProfile, ReplicaProfileStatus, ScalingDirection,
    TrafficControllerType,
};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams, PostParams};
use pods::bring;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use workloads::{
    AllowedDirection, Counts, Ordering, PodState, Population, ProfilePlan, ProfileSpec, Touch, plan,
};

const APPLIED: &str = "Applied";
const ENSURED: &str = "Ensured";
/// Ours: pods that are cut off by their state, and serve all the same.
const TRAFFIC: &str = "TrafficControlled";
const PAUSED: &str = "ReplicaProfilePaused";
const NOT_SATISFIED: &str = "ReplicaNumberNotSatisfied";
/// Reasons that are worth a warning, once, when they become true.
const WARNINGS: &[&str] = &[
    "FailedGetPodSorter",
    "FailedGetPodTrafficController",
    "FailedGetScale",
    "FailedOnlinePods",
    "FailedCutoffPods",
    "FailedSetPodState",
    "FailedUpdateScale",
    "ReadinessGateMissing",
    "ConflictingReplicaProfile",
];
/// Between looks at a workload of a kind that is not watched: the period of metrics.
const UNWATCHED_WAIT: SignedDuration = SignedDuration::from_secs(15);
/// How long a deletion waits for pods that cannot be brought back.
const LONGEST_RELEASE: SignedDuration = SignedDuration::from_mins(5);
/// Pods named in one message.
const MOST_NAMED: usize = 50;

/// Looks at one profile.
pub(crate) async fn look(context: &Context, key: &Key) -> Result<Option<Timestamp>, ScalerError> {
    let (profile, peer) = {
        let cache = context.cache();
        (cache.profiles.get(key).cloned(), cache.peer().is_some())
    };
    let Some(profile) = profile.filter(|_| !peer) else { return Ok(None) };
    let api: Api<ReplicaProfile> = Api::namespaced(context.client.clone(), &key.namespace);
    let finalizers = profile.metadata.finalizers.iter().flatten();
    let ours = finalizers.clone().any(|name| name == FINALIZER);
    if profile.metadata.deletion_timestamp.is_some() {
        if ours {
            release(context, key, &profile).await?;
            let left: Vec<&String> = finalizers.filter(|name| *name != FINALIZER).collect();
            set_finalizers(context, &api, key, &profile, &json!(left)).await?;
        }
        return Ok(None);
    }
    if !ours {
        let all: Vec<&str> = finalizers.map(String::as_str).chain([FINALIZER]).collect();
        let patched = set_finalizers(context, &api, key, &profile, &json!(all)).await?;
        context.cache().note_profile(patched);
    }
    let Some(profile) = context.cache().profiles.get(key).cloned() else { return Ok(None) };
    let (status, result) = Look { context, profile: &profile, now: context.clock.now() }.run().await;
    let well = conditions::find(&status.conditions, ENSURED).is_some_and(|ensured| ensured.status == "True");
    if Some(&status) != profile.status.as_ref() {
        write_status(context, &api, key, &profile, status).await?;
    }
    // Kinds that are not watched are looked at again until all is well.
    let custom = matches!(Kind::of(&profile.spec.scale_target_ref), Kind::Custom { .. });
    let again = context.clock.now().saturating_add(UNWATCHED_WAIT).ok().filter(|_| custom && !well);
    result.map(|()| again)
}

async fn set_finalizers(
    context: &Context,
    api: &Api<ReplicaProfile>,
    key: &Key,
    profile: &ReplicaProfile,
    finalizers: &serde_json::Value,
) -> Result<ReplicaProfile, ScalerError> {
    let patch = json!({"metadata": {
        "resourceVersion": profile.metadata.resource_version, "finalizers": finalizers,
    }});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let call = api.patch(&key.name, &params, &patch);
    context.write(&format!("set the finalizers of ReplicaProfile {key}"), call).await
}

async fn write_status(
    context: &Context,
    api: &Api<ReplicaProfile>,
    key: &Key,
    profile: &ReplicaProfile,
    status: ReplicaProfileStatus,
) -> Result<(), ScalerError> {
    let written = ReplicaProfile { status: Some(status), ..profile.clone() };
    let params = PostParams::default();
    let call = api.replace_status(&key.name, &params, &written);
    let written = context.write(&format!("write the status of ReplicaProfile {key}"), call).await?;
    let told = |profile: &ReplicaProfile| {
        profile.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default()
    };
    for (reason, message) in conditions::warnings(&told(profile), &told(&written), WARNINGS) {
        context.recorder.warning(PROFILE_COMPONENT, profile, reason, message);
    }
    context.cache().note_profile(written);
    Ok(())
}

/// Brings every pod of a profile's workload back online, whether it still is in its bounds or not.
async fn release(context: &Context, key: &Key, profile: &ReplicaProfile) -> Result<(), ScalerError> {
    let target = match target::observe(context, &key.namespace, &profile.spec.scale_target_ref).await {
        Ok(target) => target,
        // No workload, no pods.
        Err(ScalerError::Unusable(_)) => return Ok(()),
        Err(error) if error.is_absence() => return Ok(()),
        Err(error) => return Err(error),
    };
    let by_number = target.ordering == Ordering::Ordinal;
    let mut failed = None;
    for pod in target.pods.iter().filter(|pod| pod.is_touched()) {
        match bring(context, pod, PodState::Online, by_number).await {
            Err(error) if !error.is_absence() => failed = Some(error),
            _ => {}
        }
    }
    let Some(error) = failed else { return Ok(()) };
    let deleted = profile.metadata.deletion_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
    if context.clock.now().duration_since(deleted) < LONGEST_RELEASE {
        return Err(error);
    }
    // What is left is tried on, pod by pod; a deletion must not hang on it.
    let message = format!("deleted although pods could not all be brought online: {error}");
    context.recorder.warning(PROFILE_COMPONENT, profile, "FailedOnlinePods", message);
    Ok(())
}

struct Look<'a> {
    context: &'a Context,
    profile: &'a ReplicaProfile,
    now: Timestamp,
}

impl Look<'_> {
    async fn run(&self) -> (ReplicaProfileStatus, Result<(), ScalerError>) {
        let mut status = self.profile.status.clone().unwrap_or_default();
        let spec = &self.profile.spec;
        if spec.paused {
            let message = "the replica profile is paused";
            self.say(&mut status, &Say::no(APPLIED, PAUSED, message));
            self.say(&mut status, &Say::no(ENSURED, PAUSED, message));
            return (status, Ok(()));
        }
        if let Some(older) = self.older() {
            let message = format!(
                "ReplicaProfile {older}, which is older, is of the same workload; remove one of the two"
            );
            self.say(&mut status, &Say::no(APPLIED, "ConflictingReplicaProfile", message.clone()));
            self.say(&mut status, &Say::no(ENSURED, NOT_SATISFIED, message));
            return (status, Ok(()));
        }
        let unsupported = [
            (spec.behavior.pod_sorter.type_ == PodSorterType::External).then_some((
                "FailedGetPodSorter",
                "podSorter.type External is not served; use WorkloadDefault",
            )),
            (spec.behavior.pod_traffic_controller.type_ == TrafficControllerType::External).then_some((
                "FailedGetPodTrafficController",
                "podTrafficController.type External is not served; use ReadinessGate",
            )),
        ];
        if let Some((reason, message)) = unsupported.into_iter().flatten().next() {
            self.say(&mut status, &Say::no(APPLIED, reason, message));
            self.say(&mut status, &Say::no(ENSURED, NOT_SATISFIED, message));
            return (status, Ok(()));
        }
        let namespace = self.profile.metadata.namespace.as_deref().unwrap_or_default();
        let target = match target::observe(self.context, namespace, &spec.scale_target_ref).await {
            Ok(target) => target,
            Err(error) => {
                let message = format!("failed to get the scale of the target: {error}");
                self.say(&mut status, &Say::no(ENSURED, "FailedGetScale", message));
                // A workload that is made later is heard of.
                let result = if matches!(error, ScalerError::Unusable(_)) { Ok(()) } else { Err(error) };
                return (status, result);
            }
        };
        let result = self.make_true(&target, &mut status).await;
        (status, result)
    }

    /// An older profile of the same workload: only the oldest acts.
    fn older(&self) -> Option<Key> {
        let cache = self.context.cache();
        let key = Key::of(&self.profile.metadata);
        let age = |key: &Key, profile: &ReplicaProfile| {
            (profile.metadata.creation_timestamp.as_ref().map(|time| time.0), key.clone())
        };
        let ours = age(&key, self.profile);
        let target = TargetKey::of(&key.namespace, &self.profile.spec.scale_target_ref);
        let others = cache.profiles_of(&target).filter_map(|key| Some((key, cache.profiles.get(key)?)));
        others.filter(|(key, profile)| age(key, profile) < ours).map(|(key, _)| key.clone()).next()
    }

    async fn make_true(&self, target: &Target, status: &mut ReplicaProfileStatus) -> Result<(), ScalerError> {
        let population = Population {
            scale: target.replicas,
            ordering: target.ordering,
            rolling: target.rolling,
            pods: target.pods.iter().map(|pod| pod.to_pod(target.ordering == Ordering::Ordinal)).collect(),
        };
        let plan = plan(self.wanted(), &population);
        status.online_replicas = signed(plan.counts.online);
        status.cutoff_replicas = signed(plan.counts.cutoff);
        status.standby_replicas = signed(plan.counts.standby);
        self.tell_ungated(&plan, status);
        let touched = self.touch(&plan, target).await;
        self.tell_touched(&plan);
        if let Err((reason, error)) = touched {
            self.say(status, &Say::no(APPLIED, reason, error.to_string()));
            self.say(status, &Say::no(ENSURED, NOT_SATISFIED, "pods are not yet in their states"));
            return Err(error);
        }
        if let Err(error) = self.rescale(&plan, target).await {
            if !matches!(error, ScalerError::Changed { .. }) {
                self.say(status, &Say::no(APPLIED, "FailedUpdateScale", error.to_string()));
            }
            return Err(error);
        }
        let message = "all the operations for ensuring the replica profile are applied";
        let applied = plan.hold.map_or_else(
            || Say::yes(APPLIED, "ReplicaProfileApplied", message),
            |hold| Say::no(APPLIED, "StateChangeSkipped", hold.to_string()),
        );
        self.say(status, &applied);
        if plan.ensured {
            let message = "current replica profile is ensured";
            self.say(status, &Say::yes(ENSURED, "ReplicaProfileEnsured", message));
        } else {
            let message = "the pods are not yet as the replica profile wants them";
            self.say(status, &Say::no(ENSURED, NOT_SATISFIED, message));
        }
        Ok(())
    }

    fn wanted(&self) -> ProfileSpec {
        let spec = &self.profile.spec;
        let count = |count: i32| u32::try_from(count).unwrap_or(0);
        ProfileSpec {
            want: Counts {
                online: count(spec.online_replicas),
                cutoff: count(spec.cutoff_replicas),
                standby: count(spec.standby_replicas),
            },
            direction: match spec.allowed_scaling_direction {
                ScalingDirection::Both => AllowedDirection::Both,
                ScalingDirection::Neither => AllowedDirection::Neither,
                ScalingDirection::Up => AllowedDirection::Up,
                ScalingDirection::Down => AllowedDirection::Down,
            },
        }
    }

    /// Pods one after another, those that come back first; the first failure ends it, and the rest follows later.
    async fn touch(&self, plan: &ProfilePlan, target: &Target) -> Result<(), (&'static str, ScalerError)> {
        let by_number = target.ordering == Ordering::Ordinal;
        for touch in &plan.touches {
            let pod: Option<&Arc<PodRecord>> = target.pods.iter().find(|pod| pod.key.name == touch.name);
            let Some(pod) = pod else { continue };
            match bring(self.context, pod, touch.state, by_number).await {
                Ok(()) => {}
                // It went meanwhile, which is heard of.
                Err(error) if error.is_absence() => {}
                Err(error) => {
                    let reason = match touch.state {
                        PodState::Online => "FailedOnlinePods",
                        PodState::Cutoff => "FailedCutoffPods",
                        PodState::Standby => "FailedSetPodState",
                    };
                    return Err((reason, error));
                }
            }
        }
        Ok(())
    }

    async fn rescale(&self, plan: &ProfilePlan, target: &Target) -> Result<(), ScalerError> {
        let Some(to) = plan.scale else { return Ok(()) };
        // Whoever deletes pods must have had the time to see which: we go on when we see it ourselves.
        if to < target.replicas && plan.touches.iter().any(|touch| touch.goes) {
            return Ok(());
        }
        let namespace = self.profile.metadata.namespace.as_deref().unwrap_or_default();
        let reference = &self.profile.spec.scale_target_ref;
        target::rescale(self.context, namespace, reference, target.replicas, to).await?;
        self.context.figures.rescales.fetch_add(1, Relaxed);
        let message = format!("rescale target workload from {} to {to} replicas", target.replicas);
        self.context.recorder.normal(PROFILE_COMPONENT, self.profile, "UpdateScale", message);
        Ok(())
    }

    fn tell_touched(&self, plan: &ProfilePlan) {
        let states = [
            (PodState::Online, "OnlinePods", "online"),
            (PodState::Cutoff, "CutoffPods", "cutoff"),
            (PodState::Standby, "StandbyPods", "standby"),
        ];
        for (state, reason, word) in states {
            let moved = |touch: &&Touch| touch.moved && touch.state == state;
            let names: Vec<&str> = plan.touches.iter().filter(moved).map(|touch| &*touch.name).collect();
            if !names.is_empty() {
                let message = format!("{word} pods: [{}]", listed(&names));
                self.context.recorder.normal(PROFILE_COMPONENT, self.profile, reason, message);
            }
        }
    }

    fn tell_ungated(&self, plan: &ProfilePlan, status: &mut ReplicaProfileStatus) {
        if plan.ungated.is_empty() {
            conditions::clear(&mut status.conditions, TRAFFIC);
            return;
        }
        let names: Vec<&str> = plan.ungated.iter().map(|name| &**name).collect();
        let message = format!(
            "pods without the readiness gate {} serve on although they are cut off: [{}]; add the gate to the pod \
             template, or the label {}: \"true\" with the webhook installed",
            api::kapacity::ONLINE,
            listed(&names),
            api::kapacity::INJECT_GATE
        );
        self.say(status, &Say::no(TRAFFIC, "ReadinessGateMissing", message));
    }

    fn say(&self, status: &mut ReplicaProfileStatus, say: &Say) {
        conditions::set(&mut status.conditions, say, self.profile.metadata.generation, self.now);
    }
}

fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Names between spaces, and how many more there are.
fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(" ");
    if names.len() > MOST_NAMED { format!("{shown} and {} more", names.len() - MOST_NAMED) } else { shown }
}
