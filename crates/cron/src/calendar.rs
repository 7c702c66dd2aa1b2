//! The search for the next and the last moment that five fields match.
//!
//! Owns days without a clock change, by arithmetic; those with one are `daylight`'s.

use crate::DaylightSaving;
use crate::daylight;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// The longest that a schedule can pause is from one 29 February over a year without one to the next: eight years.
const YEARS_SEARCHED: i16 = 9;
const MINUTE_SECONDS: i64 = 60;

/// The values of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) bits: u64,
    /// Written as a star: says nothing.
    pub(crate) any: bool,
    /// Written with a star or a step: for hours, that elapsed time is meant rather than a time of the day.
    pub(crate) steps: bool,
}

impl Field {
    pub(crate) fn has(&self, value: u32) -> bool {
        self.bits >> value & 1 == 1
    }

    /// The smallest value that is at least `from`.
    fn at_least(&self, from: u32) -> Option<u32> {
        let rest = if from < u64::BITS { self.bits >> from << from } else { 0 };
        (rest != 0).then(|| rest.trailing_zeros())
    }

    /// The largest value that is at most `until`.
    fn at_most(&self, until: u32) -> Option<u32> {
        let rest = self.bits & (u64::MAX >> (u64::BITS - 1 - until.min(u64::BITS - 1)));
        (rest != 0).then(|| u64::BITS - 1 - rest.leading_zeros())
    }
}

/// Five fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Calendar {
    pub(crate) minute: Field,
    pub(crate) hour: Field,
    pub(crate) day_of_month: Field,
    pub(crate) month: Field,
    pub(crate) day_of_week: Field,
    pub(crate) daylight: DaylightSaving,
}

impl Calendar {
    pub(crate) fn next_after(&self, moment: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let today = zone.to_datetime(moment).date();
        let last_year = today.year().checked_add(YEARS_SEARCHED)?;
        // From yesterday: when clocks go back over midnight, times of yesterday come again.
        let mut day = today.yesterday().ok()?;
        while day.year() <= last_year {
            if !self.month.has(day.month() as u32) {
                day = day.last_of_month().tomorrow().ok()?;
                continue;
            }
            if self.has_day(day)
                && let Some(found) = self.first_in(day, zone, moment)
            {
                return Some(found);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    pub(crate) fn last_until(&self, moment: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let today = zone.to_datetime(moment).date();
        let first_year = today.year().checked_sub(YEARS_SEARCHED)?;
        let mut day = today.tomorrow().ok()?;
        while day.year() >= first_year {
            if !self.month.has(day.month() as u32) {
                day = day.first_of_month().yesterday().ok()?;
                continue;
            }
            if self.has_day(day)
                && let Some(found) = self.last_in(day, zone, moment)
            {
                return Some(found);
            }
            day = day.yesterday().ok()?;
        }
        None
    }

    /// Where both day fields are restricted, either may match.
    fn has_day(&self, day: Date) -> bool {
        let of_month = self.day_of_month.has(day.day() as u32);
        let of_week = self.day_of_week.has(day.weekday().to_sunday_zero_offset() as u32);
        if self.day_of_month.any || self.day_of_week.any { of_month && of_week } else { of_month || of_week }
    }

    fn first_in(&self, day: Date, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let Some(midnight) = even_day(day, zone) else {
            return daylight::moments(self, day, zone).into_iter().find(|moment| *moment > after);
        };
        let passed = after.duration_since(midnight);
        let from = if passed.is_negative() { 0 } else { passed.as_secs() / MINUTE_SECONDS + 1 };
        let (hour, minute) = split(from)?;
        let at = match self.hour.at_least(hour)? {
            same if same == hour => match self.minute.at_least(minute) {
                Some(minute) => (same, minute),
                None => (self.hour.at_least(hour + 1)?, self.minute.at_least(0)?),
            },
            later => (later, self.minute.at_least(0)?),
        };
        in_day(midnight, at)
    }

    fn last_in(&self, day: Date, zone: &TimeZone, until: Timestamp) -> Option<Timestamp> {
        let Some(midnight) = even_day(day, zone) else {
            return daylight::moments(self, day, zone).into_iter().rev().find(|moment| *moment <= until);
        };
        let passed = until.duration_since(midnight);
        if passed.is_negative() {
            return None;
        }
        let (hour, minute) = split(passed.as_secs() / MINUTE_SECONDS).unwrap_or((23, 59));
        let at = match self.hour.at_most(hour)? {
            same if same == hour => match self.minute.at_most(minute) {
                Some(minute) => (same, minute),
                None => (self.hour.at_most(hour.checked_sub(1)?)?, self.minute.at_most(59)?),
            },
            earlier => (earlier, self.minute.at_most(59)?),
        };
        in_day(midnight, at)
    }
}

/// Hour and minute of a minute of the day; none when the day is over.
fn split(minute_of_day: i64) -> Option<(u32, u32)> {
    let minute = u32::try_from(minute_of_day).ok()?;
    (minute < 24 * 60).then_some((minute / 60, minute % 60))
}

fn in_day(midnight: Timestamp, (hour, minute): (u32, u32)) -> Option<Timestamp> {
    midnight.checked_add(SignedDuration::from_mins(i64::from(hour * 60 + minute))).ok()
}

/// When the day begins, if clocks are not changed on it.
fn even_day(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    let begins = plain_midnight(day, zone)?;
    let ends = plain_midnight(day.tomorrow().ok()?, zone)?;
    (begins == ends).then_some(())?;
    begins.to_timestamp(day.at(0, 0, 0, 0)).ok()
}

fn plain_midnight(day: Date, zone: &TimeZone) -> Option<Offset> {
    match zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0)).offset() {
        jiff::tz::AmbiguousOffset::Unambiguous { offset } => Some(offset),
        _ => None,
    }
}
