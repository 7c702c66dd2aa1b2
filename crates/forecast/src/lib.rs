//! Series in, quantile forecasts out, with a word on what they are worth.
//!
//! A [`Forecaster`] learns one series: seasons found in it, the level now, and how both go together; several experts
//! are weighed by their latest errors, and intervals are made from the errors of forecasts that came due, never from
//! how well the past was fitted. Pure: no clock, no I/O, no randomness; equal series give equal forecasts.
//!
//! [`Peaks`] does the same for the next minutes and their extremes, minute by minute.
//!
//! [`Load`] learns how the use of pods follows traffic, and so how many replicas a forecast needs;
//! [`Predictor`] joins both.
//!
//! Leaves to others: where series come from, and what is done with a forecast.

mod backtest;
mod boost;
mod calendar;
mod error;
mod features;
mod forecaster;
mod gaps;
mod jumps;
mod learned;
mod load;
mod peaks;
mod predictor;
mod recursive;
mod ridge;
mod schedule;
mod score;
mod seasons;
mod series;
mod tail;
mod trust;

pub use backtest::{Backtest, Compared, HorizonScore, backtest, share_missing};
pub use calendar::{Calendar, Weekday};
pub use error::{ForecastError, NotLearnable, NotPredictable};
pub use forecaster::{Forecast, Forecaster, MOST_STEPS, Settings};
pub use load::{Enough, Load, LoadSettings, Observed, Quality, Use};
pub use peaks::Peaks;
pub use predictor::{Ahead, Planned, Predictor, PredictorSettings};
pub use schedule::{ahead_of_time, resampled};
pub use seasons::{Season, Seasons};
pub use series::{Kind, Series};
pub use trust::{Basis, Trust};
