//! Reads a schedule text: prefix, descriptor, or five fields of comma-separated numbers, names, ranges and steps.
//!
//! Owns what is accepted, by dialect, and the explanation of what is not. Grammar and messages about numbers are
//! those of the Go library that Kubernetes and Kapacity use, since users know them.

use crate::calendar::{Calendar, Field};
use crate::{CronError, Dialect, Times, time_zone};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

/// Longer than any schedule that a person writes: 60 minutes listed one by one take 170.
const LONGEST_TEXT: usize = 512;

/// One of the five fields: its name, its bounds and the names of its values.
struct Kind {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTE: Kind = Kind { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: Kind = Kind { name: "hour", min: 0, max: 23, names: &[] };
const DAY_OF_MONTH: Kind = Kind { name: "day of month", min: 1, max: 31, names: &[] };
const MONTH: Kind = Kind {
    name: "month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const DAY_OF_WEEK: Kind =
    Kind { name: "day of week", min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

pub(crate) fn schedule(text: &str, dialect: &Dialect, zone: &TimeZone) -> Result<Times, CronError> {
    if text.len() > LONGEST_TEXT {
        let begin = text.chars().take(40).collect();
        return Err(CronError::TooLong { text: begin, limit: LONGEST_TEXT });
    }
    let not_here = |what| CronError::NotInDialect { text: text.to_owned(), what, dialect: dialect.name };
    let (zone, rest) = match prefix(text) {
        Some(_) if !dialect.zone_prefix => return Err(not_here("a time zone in the schedule")),
        Some((name, rest)) => (time_zone(name, zone)?, rest),
        None => (zone.clone(), text),
    };
    let rest = rest.trim();
    if !rest.starts_with('@') {
        return Ok(Times::Calendar(Box::new(calendar(text, rest, dialect)?), zone));
    }
    if let Some(duration) = rest.strip_prefix("@every ") {
        if !dialect.every {
            return Err(not_here("@every"));
        }
        return every(text, duration.trim()).map(Times::Every);
    }
    let fields = match rest {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return Err(CronError::Descriptor { text: text.to_owned() }),
    };
    if !dialect.descriptors {
        return Err(not_here("a descriptor"));
    }
    Ok(Times::Calendar(Box::new(calendar(text, fields, dialect)?), zone))
}

/// The zone's name and what follows it.
fn prefix(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ="))?;
    Some(rest.split_once(char::is_whitespace).unwrap_or((rest, "")))
}

fn every(text: &str, duration: &str) -> Result<SignedDuration, CronError> {
    let refused = |problem: String| CronError::Every { text: text.to_owned(), problem };
    let duration: SignedDuration =
        duration.parse().map_err(|error: jiff::Error| refused(error.to_string()))?;
    if duration < SignedDuration::from_secs(1) {
        return Err(refused("it is shorter".to_owned()));
    }
    // Whole seconds, as every time of a schedule is.
    Ok(SignedDuration::from_secs(duration.as_secs()))
}

fn calendar(text: &str, rest: &str, dialect: &Dialect) -> Result<Calendar, CronError> {
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let [minute, hour, day_of_month, month, day_of_week] = fields[..] else {
        return Err(CronError::FieldCount { text: text.to_owned(), found: fields.len() });
    };
    let read = |written: &str, kind: &Kind| field(text, written, kind, dialect);
    Ok(Calendar {
        minute: read(minute, &MINUTE)?,
        hour: read(hour, &HOUR)?,
        day_of_month: read(day_of_month, &DAY_OF_MONTH)?,
        month: read(month, &MONTH)?,
        day_of_week: read(day_of_week, &DAY_OF_WEEK)?,
        daylight: dialect.daylight,
    })
}

fn field(text: &str, written: &str, kind: &Kind, dialect: &Dialect) -> Result<Field, CronError> {
    let refused = |entry: &str, problem: String| CronError::Field {
        text: text.to_owned(),
        field: kind.name,
        entry: entry.to_owned(),
        problem,
    };
    let mut whole = Field { bits: 0, any: false, steps: false };
    for entry in written.split(',').filter(|entry| !entry.is_empty()) {
        let read = range(entry, kind, dialect).map_err(|problem| refused(entry, problem))?;
        whole.bits |= read.bits;
        whole.any |= read.any;
        whole.steps |= read.steps;
    }
    if whole.bits == 0 {
        return Err(refused(written, "no value is named".to_owned()));
    }
    Ok(whole)
}

/// One entry of a list: `*`, a value, a range, each with an optional step.
fn range(entry: &str, kind: &Kind, dialect: &Dialect) -> Result<Field, String> {
    let (span, step) = match entry.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err("too many slashes".to_owned()),
        Some((span, step)) => (span, Some(number(step)?)),
        None => (entry, None),
    };
    let star = matches!(span, "*" | "?");
    let last = if kind.max == 6 && dialect.sunday_is_seven_too { 7 } else { kind.max };
    let (start, end) = match span.split_once('-') {
        _ if star => (kind.min, kind.max),
        Some((_, end)) if end.contains('-') => return Err("too many hyphens".to_owned()),
        Some((start, end)) => (value(start, kind)?, value(end, kind)?),
        None => {
            let start = value(span, kind)?;
            // `5/15` means from 5 to the end in steps of 15.
            (start, if step.is_some() { kind.max } else { start })
        }
    };
    if start < kind.min {
        return Err(format!("beginning of range ({start}) below minimum ({})", kind.min));
    }
    if end > last {
        return Err(format!("end of range ({end}) above maximum ({last})"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end})"));
    }
    let width = match step {
        Some(0) => return Err("step of range should be a positive number".to_owned()),
        Some(step) => step,
        None => 1,
    };
    let mut bits = 0_u64;
    for at in (start..=end).step_by(width as usize) {
        // Sunday has one bit, whichever number it was given.
        bits |= 1 << if last == 7 { at % 7 } else { at };
    }
    // A star with a step restricts, as in the library: `*/2` in a day field counts as written days.
    Ok(Field { bits, any: star && width == 1, steps: star || step.is_some() })
}

fn value(text: &str, kind: &Kind) -> Result<u32, String> {
    let name = kind.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    match name {
        Some(place) => Ok(place as u32 + kind.min),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) || text.len() > 4 {
        return Err(format!("{text:?} is not a number of this field"));
    }
    text.parse().map_err(|_| format!("{text:?} is not a number of this field"))
}
