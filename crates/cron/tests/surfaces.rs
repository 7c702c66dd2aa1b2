//! What each surface accepts and when its schedules fire, as tables.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use cron::{CronError, Dialect, Schedule, Window, WindowState, time_zone};
use jiff::Timestamp;
use jiff::tz::TimeZone;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn zone(name: &str) -> TimeZone {
    time_zone(name, &TimeZone::UTC).unwrap()
}

fn parse(text: &str, dialect: &Dialect) -> Result<Schedule, CronError> {
    Schedule::parse(text, dialect, &TimeZone::UTC)
}

#[test]
fn what_each_surface_accepts() {
    let [kubernetes, kapacity, rules] = [Dialect::KUBERNETES, Dialect::KAPACITY, Dialect::NODE_RULES];
    // The text, and whether Kubernetes, Kapacity and the node rules take it.
    let table = [
        ("0/30 * * * *", [true, true, true]),
        ("*/5 1-4,7 ? jan-MAR mon", [true, true, true]),
        ("0 9 * * 7", [false, false, true]),
        ("0 9 * * 5-7", [false, false, true]),
        ("0 9 1,, * *", [true, true, true]),
        ("@hourly", [true, true, false]),
        ("@midnight", [true, true, false]),
        ("@every 1h30m", [true, true, false]),
        ("TZ=Asia/Shanghai 0 9 * * *", [true, true, false]),
        ("CRON_TZ=Europe/Berlin @daily", [true, true, false]),
        ("0 0 9 * * *", [false, false, false]),
        ("0 9 * *", [false, false, false]),
        ("", [false, false, false]),
        ("60 * * * *", [false, false, false]),
        ("* 24 * * *", [false, false, false]),
        ("* * 0 * *", [false, false, false]),
        ("* * L * *", [false, false, false]),
        ("* * * 13 *", [false, false, false]),
        ("5-3 * * * *", [false, false, false]),
        ("*/0 * * * *", [false, false, false]),
        (", * * * *", [false, false, false]),
        ("1-2-3 * * * *", [false, false, false]),
        ("1/2/3 * * * *", [false, false, false]),
        ("+5 * * * *", [false, false, false]),
        ("@reboot", [false, false, false]),
        ("@every soon", [false, false, false]),
        ("@every 0s", [false, false, false]),
        ("CRON_TZ=Nowhere/Land 0 9 * * *", [false, false, false]),
        ("CRON_TZ=UTC", [false, false, false]),
    ];
    for (text, accepted) in table {
        for (dialect, expected) in [kubernetes, kapacity, rules].iter().zip(accepted) {
            let answer = parse(text, dialect);
            assert_eq!(answer.is_ok(), expected, "{text:?} in {}: {answer:?}", dialect.name);
        }
    }
}

#[test]
fn an_error_names_the_field_and_what_is_wrong() {
    let told = |text: &str, dialect: &Dialect| parse(text, dialect).unwrap_err().to_string();
    assert_eq!(
        told("0 9 * * 7", &Dialect::KAPACITY),
        r#"schedule "0 9 * * 7": day of week "7": end of range (7) above maximum (6)"#
    );
    assert_eq!(
        told("0 25 * * *", &Dialect::KUBERNETES),
        r#"schedule "0 25 * * *": hour "25": end of range (25) above maximum (23)"#
    );
    assert_eq!(
        told("0 9 * * * *", &Dialect::NODE_RULES),
        "schedule \"0 9 * * * *\": expected 5 fields (minute, hour, day of month, month, day of week), found 6"
    );
    assert_eq!(
        told("@daily", &Dialect::NODE_RULES),
        r#"schedule "@daily": a descriptor is not supported by HorizontalNodeAutoscaler; write five fields"#
    );
    assert_eq!(
        told("TZ=Mars 0 9 * * *", &Dialect::KAPACITY),
        r#"time zone "Mars" is unknown; name one of the IANA database, such as Asia/Shanghai, or UTC"#
    );
    assert!(told(&"1,".repeat(300), &Dialect::KUBERNETES).ends_with("longer than 512 characters"));
}

#[test]
fn next_times() {
    let table = [
        ("0/15 * * * *", "2012-07-09T14:59:59Z", Some("2012-07-09T15:00:00Z")),
        ("5/15 * * * *", "2012-07-09T15:50:00Z", Some("2012-07-09T16:05:00Z")),
        ("20-35/15 * * * *", "2012-07-09T23:46:00Z", Some("2012-07-10T00:20:00Z")),
        ("30 8 ? Jul Sun", "2012-07-15T08:29:59Z", Some("2012-07-15T08:30:00Z")),
        ("30 8 15 Jul ?", "2012-07-15T08:30:00Z", Some("2013-07-15T08:30:00Z")),
        ("0 0 */5 Oct Mon", "2012-07-09T23:35:00Z", Some("2012-10-01T00:00:00Z")),
        ("0 0 * Feb Mon/2", "2012-07-09T23:35:00Z", Some("2013-02-01T00:00:00Z")),
        // Both day fields restricted: either matches. A star with a step restricts.
        ("* * 1,15 * Sun", "2012-06-14T23:59:00Z", Some("2012-06-15T00:00:00Z")),
        ("* * */10 * Sun", "2012-07-14T23:59:00Z", Some("2012-07-15T00:00:00Z")),
        ("* * 1,15 * *", "2012-07-09T00:00:00Z", Some("2012-07-15T00:00:00Z")),
        ("0 0 29 Feb ?", "2012-07-09T23:35:00Z", Some("2016-02-29T00:00:00Z")),
        ("0 0 29 Feb ?", "2096-03-01T00:00:00Z", Some("2104-02-29T00:00:00Z")),
        ("0 0 30 Feb ?", "2012-07-09T23:35:00Z", None),
        ("0 0 31 Apr ?", "2012-07-09T23:35:00Z", None),
        ("@weekly", "2012-07-07T23:59:00Z", Some("2012-07-08T00:00:00Z")),
        ("@every 10m", "2012-07-07T10:05:00.7Z", Some("2012-07-07T10:15:00Z")),
        ("CRON_TZ=Asia/Kolkata 14 14 * * *", "2016-01-03T07:39:03Z", Some("2016-01-03T08:44:00Z")),
    ];
    for (text, after, expected) in table {
        let next = parse(text, &Dialect::KUBERNETES).unwrap().next_after(at(after));
        assert_eq!(next, expected.map(at), "{text} after {after}");
    }
}

#[test]
fn last_times() {
    let table = [
        ("0 9 * * 1-5", "2026-11-22T12:00:00Z", Some("2026-11-20T09:00:00Z")),
        ("0 9 * * 1-5", "2026-11-20T09:00:00Z", Some("2026-11-20T09:00:00Z")),
        ("30 23 * * *", "2026-11-20T23:29:59Z", Some("2026-11-19T23:30:00Z")),
        ("15,45 6,18 * * *", "2026-11-20T18:20:00Z", Some("2026-11-20T18:15:00Z")),
        ("15,45 6,18 * * *", "2026-11-20T18:10:00Z", Some("2026-11-20T06:45:00Z")),
        ("0 0 29 2 *", "2027-01-01T00:00:00Z", Some("2024-02-29T00:00:00Z")),
        ("0 0 30 2 *", "2027-01-01T00:00:00Z", None),
        ("@every 10m", "2027-01-01T00:00:00Z", None),
    ];
    for (text, until, expected) in table {
        let last = parse(text, &Dialect::KUBERNETES).unwrap().last_until(at(until));
        assert_eq!(last, expected.map(at), "{text} until {until}");
    }
}

/// Clocks go forward on 2012-03-11 at 02:00 in New York, and back on 2012-11-04 at 02:00.
#[test]
fn clock_changes_by_dialect() {
    // The schedule, the moment, and the next times of Kubernetes and of the other dialects.
    let table = [
        ("30 2 * * *", "2012-03-11T00:00:00-05", "2012-03-12T02:30:00-04", "2012-03-11T03:00:00-04"),
        ("0 2 * * *", "2012-03-11T00:00:00-05", "2012-03-12T02:00:00-04", "2012-03-11T03:00:00-04"),
        ("30 2 * * *", "2012-03-11T03:00:00-04", "2012-03-12T02:30:00-04", "2012-03-12T02:30:00-04"),
        ("0 * * * *", "2012-03-11T01:00:00-05", "2012-03-11T03:00:00-04", "2012-03-11T03:00:00-04"),
        ("30 * * * *", "2012-03-11T01:30:00-05", "2012-03-11T03:30:00-04", "2012-03-11T03:30:00-04"),
        ("0 1 * * *", "2012-11-04T00:00:00-04", "2012-11-04T01:00:00-04", "2012-11-04T01:00:00-04"),
        ("0 1 * * *", "2012-11-04T01:00:00-04", "2012-11-04T01:00:00-05", "2012-11-05T01:00:00-05"),
        ("0 * * * *", "2012-11-04T01:00:00-04", "2012-11-04T01:00:00-05", "2012-11-04T01:00:00-05"),
        ("0 */1 * * *", "2012-11-04T01:00:00-04", "2012-11-04T01:00:00-05", "2012-11-04T01:00:00-05"),
        ("0 2 * * *", "2012-11-04T01:30:00-05", "2012-11-04T02:00:00-05", "2012-11-04T02:00:00-05"),
    ];
    for (text, after, literal, once) in table {
        let new_york = zone("America/New_York");
        for (dialect, expected) in
            [(Dialect::KUBERNETES, literal), (Dialect::KAPACITY, once), (Dialect::NODE_RULES, once)]
        {
            let next = Schedule::parse(text, &dialect, &new_york).unwrap().next_after(at(after));
            assert_eq!(next, Some(at(expected)), "{text} after {after} in {}", dialect.name);
        }
    }
    // A midnight that does not exist.
    let sao_paulo = zone("America/Sao_Paulo");
    let daily = Schedule::parse("0 0 * * *", &Dialect::KAPACITY, &sao_paulo).unwrap();
    assert_eq!(daily.next_after(at("2018-11-03T12:00:00-03")), Some(at("2018-11-04T01:00:00-02")));
    assert_eq!(daily.last_until(at("2018-11-04T12:00:00-02")), Some(at("2018-11-04T01:00:00-02")));
}

#[test]
fn windows_of_cron_portraits() {
    let open = |until: &str| WindowState::Open { until: at(until) };
    let closed = |opens: &str| WindowState::Closed { opens: Some(at(opens)) };
    let shanghai = ("CRON_TZ=Asia/Shanghai 0 18 * * *", "CRON_TZ=Asia/Shanghai 0 19 * * *");
    let table = [
        ("2026-11-23T10:00:00Z", ("0 * * * *", "10 * * * *"), open("2026-11-23T10:10:00Z")),
        ("2026-11-23T09:59:59.9Z", ("0 * * * *", "10 * * * *"), closed("2026-11-23T10:00:00Z")),
        ("2026-11-23T10:09:59.999Z", ("0 * * * *", "10 * * * *"), open("2026-11-23T10:10:00Z")),
        ("2026-11-23T10:10:00Z", ("0 * * * *", "10 * * * *"), closed("2026-11-23T11:00:00Z")),
        ("2026-11-23T10:05:00Z", ("0 * * * *", "0 * * * *"), closed("2026-11-23T11:00:00Z")),
        ("2026-11-23T23:05:00Z", ("0 22 * * *", "0 6 * * *"), open("2026-11-24T06:00:00Z")),
        ("2026-11-23T05:59:59Z", ("0 22 * * *", "0 6 * * *"), open("2026-11-23T06:00:00Z")),
        ("2026-11-23T06:00:00Z", ("0 22 * * *", "0 6 * * *"), closed("2026-11-23T22:00:00Z")),
        ("2026-11-23T10:05:00Z", ("0 9 * * 1-5", "0 18 * * 1-5"), open("2026-11-23T18:00:00Z")),
        ("2026-11-28T10:05:00Z", ("0 9 * * 1-5", "0 18 * * 1-5"), closed("2026-11-30T09:00:00Z")),
        ("2026-11-23T12:00:00Z", ("0/30 * * * *", "15/30 * * * *"), open("2026-11-23T12:15:00Z")),
        ("2026-11-23T12:10:00Z", ("0/30 * * * *", "15/30 * * * *"), open("2026-11-23T12:15:00Z")),
        ("2026-11-23T12:20:00Z", ("0/30 * * * *", "15/30 * * * *"), closed("2026-11-23T12:30:00Z")),
        ("2026-11-23T10:05:00Z", ("@hourly", "@every 10m"), open("2026-11-23T10:15:00Z")),
        ("2026-11-23T10:05:00Z", shanghai, open("2026-11-23T11:00:00Z")),
        ("2026-11-23T12:00:00Z", ("0 0 * * ?", "* * * * ?"), open("2026-11-23T12:01:00Z")),
        ("2026-11-23T12:00:00Z", ("0 0 * * ?", "0 0 * * ?"), closed("2026-11-24T00:00:00Z")),
        ("2026-11-23T12:00:00Z", ("0 0 30 2 *", "0 * * * *"), WindowState::Closed { opens: None }),
        ("2026-11-23T12:00:00Z", ("0 * * * *", "0 0 30 2 *"), WindowState::Endless),
    ];
    for (moment, (start, end), expected) in table {
        let window = Window::parse(start, end, &Dialect::KAPACITY, &TimeZone::UTC).unwrap();
        assert_eq!(window.at(at(moment)), expected, "{start} to {end} at {moment}");
    }
}

/// A nightly window neither vanishes in spring nor closes and opens again in autumn.
#[test]
fn windows_across_clock_changes() {
    let new_york = zone("America/New_York");
    let nightly = Window::parse("30 1 * * *", "30 2 * * *", &Dialect::KAPACITY, &new_york).unwrap();
    let open = |from: &str, moment: &str| {
        assert!(matches!(nightly.at(at(moment)), WindowState::Open { .. }), "{from}: open at {moment}");
    };
    open("spring", "2012-03-11T01:45:00-05");
    assert!(matches!(nightly.at(at("2012-03-11T03:00:00-04")), WindowState::Closed { .. }));
    open("autumn", "2012-11-04T01:45:00-04");
    open("autumn", "2012-11-04T01:15:00-05");
    open("autumn", "2012-11-04T01:45:00-05");
    assert!(matches!(nightly.at(at("2012-11-04T02:30:00-05")), WindowState::Closed { .. }));
}

#[test]
fn times_one_after_another() {
    let schedule = parse("0 12 * * 7", &Dialect::NODE_RULES).unwrap();
    let times: Vec<Timestamp> = schedule.after(at("2026-11-23T00:00:00Z")).take(3).collect();
    assert_eq!(times, [at("2026-11-29T12:00:00Z"), at("2026-12-06T12:00:00Z"), at("2026-12-13T12:00:00Z")]);
    assert_eq!(schedule.to_string(), "0 12 * * 7");
}
