//! Random schedules: next and last agree with each other, and both with another library.

#![allow(clippy::unwrap_used, reason = "strategies of tests fail the test")]

use cron::{Dialect, Schedule};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let value = min..=max;
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => value.clone().prop_map(|at| at.to_string()),
        1 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (2_u32..9).prop_map(|step| format!("*/{step}")),
        1 => (value.clone(), value).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

fn schedule() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (1_600_000_000_i64..1_900_000_000).prop_map(|second| Timestamp::from_second(second).unwrap())
}

const ZONES: [&str; 6] = [
    "UTC",
    "America/New_York",
    "Asia/Shanghai",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Sao_Paulo",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_another_library_has_it(text in schedule(), moment in moment()) {
        let days: Vec<&str> = text.split(' ').collect();
        // Where one day field steps and the other is restricted the libraries read the star differently.
        prop_assume!(!days[2].starts_with("*/") && !days[4].starts_with("*/"));
        let ours = Schedule::parse(&text, &Dialect::KUBERNETES, &TimeZone::UTC).unwrap();
        let theirs: croner::Cron = text.parse().unwrap();
        let next = theirs.find_next_occurrence(&moment.to_zoned(TimeZone::UTC), false).unwrap();
        prop_assert_eq!(ours.next_after(moment), Some(next.timestamp()));
        let last = theirs.find_previous_occurrence(&moment.to_zoned(TimeZone::UTC), true).unwrap();
        prop_assert_eq!(ours.last_until(moment), Some(last.timestamp()));
    }

    #[test]
    fn nothing_lies_between_last_and_next(text in schedule(), moment in moment(), place in 0..ZONES.len()) {
        let zone = TimeZoneDatabase::bundled().get(ZONES[place]).unwrap();
        for dialect in [Dialect::KUBERNETES, Dialect::KAPACITY] {
            let schedule = Schedule::parse(&text, &dialect, &zone).unwrap();
            let next = schedule.next_after(moment).unwrap();
            prop_assert!(next > moment);
            let last = schedule.last_until(moment).unwrap();
            prop_assert!(last <= moment);
            prop_assert_eq!(schedule.next_after(last), Some(next));
            prop_assert_eq!(schedule.last_until(next - SignedDuration::from_nanos(1)), Some(last));
            prop_assert_eq!(schedule.last_until(next), Some(next));
        }
    }
}
