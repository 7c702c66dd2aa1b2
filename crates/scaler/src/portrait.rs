//! HorizontalPortrait: what a workload's replica count should be, made by some algorithm and kept in its status.
//!
//! Owns which algorithm makes a portrait and what becomes of one that can no longer be made. A further algorithm is a
//! further arm of `Generator`. Reading portraits is the autoscaler's business.

mod job;
mod orphans;
mod predictive;
pub(crate) mod reactive;

pub(crate) use job::Job;
pub(crate) use orphans::sweep;
pub(crate) use predictive::Predictions;

use crate::ScalerError;
use crate::cache::Key;
use crate::conditions::{self, Say};
use crate::context::Context;
use api::kapacity::{
    HorizontalPortrait, HorizontalPortraitStatus, PORTRAIT_COMPONENT, PortraitData, PortraitForecast,
    PortraitSpec,
};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, PostParams};

pub(crate) const GENERATED: &str = "PortraitGenerated";
/// How long a portrait that can no longer be made is relied on. Longer outages of metrics than a restart of their
/// server leave the workload to its other portraits.
const RELIED_ON: SignedDuration = SignedDuration::from_mins(5);

/// Reasons that are worth a warning, once, when they become true.
const WARNINGS: &[&str] = &[
    "FailedGetPortraitGenerator",
    "FailedGeneratePortrait",
    job::NOT_RECONCILED,
    job::NOT_FETCHED,
    job::NOT_CLEANED_UP,
];

/// Who makes a portrait.
enum Generator {
    /// A controller outside: it fills in the status, we leave the object alone.
    Foreign,
    /// The algorithm of the Kubernetes HPA.
    KubeHpa,
    /// Our own forecasts of traffic.
    Native,
    /// A job that leaves its result in a ConfigMap.
    Job,
    /// Nobody here.
    Unserved(String),
}

impl Generator {
    fn of(portrait: &PortraitSpec) -> Self {
        if portrait.external_generator_name.as_ref().is_some_and(|name| !name.is_empty()) {
            return Self::Foreign;
        }
        match (&*portrait.portrait_type, &*portrait.algorithm.type_) {
            ("Reactive", "KubeHPA") => Self::KubeHpa,
            ("Predictive", "Native") => Self::Native,
            (_, "ExternalJob") => Self::Job,
            (kind, algorithm) => Self::Unserved(format!(
                "portraitType {kind} with algorithm.type {algorithm} is not served; use Reactive with KubeHPA, \
                 Predictive with Native or ExternalJob, or name who serves it in externalGeneratorName"
            )),
        }
    }
}

/// What an algorithm brought.
pub(crate) struct Made {
    pub(crate) data: PortraitData,
    /// What the forecast behind it is worth.
    pub(crate) forecast: Option<PortraitForecast>,
    /// When to make it anew.
    pub(crate) again: Option<Timestamp>,
}

/// Why it brought nothing.
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// When to try again; none where only a change of the object helps.
    pub(crate) again: Option<Timestamp>,
}

/// Looks at one portrait.
pub(crate) async fn look(context: &Context, key: &Key) -> Result<Option<Timestamp>, ScalerError> {
    let (portrait, peer) = {
        let cache = context.cache();
        (cache.portraits.get(key).cloned(), cache.peer().is_some())
    };
    let going = |portrait: &HorizontalPortrait| portrait.metadata.deletion_timestamp.is_some();
    if peer {
        return Ok(None);
    }
    let generator = portrait
        .as_ref()
        .filter(|portrait| !going(portrait))
        .map_or(Generator::Foreign, |portrait| Generator::of(&portrait.spec.portrait));
    if !matches!(generator, Generator::Native) {
        context.predictions().remove(key);
    }
    let cleaned =
        if matches!(generator, Generator::Job) { Ok(()) } else { job::clean_up(context, key).await };
    let Some(portrait) = portrait.filter(|portrait| !going(portrait)) else { return cleaned.map(|()| None) };
    let made = match generator {
        Generator::Foreign => return cleaned.map(|()| None),
        _ if cleaned.is_err() => Err(job::not_cleaned_up(context, cleaned)),
        Generator::KubeHpa => reactive::generate(context, key, &portrait.spec).await,
        Generator::Native => Box::pin(predictive::generate(context, key, &portrait)).await,
        Generator::Job => Box::pin(job::generate(context, key, &portrait)).await,
        Generator::Unserved(message) => {
            Err(Failure { reason: "FailedGetPortraitGenerator", message, again: None })
        }
    };
    let now = context.clock.now();
    let (status, wake_at) = told(&portrait, made, now);
    if Some(&status) != portrait.status.as_ref() {
        let api: Api<HorizontalPortrait> = Api::namespaced(context.client.clone(), &key.namespace);
        let written = HorizontalPortrait { status: Some(status), ..(*portrait).clone() };
        let params = PostParams::default();
        let call = api.replace_status(&key.name, &params, &written);
        let written = context.write(&format!("write the status of HorizontalPortrait {key}"), call).await?;
        let told = |portrait: &HorizontalPortrait| {
            portrait.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default()
        };
        for (reason, message) in conditions::warnings(&told(&portrait), &told(&written), WARNINGS) {
            context.recorder.warning(PORTRAIT_COMPONENT, &*portrait, reason, message);
        }
        context.cache().note_portrait(written);
    }
    Ok(wake_at)
}

/// The status after a try, and when to look again.
fn told(
    portrait: &HorizontalPortrait,
    made: Result<Made, Failure>,
    now: Timestamp,
) -> (HorizontalPortraitStatus, Option<Timestamp>) {
    let mut status = portrait.status.clone().unwrap_or_default();
    let generation = portrait.metadata.generation;
    match made {
        Ok(made) => {
            status.portrait_data = Some(made.data);
            status.forecast = made.forecast;
            let message = "portrait has been successfully generated";
            let say = Say::yes(GENERATED, "SucceededGeneratePortrait", message);
            conditions::set(&mut status.conditions, &say, generation, now);
            (status, made.again)
        }
        Err(failure) => {
            let say = Say::no(GENERATED, failure.reason, failure.message);
            conditions::set(&mut status.conditions, &say, generation, now);
            let since = conditions::find(&status.conditions, GENERATED)
                .map_or(now, |failed| failed.last_transition_time.0);
            let until = since.saturating_add(RELIED_ON).unwrap_or(Timestamp::MAX);
            if until <= now {
                status.portrait_data = None;
                status.forecast = None;
                return (status, failure.again);
            }
            // What is relied on runs out even where nothing else happens.
            let wake_at = failure.again.map_or(until, |again| again.min(until));
            (status, Some(wake_at))
        }
    }
}
