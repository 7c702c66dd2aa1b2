//! Durations in flags and on the terminal, in Go's notation because the flags are Cluster Autoscaler's.

use jiff::SignedDuration;

/// Reads a wait: `90s`, `10m`, `1h30m`; never negative.
pub(crate) fn wait(text: &str) -> Result<SignedDuration, String> {
    let duration = intake::go_duration(text).map_err(|error| error.to_string())?;
    if duration.is_negative() {
        return Err(format!("\"{text}\" is negative; give 0s or more"));
    }
    Ok(duration)
}

/// Reads a span of the past: the same, or whole days such as `14d`; never nothing.
pub(crate) fn past(text: &str) -> Result<SignedDuration, String> {
    let span = match text.strip_suffix('d').map(str::parse::<u16>) {
        Some(Ok(days)) => SignedDuration::from_hours(24 * i64::from(days)),
        Some(Err(_)) => return Err(format!("\"{text}\" is no duration; write one such as 14d or 36h")),
        None => wait(text)?,
    };
    if span.is_zero() {
        Err(format!("\"{text}\" is nothing; write one such as 14d or 36h"))
    } else {
        Ok(span)
    }
}

/// Writes whole seconds the way people write flags: `90s` as `1m30s`, nothing as `0s`.
pub(crate) fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let mut text = String::new();
    for (amount, unit) in [(seconds / 3600, 'h'), (seconds % 3600 / 60, 'm'), (seconds % 60, 's')] {
        if amount > 0 {
            text.push_str(&amount.to_string());
            text.push(unit);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_form_reads_back_and_negative_waits_are_refused() {
        for text in ["0s", "1m30s", "10m", "1h30m", "2h"] {
            assert_eq!(short(wait(text).unwrap()), text);
        }
        assert!(wait("-5s").unwrap_err().contains("negative"));
        assert!(wait("10").is_err());
        assert_eq!(past("14d").unwrap().as_hours(), 336);
        assert_eq!(past("36h").unwrap().as_hours(), 36);
        assert!(past("0d").is_err() && past("manyd").unwrap_err().contains("14d"));
    }
}
