//! What cannot be forecast: settings outside of what makes sense, or no history at all.

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Error)]
pub enum ForecastError {
    #[error(
        "a step of {seconds} s cannot be used: give one from 10 s to 1 d that divides a day, such as 10m"
    )]
    Step { seconds: u32 },
    #[error("a horizon of {steps} steps cannot be used: give 1 to {most}")]
    Horizon { steps: usize, most: usize },
    #[error("there is no value to forecast from: give at least one")]
    NoHistory,
    #[error("a backtest of {values} values with the last {test} as test is too short: {why}")]
    TooShort { values: usize, test: usize, why: &'static str },
    #[error("the samples span {values} steps, more than {most}: check their times, or give a longer step")]
    TooLong { values: usize, most: usize },
    #[error("a test share of {share} cannot be used: give one from 0.05 to 0.9, such as 0.3")]
    TestShare { share: f64 },
}

/// Why it cannot be said how many replicas are enough.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NotLearnable {
    #[error("there is no history; check that the metrics have values and that their selectors match")]
    NoHistory,
    #[error(
        "no traffic metric has values for nine tenths of the time and is ever above zero; check the metrics"
    )]
    NoTraffic,
    #[error("no replica was ready at any time of the history; check the metric of ready replicas")]
    NoReplicas,
    #[error("only {rows} times have all values, and {least} are needed; wait for more history")]
    TooShort { rows: usize, least: usize },
    #[error(
        "the use of pods does not follow traffic (correlation {percent} %); name traffic that causes it, or scale by \
         another metric"
    )]
    NotFollowing { percent: i32 },
}

/// Why no replicas can be planned ahead.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NotPredictable {
    #[error("replicas cannot be derived from traffic: {0}")]
    Load(#[from] NotLearnable),
    #[error("traffic metric {metric} cannot be forecast: {source}")]
    Traffic { metric: usize, source: ForecastError },
    #[error("the forecast of traffic metric {metric} is {why}")]
    NotTrusted { metric: usize, why: String },
    #[error(
        "no number of replicas keeps the target of {target}: a pod without traffic uses {idle:.4} already; raise the \
         target"
    )]
    Unreachable { target: f64, idle: f64 },
    #[error("{field} of {value} cannot be used: give {allowed}")]
    Setting { field: &'static str, value: f64, allowed: &'static str },
}
