//! Whether a forecast may be acted on, and what it rests on, each with one sentence.
//!
//! Owns the thresholds. The figures come from `score`.

use std::fmt;

/// Points in a row that are missing, from which nothing is built on the forecast.
const OUTAGE: usize = 3;
/// Share of the naive forecast's error above which learning was no use.
const NO_BETTER: f32 = 1.1;
/// How much larger errors may be lately than over the last days.
const DRIFT: f32 = 2.5;
/// Coverage of the 0.9 quantile below which intervals are too narrow.
const LEAST_COVERED: f32 = 0.75;

/// What a forecast rests on: with more history and better errors, more is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    LastValue,
    SeasonAgo,
    LongSeasonAgo,
    Profile,
    LearnedDay,
    LearnedWeek,
}

impl Basis {
    /// A short name for tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::LastValue => "last-value",
            Self::SeasonAgo => "seasonal-day",
            Self::LongSeasonAgo => "seasonal-week",
            Self::Profile => "profile",
            Self::LearnedDay => "ridge+trees/day",
            Self::LearnedWeek => "ridge+trees/week",
        }
    }
}

/// Whether to act on a forecast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trust {
    Trusted,
    /// Not enough history to learn a day.
    ShortHistory {
        basis: Basis,
    },
    /// Too few forecasts have come due to know their errors.
    Unproven {
        errors: usize,
    },
    /// Points have stopped coming, or are zeros where traffic was due.
    Outage {
        points: usize,
    },
    /// Repeating the last value or the last day would have been as good.
    NoBetterThanNaive {
        percent: u32,
    },
    /// Errors have grown: the series has changed.
    Drifted {
        percent: u32,
    },
    /// The 0.9 quantile was exceeded too often.
    TooNarrow {
        percent: u32,
    },
}

/// What the verdict is made from.
pub(crate) struct Record {
    pub(crate) basis: Basis,
    pub(crate) errors: usize,
    pub(crate) missing_in_a_row: usize,
    pub(crate) lately: f32,
    pub(crate) naive: f32,
    pub(crate) ever: f32,
    pub(crate) covered: f32,
}

impl Trust {
    pub fn is_trusted(self) -> bool {
        self == Self::Trusted
    }

    pub(crate) fn of(record: &Record) -> Self {
        let percent = |part: f32, whole: f32| (100.0 * part / whole.max(1e-9)).min(99_999.0) as u32;
        if record.missing_in_a_row >= OUTAGE {
            return Self::Outage { points: record.missing_in_a_row };
        }
        if record.errors < crate::score::LEAST_ERRORS {
            return Self::Unproven { errors: record.errors };
        }
        if !matches!(record.basis, Basis::LearnedDay | Basis::LearnedWeek | Basis::Profile) {
            return Self::ShortHistory { basis: record.basis };
        }
        if record.lately > DRIFT * record.ever {
            return Self::Drifted { percent: percent(record.lately, record.ever) };
        }
        if record.lately > NO_BETTER * record.naive {
            return Self::NoBetterThanNaive { percent: percent(record.lately, record.naive) };
        }
        if record.covered < LEAST_COVERED {
            return Self::TooNarrow { percent: percent(record.covered, 1.0) };
        }
        Self::Trusted
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trusted => write!(out, "trusted"),
            Self::ShortHistory { basis } => {
                write!(
                    out,
                    "not trusted: nothing better than {} is known yet; wait for more history",
                    basis.name()
                )
            }
            Self::Unproven { errors } => {
                write!(out, "not trusted: only {errors} forecasts have come due; wait for more points")
            }
            Self::Outage { points } => {
                write!(out, "not trusted: the last {points} points are missing; mend the metric")
            }
            Self::NoBetterThanNaive { percent } => write!(
                out,
                "not trusted: errors of the last day are {percent} % of those of repeating the past"
            ),
            Self::Drifted { percent } => {
                write!(
                    out,
                    "not trusted: errors of the last day are {percent} % of the usual; the series has changed"
                )
            }
            Self::TooNarrow { percent } => {
                write!(out, "not trusted: the 0.9 quantile held in only {percent} % of the last day")
            }
        }
    }
}
