//! A length of time as a scenario writes it: `90s`, `15m`, `1d 12h`, or a bare number of seconds.
//!
//! Owns only the reading and the printing; days are 24 hours, because a scenario runs in UTC.

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// No scenario needs more: two years of seconds.
pub(super) const LONGEST_SECONDS: u64 = 2 * 366 * 86_400;

/// A non-negative length of time, in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub seconds: u64,
}

impl Span {
    pub const fn seconds(seconds: u64) -> Self {
        Self { seconds }
    }

    pub const fn minutes(minutes: u64) -> Self {
        Self { seconds: minutes * 60 }
    }

    pub const fn hours(hours: u64) -> Self {
        Self { seconds: hours * 3600 }
    }

    pub const fn days(days: u64) -> Self {
        Self { seconds: days * 86_400 }
    }

    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(self.seconds).unwrap_or(i64::MAX))
    }

    /// Reads `1d12h`, `1d 12h`, `90s`, `90`; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a length of time: write it as 90s, 15m, 6h or 1d 12h");
        let mut total: u64 = 0;
        let mut digits = String::new();
        let mut any = false;
        for c in text.chars() {
            match c {
                '0'..='9' if digits.len() < 12 => digits.push(c),
                ' ' if digits.is_empty() => {}
                'd' | 'h' | 'm' | 's' if !digits.is_empty() => {
                    let unit = match c {
                        'd' => 86_400,
                        'h' => 3600,
                        'm' => 60,
                        _ => 1,
                    };
                    let count: u64 = digits.parse().map_err(|_| wrong())?;
                    total = total.saturating_add(count.saturating_mul(unit));
                    digits.clear();
                    any = true;
                }
                _ => return Err(wrong()),
            }
        }
        if !digits.is_empty() {
            if any {
                return Err(wrong());
            }
            total = digits.parse().map_err(|_| wrong())?;
            any = true;
        }
        if !any {
            return Err(wrong());
        }
        if total > LONGEST_SECONDS {
            return Err(format!("\"{text}\" is too long: at most {}", Self::seconds(LONGEST_SECONDS)));
        }
        Ok(Self { seconds: total })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seconds == 0 {
            return f.write_str("0s");
        }
        let parts = [
            (self.seconds / 86_400, "d"),
            (self.seconds % 86_400 / 3600, "h"),
            (self.seconds % 3600 / 60, "m"),
            (self.seconds % 60, "s"),
        ];
        let mut first = true;
        for (count, unit) in parts {
            if count > 0 {
                write!(f, "{}{count}{unit}", if first { "" } else { " " })?;
                first = false;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(text.trim()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_what_they_print() {
        for text in ["0s", "90s", "15m", "1d 12h", "149d 8h 1m 2s"] {
            let span = Span::parse(text).unwrap();
            assert_eq!(Span::parse(&span.to_string()).unwrap(), span);
        }
        assert_eq!(Span::parse("1d12h").unwrap(), Span::hours(36));
        assert_eq!(Span::parse("45").unwrap(), Span::seconds(45));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "d", "-5m", "5 m", "10y", "1h30", "99999999999999999d", "9999d"] {
            let error = Span::parse(text).unwrap_err();
            assert!(error.contains("length of time") || error.contains("too long"), "{text}: {error}");
        }
    }
}
