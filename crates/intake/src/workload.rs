//! Workloads, DaemonSets and disruption budgets into the model.

use crate::{IntakeError, label_selector, shape_of_template, slim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{DaemonSet, DaemonSetKey, Pdb, PdbKey, Uid, UnhealthyPodEviction, Workload, WorkloadKey};
use std::sync::Arc;

fn workload(kind: &str, meta: &ObjectMeta, desired: i32, blocked: bool) -> Workload {
    Workload {
        key: WorkloadKey::new(kind, namespace(meta), name(meta)),
        uid: Uid::new(meta.uid.as_deref().unwrap_or_default()),
        desired: u32::try_from(desired).unwrap_or(0),
        part_of: part_of(meta),
        blocked: blocked || meta.deletion_timestamp.is_some(),
    }
}

/// The workload that made this one.
fn part_of(meta: &ObjectMeta) -> Option<WorkloadKey> {
    let mut owners = meta.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some(WorkloadKey::new(&owner.kind, namespace(meta), &owner.name))
}

fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or("default")
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn has(conditions: Option<&Vec<slim::Condition>>, kinds: &[&str]) -> bool {
    conditions.into_iter().flatten().any(|c| kinds.contains(&c.type_.as_str()) && c.status == "True")
}

pub fn replica_set(set: &slim::ReplicaSet) -> Workload {
    let blocked = has(set.status.conditions.as_ref(), &["ReplicaFailure"]);
    workload("ReplicaSet", &set.metadata, set.spec.replicas.unwrap_or(1), blocked)
}

pub fn replication_controller(rc: &slim::ReplicationController) -> Workload {
    let blocked = has(rc.status.conditions.as_ref(), &["ReplicaFailure"]);
    workload("ReplicationController", &rc.metadata, rc.spec.replicas.unwrap_or(1), blocked)
}

/// An ordered `StatefulSet` counts as blocked: it makes its next pod only when the one before is ready, so nodes
/// for all of them now would wait idle.
pub fn stateful_set(set: &slim::StatefulSet) -> Workload {
    let parallel = set.spec.pod_management_policy.as_deref() == Some("Parallel");
    workload("StatefulSet", &set.metadata, set.spec.replicas.unwrap_or(1), !parallel)
}

/// The pods that a Job wants at once: its parallelism, or what is left of its completions.
pub fn job(job: &slim::Job) -> Workload {
    let parallelism = job.spec.parallelism.unwrap_or(1);
    let left = job.spec.completions.map_or(parallelism, |c| c - job.status.succeeded.unwrap_or(0));
    let ended =
        has(job.status.conditions.as_ref(), &["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"]);
    workload("Job", &job.metadata, parallelism.min(left), ended || job.spec.suspend == Some(true))
}

pub fn daemon_set(set: &slim::DaemonSet) -> Result<DaemonSet, IntakeError> {
    let (namespace, name) = (namespace(&set.metadata), name(&set.metadata));
    let (shape, labels) =
        shape_of_template(&set.spec.template).map_err(|error| error.of("DaemonSet", namespace, name))?;
    Ok(DaemonSet {
        key: DaemonSetKey::new(namespace, name),
        uid: Uid::new(set.metadata.uid.as_deref().unwrap_or_default()),
        shape: Arc::new(with_daemon_tolerations(shape)),
        labels,
    })
}

/// The `DaemonSet` controller adds these to each pod, so that they run on nodes which are not ready.
fn with_daemon_tolerations(mut shape: model::PodShape) -> model::PodShape {
    use api::taints as t;
    use model::{Effect, Toleration, TolerationOperator};
    let exists = |key: &str, effect| Toleration {
        key: Some(Arc::from(key)),
        operator: TolerationOperator::Exists,
        value: "".into(),
        effect: Some(effect),
    };
    for key in [t::NOT_READY, t::UNREACHABLE] {
        shape.tolerations.push(exists(key, Effect::NoExecute));
    }
    for key in [t::DISK_PRESSURE, t::MEMORY_PRESSURE, t::PID_PRESSURE, t::UNSCHEDULABLE] {
        shape.tolerations.push(exists(key, Effect::NoSchedule));
    }
    shape.tolerations.sort();
    shape.tolerations.dedup();
    shape
}

pub fn pdb(budget: &slim::PodDisruptionBudget) -> Result<Pdb, IntakeError> {
    let meta = &budget.metadata;
    let (namespace, name) = (namespace(meta), name(meta));
    let selector = budget
        .spec
        .selector
        .as_ref()
        .map(label_selector)
        .transpose()
        .map_err(|error| error.under("spec.selector").of("PodDisruptionBudget", namespace, name))?;
    let always = budget.spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow");
    Ok(Pdb {
        key: PdbKey::new(namespace, name),
        selector,
        disruptions_allowed: u32::try_from(budget.status.disruptions_allowed).unwrap_or(0),
        status_is_current: budget.status.observed_generation.unwrap_or(0) >= meta.generation.unwrap_or(0),
        unhealthy_pod_eviction: if always {
            UnhealthyPodEviction::AlwaysAllow
        } else {
            UnhealthyPodEviction::IfHealthyBudget
        },
    })
}
