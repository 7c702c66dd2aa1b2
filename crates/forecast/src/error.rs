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
