//! Requests a minute over time, as an annotation writes them.
//!
//! Owns the grammar: one number; or points `0s=60, 10m=1200` counted from the object's creation, joined by straight
//! lines, the first and the last value holding outside; or `every 1h: 0s=60, 30m=1200`, the same over and over, counted
//! from the Unix epoch so that several objects keep step.

use jiff::{SignedDuration, Timestamp};

/// Longer texts are no curves.
const LONGEST: usize = 4096;
const FORMS: &str =
    "write requests a minute, as 600, or a curve, as \"0s=60, 10m=1200\" or \"every 1h: 0s=60, 30m=1200\"";

/// A rate as a function of time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rate {
    /// Ordered by time; at least one.
    points: Vec<(SignedDuration, f64)>,
    every: Option<SignedDuration>,
}

impl Rate {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("is longer than {LONGEST} characters"));
        }
        let text = text.trim();
        let (every, curve) = match text.strip_prefix("every ") {
            Some(rest) => {
                let (period, curve) =
                    rest.split_once(':').ok_or_else(|| format!("lacks a colon after the period; {FORMS}"))?;
                let period = duration(period)?;
                if period.is_zero() {
                    return Err(format!("repeats every 0s; {FORMS}"));
                }
                (Some(period), curve)
            }
            None => (None, text),
        };
        if every.is_none() && !curve.contains('=') {
            return Ok(Self { points: vec![(SignedDuration::ZERO, number(curve)?)], every });
        }
        let mut points: Vec<(SignedDuration, f64)> = Vec::new();
        for point in curve.split(',') {
            let (at, rate) =
                point.split_once('=').ok_or_else(|| format!("\"{point}\" is no point; {FORMS}"))?;
            let at = duration(at)?;
            if points.last().is_some_and(|(last, _)| *last >= at) {
                return Err(format!(
                    "has {point} out of order; each point must be later than the one before"
                ));
            }
            if every.is_some_and(|every| at >= every) {
                return Err(format!("has {point} beyond its period"));
            }
            points.push((at, number(rate)?));
        }
        Ok(Self { points, every })
    }

    /// The rate at `now` for an object that was created at `since`.
    pub(super) fn per_minute(&self, since: Timestamp, now: Timestamp) -> f64 {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return 0.0 };
        let at = match self.every {
            None => now.duration_since(since),
            Some(every) => {
                let nanos = now.as_nanosecond().rem_euclid(every.as_nanos().max(1));
                SignedDuration::from_nanos(i64::try_from(nanos).unwrap_or(0))
            }
        };
        let after = self.points.iter().position(|(time, _)| *time > at);
        let (before, after) = match (after, self.every) {
            (Some(0), None) => return first.1,
            (None, None) => return last.1,
            // Over the seam: the last point of the turn before, or the first of the next.
            (Some(0), Some(every)) => ((last.0.saturating_sub(every), last.1), *first),
            (None, Some(every)) => (*last, (first.0.saturating_add(every), first.1)),
            (Some(index), _) => (self.points[index - 1], self.points[index]),
        };
        let (whole, part) = ((after.0 - before.0).as_secs_f64(), (at - before.0).as_secs_f64());
        before.1 + (after.1 - before.1) * part / whole
    }
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let text = text.trim();
    let duration = intake::go_duration(text).map_err(|error| error.to_string())?;
    if duration.is_negative() { Err(format!("has the negative time {text}")) } else { Ok(duration) }
}

fn number(text: &str) -> Result<f64, String> {
    let text = text.trim();
    text.parse::<f64>()
        .ok()
        .filter(|number| (0.0..=1e9).contains(number))
        .ok_or_else(|| format!("has \"{text}\" where a number from 0 to 1000000000 belongs; {FORMS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_straight_between_points_hold_outside_and_repeat() {
        let since: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let table = [
            ("600", 0, 600.0),
            ("600.5", 99_999, 600.5),
            ("60s=60, 120s=120", 0, 60.0),
            ("60s=60, 120s=120", 90, 90.0),
            ("60s=60, 120s=120", 500, 120.0),
            ("every 1h: 0s=0, 30m=600", 900, 300.0),
            ("every 1h: 0s=0, 30m=600", 3600 + 2700, 300.0),
            ("every 1h: 15m=100, 45m=200", 0, 150.0),
        ];
        for (text, seconds, expected) in table {
            let rate = Rate::parse(text).unwrap();
            let now = since + SignedDuration::from_secs(seconds);
            let found = rate.per_minute(since, now);
            assert!((found - expected).abs() < 1e-6, "{text} after {seconds} s: {found}");
        }
    }

    #[test]
    fn what_is_no_curve_is_refused_with_the_forms() {
        for text in [
            "",
            "much",
            "-1",
            "inf",
            "0s=1, 0s=2",
            "5=1",
            "every 0s: 0s=1",
            "every 1h 0s=1",
            "every 1h: 2h=1",
        ] {
            let message = Rate::parse(text).unwrap_err();
            assert!(message.len() > 20, "{text}: {message}");
        }
    }
}
