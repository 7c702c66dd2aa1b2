//! How high the next minutes may come: the value that is exceeded only in a stated share of all minutes.
//!
//! A [`Peaks`] follows one series minute by minute beside the [`Forecaster`](crate::Forecaster) of its daily shape. It
//! expects from the last minutes, from how they lie to yesterday and last week, and from what such minutes led to; how
//! far the value may lie above is read off the largest errors of four weeks, in units of how restless the series is
//! now. So a quiet hour needs little headroom, and a series with rare bursts gets it from the bursts it has had. A
//! point costs about a microsecond; nothing is ever learned again from the start.

use crate::error::ForecastError;
use crate::recursive::{Recursive, Row};
use crate::tail::{Tail, Waiting};
use std::collections::VecDeque;

/// Points of one bin of the memory of days.
const BIN: usize = 10;
/// Points of a day and of a week.
const DAY: usize = 1_440;
const WEEK: usize = 7 * DAY;
/// Bins that are kept: eight days.
const BINS: usize = 8 * DAY / BIN;
/// Furthest step.
const MOST_STEPS: usize = 120;
/// How fast the means follow: the last 3, 10, 30, 120 and 720 points.
const FOLLOW: [f64; 5] = [1.0 / 3.0, 1.0 / 10.0, 1.0 / 30.0, 1.0 / 120.0, 1.0 / 720.0];
/// Restlessness is seen over the last 20, 120 and 1440 points, each with its share.
const RESTLESS: [(f64, f64); 3] = [(1.0 / 20.0, 0.2), (1.0 / 120.0, 0.4), (1.0 / 1440.0, 0.4)];
/// An error counts as this many usual ones at most: a single burst must not make the whole day look restless.
const MOST_RESTLESS: f64 = 5.0;
/// The same for what the regression learns from.
const MOST_LEARNED: f64 = 4.0;
/// Errors until answers are worth something.
const LEAST_ERRORS: usize = 240;
/// Level under which errors no longer shrink with it.
const LEAST_LEVEL: f64 = 0.05;
/// How fast the better of two ways to scale errors is found.
const CHOOSE: f64 = 1.0 / 5_000.0;

/// One way to scale errors: they do not grow with the level (of the root of the value), or in step with it.
#[derive(Clone, Debug)]
struct Spread {
    grows: bool,
    squares: [f64; 3],
    /// Mean misfit of the scale, in the manner of a log-likelihood: the least is the best.
    misfit: f64,
    tail: Tail,
}

impl Spread {
    fn new(grows: bool) -> Self {
        Self { grows, squares: [0.05; 3], misfit: 0.0, tail: Tail::new() }
    }

    fn unit(&self, expected: f64) -> f64 {
        if self.grows { expected.max(LEAST_LEVEL) } else { 1.0 }
    }

    /// The usual error at what is expected.
    fn usual(&self, expected: f64) -> f64 {
        let sum: f64 = RESTLESS.iter().zip(self.squares).map(|((_, share), square)| share * square).sum();
        sum.sqrt().max(1e-4) * self.unit(expected)
    }

    fn score(&mut self, expected: f64, usual: f64, error: f64) {
        let far = error / usual;
        self.tail.add(far);
        self.misfit += CHOOSE * (usual.ln() + far.abs() - self.misfit);
        let counted = error.abs().min(MOST_RESTLESS * usual) / self.unit(expected);
        for ((follow, _), square) in RESTLESS.iter().zip(&mut self.squares) {
            *square += follow * (counted * counted - *square);
        }
    }
}

/// What was expected of a point that has not come yet.
#[derive(Clone, Debug)]
struct Expected {
    row: Row,
    value: f64,
    usual: [f64; 2],
}

/// The record of one step ahead.
#[derive(Clone, Debug)]
struct Reach {
    step: usize,
    learner: Recursive,
    waiting: Waiting<Expected>,
    spreads: [Spread; 2],
    value: f64,
    usual: [f64; 2],
}

impl Reach {
    fn new(step: usize) -> Self {
        Self {
            step,
            learner: Recursive::new(),
            waiting: Waiting::new(step),
            spreads: [Spread::new(false), Spread::new(true)],
            value: 0.0,
            usual: [1.0; 2],
        }
    }

    fn came(&mut self, value: Option<f64>) {
        let Some(made) = self.waiting.due() else { return };
        let Some(value) = value else { return };
        let error = value - made.value;
        for (spread, usual) in self.spreads.iter_mut().zip(made.usual) {
            spread.score(made.value, usual, error);
        }
        let most = MOST_LEARNED * made.usual[0];
        self.learner.learn(&made.row, error.clamp(-most, most));
    }

    fn expect(&mut self, row: Row) {
        self.value = self.learner.answer(&row);
        self.usual = std::array::from_fn(|at| self.spreads[at].usual(self.value));
        self.waiting.expect(Expected { row, value: self.value, usual: self.usual });
    }

    fn exceeded_in(&self, share: f64) -> f64 {
        let best = usize::from(self.spreads[1].misfit < self.spreads[0].misfit);
        self.value + self.usual[best] * self.spreads[best].tail.exceeded_in(share)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Peaks {
    /// Values are seen as roots of shares of this, so that counts are about equally restless at every level.
    scale: f64,
    reaches: Vec<Reach>,
    last: VecDeque<f64>,
    means: [f64; FOLLOW.len()],
    /// Means of ten points each; the first is bin number `first_bin`.
    bins: VecDeque<f64>,
    first_bin: usize,
    part: (f64, usize),
    points: usize,
    missing_in_a_row: usize,
}

impl Peaks {
    /// `scale` is a usual value of the series, as a unit; `steps` are how far ahead it will be asked, in minutes.
    pub fn new(scale: f64, steps: &[usize]) -> Result<Self, ForecastError> {
        if let Some(step) = steps.iter().find(|step| !(1..=MOST_STEPS).contains(*step)) {
            return Err(ForecastError::Horizon { steps: *step, most: MOST_STEPS });
        }
        Ok(Self {
            scale: if scale.is_finite() && scale > 0.0 { scale } else { 1.0 },
            reaches: steps.iter().map(|step| Reach::new(*step)).collect(),
            last: VecDeque::with_capacity(4),
            means: [0.0; FOLLOW.len()],
            bins: VecDeque::with_capacity(BINS + 1),
            first_bin: 0,
            part: (0.0, 0),
            points: 0,
            missing_in_a_row: 0,
        })
    }

    /// Takes the next minute's value; one that is not a number is missing, and what was expected stands in for it.
    pub fn push(&mut self, value: f64) {
        let came = value.is_finite().then(|| (value.max(0.0) / self.scale).sqrt());
        self.missing_in_a_row = if came.is_some() { 0 } else { self.missing_in_a_row + 1 };
        for reach in &mut self.reaches {
            reach.came(came);
        }
        let value = came.unwrap_or_else(|| self.means[2]);
        for (mean, follow) in self.means.iter_mut().zip(FOLLOW) {
            *mean = if self.points == 0 { value } else { *mean + follow * (value - *mean) };
        }
        self.last.push_front(value);
        self.last.truncate(3);
        self.part = (self.part.0 + value, self.part.1 + 1);
        if self.part.1 == BIN {
            self.bins.push_back(self.part.0 / BIN as f64);
            self.part = (0.0, 0);
            if self.bins.len() > BINS {
                self.bins.pop_front();
                self.first_bin += 1;
            }
        }
        self.points += 1;
        for at in 0..self.reaches.len() {
            let row = self.row(self.reaches[at].step);
            self.reaches[at].expect(row);
        }
    }

    /// What is expected at the `at`th of the steps.
    pub fn expected(&self, at: usize) -> f64 {
        self.reaches.get(at).map_or(0.0, |reach| self.value_of(reach.value))
    }

    /// The value that is exceeded at the `at`th of the steps in a share of all minutes only.
    pub fn exceeded_in(&self, share: f64, at: usize) -> f64 {
        self.reaches.get(at).map_or(0.0, |reach| self.value_of(reach.exceeded_in(share)))
    }

    /// Whether enough minutes have come, and none is missing just now: otherwise nothing should be built on it.
    pub fn is_ready(&self) -> bool {
        let known = |reach: &Reach| reach.spreads[0].tail.count() >= LEAST_ERRORS;
        self.missing_in_a_row < 3 && self.reaches.iter().all(known)
    }

    /// Memory that is held between calls.
    pub fn bytes(&self) -> usize {
        let tails: usize = self.reaches.iter().flat_map(|reach| &reach.spreads).map(|s| s.tail.bytes()).sum();
        let waiting: usize = self.reaches.iter().map(|reach| (reach.step + 1) * size_of::<Expected>()).sum();
        size_of::<Self>()
            + self.reaches.capacity() * size_of::<Reach>()
            + tails
            + waiting
            + 8 * self.bins.capacity()
    }

    fn value_of(&self, root: f64) -> f64 {
        root.max(0.0) * root.max(0.0) * self.scale
    }

    /// The level around a minute so far back, smoothed over half an hour; the level of now where that is unknown.
    fn back(&self, back: usize, minute: usize) -> f64 {
        let Some(minute) = minute.checked_sub(back + BIN) else { return self.means[3] };
        let place = minute as f64 / BIN as f64 + 0.5;
        let bin = place as usize;
        let part = place - bin as f64;
        let around = |bin: usize| {
            let low = (bin.saturating_sub(1)).checked_sub(self.first_bin);
            let high = (bin + 2).saturating_sub(self.first_bin).min(self.bins.len());
            low.filter(|low| *low < high)
                .map(|low| self.bins.range(low..high).sum::<f64>() / (high - low) as f64)
        };
        match (around(bin), around(bin + 1)) {
            (Some(one), Some(two)) => one + (two - one) * part,
            (Some(one), None) => one,
            _ => self.means[3],
        }
    }

    fn row(&self, step: usize) -> Row {
        let now = self.points - 1;
        let level = self.means[1];
        let last = |at: usize| self.last.get(at).copied().unwrap_or(level) - level;
        let [fast, _, slow, slower, slowest] = self.means;
        let yesterday = self.back(DAY, now);
        let last_week = self.back(WEEK, now);
        [
            1.0,
            level,
            last(0),
            last(1),
            last(2),
            fast - level,
            slow - level,
            slower - level,
            slowest - level,
            self.back(DAY, now + step) - yesterday,
            self.back(WEEK, now + step) - last_week,
            yesterday - level,
            last_week - level,
            // Clocks start jobs on the hour.
            f64::from(u8::from((now + step).is_multiple_of(60))),
        ]
    }
}
