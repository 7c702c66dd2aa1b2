//! `CronJob`s: a Job at each scheduled moment.
//!
//! Of moments that were missed only the latest is made up for, as in Kubernetes.

use super::job::finished_at;
use super::objects::{Key, condition_status, int, owner_reference, stamp};
use super::{Controllers, Work, garbage::ignore_missing};
use crate::store::resource::{CRON_JOBS, JOBS};
use crate::store::{ApiError, Object, Part, Propagation};
use cron::{Dialect, Schedule, time_zone};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Map, Value, json};
use std::sync::Arc;

impl Controllers {
    pub(super) fn reconcile_cron_job(&mut self, key: &Key, now: Timestamp) -> Result<(), ApiError> {
        let Some(cron_job) = self.store.find(CRON_JOBS, &key.0, &key.1) else { return Ok(()) };
        let jobs = self.dependants_of(&cron_job, JOBS);
        self.trim_history(&cron_job, &jobs)?;
        let suspended = cron_job.at("spec.suspend").and_then(Value::as_bool) == Some(true);
        if !cron_job.is_terminating() && !suspended {
            self.run_due(&cron_job, &jobs, now)?;
        }
        let running: Vec<Value> = self
            .dependants_of(&cron_job, JOBS)
            .iter()
            .filter(|job| finished_at(job).is_none())
            .map(|job| {
                json!({
                    "apiVersion": "batch/v1", "kind": "Job", "name": job.name(), "namespace": job.namespace(),
                    "uid": job.uid(),
                })
            })
            .collect();
        let done = self.store.modify(CRON_JOBS, &key.0, &key.1, Part::Status, |value| {
            let before = value["status"].clone();
            match value["status"].as_object_mut() {
                Some(status) if running.is_empty() => {
                    status.remove("active");
                }
                _ => value["status"]["active"] = Value::Array(running),
            }
            value["status"] != before
        });
        ignore_missing(done)
    }

    /// Starts the Job of the latest moment that is due, and notes the next moment.
    fn run_due(&mut self, cron_job: &Object, jobs: &[Arc<Object>], now: Timestamp) -> Result<(), ApiError> {
        let Some(schedule) = schedule(cron_job) else {
            tracing::warn!(?cron_job, "the schedule cannot be read; the CronJob does nothing");
            return Ok(());
        };
        let work = Work::CronJob(super::objects::key_of(cron_job));
        if let Some(next) = schedule.next_after(now) {
            self.due.set(work, next);
        }
        let last = cron_job.text("status.lastScheduleTime").and_then(|text| text.parse::<Timestamp>().ok());
        let created = cron_job.text("metadata.creationTimestamp").and_then(|text| text.parse().ok());
        let since = last.or(created).unwrap_or(now);
        let Some(due) = schedule.last_until(now).filter(|due| *due > since) else { return Ok(()) };
        if int(cron_job, "spec.startingDeadlineSeconds")
            .is_some_and(|limit| now.duration_since(due) > SignedDuration::from_secs(limit))
        {
            return Ok(());
        }
        let running: Vec<&Arc<Object>> = jobs.iter().filter(|job| finished_at(job).is_none()).collect();
        match cron_job.text("spec.concurrencyPolicy") {
            Some("Forbid") if !running.is_empty() => return Ok(()),
            Some("Replace") => {
                for job in running {
                    self.delete(job, Propagation::Background)?;
                }
            }
            _ => {}
        }
        self.start_job(cron_job, due, now)
    }

    fn start_job(&mut self, cron_job: &Object, due: Timestamp, now: Timestamp) -> Result<(), ApiError> {
        let template = cron_job.at("spec.jobTemplate").cloned().unwrap_or_default();
        let name = format!("{}-{}", cron_job.name(), due.as_second() / 60);
        let mut metadata = Map::new();
        for field in ["labels", "annotations"] {
            if let Some(found) = template.get("metadata").and_then(|m| m.get(field)) {
                metadata.insert(field.to_owned(), found.clone());
            }
        }
        metadata.insert("name".to_owned(), name.as_str().into());
        metadata
            .insert("ownerReferences".to_owned(), json!([owner_reference(cron_job, "batch/v1", "CronJob")]));
        let mut job = json!({"metadata": metadata, "spec": template["spec"]});
        job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] = stamp(due).into();
        match self.store.create(JOBS, cron_job.namespace(), job) {
            Err(error) if !error.is_already_exists() => return Err(error),
            _ => {}
        }
        let message = format!("Created job {name}");
        self.events.normal(cron_job, "CronJob", "SuccessfulCreate", &message, now);
        let (namespace, own_name) = (cron_job.namespace(), cron_job.name());
        let done = self.store.modify(CRON_JOBS, namespace, own_name, Part::Status, |value| {
            value["status"]["lastScheduleTime"] = stamp(due).into();
            true
        });
        ignore_missing(done)
    }

    /// Keeps the newest finished Jobs only.
    fn trim_history(&mut self, cron_job: &Object, jobs: &[Arc<Object>]) -> Result<(), ApiError> {
        for (kind, field, default) in
            [("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)]
        {
            let limit = int(cron_job, &format!("spec.{field}")).unwrap_or(default).max(0) as usize;
            let mut ended: Vec<&Arc<Object>> =
                jobs.iter().filter(|job| condition_status(job, kind) == Some("True")).collect();
            ended.sort_by_cached_key(|job| finished_at(job));
            let surplus = ended.len().saturating_sub(limit);
            for job in ended.into_iter().take(surplus).filter(|job| !job.is_terminating()) {
                self.delete(job, Propagation::Background)?;
            }
        }
        Ok(())
    }
}

fn schedule(cron_job: &Object) -> Option<Schedule> {
    let zone = match cron_job.text("spec.timeZone") {
        Some(name) => time_zone(name, &TimeZone::UTC).ok()?,
        None => TimeZone::UTC,
    };
    Schedule::parse(cron_job.text("spec.schedule")?, &Dialect::KUBERNETES, &zone).ok()
}
