//! Samples from a file: two columns, a time and a value.
//!
//! Owns the format and what to say of a line that does not follow it.

use crate::error::CommandError;
use jiff::Timestamp;
use std::io::Read;
use std::path::Path;

/// Most bytes of a file, unpacked.
const MOST_BYTES: u64 = 1 << 30;

/// Reads `(seconds, value)` from a CSV file, through gzip where it is compressed. A first line that holds no time is a
/// header. Times are whole minutes from any start, or RFC 3339.
pub(crate) fn read(path: &Path) -> Result<Vec<(i64, f64)>, CommandError> {
    let fail = |source| CommandError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(fail)?.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let packed = std::mem::take(&mut bytes);
        flate2::read::MultiGzDecoder::new(&packed[..])
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
    }
    let name = path.display().to_string();
    if bytes.len() as u64 > MOST_BYTES {
        return Err(CommandError::Input(format!("{name} is longer than 1 GiB; give a shorter range")));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        CommandError::Input(format!("{name} is not UTF-8 text; give a CSV file (gzip or not)"))
    })?;
    parse(&text).map_err(|(line, what)| CommandError::Input(format!("{name}, line {line}: {what}")))
}

fn parse(text: &str) -> Result<Vec<(i64, f64)>, (usize, String)> {
    let mut samples: Vec<(i64, f64)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = number + 1;
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() {
            continue;
        }
        let cells: Vec<&str> = line.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
        let [when, value] = cells[..] else {
            return Err((at, format!("{} columns where two are wanted; write `time,value`", cells.len())));
        };
        let Some(seconds) = seconds(when) else {
            if samples.is_empty() && at == 1 {
                continue;
            }
            let fix = "write a whole minute such as 42, or RFC 3339 such as 2026-01-05T09:30:00Z";
            return Err((at, format!("\"{when}\" is no time; {fix}")));
        };
        let value = number_of(value).ok_or_else(|| {
            (
                at,
                format!(
                    "\"{value}\" is no value; write a number such as 12.5, or nothing where it is missing"
                ),
            )
        })?;
        if let Some((before, _)) = samples.last()
            && *before >= seconds
        {
            return Err((
                at,
                format!("\"{when}\" is not later than the line above; sort by time, one line a time"),
            ));
        }
        samples.push((seconds, value));
    }
    if samples.is_empty() {
        return Err((1, "no line with a time and a value; write `time,value` lines".to_owned()));
    }
    Ok(samples)
}

/// Minutes become seconds; more minutes than four centuries have are a time stamp in the wrong unit.
fn seconds(text: &str) -> Option<i64> {
    if let Ok(minute) = text.parse::<i64>() {
        return (0..=220_000_000).contains(&minute).then_some(minute * 60);
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

fn number_of(text: &str) -> Option<f64> {
    if text.is_empty() || text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite() && value.abs() < 1e30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_time_are_read_with_and_without_a_header() {
        let minutes = parse("minute,requests\n0,42\n1,\n2,7.5\n").unwrap();
        assert_eq!((minutes[0], minutes[2]), ((0, 42.0), (120, 7.5)));
        assert!(minutes[1].1.is_nan());
        let stamps = parse("2026-01-05T00:00:00Z,1\n2026-01-05T01:00:00+01:00,2\n");
        assert!(stamps.is_err(), "the same moment twice");
        assert_eq!(parse("\"2026-01-05T00:00:00Z\",1\n").unwrap(), [(1_767_571_200, 1.0)]);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_with_the_fix() {
        let complaint = |text: &str| parse(text).unwrap_err();
        assert_eq!(complaint("time,value\n0,1\nx,2\n").0, 3);
        assert!(complaint("0,1\n1,two\n").1.contains("12.5"));
        assert!(complaint("0,1\n0,2\n").1.contains("sort by time"));
        assert!(complaint("0,1,2\n").1.contains("time,value"));
        assert!(complaint("").1.contains("no line"));
        assert_eq!(complaint("0,1\n1767571200000,2\n").0, 2);
    }
}
