//! Which change has what looked at again.
//!
//! Owns noting changes in what is known, and the objects that each concerns: an autoscaler for its portraits and its
//! profile, a profile for its workload's pods, rivals for each other.

use crate::cache::{Cache, Key, PodRecord, TargetKey, WorkloadRecord};
use crate::conditions;
use crate::portrait::GENERATED;
use crate::profile::pods::needs_look;
use crate::queue::Job;
use crate::slim;
use crate::watch::Change;
use api::kapacity::{HorizontalPortrait, IntelligentHorizontalPodAutoscaler as Ihpa, ReplicaProfile};
use kube::api::ObjectMeta;
use std::sync::Arc;

/// Notes a change; returns what it concerns.
pub(crate) fn take(cache: &mut Cache, change: Change) -> Vec<Job> {
    match change {
        Change::Ihpa(key, ihpa) => take_ihpa(cache, key, ihpa.map(|ihpa| *ihpa)),
        Change::Portrait(key, portrait) => take_portrait(cache, &key, portrait.map(|portrait| *portrait)),
        Change::Profile(key, profile) => take_profile(cache, &key, profile.map(|profile| *profile)),
        Change::Pod(key, pod) => take_pod(cache, key, pod.map(|pod| *pod)),
        Change::Workload(target, record) => take_workload(cache, target, record.map(|record| *record)),
        Change::Hpa(key, hpa) => take_hpa(cache, &key, hpa.as_deref()),
    }
}

fn take_ihpa(cache: &mut Cache, key: Key, ihpa: Option<Ihpa>) -> Vec<Job> {
    let old = cache.ihpas.get(&key).cloned();
    let changed = is_changed(old.as_deref().map(|old| &old.metadata), ihpa.as_ref().map(|new| &new.metadata));
    let scaled = |ihpa: &Ihpa| TargetKey::of(&key.namespace, &ihpa.spec.scale_target_ref);
    let targets = [old.as_deref().map(scaled), ihpa.as_ref().map(scaled)];
    match ihpa {
        Some(ihpa) => cache.note_ihpa(ihpa),
        None => cache.forget_ihpa(&key),
    }
    if !changed {
        return Vec::new();
    }
    // Whoever scales the same workload may act from now on, or no longer.
    let rivals = targets.iter().flatten().flat_map(|target| cache.ihpas_of(target));
    rivals.cloned().chain([key]).map(Job::Ihpa).collect()
}

fn take_portrait(cache: &mut Cache, key: &Key, portrait: Option<HorizontalPortrait>) -> Vec<Job> {
    let old = cache.portraits.get(key).cloned();
    let metadata = [old.as_deref(), portrait.as_ref()].map(|portrait| portrait.map(|one| &one.metadata));
    let mut jobs: Vec<Job> =
        metadata.iter().flatten().filter_map(|one| controller(one, key)).map(Job::Ihpa).collect();
    // One that we made or changed is known before we hear of it, and was not looked at for that.
    if is_changed(metadata[0], metadata[1]) || portrait.as_ref().is_some_and(is_untried) {
        jobs.push(Job::Portrait(key.clone()));
    }
    match portrait {
        Some(portrait) => cache.note_portrait(portrait),
        None => cache.forget_portrait(key),
    }
    jobs
}

fn take_profile(cache: &mut Cache, key: &Key, profile: Option<ReplicaProfile>) -> Vec<Job> {
    let mut jobs = vec![Job::Ihpa(key.clone()), Job::Profile(key.clone())];
    if let Some(profile) = profile {
        cache.note_profile(profile);
        return jobs;
    }
    let gone = cache.profiles.get(key).cloned();
    cache.forget_profile(key);
    // What it left behind is taken back, and another of its workload may act from now on.
    let target = gone.map(|gone| TargetKey::of(&key.namespace, &gone.spec.scale_target_ref));
    jobs.extend(target.iter().flat_map(|target| cache.profiles_of(target)).cloned().map(Job::Profile));
    let first = Key { namespace: key.namespace.clone(), name: Arc::from("") };
    let pods = cache.pods.range(first..).take_while(|(pod, _)| pod.namespace == key.namespace);
    jobs.extend(pods.filter(|(_, pod)| needs_look(pod)).map(|(pod, _)| Job::Pod(pod.clone())));
    jobs
}

fn take_pod(cache: &mut Cache, key: Key, pod: Option<PodRecord>) -> Vec<Job> {
    let old = cache.pods.get(&key).cloned();
    let records = [old.as_deref(), pod.as_ref()].into_iter().flatten();
    let mut jobs: Vec<Job> =
        records.flat_map(|record| cache.profiles_of_pod(record)).map(Job::Profile).collect();
    if pod.as_ref().is_some_and(needs_look) {
        jobs.push(Job::Pod(key.clone()));
    }
    match pod {
        Some(pod) => cache.note_pod(key, pod),
        None => cache.forget_pod(&key),
    }
    jobs
}

fn take_workload(cache: &mut Cache, target: TargetKey, record: Option<WorkloadRecord>) -> Vec<Job> {
    // A set's owner is told as well: its rollout shows there.
    let owner = record.as_ref().and_then(|record| record.owner.clone()).map(|owner| TargetKey {
        kind: owner.kind,
        key: Key { namespace: target.key.namespace.clone(), name: owner.name },
    });
    match record {
        Some(record) => cache.note_workload(target.clone(), record),
        None => cache.forget_workload(&target),
    }
    let targets = [Some(target), owner];
    let profiles = targets.iter().flatten().flat_map(|target| cache.profiles_of(target));
    profiles.cloned().map(Job::Profile).collect()
}

fn take_hpa(cache: &mut Cache, key: &Key, hpa: Option<&slim::HorizontalPodAutoscaler>) -> Vec<Job> {
    let targets = [cache.forget_hpa(key), hpa.map(|hpa| cache.note_hpa(hpa))];
    let concerned = targets.iter().flatten().flat_map(|target| cache.ihpas_of(target));
    concerned.cloned().map(Job::Ihpa).collect()
}

/// Whether nobody has tried to make what a portrait's present spec asks for.
fn is_untried(portrait: &HorizontalPortrait) -> bool {
    let conditions = portrait.status.as_ref().map(|status| &status.conditions);
    let tried = conditions.and_then(|conditions| conditions::find(conditions, GENERATED));
    tried.is_none_or(|tried| tried.observed_generation < portrait.metadata.generation)
}

/// Whether more than the status became otherwise.
fn is_changed(old: Option<&ObjectMeta>, new: Option<&ObjectMeta>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    let asked = |meta: &ObjectMeta| {
        (meta.uid.clone(), meta.generation, meta.deletion_timestamp.is_some(), meta.finalizers.clone())
    };
    asked(old) != asked(new)
}

/// The autoscaler that controls a portrait.
fn controller(metadata: &ObjectMeta, key: &Key) -> Option<Key> {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    Some(Key::new(&key.namespace, &owner.name))
}
