//! How long ago, in the short form of `kubectl`.

use crate::store::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Time since creation.
pub(super) fn of(object: &Object, now: Timestamp) -> Value {
    json!(since(object.text("metadata.creationTimestamp"), now))
}

/// Time since a moment in RFC 3339; `<unknown>` without one.
pub(super) fn since(moment: Option<&str>, now: Timestamp) -> String {
    match moment.and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(moment) => short(now.duration_since(moment).as_secs()),
        None => "<unknown>".to_owned(),
    }
}

/// A span with as many units as matter at its length.
pub(super) fn short(seconds: i64) -> String {
    // A clock that is a little ahead shows nothing negative.
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (601, "10m"),
            (10_860, "3h1m"),
            (90_000, "25h"),
            (176_400, "2d1h"),
            (864_000, "10d"),
        ] {
            assert_eq!(super::short(seconds), text);
        }
    }
}
