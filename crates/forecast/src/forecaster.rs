//! The forecaster of one series: learns from a history, takes points one by one, forecasts, and says what it is worth.
//!
//! Owns the order of things: what is missing, which seasons count, what is learned, how experts are weighed. Each of
//! these is a file of its own. A new point costs microseconds; learning again ([`Forecaster::refit`]) is the caller's
//! to ask for, once a day.

use crate::calendar::{Calendar, DayGrid};
use crate::error::ForecastError;
use crate::features::{Sources, Window};
use crate::learned::{self, Learned, Material, experts};
use crate::score::{EXPERTS, NAIVE, Pending, Track, WATCHED};
use crate::seasons::{self, Season, Seasons};
use crate::trust::{Basis, Record, Trust};
use crate::{gaps, jumps};

/// Most steps of a horizon.
pub const MOST_STEPS: usize = 1_008;
/// Weeks of history that are learned from; one more is looked back to.
const WEEKS: usize = 4;
/// Below this share of the level, errors are not expected to shrink any further with the forecast.
const LEAST_SPREAD: f32 = 0.05;
/// Share of a first history that is held back, so that errors are known before the first forecast.
const HELD_BACK: f64 = 0.3;
/// Days that are held back at most.
const HELD_BACK_DAYS: usize = 5;

/// What a forecaster is told of its series.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seconds from 1970-01-01 to the first value, in the workload's own zone (so that days are its days).
    pub start_seconds: i64,
    /// Seconds between values.
    pub step_seconds: u32,
    /// Steps that a forecast reaches.
    pub horizon: usize,
    pub calendar: Calendar,
}

impl Settings {
    fn checked(&self) -> Result<DayGrid, ForecastError> {
        if !(10..=86_400).contains(&self.step_seconds) || 86_400 % self.step_seconds != 0 {
            return Err(ForecastError::Step { seconds: self.step_seconds });
        }
        if !(1..=MOST_STEPS).contains(&self.horizon) {
            return Err(ForecastError::Horizon { steps: self.horizon, most: MOST_STEPS });
        }
        Ok(DayGrid { start_seconds: self.start_seconds, step_seconds: self.step_seconds })
    }
}

/// What is expected at the steps after the last point.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Number of the last point that was known, counted from the first of the history.
    pub origin: usize,
    /// The expected value of each step, the first of them one step after the origin.
    pub expected: Vec<f32>,
    /// For each asked level the value that is not exceeded with that probability, by step.
    pub quantiles: Vec<Vec<f32>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Forecaster {
    settings: Settings,
    grid: DayGrid,
    steps: Vec<usize>,
    /// Points as they came, not a number where none did; the first is number `base` of the series.
    raw: Vec<f32>,
    base: usize,
    window: Window,
    learned: Vec<Learned>,
    /// What the trees say at the learned steps of the next forecast.
    corrections: Vec<f32>,
    tracks: Vec<Track>,
    found: Vec<Season>,
    jump: Option<usize>,
    zeros_in_a_row: usize,
    missing_in_a_row: usize,
    signed: bool,
}

impl Forecaster {
    /// Learns from a history; values that are not numbers are missing points.
    pub fn new(settings: Settings, history: &[f32]) -> Result<Self, ForecastError> {
        let grid = settings.checked()?;
        if !history.iter().any(|value| value.is_finite()) {
            return Err(ForecastError::NoHistory);
        }
        let day = grid.bins_of_a_day();
        let held_back = ((history.len() as f64 * HELD_BACK) as usize).min(HELD_BACK_DAYS * day);
        let (past, recent) = history.split_at((history.len() - held_back).max(1));
        let steps = learned::steps(settings.horizon);
        let most = most_bins(day);
        let base = past.len().saturating_sub(most);
        let mut forecaster = Self {
            corrections: vec![0.0; steps.len()],
            tracks: steps.iter().map(|step| Track::new(*step)).collect(),
            window: Window::new(0, Seasons { short: day.max(1), long: None }, 1.0, &[]),
            settings,
            grid,
            steps,
            raw: past[base..].to_vec(),
            base,
            learned: Vec::new(),
            found: Vec::new(),
            jump: None,
            zeros_in_a_row: 0,
            missing_in_a_row: 0,
            signed: history.iter().any(|value| *value < 0.0),
        };
        forecaster.refit();
        // The errors of the days that were held back are the first that weights, intervals and trust rest on.
        for point in recent {
            forecaster.push(*point);
        }
        if !recent.is_empty() {
            forecaster.refit();
        }
        Ok(forecaster)
    }

    /// Learns again from what is kept of the history.
    pub fn refit(&mut self) {
        let day = self.grid.bins_of_a_day().max(1);
        let gone = self.raw.len().saturating_sub(most_bins(day));
        self.raw.drain(..gone);
        self.raw.shrink_to_fit();
        self.raw.reserve_exact(day + 2);
        self.base += gone;
        let present = gaps::present(&self.raw, day);
        let clean = gaps::filled(&self.raw, &present, day);
        let jump = jumps::last_jump(&clean, &present, day);
        self.jump = jump.map(|at| at + self.base);
        let usable = &clean[jump.unwrap_or(0)..];
        let scale = usable.iter().map(|value| value.abs()).sum::<f32>() / usable.len().max(1) as f32;
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let (seasons, found) = seasons::find(usable, day);
        self.found = found;
        let base = self.base + jump.unwrap_or(0);
        self.learned = Vec::new();
        for long in [seasons.long, None] {
            let window = Window::new(base, Seasons { long, ..seasons }, scale, usable);
            let material = Material {
                window: &window,
                present: &present,
                base: self.base,
                grid: &self.grid,
                calendar: &self.settings.calendar,
            };
            // Fewer rows than this and weights would follow the noise of a single day.
            let enough = material.rows(self.settings.horizon) >= if long.is_some() { 2 * day } else { day };
            if enough {
                self.learned = material.learn(&self.steps);
            }
            self.window = window;
            if enough {
                break;
            }
        }
        self.window.forget();
        self.window.shrink();
        self.expect();
    }

    /// Takes the next point; one that is not a number is missing.
    pub fn push(&mut self, point: f32) {
        let at = self.window.next();
        self.raw.push(point);
        let present = self.note(point);
        let mut stand_in = None;
        for track in &mut self.tracks {
            let made = track.due(at);
            stand_in = stand_in.or(made.blend.is_finite().then_some(made.blend));
            if present {
                track.score(&made, point, spread(made.blend, self.window.scale()));
            }
        }
        // In an outage level and season stand still: what was expected stands in for what is missing.
        let value = if present { point } else { stand_in.unwrap_or_else(|| self.window.value(at)) };
        self.window.push(value);
        self.window.forget();
        let day = self.grid.bins_of_a_day().max(1);
        if self.raw.len() > most_bins(day) + day {
            let gone = self.raw.len() - most_bins(day);
            self.raw.drain(..gone);
            self.base += gone;
        }
        self.expect();
    }

    /// Whether a point is data; counts zeros and missing points.
    fn note(&mut self, point: f32) -> bool {
        self.zeros_in_a_row = if point == 0.0 { self.zeros_in_a_row + 1 } else { 0 };
        let outage = self.zeros_in_a_row >= gaps::LEAST_ZEROS
            && !gaps::zeros_are_data(
                &self.raw,
                self.raw.len() - 1,
                self.grid.bins_of_a_day().max(1),
                self.window.scale(),
            );
        let present = point.is_finite() && !outage;
        self.missing_in_a_row = if present { 0 } else { self.missing_in_a_row + 1 };
        present
    }

    /// Which experts have a say, from how much history there is.
    fn able(&self) -> [bool; EXPERTS] {
        let seasons = self.window.seasons();
        let length = self.window.next() - self.jump.unwrap_or(0).max(self.base);
        let long = seasons.long.unwrap_or(seasons.short);
        let learned = !self.learned.is_empty();
        [true, length > seasons.short, length > long, length > 2 * long, learned, learned]
    }

    /// Writes down what is forecast now for the learned steps, to be scored when their points come.
    fn expect(&mut self) {
        let Some(origin) = self.window.next().checked_sub(1) else { return };
        let able = self.able();
        let shared = self.window.origin(origin);
        let scale = self.window.scale();
        for (at, step) in self.steps.iter().enumerate() {
            let sources =
                Sources::of(self.window.seasons(), origin, *step, &self.grid, &self.settings.calendar);
            let row = self.window.row(&shared, sources);
            let mut linear = (f32::NAN, f32::NAN);
            if let Some(learned) = self.learned.get(at) {
                linear = learned.linear(&row);
                self.corrections[at] = learned.correction(&row);
                linear.1 += self.corrections[at];
            }
            let experts = experts(&row, linear).map(|share| share * scale);
            let track = &mut self.tracks[at];
            let blend = self_or_zero(weighed(&experts, &track.weights(able), able), self.signed);
            let upper = blend + track.quantile(WATCHED) * spread(blend, scale);
            let upper = if track.count() < crate::score::LEAST_ERRORS { f32::NAN } else { upper };
            track.expect(origin + step, Pending { experts, blend, upper });
        }
    }

    /// Forecasts all steps of the horizon with the asked quantiles (each between 0 and 1).
    pub fn forecast(&self, levels: &[f64]) -> Forecast {
        let origin = self.window.next().saturating_sub(1);
        let able = self.able();
        let scale = self.window.scale();
        let shared = self.window.origin(origin);
        let weights: Vec<[f32; EXPERTS]> = self.tracks.iter().map(|track| track.weights(able)).collect();
        let offsets: Vec<Vec<f32>> = levels
            .iter()
            .map(|level| self.tracks.iter().map(|track| track.quantile(*level)).collect())
            .collect();
        let mut expected = Vec::with_capacity(self.settings.horizon);
        let mut quantiles = vec![Vec::with_capacity(self.settings.horizon); levels.len()];
        let mut upper = 0;
        for step in 1..=self.settings.horizon {
            upper += usize::from(self.steps[upper] < step);
            let lower = if self.steps[upper] == step { upper } else { upper - 1 };
            let gap = (self.steps[upper] - self.steps[lower]).max(1);
            let part = (step - self.steps[lower]) as f32 / gap as f32;
            let between = |a: f32, b: f32| a + (b - a) * part;
            let sources =
                Sources::of(self.window.seasons(), origin, step, &self.grid, &self.settings.calendar);
            let row = self.window.row(&shared, sources);
            let mut linear = (f32::NAN, f32::NAN);
            if let (Some(a), Some(b)) = (self.learned.get(lower), self.learned.get(upper)) {
                let (one, two) = (a.linear(&row), b.linear(&row));
                let (first, second) = (self.corrections[lower], self.corrections[upper]);
                linear = (between(one.0, two.0), between(one.1 + first, two.1 + second));
            }
            let shares = experts(&row, linear);
            let weights: [f32; EXPERTS] =
                std::array::from_fn(|at| between(weights[lower][at], weights[upper][at]));
            let value = self_or_zero(weighed(&shares, &weights, able) * scale, self.signed);
            let unit = spread(value, scale);
            expected.push(value);
            for (offsets, quantiles) in offsets.iter().zip(&mut quantiles) {
                let offset = between(offsets[lower], offsets[upper]);
                quantiles.push(self_or_zero(value + offset * unit, self.signed));
            }
        }
        Forecast { origin, expected, quantiles }
    }

    /// Whether the forecast may be acted on, and why not.
    pub fn trust(&self) -> Trust {
        let hour = self.steps.iter().position(|step| *step >= 6).unwrap_or(self.steps.len() - 1);
        let track = &self.tracks[hour];
        Trust::of(&Record {
            basis: self.basis(),
            errors: track.count(),
            missing_in_a_row: self.missing_in_a_row,
            lately: track.lately.mean,
            naive: track.lately_naive[0].mean.min(track.lately_naive[1].mean),
            ever: track.ever.mean,
            covered: track.covered.mean,
        })
    }

    /// What forecasts rest on.
    pub fn basis(&self) -> Basis {
        let hour = self.steps.iter().position(|step| *step >= 6).unwrap_or(self.steps.len() - 1);
        let weights = self.tracks[hour].weights(self.able());
        let most =
            (0..EXPERTS).max_by(|a, b| weights[*a].total_cmp(&weights[*b]).then(b.cmp(a))).unwrap_or(0);
        let weekly = self.window.seasons().long.is_some();
        if weights[NAIVE] + weights[NAIVE + 1] >= 0.5 {
            return if weekly { Basis::LearnedWeek } else { Basis::LearnedDay };
        }
        match most {
            0 => Basis::LastValue,
            1 => Basis::SeasonAgo,
            2 => Basis::LongSeasonAgo,
            3 => Basis::Profile,
            _ if weekly => Basis::LearnedWeek,
            _ => Basis::LearnedDay,
        }
    }

    /// Seasons that were found, strongest first.
    pub fn seasons(&self) -> &[Season] {
        &self.found
    }

    /// Number of the point at which the clock of the series jumped, if it did: nothing older is learned from.
    pub fn clock_jump(&self) -> Option<usize> {
        self.jump
    }

    /// Number of the next point, counted from the first of the history.
    pub fn next_point(&self) -> usize {
        self.window.next()
    }

    /// The mean absolute error of forecasts an hour ahead over the last days, in the units of the series.
    pub fn recent_error(&self) -> f32 {
        let hour = self.steps.iter().position(|step| *step >= 6).unwrap_or(self.steps.len() - 1);
        self.tracks[hour].ever.mean
    }

    /// Memory that is held between calls.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + 4 * self.raw.capacity()
            + self.window.bytes()
            + self.learned.iter().map(Learned::bytes).sum::<usize>()
            + self.tracks.iter().map(Track::bytes).sum::<usize>()
    }
}

fn most_bins(day: usize) -> usize {
    (WEEKS + 1) * 7 * day + 2 * day + 16
}

/// The unit of errors. They grow with what is forecast, faster than those of counts (its root) and slower than those of
/// shares (itself): to the power of three quarters.
fn spread(forecast: f32, scale: f32) -> f32 {
    let root = (forecast / scale).max(LEAST_SPREAD).sqrt();
    root * root.sqrt() * scale
}

fn self_or_zero(value: f32, signed: bool) -> f32 {
    if signed { value } else { value.max(0.0) }
}

fn weighed(values: &[f32; EXPERTS], weights: &[f32; EXPERTS], able: [bool; EXPERTS]) -> f32 {
    (0..EXPERTS).filter(|at| able[*at]).map(|at| values[at] * weights[at]).sum()
}
