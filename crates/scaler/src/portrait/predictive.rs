//! Predictive portraits of our own: `algorithm.type: Native`.
//!
//! Owns the settings in `algorithm.config`, what is kept of each portrait between looks, and when to look again. A
//! history is asked for once; after that only the minutes since.

use super::{Failure, Made};
use crate::cache::Key;
use crate::context::Context;
use crate::prediction::{Questions, Wall, data, worth};
use crate::target;
use api::kapacity::HorizontalPortrait;
use forecast::{LoadSettings, Predictor, PredictorSettings};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;

const FAILED: &str = "FailedGeneratePortrait";
/// Until a history that could not be read or learned from is tried again.
const RETRY: SignedDuration = SignedDuration::from_mins(5);
/// After the end of a step, so that its last values are there.
const LATE: SignedDuration = SignedDuration::from_secs(20);
/// The longest history that is asked for.
const MOST_DAYS: i64 = 60;
/// A step of forecasts.
const STEP_SECONDS: i64 = 600;

/// What was learned for each portrait; as many as there are portraits.
pub(crate) type Predictions = BTreeMap<Key, Prediction>;

/// What was learned for one portrait.
pub(crate) struct Prediction {
    uid: Option<String>,
    generation: Option<i64>,
    target: f64,
    /// Knows local time only.
    predictor: Predictor,
    wall: Wall,
}

/// `algorithm.config`; what is left out is the default.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Native {
    /// History that is learned from at first.
    history_length: String,
    /// Quantile of traffic that replicas are for.
    quantile: f64,
    /// How far the plan reaches.
    horizon: String,
    /// The plan changes at most so often.
    change_every: String,
    /// More replicas come so much before they are due.
    scale_up_ahead: String,
    time_zone: String,
    /// Correlation of pods' use with traffic that is asked for.
    min_correlation: f64,
}

impl Default for Native {
    fn default() -> Self {
        Self {
            history_length: "28d".into(),
            quantile: 0.9,
            horizon: "3h".into(),
            change_every: "10m".into(),
            scale_up_ahead: "0s".into(),
            time_zone: "UTC".into(),
            min_correlation: 0.9,
        }
    }
}

pub(super) async fn generate(
    context: &Context,
    key: &Key,
    portrait: &HorizontalPortrait,
) -> Result<Made, Failure> {
    let now = context.clock.now();
    let retry = now.saturating_add(RETRY).ok();
    let unusable = |message: String| Failure { reason: FAILED, message, again: None };
    let failed = |message: String| Failure { reason: FAILED, message, again: retry };
    let questions = Questions::of(&key.namespace, &portrait.spec).map_err(unusable)?;
    let (history, zone, mut settings) = settings(portrait).map_err(unusable)?;
    let observed = target::observe(context, &key.namespace, &portrait.spec.scale_target_ref).await;
    let observed = observed.map_err(|error| failed(error.to_string()))?;
    let asked =
        observed.pods.iter().min_by(|one, two| one.key.cmp(&two.key)).map(|pod| pod.to_view().requests);
    settings.target = questions.target(asked.as_deref().unwrap_or_default()).map_err(failed)?;
    let kept = context.predictions().remove(key).filter(|kept| {
        kept.uid == portrait.metadata.uid
            && kept.generation == portrait.metadata.generation
            && kept.target.to_bits() == settings.target.to_bits()
    });
    let since =
        kept.as_ref().and_then(|kept| kept.wall.known_seconds()).map(|known| known.saturating_add(60));
    let from = since
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .or_else(|| now.saturating_sub(history).ok())
        .unwrap_or(now);
    // The minute that is under way has no values yet.
    let to = now.saturating_sub(SignedDuration::from_mins(1)).unwrap_or(now);
    let rows = if from <= to {
        questions.history(&*context.metrics, from, to).await.map_err(failed)?
    } else {
        vec![]
    };
    let target = settings.target;
    let (predictor, wall) = if let Some(Prediction { mut predictor, mut wall, .. }) = kept {
        for row in wall.local(rows) {
            predictor.push(row);
        }
        (predictor, wall)
    } else {
        let mut wall = Wall::new(zone);
        let rows = wall.local(rows);
        (Predictor::learn(settings, &rows).map_err(|why| failed(why.to_string()))?, wall)
    };
    let ahead = predictor.ahead().map(|ahead| wall.universal(ahead, now.as_second()));
    let (uid, generation) = (portrait.metadata.uid.clone(), portrait.metadata.generation);
    context.predictions().insert(key.clone(), Prediction { uid, generation, target, predictor, wall });
    let ahead = ahead.map_err(|why| failed(why.to_string()))?;
    Ok(Made { data: data(&ahead), forecast: Some(worth(&ahead, &questions, now)), again: next(now) })
}

/// Shortly after the step under way has ended.
fn next(now: Timestamp) -> Option<Timestamp> {
    let end = (now.as_second().div_euclid(STEP_SECONDS) + 1) * STEP_SECONDS;
    Timestamp::from_second(end).ok()?.saturating_add(LATE).ok()
}

/// The history to ask for, the zone of local days, and what a predictor is told; the target is still to be filled in.
fn settings(portrait: &HorizontalPortrait) -> Result<(SignedDuration, TimeZone, PredictorSettings), String> {
    let config = portrait.spec.portrait.algorithm.config.clone().unwrap_or_default();
    let native: Native = serde_json::from_value(serde_json::Value::Object(config))
        .map_err(|error| format!("algorithm.config: {error}"))?;
    let wrong = |field: &str, what: &str| format!("algorithm.config.{field}: {what}");
    let span = |field: &str, text: &str, least: i64, most: i64| {
        let span = duration(text)
            .ok_or_else(|| wrong(field, &format!("{text:?} is no duration; write 10m or 14d")))?;
        if (least..=most).contains(&span.as_secs()) {
            Ok(span.as_secs())
        } else {
            Err(wrong(field, &format!("{text} is not between {least} s and {most} s")))
        }
    };
    let history = span("historyLength", &native.history_length, 3_600, MOST_DAYS * 86_400)?;
    let horizon = span("horizon", &native.horizon, STEP_SECONDS, 7 * 86_400)?;
    let change_every_seconds = span("changeEvery", &native.change_every, STEP_SECONDS, 86_400)?;
    let ahead_seconds = span("scaleUpAhead", &native.scale_up_ahead, 0, 3_600)?;
    if !(0.5..=0.999).contains(&native.quantile) {
        return Err(wrong("quantile", "give 0.5 to 0.999"));
    }
    if !(0.0..=1.0).contains(&native.min_correlation) {
        return Err(wrong("minCorrelation", "give 0 to 1"));
    }
    let zone = TimeZone::get(&native.time_zone)
        .map_err(|error| wrong("timeZone", &format!("{error}; give a name such as Europe/Berlin")))?;
    let load = LoadSettings { least_correlation: native.min_correlation, ..LoadSettings::default() };
    let settings = PredictorSettings {
        load,
        quantile: native.quantile,
        horizon: usize::try_from(horizon / STEP_SECONDS).unwrap_or(1),
        change_every_seconds,
        ahead_seconds,
        ..PredictorSettings::default()
    };
    Ok((SignedDuration::from_secs(history), zone, settings))
}

/// A duration as Go writes it, or days.
fn duration(text: &str) -> Option<SignedDuration> {
    match text.strip_suffix('d') {
        Some(days) => Some(SignedDuration::from_hours(24 * i64::from(days.parse::<u16>().ok()?))),
        None => intake::go_duration(text).ok().filter(|span| !span.is_negative()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::kapacity::{Algorithm, HorizontalPortraitSpec, PortraitSpec};
    use serde_json::json;

    fn read(config: &serde_json::Value) -> Result<(SignedDuration, TimeZone, PredictorSettings), String> {
        let algorithm = Algorithm { config: config.as_object().cloned(), ..Algorithm::default() };
        let portrait = PortraitSpec { algorithm, ..PortraitSpec::default() };
        let spec = HorizontalPortraitSpec { portrait, ..HorizontalPortraitSpec::default() };
        settings(&HorizontalPortrait::new("p", spec))
    }

    #[test]
    fn settings_are_read_and_what_is_left_out_is_the_default() {
        let (history, zone, settings) = read(&json!({})).unwrap();
        assert_eq!(zone, TimeZone::UTC);
        assert_eq!((history.as_hours(), settings.horizon, settings.change_every_seconds), (672, 18, 600));
        let (history, zone, settings) =
            read(&json!({"historyLength": "24h", "timeZone": "Europe/Berlin", "scaleUpAhead": "2m"}))
                .unwrap();
        assert_eq!((history.as_hours(), settings.ahead_seconds), (24, 120));
        assert_eq!((zone.iana_name(), settings.load.offset_seconds), (Some("Europe/Berlin"), 0));
    }

    #[test]
    fn settings_that_cannot_be_read_are_named() {
        assert!(read(&json!({"horizont": "3h"})).unwrap_err().contains("horizont"));
        assert!(read(&json!({"horizon": "soon"})).unwrap_err().contains("algorithm.config.horizon"));
        assert!(read(&json!({"quantile": 2})).unwrap_err().contains("quantile"));
        assert!(read(&json!({"timeZone": "Mars"})).unwrap_err().contains("Europe/Berlin"));
        assert!(read(&json!({"changeEvery": "1s"})).unwrap_err().contains("changeEvery"));
    }

    #[test]
    fn the_next_look_is_after_the_step() {
        let now: Timestamp = "2026-01-01T10:07:00Z".parse().unwrap();
        assert_eq!(next(now).unwrap().to_string(), "2026-01-01T10:10:20Z");
    }
}
