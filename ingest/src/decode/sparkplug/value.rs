//! A metric's value by its data type: whole numbers by their two's complement, floats as their shortest decimal text.

use super::payload::Raw;

/// A value that a map can look at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plain<'p> {
    /// Decimal text.
    Number(String),
    Text(&'p str),
    Boolean(bool),
}

const INT8: u32 = 1;
const INT16: u32 = 2;
const INT32: u32 = 3;
const INT64: u32 = 4;
const UINT8: u32 = 5;
const UINT16: u32 = 6;
const UINT32: u32 = 7;
const UINT64: u32 = 8;
pub(super) const FLOAT: u32 = 9;
pub(super) const DOUBLE: u32 = 10;
pub(super) const BOOLEAN: u32 = 11;
const STRING: u32 = 12;
const DATETIME: u32 = 13;
const TEXT: u32 = 14;
const UUID: u32 = 15;

/// Reads a value. `None`: of a kind that holds no reading (bytes, files, arrays, data sets, templates), or not there.
///
/// # Errors
/// What the value is, where it does not fit its data type.
pub(super) fn plain<'p>(datatype: u32, raw: Raw<'p>) -> Result<Option<Plain<'p>>, String> {
    let signed = |bits: u32| {
        let value = match raw {
            Raw::Int(value) => narrow(i64::from(value), 32, bits),
            Raw::Long(value) => narrow(value.cast_signed(), 64, bits),
            _ => None,
        };
        value.map(|value| Plain::Number(value.to_string()))
    };
    let unsigned = |most: u64| {
        let value = match raw {
            Raw::Int(value) => Some(u64::from(value)),
            Raw::Long(value) => Some(value),
            _ => None,
        };
        value.filter(|value| *value <= most).map(|value| Plain::Number(value.to_string()))
    };
    let found = match (datatype, raw) {
        (_, Raw::None | Raw::Other) => return Ok(None),
        (INT8, _) => signed(8),
        (INT16, _) => signed(16),
        (INT32, _) => signed(32),
        (INT64, _) => signed(64),
        (UINT8, _) => unsigned(u64::from(u8::MAX)),
        (UINT16, _) => unsigned(u64::from(u16::MAX)),
        (UINT32, _) => unsigned(u64::from(u32::MAX)),
        (UINT64 | DATETIME, _) => unsigned(u64::MAX),
        (FLOAT | DOUBLE | 0, Raw::Float(value)) => Some(shortest(value.is_finite(), f64::from(value), &value, &value)),
        (FLOAT | DOUBLE | 0, Raw::Double(value)) => Some(shortest(value.is_finite(), value, &value, &value)),
        (BOOLEAN | 0, Raw::Boolean(value)) => Some(Plain::Boolean(value)),
        (STRING | TEXT | UUID | 0, Raw::Text(text)) => Some(Plain::Text(text)),
        // Without its type a whole number may be negative or not.
        (0, Raw::Int(_) | Raw::Long(_)) => None,
        (0..=UUID, _) => None,
        _ => return Ok(None),
    };
    found.map(Some).ok_or_else(|| format!("is {raw:?}, which is not of data type {datatype}"))
}

/// Whether the value says by itself what it is, without the data type of a birth.
pub(super) const fn speaks_for_itself(datatype: u32, raw: Raw<'_>) -> bool {
    datatype != 0 || !matches!(raw, Raw::Int(_) | Raw::Long(_))
}

/// A whole number of `bits` bits in a field of `width` bits, whose upper bits are either empty or copies of the sign.
fn narrow(value: i64, width: u32, bits: u32) -> Option<i64> {
    if bits == 64 {
        return Some(value);
    }
    let sign = 1_i64 << (bits - 1);
    // What the field holds, as a signed number of its own width.
    let whole = if width == 32 && value >= 1 << 31 { value - (1 << 32) } else { value };
    if (-sign..sign).contains(&whole) {
        return Some(whole);
    }
    // The pattern of a negative number with nothing above it.
    (sign..2 * sign).contains(&whole).then(|| whole - 2 * sign)
}

/// The shortest decimal text that gives the same float again; what is no number stays text, so that it is refused only
/// where a map wants a number.
fn shortest<'p>(finite: bool, value: f64, plain: &dyn std::fmt::Display, short: &dyn std::fmt::LowerExp) -> Plain<'p> {
    if !finite {
        return Plain::Text(if value.is_nan() { "NaN" } else { "Infinity" });
    }
    // Far from 1 the plain text is a long row of zeros.
    let near = value == 0.0 || (1e-9..1e18).contains(&value.abs());
    Plain::Number(if near { plain.to_string() } else { format!("{short:e}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Result<Option<Plain<'static>>, ()> {
        Ok(Some(Plain::Number(text.to_owned())))
    }

    #[test]
    fn values_are_read_by_their_data_type() {
        for (datatype, raw, expected) in [
            (INT8, Raw::Int(0xff), number("-1")),
            (INT8, Raw::Int(0xffff_ffff), number("-1")),
            (INT8, Raw::Int(0x80), number("-128")),
            (INT8, Raw::Int(127), number("127")),
            (INT8, Raw::Int(0x100), Err(())),
            (INT16, Raw::Int(0xfffe), number("-2")),
            (INT16, Raw::Int(0x1_0000), Err(())),
            (INT32, Raw::Int(0xffff_ff00), number("-256")),
            (INT32, Raw::Int(0x7fff_ffff), number("2147483647")),
            (INT32, Raw::Long(u64::MAX), number("-1")),
            (INT64, Raw::Long(u64::MAX - 1), number("-2")),
            (INT64, Raw::Int(7), number("7")),
            (UINT8, Raw::Int(255), number("255")),
            (UINT8, Raw::Int(256), Err(())),
            (UINT32, Raw::Int(u32::MAX), number("4294967295")),
            (UINT32, Raw::Long(4_294_967_295), number("4294967295")),
            (UINT64, Raw::Long(u64::MAX), number("18446744073709551615")),
            (DATETIME, Raw::Long(1_700_000_000_000), number("1700000000000")),
            (FLOAT, Raw::Float(230.1), number("230.1")),
            (FLOAT, Raw::Float(1e30), number("1e30")),
            (DOUBLE, Raw::Double(12_345.678), number("12345.678")),
            (DOUBLE, Raw::Double(0.1 + 0.2), number("0.30000000000000004")),
            (DOUBLE, Raw::Double(-0.0), number("-0")),
            (DOUBLE, Raw::Double(1e-12), number("1e-12")),
            (DOUBLE, Raw::Double(f64::NAN), Ok(Some(Plain::Text("NaN")))),
            (0, Raw::Double(1.5), number("1.5")),
            (0, Raw::Int(1), Err(())),
            (FLOAT, Raw::Int(1), Err(())),
            (BOOLEAN, Raw::Boolean(true), Ok(Some(Plain::Boolean(true)))),
            (STRING, Raw::Text("x"), Ok(Some(Plain::Text("x")))),
            (UUID, Raw::Text("x"), Ok(Some(Plain::Text("x")))),
            (INT32, Raw::Text("x"), Err(())),
            (16, Raw::Other, Ok(None)),
            (17, Raw::Other, Ok(None)),
            (22, Raw::Other, Ok(None)),
            (INT32, Raw::None, Ok(None)),
        ] {
            assert_eq!(plain(datatype, raw).map_err(|_| ()), expected, "{datatype} {raw:?}");
        }
    }

    proptest! {
        #[test]
        fn a_float_is_its_own_text(double: f64, float: f32) {
            prop_assume!(double.is_finite() && float.is_finite());
            let Ok(Some(Plain::Number(text))) = plain(DOUBLE, Raw::Double(double)) else { panic!("{double}") };
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), double.to_bits());
            let Ok(Some(Plain::Number(text))) = plain(FLOAT, Raw::Float(float)) else { panic!("{float}") };
            prop_assert_eq!(text.parse::<f32>().unwrap().to_bits(), float.to_bits());
        }

        #[test]
        fn a_signed_number_is_read_however_its_sign_is_carried(value: i16) {
            let bare = u32::from(value.cast_unsigned());
            let extended = i32::from(value).cast_unsigned();
            let expected = Ok(Some(Plain::Number(value.to_string())));
            prop_assert_eq!(plain(INT16, Raw::Int(bare)), expected.clone());
            prop_assert_eq!(plain(INT16, Raw::Int(extended)), expected.clone());
            prop_assert_eq!(plain(INT16, Raw::Long(i64::from(value).cast_unsigned())), expected);
        }
    }
}
