//! `ProvisioningRequest` into what the model asks for: pods that have room together, or not at all.
//!
//! The kind's limits are checked here again: a cluster may have it from elsewhere. A request of a class that is not
//! ours is nobody's mistake and not read.

use crate::{IntakeError, PodKind};
use api::capacity::{LocalObjectRef, requests};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{HeadroomPart, Purpose, WorkloadKey, request_key};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pods of one request: what is bought all or nothing is one order.
const MOST_PODS: u32 = 10_000;
/// How long a request is tried unless it says so.
const VALID: SignedDuration = SignedDuration::from_hours(7 * 24);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    pod_sets: Vec<Set>,
    parameters: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Set {
    pod_template_ref: LocalObjectRef,
    count: i64,
}

/// A request as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub key: WorkloadKey,
    /// To be looked for, or to be bought.
    pub purpose: Purpose,
    /// `PodTemplate`s by name, and how many pods of each.
    pub sets: Vec<(Arc<str>, u32)>,
    /// How long it is tried, from its creation.
    pub valid: SignedDuration,
    /// Whether what is not there at the first look has failed.
    pub once: bool,
}

/// Reads a request; `None` where it is another's: its class, or the autoscaler that it names. The error names the field
/// and what to write.
pub fn request(meta: &ObjectMeta, spec: &Value, instance: &str) -> Option<Result<Request, IntakeError>> {
    let class = spec.get("provisioningClassName").and_then(Value::as_str).unwrap_or_default();
    let named = spec.pointer(&format!("/parameters/{}", requests::PROCESSOR_INSTANCE));
    let named = named.and_then(Value::as_str).unwrap_or_default();
    let purpose = match class {
        requests::CHECK_CAPACITY if named == instance => Purpose::Check,
        requests::ATOMIC_SCALE_UP if instance.is_empty() => Purpose::Whole,
        _ => return None,
    };
    Some(read(meta, spec, purpose))
}

fn read(meta: &ObjectMeta, spec: &Value, purpose: Purpose) -> Result<Request, IntakeError> {
    let spec: Spec = serde_json::from_value(spec.clone()).map_err(|error| {
        IntakeError::field("spec", error.to_string(), "write it as kubectl explain provreq.spec says")
    })?;
    let mut sets = Vec::new();
    let mut all = 0u32;
    for set in spec.pod_sets {
        let count = u32::try_from(set.count).ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| {
            let problem = format!("{} is no number of pods", set.count);
            IntakeError::field("spec.podSets[].count", problem, "write 1 or more")
        })?;
        all = all.saturating_add(count);
        sets.push((Arc::from(set.pod_template_ref.name), count));
    }
    if !(1..=MOST_PODS).contains(&all) {
        let problem = format!("{all} pods are asked for");
        let fix = format!("ask for 1 to {MOST_PODS} in one request");
        return Err(IntakeError::field("spec.podSets", problem, fix));
    }
    let parameter = |name: &str| spec.parameters.as_ref().and_then(|parameters| parameters.get(name));
    let valid = parameter(requests::VALID_UNTIL_SECONDS).map(|text| {
        let seconds = text.parse::<u32>().ok().filter(|seconds| *seconds > 0);
        seconds.map(|seconds| SignedDuration::from_secs(i64::from(seconds))).ok_or_else(|| {
            let field = format!("spec.parameters.{}", requests::VALID_UNTIL_SECONDS);
            IntakeError::field(&field, format!("{text:?} is no number of seconds"), "write 1 or more")
        })
    });
    let once = match parameter(requests::NO_RETRY).map(String::as_str) {
        Some("true") => purpose == Purpose::Check,
        None | Some("false") => false,
        Some(other) => {
            let field = format!("spec.parameters.{}", requests::NO_RETRY);
            return Err(IntakeError::field(&field, format!("{other:?}"), "write \"true\" or \"false\""));
        }
    };
    Ok(Request {
        key: request_key(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        ),
        purpose,
        sets,
        valid: valid.transpose()?.unwrap_or(VALID),
        once,
    })
}

impl Request {
    /// What it asks for, with the pods of its sets in their order.
    pub fn parts<'a>(&self, kinds: impl IntoIterator<Item = &'a PodKind>) -> Vec<HeadroomPart> {
        let parts = self.sets.iter().zip(kinds).map(|((_, count), kind)| HeadroomPart {
            shape: Arc::clone(&kind.shape),
            labels: kind.labels.clone(),
            count: *count,
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(class: &str, sets: &Value, parameters: &Value) -> Value {
        json!({"provisioningClassName": class, "podSets": sets, "parameters": parameters})
    }

    fn read(spec: &Value, instance: &str) -> Option<Result<Request, IntakeError>> {
        let meta =
            ObjectMeta { name: Some("r".into()), namespace: Some("d".into()), ..ObjectMeta::default() };
        request(&meta, spec, instance)
    }

    #[test]
    fn classes_and_instances_say_whose_a_request_is() {
        let sets = json!([{"podTemplateRef": {"name": "t"}, "count": 2}]);
        let named = json!({"processorInstance": "second"});
        let table = [
            (requests::CHECK_CAPACITY, json!({}), "", Some(Purpose::Check)),
            (requests::ATOMIC_SCALE_UP, json!({}), "", Some(Purpose::Whole)),
            (requests::CHECK_CAPACITY, named.clone(), "", None),
            (requests::CHECK_CAPACITY, named, "second", Some(Purpose::Check)),
            (requests::CHECK_CAPACITY, json!({}), "second", None),
            (requests::ATOMIC_SCALE_UP, json!({}), "second", None),
            ("queued-provisioning.gke.io", json!({}), "", None),
        ];
        for (class, parameters, instance, expected) in table {
            let found = read(&of(class, &sets, &parameters), instance);
            let purpose = found.map(|request| request.unwrap().purpose);
            assert_eq!(purpose, expected, "{class} {parameters} {instance}");
        }
        let long = read(&of(requests::ATOMIC_SCALE_UP, &sets, &Value::Null), "").unwrap().unwrap();
        assert_eq!((long.valid, long.key.to_string().as_str()), (VALID, "ProvisioningRequest/d/r"));
        let short = json!({"ValidUntilSeconds": "90", "noRetry": "true"});
        let short = read(&of(requests::CHECK_CAPACITY, &sets, &short), "").unwrap().unwrap();
        assert_eq!((short.valid, short.once), (SignedDuration::from_secs(90), true));
    }

    #[test]
    fn mistakes_name_the_field_and_the_fix() {
        let set = |count: i64| json!([{"podTemplateRef": {"name": "t"}, "count": count}]);
        let table = [
            (set(0), json!({}), "spec.podSets[].count"),
            (set(10_001), json!({}), "ask for 1 to 10000"),
            (json!([]), json!({}), "0 pods"),
            (json!([{"count": 1}]), json!({}), "kubectl explain provreq.spec"),
            (set(1), json!({"ValidUntilSeconds": "soon"}), "spec.parameters.ValidUntilSeconds"),
            (set(1), json!({"noRetry": "never"}), "spec.parameters.noRetry"),
        ];
        for (sets, parameters, expected) in table {
            let error = read(&of(requests::CHECK_CAPACITY, &sets, &parameters), "").unwrap().unwrap_err();
            assert!(error.to_string().contains(expected), "{sets} {parameters}: {error}");
        }
    }
}
