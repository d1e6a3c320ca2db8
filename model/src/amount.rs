//! Use over time: integers of 10^-6 of the channel's unit (µkWh, cm³).

use std::fmt;

use crate::decimal::{DecimalError, divide_half_even, parse_scaled, rescale_exact};

/// A use, a register difference or a register, in millionths of the channel's unit (kWh, kvarh, m³).
///
/// Stored as DECIMAL(18,6). Arithmetic is checked: what does not fit is `None`, never wrapped or rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Decimals that are kept.
    pub const SCALE: u8 = 6;
    /// The largest that DECIMAL(18,6) holds.
    const LIMIT: i64 = 999_999_999_999_999_999;

    /// From millionths; `None` beyond 18 digits.
    pub const fn from_micros(micros: i64) -> Option<Self> {
        if micros > Self::LIMIT || micros < -Self::LIMIT { None } else { Some(Self(micros)) }
    }

    /// From an integer of 10^-`scale` units, exactly.
    ///
    /// # Errors
    /// `Inexact` when `scale` is above 6 and digits would be lost, `Overflow` beyond 18 digits.
    pub fn from_scaled(value: i64, scale: u8) -> Result<Self, DecimalError> {
        Self::from_micros(rescale_exact(value, scale, Self::SCALE)?).ok_or(DecimalError::Overflow)
    }

    /// From decimal text, exactly.
    ///
    /// # Errors
    /// As [`parse_scaled`].
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        Self::from_micros(parse_scaled(text, Self::SCALE)?).ok_or(DecimalError::Overflow)
    }

    /// Millionths of the unit.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The sum, or `None` when it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::from_micros)
    }

    /// The difference, or `None` when it does not fit.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(Self::from_micros)
    }

    /// The product with a multiplier of millionths (a transformer ratio of 40 is 40,000,000), exact.
    ///
    /// `None` when it does not fit or when digits beyond the sixth decimal would be lost.
    pub fn checked_scale(self, multiplier_micros: i64) -> Option<Self> {
        let product = i128::from(self.0) * i128::from(multiplier_micros);
        if product % 1_000_000 != 0 {
            return None;
        }
        i64::try_from(product / 1_000_000).ok().and_then(Self::from_micros)
    }

    /// `self × numerator ÷ denominator`, rounded half to even to a millionth; `None` when it does not fit.
    /// `denominator` must be positive.
    pub fn proportion(self, numerator: i64, denominator: i64) -> Option<Self> {
        if denominator <= 0 {
            return None;
        }
        let product = i128::from(self.0) * i128::from(numerator);
        i64::try_from(divide_half_even(product, i128::from(denominator))).ok().and_then(Self::from_micros)
    }

    /// The sum of many, or `None` when it does not fit.
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let total: i128 = amounts.into_iter().map(|a| i128::from(a.0)).sum();
        i64::try_from(total).ok().and_then(Self::from_micros)
    }

    /// As a float, for figures that bear no money (profiles, pictures).
    #[expect(clippy::cast_precision_loss, reason = "for figures that bear no money")]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:06}", magnitude / 1_000_000, magnitude % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        let use_ = Amount::parse("54.322").unwrap();
        assert_eq!(use_.checked_scale(40_000_000), Amount::parse("2172.88").ok());
        assert_eq!(Amount::from_scaled(1, 3), Amount::parse("0.001"));
        assert_eq!(Amount::from_micros(1).unwrap().checked_scale(500_000), None, "half a millionth is not kept");
        assert_eq!(Amount::parse("-0.5").unwrap().to_string(), "-0.500000");
        assert_eq!(Amount::from_micros(i64::MAX), None);
        assert_eq!(Amount::parse("1").unwrap().proportion(1, 3), Amount::from_micros(333_333));
    }
}
