//! Learning from a history: rows of features for some steps, and what each of those steps answers.
//!
//! Owns which rows are learned from and how much each counts. Steps between those that are learned are interpolated by
//! `forecaster`.

use crate::boost::{self, Trees};
use crate::calendar::{Calendar, DayGrid};
use crate::features::{Origin, Row, Sources, Window, naive};
use crate::ridge::{self, Rows, dot};

/// Rows that one step is learned from at most; older and newer ones are thinned out alike.
const MOST_ROWS: usize = 4_100;
/// What a row counts less for each day of age.
const FADING_A_DAY: f32 = 0.97;

/// Steps that are learned; forecasts of those between are interpolated.
const LEARNED_STEPS: [usize; 10] = [1, 2, 3, 6, 12, 24, 48, 72, 108, 144];

/// The learned steps up to a horizon, the horizon always among them.
pub(crate) fn steps(horizon: usize) -> Vec<usize> {
    let mut steps: Vec<usize> = LEARNED_STEPS.into_iter().filter(|step| *step < horizon).collect();
    steps.push(horizon);
    steps
}

/// What one step has learned.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    squared: Row,
    absolute: Row,
    trees: Trees,
}

impl Learned {
    /// The linear answers; `correction` belongs to the second of them.
    pub(crate) fn linear(&self, row: &Row) -> (f32, f32) {
        (dot(row, &self.squared), dot(row, &self.absolute))
    }

    pub(crate) fn correction(&self, row: &Row) -> f32 {
        self.trees.correction(row)
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.trees.bytes()
    }
}

/// What learning looks at.
pub(crate) struct Material<'a> {
    pub(crate) window: &'a Window,
    /// Whether the value at an index of the series was there.
    pub(crate) present: &'a [bool],
    /// Index of the first entry of `present`.
    pub(crate) base: usize,
    pub(crate) grid: &'a DayGrid,
    pub(crate) calendar: &'a Calendar,
}

impl Material<'_> {
    /// How many rows the furthest step can be learned from.
    pub(crate) fn rows(&self, horizon: usize) -> usize {
        self.window.next().saturating_sub(self.window.first_origin() + horizon)
    }

    /// Learns all steps.
    pub(crate) fn learn(&self, steps: &[usize]) -> Vec<Learned> {
        let last = self.window.next().saturating_sub(1);
        let first = self.window.first_origin();
        let stride = (last.saturating_sub(first) / MOST_ROWS).max(1);
        let origins: Vec<usize> = (first..last).rev().step_by(stride).filter(|at| self.there(*at)).collect();
        let shared: Vec<Origin> = origins.iter().map(|origin| self.window.origin(*origin)).collect();
        let a_bin = FADING_A_DAY.powf(1.0 / self.grid.bins_of_a_day().max(1) as f32);
        steps
            .iter()
            .map(|step| {
                let mut rows = Rows::default();
                for (origin, shared) in origins.iter().zip(&shared) {
                    let target = origin + step;
                    if target > last || !self.there(target) {
                        continue;
                    }
                    let sources =
                        Sources::of(self.window.seasons(), *origin, *step, self.grid, self.calendar);
                    rows.features.push(self.window.row(shared, sources));
                    rows.targets.push(self.window.value(target) / self.window.scale());
                    rows.weights.push(a_bin.powi((last - target) as i32));
                }
                one_step(&rows)
            })
            .collect()
    }

    fn there(&self, at: usize) -> bool {
        at.checked_sub(self.base).and_then(|at| self.present.get(at)).copied().unwrap_or(false)
    }
}

fn one_step(rows: &Rows) -> Learned {
    let fitted = ridge::fit(rows);
    let errors = rows
        .features
        .iter()
        .zip(&rows.targets)
        .map(|(row, target)| target - dot(row, &fitted.absolute))
        .collect();
    let trees = boost::learn(&rows.features, errors);
    Learned { squared: fitted.squared, absolute: fitted.absolute, trees }
}

/// The forecasts of all experts for a row, as shares of the level, given what was learned: linear answers with and
/// without the trees' correction. Not numbers where nothing was learned.
pub(crate) fn experts(row: &Row, linear: (f32, f32)) -> [f32; crate::score::EXPERTS] {
    let [last, short, long, profile] = naive(row);
    [last, short, long, profile, linear.0, linear.1]
}
