//! Decimal text to integers of a stated scale, without a float in between.

/// Why a text or number does not fit a scaled integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a decimal number.
    #[error("not a decimal number")]
    Syntax,
    /// More decimals than the scale holds, and rounding was not allowed.
    #[error("more decimals than the column holds")]
    Inexact,
    /// Too large for the column.
    #[error("too large for the column")]
    Overflow,
}

/// Parses decimal text (`12`, `-0.5`, `4e+05`, `1.25E-2`) exactly into units of 10^-`scale`.
///
/// ```
/// # use meterlake_model::{parse_scaled, DecimalError};
/// assert_eq!(parse_scaled("12345.678", 3), Ok(12_345_678));
/// assert_eq!(parse_scaled("4e+05", 3), Ok(400_000_000));
/// assert_eq!(parse_scaled("0.0005", 3), Err(DecimalError::Inexact));
/// ```
///
/// # Errors
/// `Syntax` when the text is no number, `Inexact` when it has decimals beyond `scale`, `Overflow` beyond 64 bits.
pub fn parse_scaled(text: &str, scale: u8) -> Result<i64, DecimalError> {
    let parts = Parts::read(text)?;
    let (value, remainder) = parts.at_scale(scale)?;
    if remainder != Remainder::Zero {
        return Err(DecimalError::Inexact);
    }
    parts.signed(value)
}

/// As [`parse_scaled`], with decimals beyond `scale` rounded half to even. For physical values only, never registers.
///
/// # Errors
/// `Syntax` or `Overflow`.
pub fn parse_scaled_rounding(text: &str, scale: u8) -> Result<i64, DecimalError> {
    let parts = Parts::read(text)?;
    let (mut value, remainder) = parts.at_scale(scale)?;
    let up = match remainder {
        Remainder::Zero | Remainder::BelowHalf => false,
        Remainder::Half => value % 2 == 1,
        Remainder::AboveHalf => true,
    };
    if up {
        value = value.checked_add(1).ok_or(DecimalError::Overflow)?;
    }
    parts.signed(value)
}

/// Moves an integer from one decimal scale to another, exactly.
///
/// # Errors
/// `Inexact` when digits would be lost, `Overflow` beyond 64 bits.
pub fn rescale_exact(value: i64, from: u8, to: u8) -> Result<i64, DecimalError> {
    if to >= from {
        let factor = power_of_ten(to - from).ok_or(DecimalError::Overflow)?;
        return narrow(i128::from(value) * factor);
    }
    let divisor = power_of_ten(from - to).ok_or(DecimalError::Overflow)?;
    if i128::from(value) % divisor != 0 {
        return Err(DecimalError::Inexact);
    }
    narrow(i128::from(value) / divisor)
}

/// Moves an integer from one decimal scale to another, rounding half to even.
///
/// # Errors
/// `Overflow` beyond 64 bits.
pub fn rescale_half_even(value: i64, from: u8, to: u8) -> Result<i64, DecimalError> {
    if to >= from {
        return rescale_exact(value, from, to);
    }
    let divisor = power_of_ten(from - to).ok_or(DecimalError::Overflow)?;
    narrow(divide_half_even(i128::from(value), divisor))
}

/// Divides, rounding half to even. `divisor` must be positive.
pub(crate) fn divide_half_even(value: i128, divisor: i128) -> i128 {
    let quotient = value.div_euclid(divisor);
    let twice = value.rem_euclid(divisor) * 2;
    match twice.cmp(&divisor) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
        std::cmp::Ordering::Greater => quotient + 1,
    }
}

fn power_of_ten(exponent: u8) -> Option<i128> {
    10_i128.checked_pow(u32::from(exponent))
}

fn narrow(value: i128) -> Result<i64, DecimalError> {
    i64::try_from(value).map_err(|_| DecimalError::Overflow)
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Remainder {
    Zero,
    BelowHalf,
    Half,
    AboveHalf,
}

/// Sign, digits as one integer, and the power of ten they are multiplied by.
struct Parts {
    negative: bool,
    digits: i128,
    exponent: i32,
}

/// Longer numbers are refused before they are read: no meter has them.
const MAX_TEXT: usize = 48;

impl Parts {
    fn read(text: &str) -> Result<Self, DecimalError> {
        let bytes = text.trim().as_bytes();
        if bytes.len() > MAX_TEXT {
            return Err(DecimalError::Overflow);
        }
        let (negative, mut at) = match bytes.first() {
            Some(b'-') => (true, 1),
            Some(b'+') => (false, 1),
            _ => (false, 0),
        };
        let (mut digits, mut exponent, mut seen, mut fraction) = (0_i128, 0_i32, false, false);
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'0'..=b'9' => {
                    seen = true;
                    digits = digits
                        .checked_mul(10)
                        .and_then(|d| d.checked_add(i128::from(byte - b'0')))
                        .ok_or(DecimalError::Overflow)?;
                    exponent -= i32::from(fraction);
                }
                b'.' if !fraction => fraction = true,
                b'e' | b'E' => break,
                _ => return Err(DecimalError::Syntax),
            }
            at += 1;
        }
        if !seen {
            return Err(DecimalError::Syntax);
        }
        if at < bytes.len() {
            let power = std::str::from_utf8(&bytes[at + 1..]).map_err(|_| DecimalError::Syntax)?;
            let power: i32 = power.parse().map_err(|_| DecimalError::Syntax)?;
            exponent = exponent.checked_add(power).ok_or(DecimalError::Overflow)?;
        }
        Ok(Self { negative, digits, exponent })
    }

    fn at_scale(&self, scale: u8) -> Result<(i128, Remainder), DecimalError> {
        let shift = self.exponent.checked_add(i32::from(scale)).ok_or(DecimalError::Overflow)?;
        if self.digits == 0 {
            return Ok((0, Remainder::Zero));
        }
        if shift >= 0 {
            let factor = 10_i128.checked_pow(shift.unsigned_abs()).ok_or(DecimalError::Overflow)?;
            let value = self.digits.checked_mul(factor).ok_or(DecimalError::Overflow)?;
            return Ok((value, Remainder::Zero));
        }
        let Some(divisor) = 10_i128.checked_pow(shift.unsigned_abs()) else {
            return Ok((0, Remainder::BelowHalf));
        };
        let rest = self.digits % divisor;
        // `divisor` is an even power of ten, so half of it is exact and `rest * 2` cannot be compared after overflow.
        let remainder = match rest.cmp(&(divisor / 2)) {
            _ if rest == 0 => Remainder::Zero,
            std::cmp::Ordering::Less => Remainder::BelowHalf,
            std::cmp::Ordering::Equal => Remainder::Half,
            std::cmp::Ordering::Greater => Remainder::AboveHalf,
        };
        Ok((self.digits / divisor, remainder))
    }

    fn signed(&self, value: i128) -> Result<i64, DecimalError> {
        narrow(if self.negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_with_exponents_parse() {
        for (text, scale, expected) in [
            ("4e+05", 3, 400_000_000),
            ("1.25E-2", 4, 125),
            ("-0.001", 3, -1),
            ("+7", 0, 7),
            ("0e99", 3, 0),
            (".5", 1, 5),
            ("5.", 1, 50),
        ] {
            assert_eq!(parse_scaled(text, scale), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "1,5", "0x10", "1e", "1e1.5", "NaN", "inf", "1 2"] {
            assert_eq!(parse_scaled(text, 3), Err(DecimalError::Syntax), "{text}");
        }
        assert_eq!(parse_scaled("1e400", 3), Err(DecimalError::Overflow));
        assert_eq!(parse_scaled("9223372036854775808", 0), Err(DecimalError::Overflow));
    }

    #[test]
    fn registers_are_never_rounded_and_physical_values_round_half_even() {
        assert_eq!(parse_scaled("1.0005", 3), Err(DecimalError::Inexact));
        assert_eq!(parse_scaled_rounding("1.0005", 3), Ok(1000));
        assert_eq!(parse_scaled_rounding("1.0015", 3), Ok(1002));
        assert_eq!(parse_scaled_rounding("1.00151", 3), Ok(1002));
        assert_eq!(parse_scaled_rounding("-0.25", 1), Ok(-2));
        assert_eq!(rescale_half_even(25, 2, 1), Ok(2));
        assert_eq!(rescale_half_even(-35, 2, 1), Ok(-4));
    }

    proptest! {
        #[test]
        fn text_and_back_is_the_same(value in any::<i64>(), scale in 0_u8..=9) {
            let divisor = 10_i128.pow(u32::from(scale));
            let magnitude = i128::from(value).abs();
            let sign = if value < 0 { "-" } else { "" };
            let text = if scale == 0 { format!("{sign}{magnitude}") } else {
                format!("{sign}{}.{:0width$}", magnitude / divisor, magnitude % divisor, width = usize::from(scale))
            };
            prop_assert_eq!(parse_scaled(&text, scale), Ok(value));
        }

        #[test]
        fn rescaling_up_and_down_is_the_same(value in -1_000_000_000_i64..1_000_000_000, from in 0_u8..4, more in 0_u8..5) {
            let up = rescale_exact(value, from, from + more).unwrap();
            prop_assert_eq!(rescale_exact(up, from + more, from), Ok(value));
        }
    }
}
