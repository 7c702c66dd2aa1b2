//! How the use of a pod follows traffic: learned from history, and read backwards to find how many pods are enough.
//!
//! A pod's use is a share that is always there, plus a share of the traffic that reaches it, plus what comes at its hour
//! of the day whatever the traffic is (a nightly batch); no share is negative, so more replicas never mean more use of
//! each. A bend in that line is followed inside of what was seen; beyond it the line goes on at least as steep. What
//! cannot be learned says why. Owns the learning and the answer; where the history comes from is others' business.

mod curve;
mod fit;

use crate::error::NotLearnable;
use curve::Curve;
use fit::{HOURS, Line, Rows};

/// Fewest rows that anything is learned from.
const LEAST_ROWS: usize = 30;
/// Share of rows that a traffic metric may lack before it is left out.
const MOST_MISSING: f64 = 0.1;
/// Errors within this share of the value count as met.
const MET: f64 = 0.15;
/// Share of rows that must be met where correlation is spoilt by what has nothing to do with traffic.
const LEAST_MET: f64 = 0.7;
/// A mean error below this share is good enough, whatever the correlation: traffic may hardly have moved.
const SMALL_ERROR: f64 = 0.1;
/// Correlation that is asked for where most rows are met.
const LEAST_FOLLOWED: f64 = 0.6;
/// How much smaller errors must be for the more complicated explanation to be taken.
const WORTH: f64 = 0.9;
/// Rows that are learned from at most; more are thinned out.
const MOST_ROWS: usize = 20_000;

/// What the observed value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Use {
    /// The use of all ready pods together, such as CPU in cores.
    #[default]
    Total,
    /// The level at each pod, such as a latency.
    EachPod,
}

/// What was so at one time; values that are not numbers are missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Seconds from 1970-01-01.
    pub seconds: i64,
    pub used: f64,
    pub ready_replicas: f64,
    /// In the order of the traffic metrics.
    pub traffic: Vec<f64>,
}

/// What is asked of the learning.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    pub what: Use,
    /// Seconds that the workload's zone is ahead of UTC.
    pub offset_seconds: i64,
    /// Seconds at the end of the history that the explanation is tried on; at most three tenths of it are.
    pub test_seconds: i64,
    pub least_correlation: f64,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self { what: Use::Total, offset_seconds: 0, test_seconds: 86_400, least_correlation: 0.9 }
    }
}

/// What was learned.
#[derive(Clone, Debug)]
pub struct Load {
    line: Line,
    curve: Option<Curve>,
    offset_seconds: i64,
    quality: Quality,
}

/// How good the explanation turned out on the part of the history that it was tried on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    pub correlation: f64,
    /// Mean absolute error over the mean value.
    pub error: f64,
    /// Whether the hour of the day explains a part.
    pub by_hour: bool,
    /// Rows that were tried.
    pub rows: usize,
}

/// How many replicas are enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Enough {
    Replicas(usize),
    /// No allowed number is: each pod would still use this much.
    TooFew {
        most: usize,
        used: f64,
    },
    /// No number ever is: a pod without traffic uses this much already.
    Never {
        idle: f64,
    },
}

impl Load {
    /// Learns from a history in the order of time.
    pub fn learn(history: &[Observed], settings: &LoadSettings) -> Result<Self, NotLearnable> {
        let rows = Rows::of(history, settings.what, settings.offset_seconds)?;
        if rows.len() < LEAST_ROWS {
            return Err(NotLearnable::TooShort { rows: rows.len(), least: LEAST_ROWS });
        }
        let (past, tried) = rows.split(settings.test_seconds);
        let (by_hour, line, bent) = past.explained(&tried);
        let quality = tried.quality(&line, if bent { past.curve(&line) } else { None }.as_ref());
        if !line.follows_traffic() {
            return Err(NotLearnable::NotFollowing { percent: 0 });
        }
        let met = tried.met(&line, MET);
        let good = quality.correlation >= settings.least_correlation
            || quality.error <= SMALL_ERROR
            || (met >= LEAST_MET && tried.correlation_of_met(&line, MET) >= LEAST_FOLLOWED);
        if !good {
            return Err(NotLearnable::NotFollowing { percent: (100.0 * quality.correlation) as i32 });
        }
        let line = rows.line(by_hour);
        let curve = if bent { rows.curve(&line) } else { None };
        let quality = Quality { by_hour, ..quality };
        Ok(Self { line, curve, offset_seconds: settings.offset_seconds, quality })
    }

    /// What a pod would use at a time, with so much traffic over so many ready replicas.
    pub fn used(&self, seconds: i64, traffic: &[f64], replicas: usize) -> f64 {
        let hour = hour_of(seconds, self.offset_seconds);
        let used = self.line.used(traffic, replicas.max(1) as f64, hour);
        self.curve.as_ref().map_or(used, |curve| curve.at(used))
    }

    /// The fewest replicas with which a pod uses no more than a target.
    pub fn enough(&self, seconds: i64, traffic: &[f64], target: f64, most: usize) -> Enough {
        let most = most.max(1);
        let fits = |replicas: usize| self.used(seconds, traffic, replicas) <= target;
        if !fits(most) {
            let idle = self.used(seconds, &vec![0.0; traffic.len()], usize::MAX / 2);
            if idle > target {
                return Enough::Never { idle };
            }
            return Enough::TooFew { most, used: self.used(seconds, traffic, most) };
        }
        // Use never grows with replicas, so the border can be halved down to.
        let (mut least, mut enough) = (0, most);
        while enough - least > 1 {
            let middle = usize::midpoint(least, enough);
            if fits(middle) {
                enough = middle;
            } else {
                least = middle;
            }
        }
        Enough::Replicas(enough)
    }

    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// Which of the traffic metrics count, in their order.
    pub fn counts(&self) -> Vec<bool> {
        self.line.traffic.iter().map(|share| *share > 0.0).collect()
    }
}

fn hour_of(seconds: i64, offset_seconds: i64) -> usize {
    usize::try_from((seconds + offset_seconds).div_euclid(3_600).rem_euclid(HOURS as i64)).unwrap_or(0)
}
