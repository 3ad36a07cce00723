//! Times: RFC 3339 text, and JSON as the recorder API takes it.

use common::time::Timestamp;
use serde_json::value::RawValue;

/// Numbers with more digits are not computed a second time.
const MANTISSA_DIGITS_MAX: usize = 20;

/// What is printed of a time that was read is read as the same time; numbers are what plain
/// decimal arithmetic makes of them.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(time) = Timestamp::parse_rfc3339(text) {
        assert_eq!(Timestamp::parse_rfc3339(&time.to_string()), Ok(time), "{text}");
        check_json_of(time);
    }
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return };
    let read = Timestamp::from_json(raw.get());
    assert_eq!(read.ok(), serde_json::from_str(text).ok());
    if let Ok(time) = read {
        check_json_of(time);
    }
    if let Some(expected) = truncated_micros(raw.get()) {
        assert_eq!(read.ok().map(Timestamp::micros), expected, "{text}");
    }
}

fn check_json_of(time: Timestamp) {
    let json = serde_json::to_string(&time).expect("every time can be written");
    assert_eq!(Timestamp::from_json(&json), Ok(time), "{json}");
}

/// The microseconds that a JSON number of milliseconds stands for, cut towards zero, or that they
/// are out of range; `None` for what is no number, or one of too many digits.
fn truncated_micros(json: &str) -> Option<Option<i64>> {
    let (mantissa, exponent) = json.split_once(['e', 'E']).unwrap_or((json, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.len() > MANTISSA_DIGITS_MAX {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let shift = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(3)?;
    let power = |digits: u64| 10_i128.checked_pow(u32::try_from(digits).ok()?);
    let micros = match power(shift.unsigned_abs()) {
        _ if value == 0 => Some(0),
        Some(power) if shift < 0 => Some(value / power),
        Some(power) => value.checked_mul(power),
        None if shift < 0 => Some(0),
        None => None,
    };
    // The least of all i64 is out of range as well: a magnitude is read first, then its sign.
    let magnitude = micros.and_then(|micros| i64::try_from(micros.abs()).ok());
    Some(magnitude.map(|magnitude| if value < 0 { -magnitude } else { magnitude }))
}
