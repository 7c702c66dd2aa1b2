//! Samples as they were recorded, made into a series of equal steps.
//!
//! Owns what a step holds (the mean of its samples, or the rate of a counter), and which steps hold nothing. Reading
//! files and asking metric stores is others' business.

use crate::error::ForecastError;

/// Most steps of a series: eleven years of minutes would be a mistake in the times.
const MOST_VALUES: usize = 6_000_000;

/// What samples say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The value itself.
    #[default]
    Gauge,
    /// A count that only grows and starts again from zero where its process did; what counts is the growth a second.
    Counter,
}

/// Values at equal steps; one that is not a number is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Seconds from 1970-01-01 to the start of the first step.
    pub start_seconds: i64,
    pub step_seconds: u32,
    pub values: Vec<f32>,
}

impl Series {
    /// From samples `(seconds, value)` in the order of time; the last step is left out unless it is whole.
    pub fn of(samples: &[(i64, f64)], step_seconds: u32, kind: Kind) -> Result<Self, ForecastError> {
        if step_seconds == 0 {
            return Err(ForecastError::Step { seconds: step_seconds });
        }
        let rates;
        let samples = match kind {
            Kind::Gauge => samples,
            Kind::Counter => {
                rates = rates_of(samples);
                &rates
            }
        };
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
            return Err(ForecastError::NoHistory);
        };
        let step = i64::from(step_seconds);
        let start = first.0.div_euclid(step) * step;
        // A sample stands for the time up to the next one.
        let every = usual_gap(samples).min(step);
        let steps = usize::try_from((last.0 + every - start) / step).unwrap_or(0);
        if steps > MOST_VALUES {
            return Err(ForecastError::TooLong { values: steps, most: MOST_VALUES });
        }
        let mut sums = vec![(0.0f64, 0u32); steps];
        for (seconds, value) in samples {
            let at = usize::try_from((seconds - start) / step).unwrap_or(usize::MAX);
            if let Some((sum, count)) = sums.get_mut(at)
                && value.is_finite()
            {
                *sum += value;
                *count += 1;
            }
        }
        let values = sums
            .into_iter()
            .map(|(sum, count)| if count == 0 { f32::NAN } else { (sum / f64::from(count)) as f32 })
            .collect();
        Ok(Self { start_seconds: start, step_seconds, values })
    }
}

/// Growth a second between neighbours; where a counter fell it started again, and grew by what it shows.
fn rates_of(samples: &[(i64, f64)]) -> Vec<(i64, f64)> {
    samples
        .windows(2)
        .filter(|pair| pair[1].0 > pair[0].0)
        .map(|pair| {
            let growth = if pair[1].1 >= pair[0].1 { pair[1].1 - pair[0].1 } else { pair[1].1 };
            (pair[0].0, growth / (pair[1].0 - pair[0].0) as f64)
        })
        .collect()
}

/// The median distance of neighbours.
fn usual_gap(samples: &[(i64, f64)]) -> i64 {
    let mut gaps: Vec<i64> =
        samples.windows(2).take(10_000).map(|pair| pair[1].0 - pair[0].0).filter(|gap| *gap > 0).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_hold_means_and_missing_ones_stay_missing() {
        let samples: Vec<(i64, f64)> =
            (0..60).filter(|minute| !(20..30).contains(minute)).map(|m| (m * 60, m as f64)).collect();
        let series = Series::of(&samples, 600, Kind::Gauge).unwrap();
        assert_eq!(series.values.len(), 6);
        assert!((series.values[0] - 4.5).abs() < 1e-6);
        assert!(series.values[2].is_nan());
        let cut = Series::of(&samples[..samples.len() - 1], 600, Kind::Gauge).unwrap();
        assert_eq!(cut.values.len(), 5, "the last step is not whole");
    }

    #[test]
    fn a_counter_that_starts_again_does_not_fall() {
        let samples = [(0, 100.0), (60, 160.0), (120, 220.0), (180, 30.0), (240, 90.0), (300, 150.0)];
        let series = Series::of(&samples, 60, Kind::Counter).unwrap();
        assert_eq!(series.values, [1.0, 1.0, 0.5, 1.0, 1.0]);
    }
}
