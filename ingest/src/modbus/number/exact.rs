//! Decimal fractions in 128 bits: what does not fit is refused, nothing is lost.

use meterlake_config::device_profile::Factor;

use super::NumberError;

/// `numerator × 10^exponent / divisor`. The divisor is not zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exact {
    numerator: i128,
    exponent: i32,
    divisor: u128,
}

impl Exact {
    pub(super) const fn integer(integer: i128) -> Self {
        Self { numerator: integer, exponent: 0, divisor: 1 }
    }

    pub(super) fn of(factor: Factor) -> Self {
        Self { numerator: factor.mantissa().into(), exponent: factor.exponent().into(), divisor: 1 }
    }

    /// Reads digits with an exponent, such as `-2.5e-3`.
    pub(super) fn parse(text: &str) -> Result<Self, NumberError> {
        let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let numerator = format!("{whole}{fraction}").parse().map_err(|_| NumberError::Overflow)?;
        let exponent: i32 = exponent.parse().map_err(|_| NumberError::Overflow)?;
        let decimals = i32::try_from(fraction.len()).map_err(|_| NumberError::Overflow)?;
        Ok(Self { numerator, exponent: exponent - decimals, divisor: 1 })
    }

    pub(super) const fn numerator(self) -> i128 {
        self.numerator
    }

    pub(super) const fn exponent(self) -> i32 {
        self.exponent
    }

    pub(super) const fn divisor(self) -> u128 {
        self.divisor
    }

    pub(super) fn times(self, factor: Factor) -> Result<Self, NumberError> {
        self.times_exact(Self::of(factor))
    }

    pub(super) fn times_exact(self, other: Self) -> Result<Self, NumberError> {
        let numerator = self.numerator.checked_mul(other.numerator);
        let divisor = self.divisor.checked_mul(other.divisor);
        let (numerator, divisor) = numerator.zip(divisor).ok_or(NumberError::Overflow)?;
        Ok(Self { numerator, exponent: self.exponent + other.exponent, divisor })
    }

    pub(super) const fn times_power(self, power: i32) -> Self {
        Self { exponent: self.exponent + power, ..self }
    }

    pub(super) const fn negated(self) -> Self {
        // A numerator is a product of smaller numbers and never the lowest one.
        Self { numerator: self.numerator.saturating_neg(), ..self }
    }

    pub(super) fn divided_by(self, other: Self) -> Result<Self, NumberError> {
        if other.numerator == 0 {
            return Err(NumberError::DividedByZero);
        }
        let above = i128::try_from(other.divisor).ok().and_then(|divisor| self.numerator.checked_mul(divisor));
        let below = self.divisor.checked_mul(other.numerator.unsigned_abs());
        let (numerator, divisor) = above.zip(below).ok_or(NumberError::Overflow)?;
        let quotient = Self { numerator, exponent: self.exponent - other.exponent, divisor };
        Ok(if other.numerator < 0 { quotient.negated() } else { quotient })
    }

    /// The sum of two without divisors.
    pub(super) fn plus(self, other: Self) -> Result<Self, NumberError> {
        let exponent = self.exponent.min(other.exponent);
        let at = |number: Self| {
            let power = 10_i128.checked_pow((number.exponent - exponent).unsigned_abs())?;
            number.numerator.checked_mul(power)
        };
        let sum = at(self).zip(at(other)).and_then(|(one, other)| one.checked_add(other));
        Ok(Self { numerator: sum.ok_or(NumberError::Overflow)?, exponent, divisor: 1 })
    }

    /// How many steps it is, rounded half to even, and whether anything was rounded. A step is so many units of
    /// 10^-`scale`.
    pub(super) fn in_steps(self, scale: u8, step: u128) -> Result<(i128, bool), NumberError> {
        let shift = self.exponent + i32::from(scale);
        let power = || 10_u128.checked_pow(shift.unsigned_abs());
        let magnitude = self.numerator.unsigned_abs();
        let (above, below) = if magnitude == 0 {
            (Some(0), Some(1))
        } else if shift >= 0 {
            (power().and_then(|power| magnitude.checked_mul(power)), self.divisor.checked_mul(step))
        } else {
            (Some(magnitude), power().and_then(|p| p.checked_mul(self.divisor)?.checked_mul(step)))
        };
        let (above, below) = above.zip(below).ok_or(NumberError::Overflow)?;
        let steps = i128::try_from(divide_half_even(above, below)).map_err(|_| NumberError::Overflow)?;
        Ok((if self.numerator < 0 { -steps } else { steps }, above % below != 0))
    }
}

pub(super) fn divide_half_even(value: u128, divisor: u128) -> u128 {
    let (quotient, rest) = (value / divisor, value % divisor);
    // `rest` against what is missing to the next whole, so that nothing is doubled past 128 bits.
    let up = match rest.cmp(&(divisor - rest)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 == 1,
        std::cmp::Ordering::Greater => true,
    };
    quotient + u128::from(up)
}
