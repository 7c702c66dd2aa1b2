//! CronHorizontalPodAutoscalers of Alibaba Cloud's controller: jobs that set a size at a time.
//!
//! A job's size holds until another job sets its own; a cron portrait holds from one schedule to another. So each job
//! becomes a window that ends at the job which always comes next. Where that is not always the same one, no window
//! says it, and the object is refused rather than guessed at.

use super::{Draft, decode, draft, fixed, scheduled};
use api::kapacity::ReplicaCron;
use cron::{Dialect, Schedule, Window, WindowState};
use intake::files::Object;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use serde::Deserialize;
use serde_json::Value;

/// How far ahead jobs are followed in order to learn their order, and how many firings at most.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 400);
const MOST_FIRINGS: usize = 5000;
/// A Monday in no leap year: what is learnt must not depend on when the command runs.
const FROM: &str = "2025-01-06T00:00:00Z";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: CrossVersionObjectReference,
    #[serde(default)]
    jobs: Vec<Job>,
    #[serde(default)]
    exclude_dates: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    name: String,
    schedule: String,
    target_size: i32,
    #[serde(default)]
    run_once: bool,
}

/// A job whose schedule was understood.
struct Timed<'a> {
    job: &'a Job,
    text: String,
    schedule: Schedule,
}

pub(super) fn read(object: &Object, zone_name: &str) -> Result<Draft, String> {
    let spec = object.value.get("spec").ok_or("spec is missing")?;
    let spec: Spec = decode("spec.", spec)?;
    let zone = cron::time_zone(zone_name, &TimeZone::UTC).map_err(|error| format!("--time-zone: {error}"))?;
    let mut draft = draft(object, spec.scale_target_ref.clone())?;
    let mut jobs = Vec::new();
    for job in &spec.jobs {
        if job.target_size < 0 {
            return Err(format!("job {}: targetSize {} is negative; mend it", job.name, job.target_size));
        }
        if job.run_once {
            draft.notes.push(format!("Not carried over: job {}, which runs once.", job.name));
            continue;
        }
        let text = five_fields(job, &mut draft.notes)?;
        let schedule = Schedule::parse(&text, &Dialect::KAPACITY, &zone)
            .map_err(|error| format!("job {}: {error}", job.name))?;
        jobs.push(Timed { job, text, schedule });
    }
    if !spec.exclude_dates.is_empty() {
        draft.notes.push("Not carried over: excludeDates; pause the autoscaler on those days.".to_owned());
    }
    let sizes = jobs.iter().map(|timed| timed.job.target_size);
    (draft.min, draft.max) = (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0));
    match jobs.as_slice() {
        [] => {}
        [only] => {
            draft.providers.push(fixed(only.job.target_size, super::COMPETING));
            draft.notes.push(format!(
                "Job {} is the only one, so its size holds always: a static provider.",
                only.job.name
            ));
        }
        several => draft.providers.push(scheduled(windows(several, zone_name, &zone)?)),
    }
    draft.notes.push(format!("Schedules are read in time zone {zone_name} (--time-zone), which the original takes from its machine."));
    let namespace = draft.namespace.as_deref().map_or_else(String::new, |name| format!(" -n {name}"));
    draft.notes.push(format!(
        "Remove the original, which would go on setting sizes: kubectl delete cronhpa {}{namespace}",
        draft.name
    ));
    Ok(draft)
}

/// The schedule without its seconds.
fn five_fields(job: &Job, notes: &mut Vec<String>) -> Result<String, String> {
    let fields: Vec<&str> = job.schedule.split_whitespace().collect();
    match fields.as_slice() {
        [first, ..] if first.starts_with('@') => Err(format!(
            "job {}: schedule {} has no window; write five or six fields",
            job.name, job.schedule
        )),
        [second, rest @ ..] if rest.len() == 5 => {
            if second.parse::<u32>().map_or(true, |second| second > 59) {
                return Err(format!(
                    "job {}: seconds {second} fire more than once a minute; write one number",
                    job.name
                ));
            }
            if *second != "0" && *second != "00" {
                notes.push(format!("Job {} fires at second 0 instead of {second}.", job.name));
            }
            Ok(rest.join(" "))
        }
        five if five.len() == 5 => Ok(five.join(" ")),
        other => Err(format!(
            "job {}: schedule \"{}\" has {} fields; write five or six",
            job.name,
            job.schedule,
            other.len()
        )),
    }
}

/// Each job from its own time to that of the job which always follows it.
fn windows(jobs: &[Timed<'_>], zone_name: &str, zone: &TimeZone) -> Result<Vec<ReplicaCron>, String> {
    let firings = firings(jobs)?;
    let mut rules = Vec::new();
    for (index, timed) in jobs.iter().enumerate() {
        let mut next = None;
        for pair in firings.windows(2).filter(|pair| pair[0].1 == index) {
            let follower = pair[1].1;
            if follower == index {
                return Err(format!(
                    "job {} fires twice without another job in between; no window says what it means",
                    timed.job.name
                ));
            }
            if *next.get_or_insert(follower) != follower {
                return Err(format!(
                    "job {} is followed now by one job, now by another; write cron portraits by hand",
                    timed.job.name
                ));
            }
        }
        let Some(next) = next else {
            return Err(format!("job {} fires hardly ever; write a cron portrait by hand", timed.job.name));
        };
        rules.push(ReplicaCron {
            name: timed.job.name.clone(),
            description: None,
            time_zone: zone_name.to_owned(),
            start: timed.text.clone(),
            end: jobs[next].text.clone(),
            replicas: timed.job.target_size,
        });
    }
    verified(&rules, &firings, zone)?;
    Ok(rules)
}

/// Every firing of every job within the time that is looked at, in order.
fn firings(jobs: &[Timed<'_>]) -> Result<Vec<(Timestamp, usize)>, String> {
    let from: Timestamp = FROM.parse().map_err(|error| format!("{FROM}: {error}"))?;
    let until = from.saturating_add(AHEAD).unwrap_or(Timestamp::MAX);
    let mut all: Vec<(Timestamp, usize)> = Vec::new();
    for (index, timed) in jobs.iter().enumerate() {
        all.extend(
            timed.schedule.after(from).take(MOST_FIRINGS).take_while(|at| *at < until).map(|at| (at, index)),
        );
    }
    // Beyond the last firing of a job that was cut short, the order is not known.
    let known = jobs.iter().enumerate().filter_map(|(index, _)| {
        let of: Vec<Timestamp> = all.iter().filter(|(_, of)| *of == index).map(|(at, _)| *at).collect();
        (of.len() == MOST_FIRINGS).then(|| of.last().copied()).flatten()
    });
    let known = known.min().unwrap_or(until);
    all.retain(|(at, _)| *at <= known);
    all.sort();
    if let Some(pair) = all.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!(
            "jobs {} and {} fire at the same moment ({}); which of them counts is not said",
            jobs[pair[0].1].job.name, jobs[pair[1].1].job.name, pair[0].0
        ));
    }
    Ok(all)
}

/// After each firing exactly the window of the job that fired is open.
fn verified(rules: &[ReplicaCron], firings: &[(Timestamp, usize)], zone: &TimeZone) -> Result<(), String> {
    let mut windows = Vec::new();
    for rule in rules {
        let window = Window::parse(&rule.start, &rule.end, &Dialect::KAPACITY, zone);
        windows.push(window.map_err(|error| format!("job {}: {error}", rule.name))?);
    }
    for (at, fired) in firings {
        for (index, window) in windows.iter().enumerate() {
            let open = matches!(window.at(*at), WindowState::Open { .. });
            if open != (index == *fired) {
                return Err(format!(
                    "its jobs cannot be written as windows (tried at {at}); write cron portraits by hand"
                ));
            }
        }
    }
    Ok(())
}
