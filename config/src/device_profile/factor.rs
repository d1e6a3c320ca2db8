//! Exact decimal factors.

use std::fmt;

/// A decimal number other than zero: `mantissa × 10^exponent`. The mantissa does not end in a zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Factor {
    mantissa: i64,
    exponent: i8,
}

/// What a mantissa may hold, so that any 64-bit raw value times a factor fits 128 bits.
const MAX_MANTISSA: i64 = 1_000_000_000_000;
const MAX_EXPONENT: i8 = 18;

impl Factor {
    /// One.
    pub const ONE: Self = Self { mantissa: 1, exponent: 0 };

    /// `mantissa × 10^exponent`; `None` when it is zero, has more than 12 digits, or is beyond 10^±18.
    pub fn new(mantissa: i64, exponent: i8) -> Option<Self> {
        if mantissa == 0 {
            return None;
        }
        let (mut mantissa, mut exponent) = (mantissa, exponent);
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent = exponent.checked_add(1)?;
        }
        let fits = mantissa.checked_abs()? < MAX_MANTISSA && (-MAX_EXPONENT..=MAX_EXPONENT).contains(&exponent);
        fits.then_some(Self { mantissa, exponent })
    }

    /// Reads `0.001`, `10`, `-1` or `1e-3`. `None` when it is no decimal number or out of range.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (digits, exponent) = match text.find(['e', 'E']) {
            Some(at) => (text.get(..at)?, text.get(at + 1..)?.parse::<i8>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let unsigned = whole.strip_prefix(['+', '-']).unwrap_or(whole);
        let all_digits = unsigned.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        if !all_digits || (unsigned.is_empty() && fraction.is_empty()) {
            return None;
        }
        // Zeros at the end of the fraction say nothing and must not count as digits.
        let fraction = fraction.trim_end_matches('0');
        let mantissa: i64 = format!("{whole}{fraction}").parse().ok()?;
        Self::new(mantissa, exponent.checked_sub(i8::try_from(fraction.len()).ok()?)?)
    }

    /// The product; `None` when it leaves the range.
    pub fn times(self, other: Self) -> Option<Self> {
        Self::new(self.mantissa.checked_mul(other.mantissa)?, self.exponent.checked_add(other.exponent)?)
    }

    /// The digits as an integer, without zeros at the end.
    pub const fn mantissa(self) -> i64 {
        self.mantissa
    }

    /// The power of ten.
    pub const fn exponent(self) -> i8 {
        self.exponent
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs().to_string();
        if self.exponent >= 0 {
            return write!(f, "{sign}{digits}{}", "0".repeat(usize::from(self.exponent.unsigned_abs())));
        }
        let decimals = usize::from(self.exponent.unsigned_abs());
        let padded = format!("{digits:0>width$}", width = decimals + 1);
        let (whole, fraction) = padded.split_at(padded.len() - decimals);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_read_exactly() {
        for (text, mantissa, exponent, shown) in [
            ("0.001", 1, -3, "0.001"),
            ("10", 1, 1, "10"),
            ("1e-3", 1, -3, "0.001"),
            ("2.50", 25, -1, "2.5"),
            ("-1", -1, 0, "-1"),
            ("0.0000000010", 1, -9, "0.000000001"),
            (".5", 5, -1, "0.5"),
        ] {
            let factor = Factor::parse(text).unwrap();
            assert_eq!((factor.mantissa(), factor.exponent()), (mantissa, exponent), "{text}");
            assert_eq!(factor.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_usable_factor_is_refused() {
        for text in ["", "0", "0.0", "1,5", "nan", "inf", "1e99", "12345678901234567890", "-", "."] {
            assert_eq!(Factor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn factors_multiply_exactly() {
        let kilo = Factor::parse("1000").unwrap();
        assert_eq!(kilo.times(Factor::parse("0.001").unwrap()), Some(Factor::ONE));
        assert_eq!(Factor::new(i64::MIN, 0), None);
    }
}
