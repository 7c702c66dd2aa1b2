//! Times as senders write them: RFC 3339, or Go's default text.
//!
//! Owns the two notations and the zero time, which stands for "not known".

use super::shortened;
use jiff::Timestamp;

/// Go's zero time, which it prints where nothing was set.
const ZERO: &str = "0001-01-01T00:00:00Z";

/// A moment; `None` for an empty text and for Go's zero time.
pub(super) fn moment(text: &str) -> Result<Option<Timestamp>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let read =
        text.parse::<Timestamp>().ok().or_else(|| go_default(text)).ok_or_else(|| {
            format!("is \"{}\"; write RFC 3339, such as 2025-06-06T05:51:48Z", shortened(text))
        })?;
    let zero = ZERO.parse::<Timestamp>().ok();
    Ok(Some(read).filter(|_| Some(read) != zero))
}

/// `2025-06-06 05:51:48.5 +0000 UTC`, with a monotonic reading behind it at times.
fn go_default(text: &str) -> Option<Timestamp> {
    let mut words = text.split_whitespace();
    let (date, time, offset) = (words.next()?, words.next()?, words.next()?);
    let (hours, minutes) = (offset.get(..3)?, offset.get(3..)?);
    if minutes.len() != 2 || words.count() > 2 {
        return None;
    }
    format!("{date}T{time}{hours}:{minutes}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_and_the_zero_time_are_read() {
        let wanted: Timestamp = "2025-06-06T05:51:48Z".parse().unwrap();
        for text in [
            "2025-06-06T05:51:48Z",
            "2025-06-06T13:51:48+08:00",
            "2025-06-06 05:51:48 +0000 UTC",
            "2025-06-06 13:51:48 +0800 CST",
            "2025-06-06 05:51:48 +0000 UTC m=+12.5",
        ] {
            assert_eq!(moment(text), Ok(Some(wanted)), "{text}");
        }
        let fraction = moment("2025-06-06 05:51:48.25 +0000 UTC").unwrap().unwrap();
        assert_eq!(fraction.as_millisecond() - wanted.as_millisecond(), 250);
        for text in ["", "  ", ZERO, "0001-01-01 00:00:00 +0000 UTC"] {
            assert_eq!(moment(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn anything_else_is_shown_and_refused() {
        for text in ["yesterday", "2025-06-06", "2025-06-06 05:51:48", "2025-13-06T05:51:48Z", "a b +é"] {
            assert!(moment(text).unwrap_err().contains("RFC 3339"), "{text}");
        }
    }
}
