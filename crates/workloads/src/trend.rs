//! Where a replica count that somebody else scales is heading: a straight line through its last changes.
//!
//! Owns the line, how far it is believed, and how well it fits. What is done with it is decided elsewhere.

use jiff::{SignedDuration, Timestamp};

/// What is older says nothing of the next minutes.
const WINDOW: SignedDuration = SignedDuration::from_mins(15);
/// Fewer changes are no trend.
const LEAST_CHANGES: usize = 3;
/// How far ahead a trend is believed, and the distance of what is told.
const FARTHEST_MINUTES: u32 = 16;
const STEP_MINUTES: u32 = 2;

/// Counts at moments to come, and how well they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trend {
    pub points: Vec<(Timestamp, u32)>,
    /// The share of the changes that the line explains.
    pub confidence_percent: u32,
}

/// The trend of counts that were wanted, the latest last, never over `most`; `None` where they do not rise.
pub fn trend(changes: &[(Timestamp, u32)], most: u32, now: Timestamp) -> Option<Trend> {
    let recent: Vec<(f64, f64)> = (changes.iter())
        .filter(|(at, _)| now.duration_since(*at) <= WINDOW)
        .map(|(at, count)| (at.duration_since(now).as_secs_f64() / 60.0, f64::from(*count)))
        .collect();
    let present = changes.last()?.1;
    if recent.len() < LEAST_CHANGES {
        return None;
    }
    let count = recent.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| recent.iter().map(of).sum::<f64>() / count;
    let (middle, level) = (mean(&|one| one.0), mean(&|one| one.1));
    let both = mean(&|one| (one.0 - middle) * (one.1 - level));
    let (spread, scatter) = (mean(&|one| (one.0 - middle).powi(2)), mean(&|one| (one.1 - level).powi(2)));
    if both <= 0.0 || spread <= 0.0 || scatter <= 0.0 {
        return None;
    }
    let slope = both / spread;
    let points = (1..=FARTHEST_MINUTES / STEP_MINUTES).filter_map(|step| {
        let minutes = step * STEP_MINUTES;
        let at = now.saturating_add(SignedDuration::from_mins(i64::from(minutes))).ok()?;
        let wanted = (f64::from(present) + slope * f64::from(minutes)).ceil().min(f64::from(most));
        Some((at, (wanted as u32).max(present)))
    });
    let confidence_percent = (both * both / (spread * scatter) * 100.0).round() as u32;
    Some(Trend { points: points.collect(), confidence_percent: confidence_percent.min(100) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute)
    }

    #[test]
    fn a_line_goes_on_up_to_the_maximum() {
        let found = trend(&[(at(0), 2), (at(2), 4), (at(4), 6)], 14, at(4)).unwrap();
        assert_eq!(found.confidence_percent, 100);
        let counts: Vec<u32> = found.points.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [8, 10, 12, 14, 14, 14, 14, 14]);
        assert_eq!(found.points[0].0, at(6));
    }

    #[test]
    fn what_falls_stands_or_is_long_past_is_no_trend() {
        assert_eq!(trend(&[(at(0), 6), (at(2), 4), (at(4), 2)], 9, at(4)), None);
        assert_eq!(trend(&[(at(0), 3), (at(2), 3), (at(4), 3)], 9, at(4)), None);
        assert_eq!(trend(&[(at(0), 2), (at(2), 4), (at(4), 6)], 9, at(60)), None);
        assert_eq!(trend(&[], 9, at(0)), None);
    }

    #[test]
    fn jumps_to_and_fro_are_told_with_less_confidence() {
        let found = trend(&[(at(0), 2), (at(2), 9), (at(4), 3), (at(6), 8)], 20, at(6)).unwrap();
        assert!(found.confidence_percent < 50, "{found:?}");
    }
}
