//! What forecasts of a series would have been worth: the end of the series forecast from what came before.
//!
//! Owns the figures. Origins and errors are those of the published measurements: the last values are the test part,
//! forecasts start every sixth value (every 36th for horizons beyond 36 steps), and all steps up to a horizon count.

use crate::error::ForecastError;
use crate::forecaster::{Forecaster, Settings};
use crate::gaps;

/// The figures of one horizon, as shares of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HorizonScore {
    pub steps: usize,
    /// Sum of absolute errors over the sum of values.
    pub wape: f64,
    /// Mean absolute error over that of repeating the day before, in the training part.
    pub mase: f64,
    /// Pinball loss of the expected value and of the 0.9 quantile, over the mean value.
    pub pinball50: f64,
    pub pinball90: f64,
    /// Share of values at or under the 0.9 quantile.
    pub coverage90: f64,
}

/// A forecast of the test part beside what came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Number of the value in the series.
    pub index: usize,
    pub came: f32,
    pub expected: f32,
    pub upper: f32,
}

/// What a backtest found.
#[derive(Clone, Debug)]
pub struct Backtest {
    /// The forecaster after the last point.
    pub forecaster: Forecaster,
    pub horizons: Vec<HorizonScore>,
    /// Index of the first value of the test part.
    pub test_from: usize,
    /// Forecasts for an hour or six steps ahead, each beside its value.
    pub compared: Vec<Compared>,
    pub refits: usize,
}

/// Sums over forecasts.
#[derive(Clone, Copy, Default)]
struct Sums {
    errors: f64,
    values: f64,
    upper_loss: f64,
    covered: f64,
    count: f64,
}

impl Sums {
    fn add(&mut self, came: f64, expected: f64, upper: f64) {
        self.errors += (came - expected).abs();
        self.values += came.abs();
        let over = came - upper;
        self.upper_loss += if over > 0.0 { 0.9 * over } else { -0.1 * over };
        self.covered += f64::from(u8::from(over <= 0.0));
        self.count += 1.0;
    }

    fn score(self, steps: usize, naive_error: f64) -> HorizonScore {
        let per = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        HorizonScore {
            steps,
            wape: per(self.errors, self.values),
            mase: per(per(self.errors, self.count), naive_error),
            pinball50: per(0.5 * self.errors, self.values),
            pinball90: per(self.upper_loss, self.values),
            coverage90: per(self.covered, self.count),
        }
    }
}

/// Forecasts the last `test_share` of a series step by step. `settings.horizon` must reach the furthest of `horizons`.
pub fn backtest(
    settings: &Settings,
    values: &[f32],
    test_share: f64,
    horizons: &[usize],
) -> Result<Backtest, ForecastError> {
    if !(0.05..=0.9).contains(&test_share) {
        return Err(ForecastError::TestShare { share: test_share });
    }
    let test_from = ((1.0 - test_share) * values.len() as f64 + 1e-9) as usize;
    let furthest = horizons.iter().copied().max().unwrap_or(1);
    let too_short =
        |why| ForecastError::TooShort { values: values.len(), test: values.len() - test_from, why };
    if test_from < 2 {
        return Err(too_short("nothing is left to learn from; give a longer series"));
    }
    if values.len() - test_from <= furthest {
        return Err(too_short("the test part is shorter than the furthest horizon; give a longer series"));
    }
    let settings = Settings { horizon: settings.horizon.max(furthest), ..settings.clone() };
    let mut forecaster = Forecaster::new(settings.clone(), &values[..test_from])?;
    let day = (86_400 / settings.step_seconds) as usize;
    let naive_error = naive_error(&values[..test_from], day);
    let mut sums = vec![Sums::default(); horizons.len()];
    let mut compared = Vec::new();
    let mut refits = 0;
    for origin in test_from - 1..values.len() - 1 {
        let turn = origin - (test_from - 1);
        if turn > 0 && turn.is_multiple_of(day) {
            forecaster.refit();
            refits += 1;
        }
        if turn.is_multiple_of(6) {
            let forecast = forecaster.forecast(&[0.9]);
            for (horizon, sums) in horizons.iter().zip(&mut sums) {
                let due = *horizon <= 36 || turn.is_multiple_of(36);
                if due && origin + horizon < values.len() {
                    for step in 1..=*horizon {
                        let came = values[origin + step];
                        if came.is_finite() {
                            sums.add(
                                f64::from(came),
                                f64::from(forecast.expected[step - 1]),
                                f64::from(forecast.quantiles[0][step - 1]),
                            );
                        }
                    }
                }
            }
            let most = forecast.expected.len().min(6).min(values.len() - 1 - origin);
            compared.extend((0..most).map(|step| Compared {
                index: origin + 1 + step,
                came: values[origin + 1 + step],
                expected: forecast.expected[step],
                upper: forecast.quantiles[0][step],
            }));
        }
        forecaster.push(values[origin + 1]);
    }
    let horizons = horizons.iter().zip(sums).map(|(steps, sums)| sums.score(*steps, naive_error)).collect();
    Ok(Backtest { forecaster, horizons, test_from, compared, refits })
}

/// The mean absolute error of repeating the day before.
fn naive_error(values: &[f32], day: usize) -> f64 {
    let day = day.clamp(1, values.len().saturating_sub(1).max(1));
    let errors: Vec<f64> = values
        .iter()
        .zip(&values[day..])
        .filter(|(before, now)| before.is_finite() && now.is_finite())
        .map(|(before, now)| f64::from((now - before).abs()))
        .collect();
    if errors.is_empty() { 0.0 } else { errors.iter().sum::<f64>() / errors.len() as f64 }
}

/// Share of values of a series that are missing or belong to an outage.
pub fn share_missing(values: &[f32], step_seconds: u32) -> f64 {
    let present = gaps::present(values, (86_400 / step_seconds.max(1)) as usize);
    present.iter().filter(|there| !**there).count() as f64 / values.len().max(1) as f64
}
