//! Replicas ahead of time: forecasts of traffic, and what of it a pod can take, made one plan.
//!
//! Owns the order of things: what is learned when, when a plan may be relied on, and what it says. A [`Predictor`] takes
//! minutes as they come and learns again once a day; it knows neither Kubernetes nor the time.

use crate::calendar::Calendar;
use crate::error::NotPredictable;
use crate::forecaster::{Forecaster, MOST_STEPS, Settings};
use crate::load::{Enough, Load, LoadSettings, Observed, Quality};
use crate::schedule::{ahead_of_time, resampled};
use crate::series::{Kind, Series};
use crate::trust::Trust;

/// Errors of a forecast of little history, as a share of the level, up to which it is relied on.
const SMALL_ERROR: f32 = 0.3;
/// Times that are kept to learn again how use follows traffic: two weeks of minutes.
const KEPT: usize = 20_160;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct PredictorSettings {
    pub load: LoadSettings,
    /// What a pod shall use at most.
    pub target: f64,
    /// The quantile of traffic that replicas are for.
    pub quantile: f64,
    /// Seconds between forecast values.
    pub step_seconds: u32,
    /// Steps that a plan reaches.
    pub horizon: usize,
    /// The plan changes at most so often.
    pub change_every_seconds: i64,
    /// More replicas are there so much before they are due.
    pub ahead_seconds: i64,
    pub most_replicas: usize,
    pub calendar: Calendar,
}

impl Default for PredictorSettings {
    fn default() -> Self {
        Self {
            load: LoadSettings::default(),
            target: 1.0,
            quantile: 0.9,
            step_seconds: 600,
            horizon: 18,
            change_every_seconds: 600,
            ahead_seconds: 0,
            most_replicas: 10_000,
            calendar: Calendar::default(),
        }
    }
}

/// Replicas from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub seconds: i64,
    pub replicas: usize,
}

/// A plan, and what it is worth.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// In the order of time; each holds until the next.
    pub points: Vec<Planned>,
    /// From then on the plan says nothing.
    pub expires_seconds: i64,
    /// What the forecast of each traffic metric that counts rests on, by its place among the metrics.
    pub models: Vec<(usize, &'static str)>,
    /// Mean error of forecasts an hour ahead over the last days, as a share of the level: the worst of the metrics.
    pub traffic_error: f32,
    pub trust: Trust,
    pub quality: Quality,
    /// Traffic at the first step: what is expected, and the quantile that replicas are for, summed over the metrics.
    pub next: (f64, f64),
}

/// One traffic metric that counts.
#[derive(Clone, Debug)]
struct Traffic {
    metric: usize,
    forecaster: Forecaster,
    /// Mean of what came lately, which errors are held against.
    level: f32,
    /// Start of the first value of the forecaster.
    start_seconds: i64,
    /// Sum and count of the step that is not whole yet.
    part: (f64, u32),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Predictor {
    settings: PredictorSettings,
    load: Load,
    traffic: Vec<Traffic>,
    history: Vec<Observed>,
    /// Start of the step that is not whole yet.
    open_seconds: i64,
    steps_since_refit: u32,
}

impl PredictorSettings {
    fn check(&self) -> Result<(), NotPredictable> {
        let wrong = |field, value, allowed| Err(NotPredictable::Setting { field, value, allowed });
        if !(self.target.is_finite() && self.target > 0.0) {
            return wrong("a target", self.target, "more than 0");
        }
        if !(0.5..1.0).contains(&self.quantile) {
            return wrong("a quantile", self.quantile, "0.5 to 0.999");
        }
        if !(1..=MOST_STEPS).contains(&self.horizon) {
            return wrong("a horizon", self.horizon as f64, "1 to 1008 steps");
        }
        if !(60..=86_400).contains(&self.change_every_seconds) {
            return wrong("time between changes", self.change_every_seconds as f64, "60 s to 1 d");
        }
        Ok(())
    }
}

impl Predictor {
    /// Learns from minutes in the order of time.
    pub fn learn(settings: PredictorSettings, history: &[Observed]) -> Result<Self, NotPredictable> {
        settings.check()?;
        // What lies before the first value of anything says nothing.
        let told = |row: &Observed| {
            row.used.is_finite()
                || row.ready_replicas.is_finite()
                || row.traffic.iter().any(|v| v.is_finite())
        };
        let history = &history[history.iter().position(told).unwrap_or(history.len())..];
        let load = Load::learn(history, &settings.load)?;
        let mut traffic = Vec::new();
        for (metric, _) in load.counts().into_iter().enumerate().filter(|(_, counts)| *counts) {
            let of = |source| NotPredictable::Traffic { metric, source };
            let samples: Vec<(i64, f64)> =
                history.iter().map(|row| (row.seconds, row.traffic[metric])).collect();
            let series = Series::of(&samples, settings.step_seconds, Kind::Gauge).map_err(of)?;
            let about = Settings {
                start_seconds: series.start_seconds + settings.load.offset_seconds,
                step_seconds: settings.step_seconds,
                horizon: settings.horizon,
                calendar: settings.calendar.clone(),
            };
            let forecaster = Forecaster::new(about, &series.values).map_err(of)?;
            let start_seconds = series.start_seconds;
            let level = mean(&series.values);
            traffic.push(Traffic { metric, forecaster, level, start_seconds, part: (0.0, 0) });
        }
        let step = i64::from(settings.step_seconds);
        let open_seconds = traffic
            .iter()
            .map(|one| one.start_seconds + one.forecaster.next_point() as i64 * step)
            .max()
            .unwrap_or(0);
        let history = history[history.len().saturating_sub(KEPT)..].to_vec();
        let mut predictor =
            Self { settings, load, traffic, history: Vec::new(), open_seconds, steps_since_refit: 0 };
        // Minutes of the step that is not whole yet belong to it.
        for row in history.iter().filter(|row| row.seconds >= open_seconds) {
            predictor.note(row);
        }
        predictor.history = history;
        Ok(predictor)
    }

    /// Takes the next minute. Forecasts follow at once; what is learned of pods, once a day.
    pub fn push(&mut self, row: Observed) {
        if self.history.last().is_some_and(|last| row.seconds <= last.seconds) {
            return;
        }
        self.note(&row);
        if self.history.len() >= KEPT + KEPT / 10 {
            self.history.drain(..KEPT / 10);
        }
        self.history.push(row);
    }

    /// The last time that is known.
    pub fn known_seconds(&self) -> i64 {
        self.history.last().map_or(i64::MIN, |row| row.seconds)
    }

    fn note(&mut self, row: &Observed) {
        let step = i64::from(self.settings.step_seconds);
        // A gap is filled with steps that hold nothing, but not without end: after a month nothing is known any more.
        let mut turns = 0;
        while row.seconds >= self.open_seconds + step && turns < MOST_STEPS {
            self.close();
            turns += 1;
        }
        for one in &mut self.traffic {
            let value = row.traffic.get(one.metric).copied().unwrap_or(f64::NAN);
            if value.is_finite() {
                one.part = (one.part.0 + value, one.part.1 + 1);
            }
        }
    }

    fn close(&mut self) {
        for one in &mut self.traffic {
            let (sum, count) = std::mem::take(&mut one.part);
            let value = if count == 0 { f32::NAN } else { (sum / f64::from(count)) as f32 };
            one.forecaster.push(value);
            if value.is_finite() {
                one.level += (value - one.level) / 144.0;
            }
        }
        self.open_seconds += i64::from(self.settings.step_seconds);
        self.steps_since_refit += 1;
        if i64::from(self.steps_since_refit) * i64::from(self.settings.step_seconds) >= 86_400 {
            self.steps_since_refit = 0;
            for one in &mut self.traffic {
                one.forecaster.refit();
            }
            // What can no longer be learned leaves what was; its errors show in the trust of whoever reads them.
            if let Ok(load) = Load::learn(&self.history, &self.settings.load)
                && load.counts() == self.load.counts()
            {
                self.load = load;
            }
        }
    }

    /// The plan from the step that is not whole yet on.
    pub fn ahead(&self) -> Result<Ahead, NotPredictable> {
        let mut worst = Trust::Trusted;
        let mut traffic_error = 0.0f32;
        for one in &self.traffic {
            let error = one.forecaster.recent_error() / one.level.max(1e-9);
            let trust = one.forecaster.trust();
            let small = matches!(trust, Trust::ShortHistory { .. } | Trust::NoBetterThanNaive { .. })
                && error <= SMALL_ERROR;
            if !trust.is_trusted() && !small {
                return Err(NotPredictable::NotTrusted { metric: one.metric, why: trust.to_string() });
            }
            if worst.is_trusted() {
                worst = trust;
            }
            traffic_error = traffic_error.max(error);
        }
        let forecasts: Vec<_> =
            self.traffic.iter().map(|one| one.forecaster.forecast(&[self.settings.quantile])).collect();
        let metrics = self.load.counts().len();
        let step = i64::from(self.settings.step_seconds);
        let mut points = Vec::with_capacity(self.settings.horizon);
        for at in 0..self.settings.horizon {
            let seconds = self.open_seconds + at as i64 * step;
            let mut traffic = vec![0.0; metrics];
            for (one, forecast) in self.traffic.iter().zip(&forecasts) {
                let upper = forecast.quantiles[0][at].max(forecast.expected[at]);
                traffic[one.metric] = f64::from(upper);
            }
            let (target, most) = (self.settings.target, self.settings.most_replicas);
            let replicas = match self.load.enough(seconds, &traffic, target, most) {
                Enough::Replicas(replicas) => replicas,
                Enough::TooFew { most, .. } => most,
                Enough::Never { idle } => return Err(NotPredictable::Unreachable { target, idle }),
            };
            points.push((seconds, replicas));
        }
        let points = resampled(&points, self.settings.change_every_seconds);
        let points = ahead_of_time(&points, self.settings.ahead_seconds);
        let last = points.last().map_or(self.open_seconds, |(seconds, _)| *seconds);
        let sum = |of: &dyn Fn(&crate::forecaster::Forecast) -> f32| {
            forecasts.iter().map(|forecast| f64::from(of(forecast))).sum::<f64>()
        };
        Ok(Ahead {
            next: (sum(&|forecast| forecast.expected[0]), sum(&|forecast| forecast.quantiles[0][0])),
            points: points.into_iter().map(|(seconds, replicas)| Planned { seconds, replicas }).collect(),
            expires_seconds: last + self.settings.change_every_seconds,
            models: self.traffic.iter().map(|one| (one.metric, one.forecaster.basis().name())).collect(),
            traffic_error,
            trust: worst,
            quality: self.load.quality(),
        })
    }

    /// Memory that is held between calls.
    pub fn bytes(&self) -> usize {
        let forecasters: usize = self.traffic.iter().map(|one| one.forecaster.bytes()).sum();
        let row = size_of::<Observed>() + 8 * self.load.counts().len();
        size_of::<Self>() + forecasters + row * self.history.capacity()
    }
}

fn mean(values: &[f32]) -> f32 {
    let there: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    there.iter().sum::<f32>() / there.len().max(1) as f32
}
