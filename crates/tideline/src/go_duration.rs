//! Durations as Go programs write them (`10m`, `1h30m`, `1.5s`), because the flags are Cluster Autoscaler's.
//!
//! Owns reading and writing that notation; which flag means what is `policy_flags`' business.

use jiff::SignedDuration;

/// Units, longest name first where one is the beginning of another.
const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration that is not negative. A bare number is refused, as Go does, `0` apart.
pub(crate) fn parse(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("\"{text}\" is not a duration; write it as 90s, 10m or 1h30m");
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if text.starts_with('-') {
        return Err(format!("\"{text}\" is negative; a wait of 0s or more is expected"));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = amount(number, *nanoseconds).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    // Ten thousand years is a slip of the hand, and keeps every later sum inside a timestamp's range.
    let longest = 24 * 365 * 10_000 * 3_600_000_000_000_i128;
    if total > longest {
        return Err(format!("\"{text}\" is longer than ten thousand years"));
    }
    let seconds = i64::try_from(total / 1_000_000_000).map_err(|_| wrong())?;
    Ok(SignedDuration::new(seconds, (total % 1_000_000_000) as i32))
}

/// `1.25` of a unit, in nanoseconds; at most nine places are looked at.
fn amount(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut sum = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()?.checked_mul(unit)? };
    let mut scale = unit;
    for digit in fraction.chars().take(9) {
        scale /= 10;
        sum = sum.checked_add(i128::from(digit.to_digit(10)?) * scale)?;
    }
    Some(sum)
}

/// Writes whole seconds the way people write flags: `90s`, `10m`, `1h30m`.
pub(crate) fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds % 3600 / 60, "m"), (seconds % 60, "s")];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let table = [
            ("0", Some(0)),
            ("10m", Some(600_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            (".5m", Some(30_000)),
            ("250ms", Some(250)),
            ("10", None),
            ("", None),
            ("m", None),
            ("1.2.3s", None),
            ("-5s", None),
            ("10min", None),
            ("99999999999999999999h", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).ok().map(|d| d.as_millis()), expected, "{text}");
        }
    }

    #[test]
    fn short_form_reads_back() {
        for text in ["0s", "90s", "10m", "1h30m", "2h", "1m30s"] {
            let duration = parse(text).unwrap();
            assert_eq!(parse(&short(duration)).unwrap(), duration);
        }
        assert_eq!(short(SignedDuration::from_secs(90)), "1m30s");
    }
}
