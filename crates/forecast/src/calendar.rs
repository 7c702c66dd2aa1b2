//! Days that are not like others: what a user says of holidays and of days of sales.
//!
//! Owns which earlier day stands for a special one. Which days are special is the user's to say; nothing is built in.

use std::collections::BTreeMap;

/// Most days back that a day of the same kind is looked for.
const LOOK_BACK_DAYS: i64 = 28;

/// A day of the week, by its number from Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    /// Of a day counted from 1970-01-01, a Thursday.
    fn of(day: i64) -> Self {
        Self::ALL[(day + 3).rem_euclid(7) as usize]
    }
}

/// Special days, by their number from 1970-01-01 in the workload's zone, each with the weekday that it is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    days: BTreeMap<i64, Weekday>,
}

impl Calendar {
    /// A day is like a weekday: a holiday is like a Sunday, a day made up for is like a Monday.
    pub fn set(&mut self, day: i64, like: Weekday) {
        self.days.insert(day, like);
    }

    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// Where a special target, or one whose day before or week before was special, finds a day of its kind.
    pub(crate) fn alike(&self, grid: &DayGrid, target: usize, origin: usize) -> Option<usize> {
        let day = grid.day(target);
        let odd = |day: i64| self.days.contains_key(&day);
        if !odd(day) && !odd(day - 1) && !odd(day - 7) {
            return None;
        }
        let kind = |day: i64| self.days.get(&day).copied().unwrap_or(Weekday::of(day));
        let wanted = kind(day);
        (1..=LOOK_BACK_DAYS)
            .filter(|back| kind(day - back) == wanted)
            .filter_map(|back| target.checked_sub(grid.bins_of_a_day() * usize::try_from(back).ok()?))
            .find(|source| *source <= origin)
    }
}

/// Which day a value of the series belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DayGrid {
    /// Seconds from 1970-01-01 in the workload's zone to the first value.
    pub(crate) start_seconds: i64,
    pub(crate) step_seconds: u32,
}

impl DayGrid {
    pub(crate) fn bins_of_a_day(self) -> usize {
        (86_400 / self.step_seconds.max(1)) as usize
    }

    fn day(self, index: usize) -> i64 {
        (self.start_seconds + index as i64 * i64::from(self.step_seconds)).div_euclid(86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holiday_is_read_from_the_last_sunday_and_the_day_after_from_its_own_kind() {
        let grid = DayGrid { start_seconds: 0, step_seconds: 3600 };
        let mut calendar = Calendar::default();
        // 1970-01-15 is a Thursday.
        calendar.set(14, Weekday::Sunday);
        let noon = |day: usize| day * 24 + 12;
        assert_eq!(calendar.alike(&grid, noon(14), noon(13)), Some(noon(10)), "the Sunday before");
        assert_eq!(calendar.alike(&grid, noon(15), noon(14)), Some(noon(8)), "Friday is read from Friday");
        assert_eq!(calendar.alike(&grid, noon(13), noon(12)), None);
        assert_eq!(calendar.alike(&grid, noon(21), noon(20)), Some(noon(7)), "not from the holiday");
    }
}
