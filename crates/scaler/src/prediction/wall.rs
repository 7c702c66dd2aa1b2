//! Local time: a history as clocks on the wall show it, and plans back in universal time.
//!
//! Owns the two days of a year on which clocks are changed. What repeats by the day repeats by local days; whoever learns
//! from local minutes need not know of zones. An hour that does not exist is filled with what stood before it, and of one
//! that comes twice the first counts.

use forecast::{Ahead, Observed, Planned};
use jiff::Timestamp;
use jiff::tz::TimeZone;

const MINUTE: i64 = 60;
/// Clocks are not changed by more at once; more is a zone that was redrawn, which is a gap like any other.
const MOST_CHANGED: i64 = 3 * 3_600;

/// Clocks of one zone, and the last minute that they showed.
#[derive(Clone, Debug)]
pub(crate) struct Wall {
    zone: TimeZone,
    /// By local time, with the offset of then.
    last: Option<(Observed, i64)>,
    /// The last minute that was taken, in universal time.
    known_seconds: Option<i64>,
}

impl Wall {
    pub(crate) fn new(zone: TimeZone) -> Self {
        Self { zone, last: None, known_seconds: None }
    }

    /// The last minute that was taken.
    pub(crate) fn known_seconds(&self) -> Option<i64> {
        self.known_seconds
    }

    fn offset(&self, seconds: i64) -> i64 {
        let at = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        i64::from(self.zone.to_offset(at).seconds())
    }

    /// The next minutes by local time, each later than the one before.
    pub(crate) fn local(&mut self, rows: Vec<Observed>) -> Vec<Observed> {
        let mut shown = Vec::with_capacity(rows.len());
        for mut row in rows {
            let offset = self.offset(row.seconds);
            self.known_seconds = Some(row.seconds);
            row.seconds += offset;
            if let Some((last, before)) = &self.last {
                if row.seconds <= last.seconds {
                    continue;
                }
                let skipped = (offset - before).clamp(0, MOST_CHANGED) / MINUTE;
                for minute in (1..=skipped).map(|count| last.seconds + count * MINUTE) {
                    if minute < row.seconds {
                        shown.push(Observed { seconds: minute, ..last.clone() });
                    }
                }
            }
            self.last = Some((row.clone(), offset));
            shown.push(row);
        }
        shown
    }

    /// A plan of local times in universal time. Local times that do not exist are left out; where clocks have gone back
    /// and its first point is still to come, that holds from now on.
    pub(crate) fn universal(&self, mut ahead: Ahead, now: i64) -> Ahead {
        let expires = ahead.expires_seconds;
        ahead.expires_seconds = self.moment(expires).unwrap_or(expires - self.offset(now));
        let there = ahead.points.iter().filter_map(|point| {
            let seconds = self.moment(point.seconds)?;
            Some(Planned { seconds, ..*point })
        });
        let mut points: Vec<Planned> = there.collect();
        if let Some(first) = points.first().copied().filter(|first| first.seconds > now) {
            points.insert(0, Planned { seconds: now, ..first });
        }
        ahead.points = points;
        ahead
    }

    /// When clocks show a local time, the first time where they do so twice.
    fn moment(&self, local: i64) -> Option<i64> {
        let guess = local - self.offset(local);
        let around = [guess - MOST_CHANGED, guess, guess + MOST_CHANGED];
        let mut found: Vec<i64> = around.iter().map(|near| local - self.offset(*near)).collect();
        found.sort_unstable();
        found.into_iter().find(|moment| moment + self.offset(*moment) == local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall() -> Wall {
        Wall::new(TimeZone::get("Europe/Berlin").unwrap())
    }

    fn seconds(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn rows(from: &str, minutes: i64) -> Vec<Observed> {
        let from = seconds(from);
        (0..minutes)
            .map(|minute| Observed {
                seconds: from + minute * MINUTE,
                used: minute as f64,
                ready_replicas: 1.0,
                traffic: vec![minute as f64],
            })
            .collect()
    }

    /// Minutes since midnight of the first and the last, and whether each follows the one before.
    fn shown(rows: &[Observed]) -> (i64, i64, bool) {
        let of_day = |row: &Observed| row.seconds.rem_euclid(86_400) / MINUTE;
        let whole = rows.windows(2).all(|pair| pair[1].seconds - pair[0].seconds == MINUTE);
        (of_day(&rows[0]), of_day(&rows[rows.len() - 1]), whole)
    }

    #[test]
    fn an_hour_that_does_not_exist_is_filled() {
        // Clocks go from 02:00 to 03:00 at 01:00 UTC; the change lies between two looks.
        let mut wall = wall();
        let before = wall.local(rows("2026-03-29T00:00:00Z", 60));
        assert_eq!(shown(&before), (60, 119, true));
        let after = wall.local(rows("2026-03-29T01:00:00Z", 60));
        assert_eq!(shown(&after), (120, 239, true));
        let used = |at: usize| after[at].used.to_bits();
        assert_eq!((used(0), used(59), used(60)), (59f64.to_bits(), 59f64.to_bits(), 0f64.to_bits()));
        assert_eq!(wall.known_seconds(), Some(seconds("2026-03-29T01:59:00Z")));
    }

    #[test]
    fn of_an_hour_that_comes_twice_the_first_counts() {
        // Clocks go from 03:00 to 02:00 at 01:00 UTC.
        let mut wall = wall();
        let shown_rows = wall.local(rows("2026-10-25T00:00:00Z", 180));
        assert_eq!(shown(&shown_rows), (120, 239, true));
        assert!((shown_rows[60].used - 120.0).abs() < 1e-9, "what came in the second pass is left out");
    }

    fn plan(from_local: &str, steps: i64) -> Ahead {
        let from = seconds(from_local);
        let points = (0..steps).map(|step| Planned { seconds: from + 600 * step, replicas: 3 });
        Ahead {
            points: points.collect(),
            expires_seconds: from + 600 * steps,
            models: vec![],
            traffic_error: 0.0,
            trust: forecast::Trust::Trusted,
            quality: forecast::Quality { correlation: 1.0, error: 0.0, by_hour: false, rows: 0 },
            next: (0.0, 0.0),
        }
    }

    #[test]
    fn plans_go_back_to_universal_time_in_order() {
        let wall = wall();
        let summer = wall.universal(plan("2026-07-01T12:00:00Z", 3), seconds("2026-07-01T10:01:00Z"));
        assert_eq!(summer.points[0].seconds, seconds("2026-07-01T10:00:00Z"));
        assert_eq!((summer.points.len(), summer.expires_seconds), (3, seconds("2026-07-01T10:30:00Z")));
        // From 01:30 to 04:30 of the day without 02:30.
        let spring = wall.universal(plan("2026-03-29T01:30:00Z", 18), seconds("2026-03-29T00:31:00Z"));
        assert_eq!(spring.points.len(), 12);
        assert!(spring.points.windows(2).all(|pair| pair[1].seconds - pair[0].seconds == 600));
        // In the second pass of the hour: what is planned for 03:00 holds.
        let now = seconds("2026-10-25T01:20:00Z");
        let autumn = wall.universal(plan("2026-10-25T03:00:00Z", 2), now);
        assert_eq!(autumn.points[0].seconds, now);
        assert_eq!(autumn.points[1].seconds, seconds("2026-10-25T02:00:00Z"));
    }
}
