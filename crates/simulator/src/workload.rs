//! What the users of the simulated cluster do, second by second.
//!
//! Owns the generators: each turns its part of the scenario into writes with a moment. Nothing here talks to an
//! API; the engine carries the writes out in this order.

use crate::random_source::{bell, stream, wait_seconds};
use crate::scenario::{BurstSpec, JobSpec, PodSpec, Scenario, WaveSpec};
use crate::trace::Trace;
use jiff::Timestamp;
use rand::Rng as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::f64::consts::TAU;

/// One thing that a user does.
#[derive(Clone, Debug, PartialEq)]
pub enum UserWrite {
    Create(Value),
    /// Sets a Deployment's replicas.
    Scale {
        namespace: String,
        name: String,
        replicas: u32,
    },
    /// An autoscaler with portraits tells what it will want: seconds from the scenario's start, and replicas.
    Tell {
        namespace: String,
        name: String,
        outlook: Vec<(u64, u32)>,
    },
    /// Creates the pod of this index of the trace.
    TracePod(usize),
}

/// A write and its moment, in seconds from the scenario's start.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedWrite {
    pub second: u64,
    pub write: UserWrite,
}

/// All writes of a run, in order; equal seeds give equal lists.
pub fn timeline(scenario: &Scenario, trace: Option<&Trace>, seconds: u64) -> Vec<TimedWrite> {
    let mut writes = Vec::new();
    for object in &scenario.workload.objects {
        writes.push(TimedWrite { second: 0, write: UserWrite::Create(object.clone()) });
    }
    for wave in &scenario.workload.waves {
        wave_writes(scenario, wave, seconds, &mut writes);
    }
    for burst in &scenario.workload.bursts {
        burst_writes(scenario.seed, burst, seconds, &mut writes);
    }
    for job in &scenario.workload.jobs {
        job_writes(scenario.seed, job, seconds, &mut writes);
    }
    if let Some(trace) = trace {
        let pods = trace.pods.iter().enumerate().filter(|(_, pod)| pod.created <= seconds);
        writes
            .extend(pods.map(|(at, pod)| TimedWrite { second: pod.created, write: UserWrite::TracePod(at) }));
    }
    // Stable: what happens in one second keeps the order of the scenario.
    writes.sort_by_key(|timed| timed.second);
    writes
}

fn wave_writes(scenario: &Scenario, wave: &WaveSpec, seconds: u64, writes: &mut Vec<TimedWrite>) {
    let mut rng = stream(scenario.seed, &format!("wave/{}/{}", wave.namespace, wave.name));
    let mut now = replicas_at(wave, scenario.start, 0, bell(&mut rng));
    writes.push(TimedWrite {
        second: 0,
        write: UserWrite::Create(deployment(&wave.namespace, &wave.name, now, &wave.pod)),
    });
    if let Some(max_unavailable) = wave.max_unavailable {
        writes.push(TimedWrite { second: 0, write: UserWrite::Create(budget(wave, max_unavailable)) });
    }
    let mut second = wave.step.seconds;
    while second <= seconds {
        let wanted = replicas_at(wave, scenario.start, second, bell(&mut rng));
        if wanted != now {
            now = wanted;
            writes.push(TimedWrite {
                second,
                write: UserWrite::Scale {
                    namespace: wave.namespace.clone(),
                    name: wave.name.clone(),
                    replicas: wanted,
                },
            });
        }
        second += wave.step.seconds;
    }
}

fn replicas_at(wave: &WaveSpec, start: Timestamp, second: u64, noise: f64) -> u32 {
    // 1970-01-01 was a Thursday: day 2 and 3 of a week counted from there are Saturday and Sunday.
    let unix = start.as_second().max(0) as u64 + second;
    let hour = (unix % 86_400) as f64 / 3600.0;
    let weekend = matches!(unix / 86_400 % 7, 2 | 3);
    let swing = f64::from(wave.daily_amplitude) * (TAU * (hour - f64::from(wave.peak_hour)) / 24.0).cos();
    let dip = if weekend { f64::from(wave.weekend_dip) } else { 0.0 };
    let mean = f64::from(wave.mean);
    let noise = noise * mean * f64::from(wave.noise_percent) / 100.0;
    (mean + swing - dip + noise).round().max(0.0) as u32
}

fn burst_writes(seed: u64, burst: &BurstSpec, seconds: u64, writes: &mut Vec<TimedWrite>) {
    let mut rng = stream(seed, &format!("burst/{}/{}", burst.namespace, burst.name));
    writes.push(TimedWrite {
        second: 0,
        write: UserWrite::Create(deployment(&burst.namespace, &burst.name, 0, &burst.pod)),
    });
    let scale = |second, replicas| TimedWrite {
        second,
        write: UserWrite::Scale { namespace: burst.namespace.clone(), name: burst.name.clone(), replicas },
    };
    let mut second = wait_seconds(&mut rng, burst.every.seconds);
    while second <= seconds {
        writes.push(scale(second, rng.random_range(burst.replicas.min..=burst.replicas.max)));
        let end = second + burst.lasts.seconds;
        writes.push(scale(end.min(seconds), 0));
        second = end + wait_seconds(&mut rng, burst.every.seconds);
    }
}

fn job_writes(seed: u64, job: &JobSpec, seconds: u64, writes: &mut Vec<TimedWrite>) {
    let mut rng = stream(seed, &format!("job/{}/{}", job.namespace, job.name));
    let mut second = wait_seconds(&mut rng, job.every.seconds);
    let mut number = 0_u64;
    while second <= seconds {
        number += 1;
        let pods = rng.random_range(job.pods.min..=job.pods.max);
        let runs = rng.random_range(job.runs.min.seconds..=job.runs.max.seconds);
        if pods > 0 {
            writes.push(TimedWrite { second, write: UserWrite::Create(batch_job(job, number, pods, runs)) });
        }
        second += wait_seconds(&mut rng, job.every.seconds);
    }
}

fn pod_template(app: &str, pod: &PodSpec, runs: Option<u64>, restart: &str) -> Value {
    let mut labels = pod.labels.clone();
    labels.insert("app".to_owned(), app.to_owned());
    let mut annotations = pod.annotations.clone();
    if let Some(runs) = runs {
        annotations.insert(api::annotations::RUN_SECONDS.to_owned(), runs.to_string());
    }
    let mut spec = json!({
        "restartPolicy": restart,
        "containers": [{"name": "app", "image": "simulated", "resources": {"requests": pod.requests}}],
    });
    if !pod.node_selector.is_empty() {
        spec["nodeSelector"] = json!(pod.node_selector);
    }
    if !pod.tolerations.is_empty() {
        spec["tolerations"] = json!(pod.tolerations);
    }
    json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})
}

pub(crate) fn deployment(namespace: &str, name: &str, replicas: u32, pod: &PodSpec) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": pod_template(name, pod, None, "Always"),
        },
    })
}

fn batch_job(job: &JobSpec, number: u64, pods: u32, runs: u64) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": format!("{}-{number}", job.name), "namespace": job.namespace},
        "spec": {
            "parallelism": pods,
            "completions": pods,
            "backoffLimit": 1000,
            "ttlSecondsAfterFinished": 60,
            "template": pod_template(&job.name, &job.pod, Some(runs), "Never"),
        },
    })
}

fn budget(wave: &WaveSpec, max_unavailable: u32) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": wave.name, "namespace": wave.namespace},
        "spec": {
            "maxUnavailable": max_unavailable,
            "selector": {"matchLabels": BTreeMap::from([("app", &wave.name)])},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO: &str = "
duration: 7d
workload:
  waves:
  - {name: web, mean: 20, dailyAmplitude: 10, weekendDip: 5, noisePercent: 3, pod: {requests: {cpu: 500m}}}
  bursts:
  - {name: sale, every: 12h, lasts: 30m, replicas: {min: 5, max: 30}, pod: {requests: {cpu: 1}}}
  jobs:
  - {name: etl, every: 3h, pods: {min: 1, max: 4}, runs: {min: 5m, max: 20m}, pod: {requests: {cpu: 2}}}
";

    #[test]
    fn equal_seeds_give_equal_writes_in_order() {
        let mut scenario = Scenario::parse("s", SCENARIO).unwrap();
        let seconds = 7 * 86_400;
        let first = timeline(&scenario, None, seconds);
        assert_eq!(first, timeline(&scenario, None, seconds));
        assert!(first.is_sorted_by_key(|timed| timed.second));
        assert!(first.len() > 100);
        scenario.seed = 2;
        assert_ne!(first, timeline(&scenario, None, seconds));
    }

    #[test]
    fn a_wave_peaks_at_its_hour_and_rests_at_the_weekend() {
        let mut scenario = Scenario::parse("s", SCENARIO).unwrap();
        scenario.workload.waves[0].noise_percent = 0;
        let wave = &scenario.workload.waves[0];
        let at = |day: u64, hour: u64| replicas_at(wave, scenario.start, day * 86_400 + hour * 3600, 0.0);
        assert_eq!((at(0, 14), at(0, 2)), (30, 10));
        assert_eq!((at(5, 14), at(6, 2)), (25, 5));
    }
}
