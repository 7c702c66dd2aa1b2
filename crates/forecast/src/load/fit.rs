//! A line of shares none of which is negative, fitted so that what has nothing to do with traffic does not bend it.
//!
//! Owns the rows, the fit and how good it turned out.

use super::curve::Curve;
use super::{MOST_MISSING, MOST_ROWS, Observed, Quality, Use, WORTH, hour_of};
use crate::error::NotLearnable;
use crate::ridge::median;

pub(super) const HOURS: usize = 24;
/// Rounds of re-weighting that let outliers count less.
const ROUNDS: usize = 4;
/// Sweeps over all shares; each share is the best given the others.
const SWEEPS: usize = 400;
/// Penalty on what is explained by the hour, as a share of its rows: what traffic can explain, it shall.
const HOUR_PENALTY: f64 = 0.003;
/// Errors of more than this many usual ones count less.
const OUTLIER: f64 = 2.5;
/// Most of the history that is tried on.
const MOST_TRIED: f64 = 0.3;

/// Use of a pod as a sum of shares.
#[derive(Clone, Debug)]
pub(super) struct Line {
    idle: f64,
    /// For each traffic metric, what one unit a replica adds.
    pub(super) traffic: Vec<f64>,
    /// For each hour, what comes to all replicas together.
    hours: Vec<f64>,
}

impl Line {
    pub(super) fn used(&self, traffic: &[f64], replicas: f64, hour: usize) -> f64 {
        let shared: f64 = self.traffic.iter().zip(traffic).map(|(share, value)| share * value.max(0.0)).sum();
        self.idle + (shared + self.hours.get(hour).copied().unwrap_or(0.0)) / replicas
    }

    pub(super) fn follows_traffic(&self) -> bool {
        self.traffic.iter().any(|share| *share > 0.0)
    }
}

#[derive(Clone, Debug)]
struct Row {
    seconds: i64,
    used: f64,
    replicas: f64,
    traffic: Vec<f64>,
    hour: usize,
}

/// What can be learned from.
pub(super) struct Rows {
    rows: Vec<Row>,
    /// Which traffic metrics are there often enough and ever more than nothing.
    kept: Vec<bool>,
}

impl Rows {
    pub(super) fn of(history: &[Observed], what: Use, offset_seconds: i64) -> Result<Self, NotLearnable> {
        if history.is_empty() {
            return Err(NotLearnable::NoHistory);
        }
        let columns = history.iter().map(|row| row.traffic.len()).max().unwrap_or(0);
        let kept: Vec<bool> = (0..columns)
            .map(|column| {
                let value = |row: &Observed| row.traffic.get(column).copied().unwrap_or(f64::NAN);
                let missing = history.iter().filter(|row| !value(row).is_finite()).count() as f64;
                missing <= MOST_MISSING * history.len() as f64 && history.iter().any(|row| value(row) > 0.0)
            })
            .collect();
        if !kept.contains(&true) {
            return Err(NotLearnable::NoTraffic);
        }
        let every = history.len().div_ceil(MOST_ROWS).max(1);
        let rows: Vec<Row> = history
            .iter()
            .step_by(every)
            .filter_map(|row| {
                let whole = kept.iter().zip(&row.traffic).all(|(kept, value)| !kept || value.is_finite());
                let there =
                    row.used.is_finite() && row.ready_replicas.is_finite() && row.ready_replicas >= 1.0;
                (whole && there && row.traffic.len() == columns).then(|| Row {
                    seconds: row.seconds,
                    used: if what == Use::Total { row.used / row.ready_replicas } else { row.used },
                    replicas: row.ready_replicas,
                    traffic: row.traffic.clone(),
                    hour: hour_of(row.seconds, offset_seconds),
                })
            })
            .collect();
        if rows.is_empty() {
            return Err(NotLearnable::NoReplicas);
        }
        Ok(Self { rows, kept })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The part to learn from and the part to try on, which is the end.
    pub(super) fn split(&self, test_seconds: i64) -> (Self, Self) {
        let last = self.rows.last().map_or(0, |row| row.seconds);
        let wanted = self.rows.partition_point(|row| row.seconds < last - test_seconds);
        let at = wanted.max(((1.0 - MOST_TRIED) * self.rows.len() as f64) as usize).min(self.rows.len() - 1);
        let part = |rows: &[Row]| Self { rows: rows.to_vec(), kept: self.kept.clone() };
        (part(&self.rows[..at]), part(&self.rows[at..]))
    }

    /// The numbers that shares are multiplied with.
    fn features(&self, row: &Row, by_hour: bool) -> Vec<f64> {
        let mut features = vec![1.0];
        features.extend(
            self.kept
                .iter()
                .zip(&row.traffic)
                .map(|(kept, v)| if *kept { v.max(0.0) / row.replicas } else { 0.0 }),
        );
        if by_hour {
            features.extend((0..HOURS).map(|hour| f64::from(u8::from(hour == row.hour)) / row.replicas));
        }
        features
    }

    /// The line with the least weighed squares, re-weighed so that outliers count less.
    pub(super) fn line(&self, by_hour: bool) -> Line {
        let features: Vec<Vec<f64>> = self.rows.iter().map(|row| self.features(row, by_hour)).collect();
        let width = features.first().map_or(1, Vec::len);
        let columns = self.kept.len();
        let mut weights = vec![1.0; self.rows.len()];
        let mut shares = vec![0.0; width];
        for _ in 0..ROUNDS {
            shares = solved(&features, &self.rows, &weights, width, 1 + columns);
            let errors: Vec<f32> = features
                .iter()
                .zip(&self.rows)
                .map(|(row, came)| (came.used - sum(row, &shares)).abs() as f32)
                .collect();
            let usual = f64::from(median(errors.clone())).max(1e-12);
            for (weight, error) in weights.iter_mut().zip(&errors) {
                *weight = (OUTLIER * usual / f64::from(*error).max(1e-12)).min(1.0).powi(2);
            }
        }
        let hours = if by_hour { shares[1 + columns..].to_vec() } else { Vec::new() };
        Line { idle: shares[0], traffic: shares[1..=columns].to_vec(), hours }
    }

    /// The plainest explanation that none is much better than: whether it knows hours, its line, whether that is bent.
    pub(super) fn explained(&self, tried: &Self) -> (bool, Line, bool) {
        let plain = self.line(false);
        let mut least = tried.quality(&plain, None).error;
        let mut best = (false, plain, false);
        for (by_hour, bent) in [(false, true), (true, false), (true, true)] {
            let line = self.line(by_hour);
            let curve = if bent { self.curve(&line) } else { None };
            let error = tried.quality(&line, curve.as_ref()).error;
            if error < WORTH * least {
                least = error;
                best = (by_hour, line, curve.is_some());
            }
        }
        best
    }

    fn answers(&self, line: &Line, curve: Option<&Curve>) -> Vec<(f64, f64)> {
        self.rows
            .iter()
            .map(|row| {
                let used = line.used(&row.traffic, row.replicas, row.hour);
                (row.used, curve.map_or(used, |curve| curve.at(used)))
            })
            .collect()
    }

    pub(super) fn quality(&self, line: &Line, curve: Option<&Curve>) -> Quality {
        let answers = self.answers(line, curve);
        let whole: f64 = answers.iter().map(|(came, _)| came.abs()).sum();
        let errors: f64 = answers.iter().map(|(came, answer)| (came - answer).abs()).sum();
        let error = if whole > 0.0 { errors / whole } else { 1.0 };
        Quality { correlation: correlation(&answers), error, by_hour: false, rows: answers.len() }
    }

    /// Share of rows whose use is met within a share of it.
    pub(super) fn met(&self, line: &Line, within: f64) -> f64 {
        let answers = self.answers(line, None);
        answers.iter().filter(|pair| is_met(pair, within)).count() as f64 / answers.len().max(1) as f64
    }

    pub(super) fn correlation_of_met(&self, line: &Line, within: f64) -> f64 {
        let met: Vec<(f64, f64)> =
            self.answers(line, None).into_iter().filter(|pair| is_met(pair, within)).collect();
        correlation(&met)
    }

    pub(super) fn curve(&self, line: &Line) -> Option<Curve> {
        Curve::through(self.answers(line, None).into_iter().map(|(came, answer)| (answer, came)).collect())
    }
}

fn is_met((came, answer): &(f64, f64), within: f64) -> bool {
    (came - answer).abs() <= within * came.abs().max(1e-12)
}

fn sum(features: &[f64], shares: &[f64]) -> f64 {
    features.iter().zip(shares).map(|(feature, share)| feature * share).sum()
}

/// Each share in turn becomes the best that is not negative, given the others.
fn solved(features: &[Vec<f64>], rows: &[Row], weights: &[f64], width: usize, free: usize) -> Vec<f64> {
    let mut gram = vec![vec![0.0; width]; width];
    let mut right = vec![0.0; width];
    for ((row, came), weight) in features.iter().zip(rows).zip(weights) {
        for one in (0..width).filter(|one| row[*one] != 0.0) {
            let weighed = weight * row[one];
            right[one] += weighed * came.used;
            for (sum, other) in gram[one].iter_mut().zip(row) {
                *sum += weighed * other;
            }
        }
    }
    for (at, line) in gram.iter_mut().enumerate() {
        line[at] += if at >= free { HOUR_PENALTY * line[at] } else { 0.0 } + 1e-12;
    }
    let mut shares = vec![0.0; width];
    for _ in 0..SWEEPS {
        let mut moved = 0.0f64;
        for at in 0..width {
            if gram[at][at] <= 1e-11 {
                continue;
            }
            let others = sum(&gram[at], &shares) - gram[at][at] * shares[at];
            let best = ((right[at] - others) / gram[at][at]).max(0.0);
            moved = moved.max((best - shares[at]).abs() * gram[at][at].sqrt());
            shares[at] = best;
        }
        if moved < 1e-9 {
            break;
        }
    }
    shares
}

/// Pearson's; none where either side does not move.
fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let count = pairs.len().max(1) as f64;
    let (one, two) = pairs.iter().fold((0.0, 0.0), |(one, two), (a, b)| (one + a / count, two + b / count));
    let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
    for (a, b) in pairs {
        both += (a - one) * (b - two);
        first += (a - one) * (a - one);
        second += (b - two) * (b - two);
    }
    let whole = (first * second).sqrt();
    if whole > 1e-18 { both / whole } else { 0.0 }
}
