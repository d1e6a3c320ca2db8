//! Our own JSON, written digit by digit: no float, no tree of values. It knows nothing of the reader's side.

use meterlake_model::Timestamp;

use crate::message::Rows;

/// Most bytes of one reading, to reserve once.
const READING_BYTES: usize = 160;

/// One reading: `{"ts":"2026-11-01T00:15:00Z","energy_import_kwh":123.456}`. An empty object without rows.
pub fn single(rows: &Rows) -> Vec<u8> {
    let mut out = Vec::with_capacity(READING_BYTES);
    match rows.iter().next() {
        Some((ts, values)) => reading(&mut out, rows, ts, values),
        None => out.extend_from_slice(b"{}"),
    }
    out
}

/// Many readings of one meter: `{"readings":[{"ts":…},…]}`.
pub fn frame(rows: &Rows) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + rows.len() * READING_BYTES);
    out.extend_from_slice(b"{\"readings\":[");
    for (index, (ts, values)) in rows.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        reading(&mut out, rows, ts, values);
    }
    out.extend_from_slice(b"]}");
    out
}

/// The register of the first row under the field name of old firmware: `{"ts":…,"import":123.456}`.
pub fn old_firmware(rows: &Rows) -> Vec<u8> {
    let mut out = Vec::with_capacity(READING_BYTES);
    if let Some((ts, values)) = rows.iter().next() {
        out.extend_from_slice(b"{\"ts\":\"");
        utc(&mut out, ts);
        out.extend_from_slice(b"\",\"import\":");
        scaled(&mut out, values[0], rows.channels[0].scale());
        out.push(b'}');
    }
    out
}

fn reading(out: &mut Vec<u8>, rows: &Rows, ts: Timestamp, values: &[i64]) {
    out.extend_from_slice(b"{\"ts\":\"");
    utc(out, ts);
    out.push(b'"');
    for (channel, value) in rows.channels.iter().zip(values) {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(channel.name().as_bytes());
        out.extend_from_slice(b"\":");
        scaled(out, *value, channel.scale());
    }
    out.push(b'}');
}

/// An integer of 10^-`scale` as decimal text with all its decimals.
pub fn scaled(out: &mut Vec<u8>, value: i64, scale: u8) {
    let mut digits = [b'0'; 40];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    let mut written = 0;
    while rest > 0 || written <= scale {
        if written == scale && scale > 0 {
            at -= 1;
            digits[at] = b'.';
        }
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        written += 1;
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// An instant as `2026-11-01T00:15:00Z`, with microseconds only where there are some.
pub fn utc(out: &mut Vec<u8>, ts: Timestamp) {
    let seconds = ts.unix_seconds();
    let micros = ts.micros().rem_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    if !(0..=9999).contains(&year) {
        out.extend_from_slice(ts.to_string().as_bytes());
        return;
    }
    padded(out, year, 4);
    out.push(b'-');
    padded(out, month, 2);
    out.push(b'-');
    padded(out, day, 2);
    out.push(b'T');
    padded(out, second / 3600, 2);
    out.push(b':');
    padded(out, second / 60 % 60, 2);
    out.push(b':');
    padded(out, second % 60, 2);
    if micros > 0 {
        out.push(b'.');
        padded(out, micros, 6);
    }
    out.push(b'Z');
}

/// A non-negative number with leading zeros.
fn padded(out: &mut Vec<u8>, value: i64, width: usize) {
    let mut digits = [b'0'; 8];
    let mut rest = value;
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest.rem_euclid(10)).unwrap_or(0);
        rest /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar; years begin in March inside, so that
/// the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterlake_model::{Channel, MeterId, parse_scaled};
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_of_a_scale_keep_all_decimals() {
        for (value, scale, expected) in [
            (0, 0, "0"),
            (0, 3, "0.000"),
            (5, 3, "0.005"),
            (123_456, 3, "123.456"),
            (-1, 1, "-0.1"),
            (2301, 1, "230.1"),
            (7, 0, "7"),
            (i64::MIN, 6, "-9223372036854.775808"),
        ] {
            assert_eq!(text(|out| scaled(out, value, scale)), expected);
        }
    }

    #[test]
    fn a_frame_is_json_with_the_values_of_its_rows() {
        let channels = ["energy_import_kwh", "voltage_l1_v"].map(|n| Channel::by_name(n).unwrap());
        let mut rows = Rows::new(MeterId::new("E-1").unwrap(), channels.into());
        rows.push(Timestamp::parse_rfc3339("2026-11-01T00:15:00Z").unwrap(), &[123_456, 2301]);
        rows.push(Timestamp::parse_rfc3339("2026-11-01T00:30:00.25Z").unwrap(), &[123_457, 2298]);
        assert_eq!(
            String::from_utf8(single(&rows)).unwrap(),
            r#"{"ts":"2026-11-01T00:15:00Z","energy_import_kwh":123.456,"voltage_l1_v":230.1}"#
        );
        let parsed: serde_json::Value = serde_json::from_slice(&frame(&rows)).unwrap();
        assert_eq!(parsed["readings"][1]["ts"], "2026-11-01T00:30:00.250000Z");
        assert_eq!(parsed["readings"][1]["voltage_l1_v"], 229.8);
    }

    proptest! {
        #[test]
        fn any_integer_is_read_back(value in any::<i64>(), scale in 0_u8..7) {
            prop_assert_eq!(parse_scaled(&text(|out| scaled(out, value, scale)), scale), Ok(value));
        }

        #[test]
        fn any_time_is_read_back(micros in -62_000_000_000_000_000_i64..253_000_000_000_000_000) {
            let ts = Timestamp::from_micros(micros).unwrap();
            prop_assert_eq!(Timestamp::parse_rfc3339(&text(|out| utc(out, ts))), Ok(ts));
        }
    }
}
