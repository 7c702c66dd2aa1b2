//! Durations as Go writes them (`1h30m`, `10m`, `1.5s`), which flags and annotations of the peers use.

use crate::IntakeError;
use jiff::SignedDuration;

/// Reads a Go duration. `0` needs no unit; the sign is allowed as Go allows it.
pub fn go_duration(text: &str) -> Result<SignedDuration, IntakeError> {
    let bad = || {
        let shown: String = text.chars().take(64).collect();
        IntakeError::field(
            "duration",
            format!("\"{shown}\" is not a duration"),
            "write one such as 90s, 10m or 1h30m",
        )
    };
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() || text.len() > 64 {
        return Err(bad());
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        nanos = nanos.checked_add(part(number, unit).ok_or_else(bad)?).ok_or_else(bad)?;
        rest = tail;
    }
    let nanos = if negative { -nanos } else { nanos };
    // Go's own limit: nanoseconds in an i64, about 292 years.
    i64::try_from(nanos).map(SignedDuration::from_nanos).map_err(|_| bad())
}

fn part(number: &str, unit: &str) -> Option<i128> {
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (int, fraction) = number.split_once('.').unwrap_or((number, ""));
    if int.is_empty() && fraction.is_empty()
        || fraction.contains('.')
        || int.len() > 18
        || fraction.len() > 18
    {
        return None;
    }
    let whole: i128 = if int.is_empty() { 0 } else { int.parse().ok()? };
    let parts: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(whole.checked_mul(unit)? + parts * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        for (text, seconds) in
            [("10m", 600), ("1h30m", 5400), ("0", 0), ("1.5h", 5400), ("-2s", -2), ("3600s", 3600)]
        {
            assert_eq!(go_duration(text), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
        assert_eq!(go_duration("1.5ms"), Ok(SignedDuration::from_micros(1500)));
        for text in ["", "10", "m", "1d", "1h-3m", "9999999h99999999999999h", "1..2s"] {
            assert!(go_duration(text).is_err(), "{text}");
        }
    }
}
