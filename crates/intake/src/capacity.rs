//! `CapacityBuffer` into the model's headroom.
//!
//! The kind's limits are checked here again: a cluster may have it from elsewhere. An object that cannot be followed
//! is an error that its status says.

use crate::quantity::resources;
use crate::{IntakeError, shape_of_template, slim};
use api::capacity::{LocalObjectRef, ScalableRef, buffers};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{Headroom, HeadroomPart, Labels, PodShape, Purpose, Resources, Uid, WorkloadKey};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is written in an object; numbers may be quantities, so the amounts are read on their own.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    provisioning_strategy: Option<String>,
    pod_template_ref: Option<LocalObjectRef>,
    scalable_ref: Option<ScalableRef>,
    replicas: Option<i64>,
    percentage: Option<i64>,
    limits: Option<BTreeMap<String, Value>>,
}

/// Whose pods a buffer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BufferOf {
    /// A `PodTemplate`, by name.
    Template(Arc<str>),
    Workload(WorkloadKey),
}

/// A buffer as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub key: WorkloadKey,
    pub uid: Uid,
    pub generation: i64,
    pub strategy: String,
    pub of: BufferOf,
    replicas: Option<u32>,
    percentage: Option<u32>,
    limits: Option<Limits>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Limits {
    names: Vec<String>,
    amounts: Resources,
}

/// What one pod of a workload, or of a `PodTemplate`, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodKind {
    pub shape: Arc<PodShape>,
    pub labels: Labels,
    /// Of a workload: how many it wants.
    pub replicas: Option<u32>,
    pub generation: i64,
}

/// Kinds of workloads that a buffer can be for, with their groups.
const SCALABLE: [(&str, &str); 4] =
    [("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "ReplicaSet"), ("", "ReplicationController")];

/// The key of a buffer.
pub fn buffer_key(namespace: &str, name: &str) -> WorkloadKey {
    WorkloadKey::new(buffers::KIND, namespace, name)
}

/// Reads a buffer. The error names the field and what to write.
pub fn buffer(meta: &ObjectMeta, spec: &Value) -> Result<Buffer, IntakeError> {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let spec: Spec = serde_json::from_value(spec.clone()).map_err(|error| {
        IntakeError::field("spec", error.to_string(), "write it as kubectl explain capacitybuffer.spec says")
    })?;
    let count = |field: &str, number: Option<i64>| match number.map(u32::try_from) {
        Some(Err(_)) => Err(IntakeError::field(field, "is negative or too large", "write 0 or more")),
        Some(Ok(count)) => Ok(Some(count)),
        None => Ok(None),
    };
    let of = match (spec.pod_template_ref, spec.scalable_ref) {
        (Some(_), Some(_)) => {
            let problem = "podTemplateRef and scalableRef exclude each other";
            return Err(IntakeError::field("spec", problem, "keep one of them"));
        }
        (Some(template), None) => BufferOf::Template(Arc::from(template.name)),
        (None, Some(target)) => BufferOf::Workload(scalable(namespace, &target)?),
        (None, None) => {
            let problem = "neither podTemplateRef nor scalableRef is set";
            return Err(IntakeError::field("spec", problem, "set one of them"));
        }
    };
    let strategy = spec.provisioning_strategy.filter(|strategy| !strategy.is_empty());
    let strategy = strategy.unwrap_or_else(|| buffers::ACTIVE_CAPACITY.to_owned());
    if strategy != buffers::ACTIVE_CAPACITY {
        let problem = format!("\"{strategy}\" is not known");
        let fix = format!("write {}, or leave it to whoever serves it", buffers::ACTIVE_CAPACITY);
        return Err(IntakeError::field("spec.provisioningStrategy", problem, fix));
    }
    Ok(Buffer {
        key: buffer_key(namespace, meta.name.as_deref().unwrap_or_default()),
        uid: Uid::new(meta.uid.as_deref().unwrap_or_default()),
        generation: meta.generation.unwrap_or(0),
        strategy,
        of,
        replicas: count("spec.replicas", spec.replicas)?,
        percentage: count("spec.percentage", spec.percentage)?,
        limits: spec.limits.as_ref().map(limits).transpose()?,
    })
}

fn scalable(namespace: &str, target: &ScalableRef) -> Result<WorkloadKey, IntakeError> {
    // Some write the version behind the group, as ownerReferences do.
    let group = target.api_group.split('/').next().unwrap_or_default();
    if SCALABLE.iter().any(|(known, kind)| *known == group && *kind == target.kind) {
        return Ok(WorkloadKey::new(&target.kind, namespace, &target.name));
    }
    let kinds: Vec<String> = SCALABLE.iter().map(|(group, kind)| format!("{kind} of {group:?}")).collect();
    Err(IntakeError::field(
        "spec.scalableRef",
        format!("pods of {} of group {group:?} are not known", target.kind),
        format!("name one of {}, or use podTemplateRef", kinds.join(", ")),
    ))
}

fn limits(list: &BTreeMap<String, Value>) -> Result<Limits, IntakeError> {
    let amounts = list.iter().map(|(name, amount)| {
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        (name.clone(), Quantity(text))
    });
    let amounts = resources(&amounts.collect()).map_err(|error| error.under("spec.limits"))?;
    Ok(Limits { names: list.keys().cloned().collect(), amounts })
}

/// The pods of a workload or of a `PodTemplate`.
pub fn pod_kind(
    template: &slim::PodTemplate,
    replicas: Option<i32>,
    generation: Option<i64>,
) -> Result<PodKind, IntakeError> {
    let (shape, labels) = shape_of_template(template)?;
    let replicas = replicas.map(|count| u32::try_from(count).unwrap_or(0));
    Ok(PodKind { shape: Arc::new(shape), labels, replicas, generation: generation.unwrap_or(0) })
}

impl Buffer {
    /// How many pods there is to be room for: of all that is said the least, as the peer counts.
    pub fn count(&self, pods: &PodKind) -> Result<u32, IntakeError> {
        let part = self.percentage.zip(pods.replicas);
        let part = part.map(|(percent, of)| u64::from(percent) * u64::from(of) / 100);
        let part = part.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let limit = self.limits.as_ref().map(|limits| limits.pods(&pods.shape.requests)).transpose()?;
        self.replicas.into_iter().chain(part).chain(limit).min().ok_or_else(|| {
            let problem = "neither replicas nor percentage nor limits says how much";
            IntakeError::field("spec", problem, "set replicas, or percentage beside scalableRef, or limits")
        })
    }

    /// The headroom that it asks for.
    pub fn headroom(&self, pods: &PodKind, count: u32) -> Headroom {
        let part = HeadroomPart { shape: Arc::clone(&pods.shape), labels: pods.labels.clone(), count };
        Headroom {
            key: self.key.clone(),
            purpose: Purpose::Buffer,
            from: None,
            until: None,
            parts: vec![part],
        }
    }
}

impl Limits {
    /// Pods that fit under all limits on what they ask for.
    fn pods(&self, requests: &Resources) -> Result<u32, IntakeError> {
        let amounts = |of: &Resources, name: &str| match name {
            "cpu" => of.cpu.0,
            "memory" => of.memory.0,
            "ephemeral-storage" => of.ephemeral_storage.0,
            "pods" => u64::from(of.pods),
            other => of.extended.iter().find(|(name, _)| &*name.0 == other).map_or(0, |(_, amount)| *amount),
        };
        let of_each = self.names.iter().filter_map(|name| {
            let each = amounts(requests, name);
            (each > 0).then(|| amounts(&self.amounts, name) / each)
        });
        let least = of_each.min().ok_or_else(|| {
            let problem = "a pod of the buffer asks for none of these resources";
            IntakeError::field("spec.limits", problem, "limit a resource that the pod requests")
        })?;
        Ok(u32::try_from(least).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str) -> Result<Buffer, IntakeError> {
        let meta = serde_saphyr::from_str("{name: b, namespace: d, generation: 3}").unwrap();
        buffer(&meta, &serde_saphyr::from_str(spec).unwrap())
    }

    fn pods(replicas: Option<i32>) -> PodKind {
        let template = "spec: {containers: [{name: c, resources: {requests: {cpu: 500m, memory: 1Gi, nvidia.com/gpu: 1}}}]}";
        pod_kind(&serde_saphyr::from_str(template).unwrap(), replicas, Some(7)).unwrap()
    }

    #[test]
    fn the_least_of_what_is_said_counts() {
        let table = [
            ("{podTemplateRef: {name: t}, replicas: 3}", None, 3),
            ("{podTemplateRef: {name: t}, limits: {cpu: 2}}", None, 4),
            ("{podTemplateRef: {name: t}, limits: {cpu: 2, memory: 3Gi}}", None, 3),
            ("{podTemplateRef: {name: t}, replicas: 2, limits: {cpu: 2}}", None, 2),
            ("{podTemplateRef: {name: t}, limits: {nvidia.com/gpu: 5, example.com/none: 1}}", None, 5),
            ("{scalableRef: {apiGroup: apps, kind: Deployment, name: web}, percentage: 20}", Some(10), 2),
            ("{scalableRef: {apiGroup: apps, kind: Deployment, name: web}, percentage: 20}", Some(4), 0),
            (
                "{scalableRef: {apiGroup: apps, kind: Deployment, name: web}, percentage: 150, replicas: 9}",
                Some(4),
                6,
            ),
        ];
        for (spec, replicas, expected) in table {
            assert_eq!(read(spec).unwrap().count(&pods(replicas)).unwrap(), expected, "{spec}");
        }
        let buffer = read("{podTemplateRef: {name: t}, replicas: 3}").unwrap();
        let headroom = buffer.headroom(&pods(None), 3);
        assert_eq!(headroom.key.to_string(), "CapacityBuffer/d/b");
        assert_eq!((headroom.count(), headroom.parts[0].shape.requests.cpu.0), (3, 500));
    }

    #[test]
    fn mistakes_name_the_field_and_the_fix() {
        let table = [
            ("{}", "neither podTemplateRef nor scalableRef"),
            ("{podTemplateRef: {name: t}, scalableRef: {kind: Deployment, name: d}}", "exclude each other"),
            ("{podTemplateRef: {name: t}, replicas: -1}", "spec.replicas"),
            ("{podTemplateRef: {name: t}, limits: {cpu: many}}", "spec.limits.cpu"),
            ("{scalableRef: {apiGroup: batch, kind: CronJob, name: c}}", "CronJob of group \"batch\""),
            ("{podTemplateRef: {name: t}, replicas: 1, provisioningStrategy: lazy}", "\"lazy\" is not known"),
            ("{podTemplateRef: 5}", "kubectl explain"),
        ];
        for (spec, expected) in table {
            let error = read(spec).unwrap_err().to_string();
            assert!(error.contains(expected), "{spec}: {error}");
        }
        let none = read("{scalableRef: {apiGroup: apps, kind: ReplicaSet, name: r}}").unwrap();
        assert!(none.count(&pods(Some(3))).unwrap_err().to_string().contains("set replicas"));
        let foreign = read("{podTemplateRef: {name: t}, limits: {example.com/none: 1}}").unwrap();
        assert!(foreign.count(&pods(None)).unwrap_err().to_string().contains("spec.limits"));
    }
}
