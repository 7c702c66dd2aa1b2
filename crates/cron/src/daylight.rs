//! The moments of a schedule on a day on which clocks are changed.
//!
//! Owns what becomes of local times that do not exist or exist twice, by the dialect's rule.

use crate::DaylightSaving;
use crate::calendar::Calendar;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// Every moment of that day in order: 48 hours of minutes at most.
pub(crate) fn moments(calendar: &Calendar, day: Date, zone: &TimeZone) -> Vec<Timestamp> {
    let once = calendar.daylight == DaylightSaving::OncePerDay && !calendar.hour.steps;
    let mut moments = Vec::new();
    for hour in (0..24_i8).filter(|hour| calendar.hour.has(*hour as u32)) {
        for minute in (0..60_i8).filter(|minute| calendar.minute.has(*minute as u32)) {
            let local = day.at(hour, minute, 0, 0);
            match zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Unambiguous { offset } => moments.extend(offset.to_timestamp(local).ok()),
                AmbiguousOffset::Gap { after, .. } if once => {
                    // Read with the new offset it lies before the change; the next change from there is the gap.
                    let before = after.to_timestamp(local).ok();
                    moments.extend(before.and_then(|at| Some(zone.following(at).next()?.timestamp())));
                }
                AmbiguousOffset::Gap { .. } => {}
                AmbiguousOffset::Fold { before, after } => {
                    moments.extend(before.to_timestamp(local).ok());
                    if !once {
                        moments.extend(after.to_timestamp(local).ok());
                    }
                }
            }
        }
    }
    moments.sort_unstable();
    moments.dedup();
    moments
}
