//! Kubernetes quantities, read into integers.
//!
//! The grammar is that of `resource.Quantity`: a decimal number, then a binary suffix (`Ki` to `Ei`), a decimal one
//! (`n` to `E`) or an exponent. Fractions of the unit asked for are rounded up, as the API server rounds them.

use crate::IntakeError;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::{Bytes, MicroUsdPerHour, MilliCpu, ResourceName, Resources};
use std::collections::BTreeMap;

/// Longer texts are no quantities.
const LONGEST: usize = 64;

const FIX: &str = "write a number such as 500m, 2, 1.5Gi";

/// Reads a quantity in thousandths, rounded up: `100m` is 100, `2` is 2000.
pub fn milli(text: &str) -> Result<u64, IntakeError> {
    scaled(text, 3)
}

/// Reads a quantity in whole units, rounded up: `1Ki` is 1024, `100m` is 1.
pub fn whole(text: &str) -> Result<u64, IntakeError> {
    scaled(text, 0)
}

/// Price in US dollars an hour.
pub fn micro_usd(text: &str) -> Result<MicroUsdPerHour, IntakeError> {
    scaled(text, 6).map(MicroUsdPerHour)
}

/// Reads a resource list; unknown names become extended resources.
pub fn resources(list: &BTreeMap<String, Quantity>) -> Result<Resources, IntakeError> {
    let mut out = Resources::default();
    for (name, Quantity(text)) in list {
        let at = |error: IntakeError| error.under(name);
        match name.as_str() {
            "cpu" => out.cpu = MilliCpu(milli(text).map_err(at)?),
            "memory" => out.memory = Bytes(whole(text).map_err(at)?),
            "ephemeral-storage" => out.ephemeral_storage = Bytes(whole(text).map_err(at)?),
            "pods" => out.pods = u32::try_from(whole(text).map_err(at)?).unwrap_or(u32::MAX),
            _ => {
                let amount = whole(text).map_err(at)?;
                if amount > 0 {
                    out.extended.insert(ResourceName::new(name), amount);
                }
            }
        }
    }
    Ok(out)
}

fn bad(text: &str, problem: &str) -> IntakeError {
    let shown: String = text.chars().take(LONGEST).collect();
    IntakeError::field("quantity", format!("\"{shown}\" {problem}"), FIX)
}

/// `text` × 10^`digits`, rounded up. More than an i64 holds is refused, as the API server caps there.
fn scaled(text: &str, digits: i32) -> Result<u64, IntakeError> {
    if text.len() > LONGEST {
        return Err(bad(text, "is too long for a quantity"));
    }
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, unsigned) = match number.as_bytes().first() {
        Some(b'-') => (true, &number[1..]),
        Some(b'+') => (false, &number[1..]),
        _ => (false, number),
    };
    let (int, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let only_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if int.len() + fraction.len() == 0 || !only_digits(int) || !only_digits(fraction) {
        return Err(bad(text, "is not a quantity"));
    }
    let (binary, exponent) = suffix_of(suffix).ok_or_else(|| bad(text, "has an unknown suffix"))?;
    let fraction = fraction.trim_end_matches('0');
    let int = int.trim_start_matches('0');
    let mantissa = format!("{int}{fraction}");
    if mantissa.is_empty() {
        return Ok(0);
    }
    if negative {
        return Err(bad(text, "is negative"));
    }
    let too_large = || bad(text, "is larger than a quantity can be");
    let mantissa: u128 = mantissa.parse().map_err(|_| too_large())?;
    let power = exponent + digits - i32::try_from(fraction.len()).map_err(|_| too_large())?;
    let value = mantissa.checked_mul(1_u128 << binary).ok_or_else(too_large)?;
    let value = if power >= 0 {
        10_u128.checked_pow(power.unsigned_abs()).and_then(|p| value.checked_mul(p)).ok_or_else(too_large)?
    } else {
        // Beyond 10^38 every representable number rounds up to one.
        10_u128.checked_pow(power.unsigned_abs()).map_or(1, |p| value.div_ceil(p))
    };
    u64::try_from(value).ok().filter(|v| i64::try_from(*v).is_ok()).ok_or_else(too_large)
}

/// Binary power and decimal exponent of a suffix.
fn suffix_of(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            (0, exponent.parse::<i32>().ok().filter(|e| (-30..=30).contains(e))?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_the_api_server_reads_them() {
        let table = [
            ("100m", 100, 1),
            ("2", 2000, 2),
            ("1.5", 1500, 2),
            ("0.1m", 1, 1),
            ("1k", 1_000_000, 1000),
            ("1Ki", 1_024_000, 1024),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("12e3", 12_000_000, 12_000),
            ("1E2", 100_000, 100),
            ("500u", 1, 1),
            (".5", 500, 1),
            ("5.", 5000, 5),
            ("+1", 1000, 1),
            ("0", 0, 0),
            ("-0", 0, 0),
        ];
        for (text, in_milli, in_whole) in table {
            assert_eq!(milli(text), Ok(in_milli), "{text} in thousandths");
            assert_eq!(whole(text), Ok(in_whole), "{text} in units");
        }
    }

    #[test]
    fn absurd_quantities_are_refused_with_the_text() {
        for text in
            ["", "m", "-1", "1.2.3", "1Q", "--1", "1e99", "9223372036854775808", "99999999Ei", "1 Gi", "١"]
        {
            let error = whole(text).expect_err(text).to_string();
            assert!(error.contains("quantity") && error.contains("write a number"), "{text}: {error}");
        }
        assert!(whole(&"9".repeat(10_000)).is_err());
    }

    #[test]
    fn money_is_exact() {
        assert_eq!(micro_usd("0.3147484"), Ok(MicroUsdPerHour(314_749)));
        assert_eq!(micro_usd("12"), Ok(MicroUsdPerHour(12_000_000)));
    }
}
