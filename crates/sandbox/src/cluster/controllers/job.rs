//! Jobs: pods that run to their end, counted once each.
//!
//! Left out: indexed completion's environment, pod failure policies, success policies.

use super::objects::{
    Key, PodName, has_ended, int, is_active, is_ready, key_of, owner_reference, pod_from_template,
    set_condition, stamp,
};
use super::{Controllers, Work, after, garbage::ignore_missing};
use crate::store::resource::{JOBS, PODS};
use crate::store::{ApiError, Object, Part, Propagation};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Keeps a pod until its end is counted.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Pods made in one go.
const BURST: i64 = 500;

/// What a Job has come to so far.
struct Progress {
    succeeded: i64,
    failed: i64,
    active: Vec<Arc<Object>>,
}

/// How a Job ended.
enum End {
    Complete,
    Failed { reason: &'static str, message: &'static str },
}

impl Controllers {
    pub(super) fn reconcile_job(&mut self, key: &Key, now: Timestamp) -> Result<(), ApiError> {
        let Some(job) = self.store.find(JOBS, &key.0, &key.1) else { return Ok(()) };
        if let Some(finished) = finished_at(&job) {
            for pod in self.pods_of(&job) {
                self.drop_finalizer(&pod, TRACKING)?;
            }
            return self.expire(&job, finished, now);
        }
        let progress = self.count_ends(&job)?;
        if job.is_terminating() {
            return Ok(());
        }
        let end = end_of(&job, &progress, now);
        let mut active = progress.active.len() as i64;
        if end.is_some() {
            for pod in &progress.active {
                self.delete(pod, Propagation::Background)?;
            }
            active = 0;
        } else {
            self.keep_running(&job, &progress, now)?;
        }
        self.watch_deadline(&job);
        self.report_job(&job, &progress, active, end.as_ref(), now)?;
        if end.is_some() {
            self.work.insert(Work::Job(key.clone()));
        }
        Ok(())
    }

    /// Counts pods that ended since the last look and lets them go.
    fn count_ends(&mut self, job: &Object) -> Result<Progress, ApiError> {
        let mut progress = Progress {
            succeeded: int(job, "status.succeeded").unwrap_or(0),
            failed: int(job, "status.failed").unwrap_or(0),
            active: Vec::new(),
        };
        let before = (progress.succeeded, progress.failed);
        let mut counted = Vec::new();
        for pod in self.pods_of(job) {
            if !pod.finalizers().any(|finalizer| finalizer == TRACKING) {
                continue;
            }
            let stopped = int(&pod, "metadata.deletionGracePeriodSeconds") == Some(0) && pod.is_terminating();
            if pod.text("status.phase") == Some("Succeeded") {
                progress.succeeded += 1;
                counted.push(pod);
            } else if has_ended(&pod) || stopped {
                // A pod that was removed before its end did not do its work.
                progress.failed += 1;
                counted.push(pod);
            } else if is_active(&pod) {
                progress.active.push(pod);
            }
        }
        if (progress.succeeded, progress.failed) != before {
            let done = self.store.modify(JOBS, job.namespace(), job.name(), Part::Status, |value| {
                value["status"]["succeeded"] = progress.succeeded.into();
                value["status"]["failed"] = progress.failed.into();
                true
            });
            ignore_missing(done)?;
        }
        for pod in counted {
            self.drop_finalizer(&pod, TRACKING)?;
        }
        Ok(progress)
    }

    fn keep_running(&mut self, job: &Object, progress: &Progress, now: Timestamp) -> Result<(), ApiError> {
        let suspended = job.at("spec.suspend").and_then(Value::as_bool) == Some(true);
        let parallelism = int(job, "spec.parallelism").unwrap_or(1).max(0);
        let wanted = match int(job, "spec.completions") {
            _ if suspended => 0,
            Some(completions) => parallelism.min((completions - progress.succeeded).max(0)),
            // A work queue: once one pod succeeds, no more are started.
            None if progress.succeeded > 0 => progress.active.len() as i64,
            None => parallelism,
        };
        let active = progress.active.len() as i64;
        if active > wanted {
            let surplus = usize::try_from(active - wanted).unwrap_or(0);
            let mut ranked: Vec<&Arc<Object>> = progress.active.iter().collect();
            ranked.sort_by_cached_key(|pod| (is_ready(pod), std::cmp::Reverse(pod.revision())));
            for pod in ranked.into_iter().take(surplus) {
                self.delete(pod, Propagation::Background)?;
            }
            return Ok(());
        }
        let Some(template) = job.at("spec.template") else { return Ok(()) };
        for _ in 0..(wanted - active).min(BURST) {
            let owner = owner_reference(job, "batch/v1", "Job");
            let mut pod = pod_from_template(template, &PodName::Generated(job.name()), owner);
            for label in ["job-name", "batch.kubernetes.io/job-name"] {
                pod["metadata"]["labels"][label] = job.name().into();
            }
            for label in ["controller-uid", "batch.kubernetes.io/controller-uid"] {
                pod["metadata"]["labels"][label] = job.uid().into();
            }
            pod["metadata"]["finalizers"] = json!([TRACKING]);
            let made = self.store.create(PODS, job.namespace(), pod)?;
            let message = format!("Created pod: {}", made.name());
            self.events.normal(job, "Job", "SuccessfulCreate", &message, now);
        }
        if wanted - active > BURST {
            self.work.insert(Work::Job(key_of(job)));
        }
        Ok(())
    }

    fn watch_deadline(&mut self, job: &Object) {
        if let Some(at) = deadline(job) {
            self.due.set(Work::Job(key_of(job)), at);
        }
    }

    fn report_job(
        &mut self,
        job: &Object,
        progress: &Progress,
        active: i64,
        end: Option<&End>,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let ready = progress.active.iter().filter(|pod| is_ready(pod)).count() as i64;
        let done = self.store.modify(JOBS, job.namespace(), job.name(), Part::Status, |value| {
            let before = value["status"].clone();
            let status = &mut value["status"];
            if status["startTime"].is_null() {
                status["startTime"] = stamp(now).into();
            }
            status["active"] = active.into();
            status["ready"] = if end.is_some() { 0.into() } else { ready.into() };
            status["succeeded"] = progress.succeeded.into();
            status["failed"] = progress.failed.into();
            match end {
                Some(End::Complete) => {
                    status["completionTime"] = stamp(now).into();
                    let message = "Reached expected number of succeeded pods";
                    set_condition(value, "SuccessCriteriaMet", "True", "CompletionsReached", message, now);
                    set_condition(value, "Complete", "True", "CompletionsReached", message, now);
                }
                Some(End::Failed { reason, message }) => {
                    set_condition(value, "FailureTarget", "True", reason, message, now);
                    set_condition(value, "Failed", "True", reason, message, now);
                }
                None => {}
            }
            value["status"] != before
        });
        ignore_missing(done)
    }

    /// Removes a finished Job when its time is over.
    fn expire(&mut self, job: &Object, finished: Timestamp, now: Timestamp) -> Result<(), ApiError> {
        let Some(ttl) = int(job, "spec.ttlSecondsAfterFinished") else { return Ok(()) };
        let at = after(finished, Duration::from_secs(ttl.max(0).unsigned_abs()));
        if at > now {
            self.due.set(Work::Job(key_of(job)), at);
            return Ok(());
        }
        self.delete(job, Propagation::Background)
    }
}

/// When a Job ended, where it did.
pub(super) fn finished_at(job: &Object) -> Option<Timestamp> {
    ["Complete", "Failed"]
        .into_iter()
        .filter(|kind| super::objects::condition_status(job, kind) == Some("True"))
        .find_map(|kind| super::objects::condition_since(job, kind))
}

fn deadline(job: &Object) -> Option<Timestamp> {
    let seconds = int(job, "spec.activeDeadlineSeconds")?;
    let started: Timestamp = job.text("status.startTime")?.parse().ok()?;
    Some(after(started, Duration::from_secs(seconds.max(0).unsigned_abs())))
}

fn end_of(job: &Object, progress: &Progress, now: Timestamp) -> Option<End> {
    if progress.failed > int(job, "spec.backoffLimit").unwrap_or(6) {
        let message = "Job has reached the specified backoff limit";
        return Some(End::Failed { reason: "BackoffLimitExceeded", message });
    }
    if deadline(job).is_some_and(|at| at <= now) {
        let message = "Job was active longer than specified deadline";
        return Some(End::Failed { reason: "DeadlineExceeded", message });
    }
    let complete = match int(job, "spec.completions") {
        Some(completions) => progress.succeeded >= completions,
        None => progress.succeeded > 0 && progress.active.is_empty(),
    };
    complete.then_some(End::Complete)
}
