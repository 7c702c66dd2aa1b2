//! CronJobs that were left behind: their portrait was deleted, or made otherwise, while no controller ran.
//!
//! Owns the sweep. A CronJob is ours by its annotation; what a portrait needs today is `job`'s business.

use super::Generator;
use super::job::{PORTRAIT, delete, job_name};
use crate::ScalerError;
use crate::cache::Key;
use crate::context::Context;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

/// Between sweeps; also made when a process begins to act.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// CronJobs read at once, and in one sweep.
const PAGE: u32 = 500;
const MOST_PAGES: usize = 200;

/// Deletes them; the answer is when to look again.
pub(crate) async fn sweep(context: &Context) -> Result<Option<Timestamp>, ScalerError> {
    let Some(namespace) = context.config.algorithm_jobs.namespace.clone() else { return Ok(None) };
    if context.cache().peer().is_some() {
        return Ok(None);
    }
    let api: Api<CronJob> = Api::namespaced(context.client.clone(), &namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut left_behind = Vec::new();
    for _ in 0..MOST_PAGES {
        let page = match context.read(&format!("list CronJobs of {namespace}"), api.list(&params)).await {
            Ok(page) => page,
            Err(ScalerError::Api { code: Some(403), message, .. }) => {
                tracing::warn!(message, "CronJobs of portraits that are gone cannot be looked for");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        left_behind.extend(page.items.into_iter().filter(|job| is_left_behind(context, job)));
        if params.continue_token.is_none() {
            break;
        }
    }
    for job in left_behind {
        let portrait = job.annotations().get(PORTRAIT).cloned().unwrap_or_default();
        delete(context, &api, &namespace, &job).await?;
        tracing::info!(cron_job = job.name_any(), portrait, "deleted: its portrait needs it no longer");
    }
    Ok(context.clock.now().saturating_add(SWEEP_EVERY).ok())
}

/// Whether a CronJob is ours, and no portrait's.
fn is_left_behind(context: &Context, job: &CronJob) -> bool {
    let Some((namespace, name)) = job.annotations().get(PORTRAIT).and_then(|text| text.split_once('/'))
    else {
        return false;
    };
    let key = Key::new(namespace, name);
    let needed = context.cache().portraits.get(&key).is_some_and(|portrait| {
        portrait.metadata.deletion_timestamp.is_none()
            && matches!(Generator::of(&portrait.spec.portrait), Generator::Job)
    });
    !needed || job_name(&key) != job.name_any()
}
