//! Evictions, through the eviction API only, of exactly the pod that was meant.

use super::{Attempt, PUT_OFF, retry_after};
use clouds::watching::{code, describe, within};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, EvictParams, Preconditions};
use model::Evict;
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn evict(client: &Client, limit: Duration, step: &Evict) -> Attempt {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &step.pod.namespace);
    let delete_options = DeleteParams {
        grace_period_seconds: step.grace_seconds,
        preconditions: Some(Preconditions { uid: Some(step.uid.to_string()), resource_version: None }),
        ..Default::default()
    };
    let params = EvictParams { delete_options: Some(delete_options), ..Default::default() };
    match within(limit, pods.evict(&step.pod.name, &params)).await {
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
