//! What objects tell of pods to come: portraits' plans, schedules of jobs, and what autoscalers of Kubernetes scale.

use crate::{IntakeError, shape_of_template, slim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{DueReplicas, Outlook, OutlookKey, OutlookSource, PodTemplate, Runs, WorkloadKey};
use std::sync::Arc;

/// How sure a schedule is, a forecast that its maker relies on, and one of somebody else's making.
const SCHEDULED: u32 = 100;
const FORECAST: u32 = 80;
const OTHER: u32 = 60;

/// The name under which an object's outlook is known.
pub fn outlook_key(source: OutlookSource, meta: &ObjectMeta) -> OutlookKey {
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    OutlookKey::new(source, namespace, meta.name.as_deref().unwrap_or_default())
}

/// Whose pods an autoscaler scales.
pub fn scaled(target: &slim::ScaleTarget, meta: &ObjectMeta) -> WorkloadKey {
    WorkloadKey::new(&target.kind, meta.namespace.as_deref().unwrap_or("default"), &target.name)
}

/// What an autoscaler's merged portraits tell; `None` where they tell nothing.
pub fn portraits_outlook(ihpa: &slim::IntelligentHorizontalPodAutoscaler) -> Option<Outlook> {
    let told = &ihpa.status.outlook;
    if told.is_empty() || ihpa.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let sure = |provider: &str| match provider {
        "Static" | "Cron" => SCHEDULED,
        "Dynamic-Predictive" => FORECAST,
        _ => OTHER,
    };
    let mut points: Vec<DueReplicas> = (told.iter())
        .map(|point| DueReplicas { at: point.time.0, replicas: u32::try_from(point.replicas).unwrap_or(0) })
        .collect();
    points.sort();
    Some(Outlook {
        key: outlook_key(OutlookSource::Portraits, &ihpa.metadata),
        target: scaled(&ihpa.spec.scale_target_ref, &ihpa.metadata),
        points,
        runs: None,
        confidence_percent: told.iter().map(|point| sure(&point.provider)).min().unwrap_or(OTHER),
        template: None,
    })
}

/// The runs of a `CronJob` that are to come; `None` where it is suspended.
pub fn schedule_outlook(job: &slim::CronJob) -> Result<Option<Outlook>, IntakeError> {
    let (spec, template) = (&job.spec, &job.spec.job_template.spec);
    if spec.suspend == Some(true)
        || template.suspend == Some(true)
        || job.metadata.deletion_timestamp.is_some()
    {
        return Ok(None);
    }
    let key = outlook_key(OutlookSource::Schedule, &job.metadata);
    let (shape, labels) = shape_of_template(&template.template)
        .map_err(|error| error.under("spec.jobTemplate").of("CronJob", &key.namespace, &key.name))?;
    let parallel = template.parallelism.unwrap_or(1);
    let each = u32::try_from(template.completions.map_or(parallel, |all| all.min(parallel))).unwrap_or(0);
    // Only a job that may run beside another comes on top of it.
    let beside = matches!(spec.concurrency_policy.as_deref(), None | Some("" | "Allow"));
    let active = if beside { job.status.active.as_ref().map_or(0, Vec::len) } else { 0 };
    let runs = Runs {
        schedule: Arc::from(spec.schedule.as_str()),
        zone: Arc::from(spec.time_zone.as_deref().unwrap_or_default()),
        replicas: each.saturating_mul(1 + u32::try_from(active).unwrap_or(u32::MAX - 1)),
    };
    Ok(Some(Outlook {
        target: WorkloadKey::new("CronJob", &key.namespace, &key.name),
        key,
        points: Vec::new(),
        runs: Some(runs),
        confidence_percent: SCHEDULED,
        template: Some(Arc::new(PodTemplate { shape: Arc::new(shape), labels })),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cron_job_tells_of_the_pods_of_its_next_run() {
        let job = json!({
            "metadata": {"name": "nightly", "namespace": "jobs"},
            "spec": {
                "schedule": "0 3 * * *", "timeZone": "Europe/Berlin",
                "jobTemplate": {"spec": {"parallelism": 5, "completions": 3, "template": {"spec": {
                    "containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}],
                }}}},
            },
            "status": {"active": [{"name": "nightly-1"}]},
        });
        let mut job: slim::CronJob = serde_json::from_value(job).unwrap();
        let outlook = schedule_outlook(&job).unwrap().unwrap();
        assert_eq!(outlook.target.to_string(), "CronJob/jobs/nightly");
        let runs = outlook.runs.unwrap();
        assert_eq!((&*runs.schedule, &*runs.zone, runs.replicas), ("0 3 * * *", "Europe/Berlin", 6));
        assert_eq!(outlook.template.unwrap().shape.requests.cpu.0, 2000);
        job.spec.concurrency_policy = Some("Forbid".into());
        assert_eq!(schedule_outlook(&job).unwrap().unwrap().runs.unwrap().replicas, 3);
        job.spec.suspend = Some(true);
        assert_eq!(schedule_outlook(&job).unwrap(), None);
        job.spec.suspend = None;
        let bad = json!({"name": "c", "resources": {"requests": {"cpu": "much"}}});
        job.spec.job_template.spec.template.spec.containers = vec![serde_json::from_value(bad).unwrap()];
        assert!(schedule_outlook(&job).unwrap_err().to_string().contains("jobs/nightly"));
    }

    #[test]
    fn portraits_are_as_sure_as_the_least_sure_of_them() {
        let point = |time: &str, replicas: i32, provider: &str| json!({"time": time, "replicas": replicas, "provider": provider});
        let ihpa = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}},
            "status": {"outlook": [
                point("2026-01-01T10:00:00Z", 8, "Cron"), point("2026-01-01T09:00:00Z", 5, "Dynamic-Predictive"),
            ]},
        });
        let mut ihpa: slim::IntelligentHorizontalPodAutoscaler = serde_json::from_value(ihpa).unwrap();
        let outlook = portraits_outlook(&ihpa).unwrap();
        assert_eq!(outlook.confidence_percent, FORECAST);
        assert_eq!(outlook.points.iter().map(|point| point.replicas).collect::<Vec<_>>(), [5, 8]);
        ihpa.status.outlook.clear();
        assert_eq!(portraits_outlook(&ihpa), None);
    }
}
