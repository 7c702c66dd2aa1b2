//! Evictions, through the eviction API only, of exactly the pod that was meant.

use super::{Attempt, PUT_OFF, retry_after};
use crate::planted::{Planted, PlantedBug};
use clouds::watching::{code, describe, within};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use model::Evict;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The Eviction object. Written by ourselves: the client's own call names the field `delete_options`, which every
/// API server skips, and with it the UID, so that an eviction tried twice could take the pod's successor.
fn body(step: &Evict, planted: Planted) -> Value {
    let mut options = json!({"preconditions": {"uid": step.uid}});
    if planted.has(PlantedBug::EvictWithoutUid) {
        options = json!({});
    }
    if let Some(seconds) = step.grace_seconds {
        options["gracePeriodSeconds"] = json!(seconds);
    }
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": step.pod.namespace, "name": step.pod.name},
        "deleteOptions": options,
    })
}

pub(super) async fn evict(client: &Client, limit: Duration, step: &Evict, planted: Planted) -> Attempt {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &step.pod.namespace);
    let body = body(step, planted);
    let params = PostParams::default();
    let call = pods.create_subresource::<Value, Value>("eviction", &step.pod.name, &params, &body);
    match within(limit, call).await {
        Ok(_) => Attempt::Done,
        Err(error) => {
            let why: Arc<str> = Arc::from(format!("evict pod {}: {}", step.pod, describe(&error)));
            match code(&error) {
                Some(404) => Attempt::Obsolete(why),
                // The UID precondition failed: a pod of the same name took its place.
                Some(409) if why.contains("UID") => Attempt::Obsolete(why),
                // A budget says no, or its status is behind.
                Some(429) => Attempt::Later { wait: retry_after(&error).unwrap_or(PUT_OFF), why },
                // Several budgets match the pod: the API answers 500 for as long as they do.
                Some(500) if why.contains("more than one PodDisruptionBudget") => {
                    Attempt::Later { wait: PUT_OFF, why }
                }
                _ => Attempt::of_error("evict", &error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_that_was_meant_is_named_where_api_servers_read_it() {
        let step = Evict {
            intent: "remove-1-1".into(),
            node: "n".into(),
            pod: model::PodKey::new("default", "db-0"),
            uid: "u-1".into(),
            grace_seconds: Some(600),
        };
        let body = body(&step, Planted::default());
        assert_eq!(body["deleteOptions"]["preconditions"]["uid"], "u-1");
        assert_eq!(body["deleteOptions"]["gracePeriodSeconds"], 600);
    }
}
