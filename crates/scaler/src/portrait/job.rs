//! Portraits made by a job: `algorithm.type: ExternalJob`.
//!
//! Owns the portrait's CronJob, from its template and what we fill in, and reading the ConfigMap that it leaves. A
//! CronJob lives in the namespace of jobs, so it cannot be owned by the portrait: its annotation names it.

use super::{Failure, Made};
use crate::ScalerError;
use crate::cache::Key;
use crate::context::Context;
use crate::prediction::parse_result;
use api::kapacity::{AlgorithmJob, HorizontalPortrait};
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use serde_json::{Map, Value, json};

pub(super) const NOT_RECONCILED: &str = "FailedReconcileExternalAlgorithmJob";
pub(super) const NOT_FETCHED: &str = "FailedFetchExternalAlgorithmJobResult";
pub(super) const NOT_CLEANED_UP: &str = "FailedCleanupExternalAlgorithmJob";
/// Container that defaults are filled into.
const CONTAINER: &str = "algorithm";
/// On our CronJobs: the portrait, and what the template came to, so that only changes are written.
pub(super) const PORTRAIT: &str = "tideline.dev/portrait";
const RENDERED: &str = "tideline.dev/rendered";
/// Longest name of a CronJob: its Jobs get eleven characters more.
const LONGEST_NAME: usize = 52;
/// How often a result is looked for: a ConfigMap is cheaper to read than all of the cluster's are to watch.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(30);

/// What is known of a portrait's CronJob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Exists,
    None,
}

pub(super) async fn generate(
    context: &Context,
    key: &Key,
    portrait: &HorizontalPortrait,
) -> Result<Made, Failure> {
    let again = context.clock.now().saturating_add(LOOK_EVERY).ok();
    if let Err(error) = Box::pin(reconcile(context, key, portrait)).await {
        let again = again.filter(|_| !matches!(error, ScalerError::Unusable(_)));
        return Err(Failure { reason: NOT_RECONCILED, message: error.to_string(), again });
    }
    let name = format!("{}-result", key.name);
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    let failed = |message: String| Failure { reason: NOT_FETCHED, message, again };
    let attempted = format!("read ConfigMap {}/{name}", key.namespace);
    let map =
        context.read(&attempted, maps.get_opt(&name)).await.map_err(|error| failed(error.to_string()))?;
    let map = map.ok_or_else(|| {
        failed(format!("ConfigMap {}/{name} is not there yet: the job has not left a result", key.namespace))
    })?;
    let data = parse_result(&map.data.unwrap_or_default())
        .map_err(|why| failed(format!("ConfigMap {}/{name}: {why}", key.namespace)))?;
    Ok(Made { data, forecast: None, again })
}

/// Has the CronJob be what the template says.
async fn reconcile(context: &Context, key: &Key, portrait: &HorizontalPortrait) -> Result<(), ScalerError> {
    let jobs = &context.config.algorithm_jobs;
    let namespace = jobs.namespace.as_deref().ok_or_else(|| {
        ScalerError::Unusable(
            "algorithm.type ExternalJob needs a namespace for jobs; start with --algorithm-job-namespace, or use \
             algorithm.type Native"
                .into(),
        )
    })?;
    let wanted = rendered(context, key, portrait)?;
    let api: Api<CronJob> = Api::namespaced(context.client.clone(), namespace);
    let name = wanted.name_any();
    let params = PostParams::default();
    let read = format!("read CronJob {namespace}/{name}");
    match context.read(&read, api.get_opt(&name)).await? {
        None => {
            context
                .write(&format!("create CronJob {namespace}/{name}"), api.create(&params, &wanted))
                .await?;
        }
        Some(old) if old.annotations().get(RENDERED) == wanted.annotations().get(RENDERED) => {}
        Some(old) => {
            let mut new = old;
            new.spec = wanted.spec;
            new.labels_mut().extend(wanted.metadata.labels.unwrap_or_default());
            new.annotations_mut().extend(wanted.metadata.annotations.unwrap_or_default());
            let call = api.replace(&name, &params, &new);
            context.write(&format!("change CronJob {namespace}/{name}"), call).await?;
        }
    }
    context.jobs().insert(key.clone(), Job::Exists);
    Ok(())
}

/// Deletes the CronJob of a portrait that is gone or made otherwise; looked up once for each.
pub(super) async fn clean_up(context: &Context, key: &Key) -> Result<(), ScalerError> {
    let Some(namespace) = context.config.algorithm_jobs.namespace.clone() else { return Ok(()) };
    if context.jobs().get(key) == Some(&Job::None) {
        return Ok(());
    }
    let api: Api<CronJob> = Api::namespaced(context.client.clone(), &namespace);
    let name = job_name(key);
    let old = context.read(&format!("read CronJob {namespace}/{name}"), api.get_opt(&name)).await?;
    if let Some(old) = old.filter(|old| old.annotations().get(PORTRAIT) == Some(&key.to_string())) {
        delete(context, &api, &namespace, &old).await?;
    }
    let gone = !context.cache().portraits.contains_key(key);
    let mut jobs = context.jobs();
    if gone {
        jobs.remove(key);
    } else {
        jobs.insert(key.clone(), Job::None);
    }
    Ok(())
}

/// Deletes this very CronJob and its Jobs; one that is gone already is as good.
pub(super) async fn delete(
    context: &Context,
    api: &Api<CronJob>,
    namespace: &str,
    old: &CronJob,
) -> Result<(), ScalerError> {
    let name = old.name_any();
    let mut params = DeleteParams::background();
    params.preconditions = Some(Preconditions { uid: old.metadata.uid.clone(), resource_version: None });
    let call = api.delete(&name, &params);
    match context.write(&format!("delete CronJob {namespace}/{name}"), call).await {
        Err(error) if !error.is_absence() => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn not_cleaned_up(context: &Context, why: Result<(), ScalerError>) -> Failure {
    let message = why.err().map(|error| error.to_string()).unwrap_or_default();
    let again = context.clock.now().saturating_add(LOOK_EVERY).ok();
    Failure { reason: NOT_CLEANED_UP, message, again }
}

/// `namespace-name`, cut and told apart by a sum where that is too long for a CronJob.
pub(super) fn job_name(key: &Key) -> String {
    let name = format!("{}-{}", key.namespace, key.name);
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let sum = format!("{:08x}", fingerprint(&name) as u32);
    let kept: String = name.chars().take(LONGEST_NAME - sum.len() - 1).collect();
    format!("{}-{sum}", kept.trim_end_matches(['-', '.']))
}

/// A sum that tells texts apart (FNV-1a); nothing secret hangs on it.
fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn rendered(context: &Context, key: &Key, portrait: &HorizontalPortrait) -> Result<CronJob, ScalerError> {
    let unusable =
        |what: &str| ScalerError::Unusable(format!("algorithm.externalJob.job.cronJob.template.{what}"));
    let job = portrait.spec.portrait.algorithm.external_job.as_ref().map(|external| &external.job);
    let Some(AlgorithmJob { cron_job: Some(source), .. }) = job else {
        return Err(ScalerError::Unusable("algorithm.externalJob.job needs the field cronJob".into()));
    };
    let mut template = source.template.clone();
    let pod = template
        .get_mut("spec")
        .and_then(|spec| spec.pointer_mut("/jobTemplate/spec/template/spec"))
        .and_then(Value::as_object_mut)
        .ok_or_else(|| unusable("spec: it lacks jobTemplate.spec.template.spec"))?;
    fill_in(pod, context, key, &portrait.spec.portrait.portrait_type);
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": template.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "spec": template.get("spec").cloned().unwrap_or_default(),
    });
    let sum = format!("{:016x}", fingerprint(&object.to_string()));
    // Names in the template would let one portrait take another's CronJob.
    let labels = object["metadata"]["labels"].take();
    let annotations = object["metadata"]["annotations"].take();
    object["metadata"] = json!({"name": job_name(key), "labels": labels, "annotations": annotations});
    let mut wanted: CronJob =
        serde_json::from_value(object).map_err(|error| unusable(&format!("spec: {error}")))?;
    wanted.annotations_mut().insert(PORTRAIT.to_owned(), key.to_string());
    wanted.annotations_mut().insert(RENDERED.to_owned(), sum);
    Ok(wanted)
}

/// Fills the defaults into a pod's spec.
fn fill_in(pod: &mut Map<String, Value>, context: &Context, key: &Key, portrait_type: &str) {
    let jobs = &context.config.algorithm_jobs;
    let named = |pod: &Map<String, Value>, field: &str| {
        pod.get(field).and_then(Value::as_str).is_some_and(|name| !name.is_empty())
    };
    if let Some(account) = &jobs.service_account
        && !named(pod, "serviceAccountName")
        && !named(pod, "serviceAccount")
    {
        pod.insert("serviceAccountName".into(), json!(account));
    }
    let mut ours = Vec::new();
    let containers = pod.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten();
    for container in containers.filter_map(Value::as_object_mut) {
        if container.get("name").and_then(Value::as_str) != Some(CONTAINER) {
            continue;
        }
        if let Some(image) = &jobs.image
            && portrait_type == "Predictive"
            && !named(container, "image")
            && !container.contains_key("command")
        {
            container.insert("image".into(), json!(image));
            let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
            ours.extend(mounts.filter_map(|mount| mount["name"].as_str().map(str::to_owned)));
        }
        let Some(env) = container.entry("env").or_insert_with(|| json!([])).as_array_mut() else { continue };
        if let Some(server) = &jobs.metrics_server
            && env.iter().all(|one| one["name"] != "METRICS_SERVER_ADDR")
        {
            env.push(json!({"name": "METRICS_SERVER_ADDR", "value": server}));
        }
        env.push(json!({"name": "HP_NAMESPACE", "value": *key.namespace}));
        env.push(json!({"name": "HP_NAME", "value": *key.name}));
    }
    // Our program needs no trained model: one that is not there must not keep the pod from starting.
    let volumes = pod.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten();
    for volume in volumes.filter(|volume| ours.iter().any(|name| volume["name"] == name.as_str())) {
        if let Some(map) = volume.get_mut("configMap").and_then(Value::as_object_mut) {
            map.insert("optional".into(), json!(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_cron_job() {
        assert_eq!(
            job_name(&Key::new("default", "predictive-sample-predictive")),
            "default-predictive-sample-predictive"
        );
        let long = job_name(&Key::new("a-namespace-with-a-long-name", "and-a-portrait-with-a-long-name-too"));
        let other =
            job_name(&Key::new("a-namespace-with-a-long-name", "and-a-portrait-with-a-long-name-two"));
        assert!(long.len() <= LONGEST_NAME && other.len() <= LONGEST_NAME && long != other);
    }
}
