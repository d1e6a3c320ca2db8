//! The sender's decimal text to the integer of a column, exactly: no float in between.

use meterlake_config::payload_map::{Conversion, Rounding};
use meterlake_model::DecimalError;

/// No meter writes longer numbers.
const MAX_TEXT: usize = 48;

/// Converts decimal text. Digits that the column cannot keep are refused or rounded, as the conversion says.
pub(crate) fn convert(text: &str, conversion: &Conversion) -> Result<i64, DecimalError> {
    let (negative, mut digits, mut exponent) = parts(text)?;
    // Trailing zeros behind the point say nothing.
    while exponent < 0 && digits.is_multiple_of(10) && digits != 0 {
        digits /= 10;
        exponent += 1;
    }
    if digits == 0 {
        return Ok(0);
    }
    let mut over = digits.checked_mul(wide(conversion.numerator)).ok_or(DecimalError::Overflow)?;
    let mut under = wide(conversion.denominator);
    let power = 10_u128.checked_pow(exponent.unsigned_abs());
    if exponent >= 0 {
        over = power.and_then(|power| over.checked_mul(power)).ok_or(DecimalError::Overflow)?;
    } else {
        match power.and_then(|power| under.checked_mul(power)) {
            Some(product) => under = product,
            // Far below the last digit of any column.
            None if conversion.rounding == Rounding::Refused => return Err(DecimalError::Inexact),
            None => return Ok(0),
        }
    }
    let magnitude = match conversion.rounding {
        Rounding::Refused if !over.is_multiple_of(under) => return Err(DecimalError::Inexact),
        Rounding::Refused => over / under,
        Rounding::HalfEven { step } => {
            let step = wide(step.max(1));
            let under = under.checked_mul(step).ok_or(DecimalError::Overflow)?;
            half_even(over, under).checked_mul(step).ok_or(DecimalError::Overflow)?
        }
    };
    let magnitude = i64::try_from(magnitude).map_err(|_| DecimalError::Overflow)?;
    Ok(if negative { -magnitude } else { magnitude })
}

/// The sum of two decimal texts, as one; `None` where it has too many digits or one is no number.
pub(crate) fn sum(a: &str, b: &str) -> Option<String> {
    let (a, b) = (parts(a).ok()?, parts(b).ok()?);
    let exponent = a.2.min(b.2);
    let aligned = |(negative, digits, own): (bool, u128, i32)| {
        let factor = 10_u128.checked_pow(own.checked_sub(exponent)?.unsigned_abs())?;
        let digits = i128::try_from(digits.checked_mul(factor)?).ok()?;
        Some(if negative { -digits } else { digits })
    };
    let sum = aligned(a)?.checked_add(aligned(b)?)?;
    Some(if exponent == 0 { sum.to_string() } else { format!("{sum}e{exponent}") })
}

fn wide(positive: i64) -> u128 {
    u128::from(positive.unsigned_abs())
}

fn half_even(over: u128, under: u128) -> u128 {
    let (quotient, rest) = (over / under, over % under);
    match rest.cmp(&(under - rest)) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
    }
}

/// Sign, digits, and the power of ten that they are multiplied by.
fn parts(text: &str) -> Result<(bool, u128, i32), DecimalError> {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_TEXT {
        return Err(DecimalError::Overflow);
    }
    let (negative, mut at) = match bytes.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let (mut digits, mut exponent, mut count, mut fraction) = (0_u128, 0_i32, 0, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                digits = digits
                    .checked_mul(10)
                    .and_then(|digits| digits.checked_add(u128::from(byte - b'0')))
                    .ok_or(DecimalError::Overflow)?;
                exponent -= i32::from(fraction);
                count += 1;
            }
            b'.' if !fraction => fraction = true,
            b'e' | b'E' => break,
            _ => return Err(DecimalError::Syntax),
        }
        at += 1;
    }
    if count == 0 {
        return Err(DecimalError::Syntax);
    }
    if at < bytes.len() {
        let power: i32 = text.get(at + 1..).and_then(|power| power.parse().ok()).ok_or(DecimalError::Syntax)?;
        exponent = exponent.checked_add(power).ok_or(DecimalError::Overflow)?;
    }
    Ok((negative, digits, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterlake_model::{Channel, parse_scaled, parse_scaled_rounding};
    use proptest::prelude::*;

    fn exactly(numerator: i64, denominator: i64) -> Conversion {
        Conversion { numerator, denominator, rounding: Rounding::Refused }
    }

    fn rounded(numerator: i64, denominator: i64, step: i64) -> Conversion {
        Conversion { numerator, denominator, rounding: Rounding::HalfEven { step } }
    }

    #[test]
    fn registers_come_whole_or_not_at_all() {
        for (text, conversion, expected) in [
            ("12345.678", exactly(1000, 1), Ok(12_345_678)),
            ("4e+05", exactly(1, 1), Ok(400_000)),
            ("1.500", exactly(10, 1), Ok(15)),
            ("-0.001", exactly(1000, 1), Ok(-1)),
            ("0.0005", exactly(1000, 1), Err(DecimalError::Inexact)),
            ("7", exactly(1, 2), Err(DecimalError::Inexact)),
            ("8", exactly(1, 2), Ok(4)),
            ("9223372036854775807", exactly(1, 1), Ok(i64::MAX)),
            ("9223372036854775808", exactly(1, 1), Err(DecimalError::Overflow)),
            ("1e30", exactly(1000, 1), Err(DecimalError::Overflow)),
            ("1e99", exactly(1, 1), Err(DecimalError::Overflow)),
            ("1e-99", exactly(1, 1), Err(DecimalError::Inexact)),
            ("0e99", exactly(1, 1), Ok(0)),
            ("0.000000000000000000000000000000000000000", exactly(1, 1), Ok(0)),
            ("", exactly(1, 1), Err(DecimalError::Syntax)),
            ("1,5", exactly(1, 1), Err(DecimalError::Syntax)),
            ("1e", exactly(1, 1), Err(DecimalError::Syntax)),
            ("nan", exactly(1, 1), Err(DecimalError::Syntax)),
        ] {
            assert_eq!(convert(text, &conversion), expected, "{text} by {conversion:?}");
        }
    }

    #[test]
    fn sums_are_exact() {
        for (a, b, expected) in [
            ("20", "1.5", Some("215e-1")),
            ("0.1", "0.2", Some("3e-1")),
            ("-7", "7", Some("0")),
            ("1e3", "1", Some("1001")),
            ("-0.25", "0.125", Some("-125e-3")),
            ("1e60", "1", None),
            ("x", "1", None),
        ] {
            assert_eq!(sum(a, b).as_deref(), expected, "{a} + {b}");
        }
    }

    #[test]
    fn physical_values_round_half_to_even() {
        for (text, conversion, expected) in [
            ("230.25", rounded(10, 1, 1), 2302),
            ("230.35", rounded(10, 1, 1), 2304),
            ("-0.25", rounded(10, 1, 1), -2),
            ("230.10000000000002", rounded(10, 1, 1), 2301),
            ("1e-40", rounded(10, 1, 1), 0),
            ("100", rounded(3785, 1000, 10), 380),
            ("12.3456", rounded(1000, 1, 1), 12_346),
        ] {
            assert_eq!(convert(text, &conversion), Ok(expected), "{text} by {conversion:?}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_models_own_reading(text in "-?[0-9]{1,12}(\\.[0-9]{1,8})?(e[+-]?[0-9]{1,2})?") {
            for name in ["energy_import_kwh", "voltage_l1_v"] {
                let channel = Channel::by_name(name).unwrap();
                let conversion = Conversion::identity(channel);
                let theirs = match conversion.rounding {
                    Rounding::Refused => parse_scaled(&text, channel.scale()),
                    Rounding::HalfEven { .. } => parse_scaled_rounding(&text, channel.scale()),
                };
                prop_assert_eq!(convert(&text, &conversion), theirs, "{} as {}", text, name);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), numerator in 1..i64::MAX, denominator in 1..i64::MAX) {
            let _ = convert(&text, &rounded(numerator, denominator, 7));
            let _ = convert(&text, &exactly(numerator, denominator));
        }
    }
}
