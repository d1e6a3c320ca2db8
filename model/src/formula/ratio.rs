//! Exact fractions of bounded size.

use crate::amount::Amount;
use crate::determinant::Rounding;

/// A fraction in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    numerator: i128,
    denominator: i128,
}

impl Ratio {
    /// `numerator ÷ denominator` in lowest terms; `None` for a denominator of zero, or at the end of the range.
    pub fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let common = i128::try_from(gcd(numerator.unsigned_abs(), denominator.unsigned_abs())).ok()?;
        let sign = if denominator < 0 { -1 } else { 1 };
        let numerator = (numerator / common).checked_mul(sign)?;
        Some(Self { numerator, denominator: (denominator / common).checked_mul(sign)? })
    }

    /// An amount in its unit.
    pub fn of(amount: Amount) -> Self {
        let whole = Self { numerator: i128::from(amount.micros()), denominator: 1_000_000 };
        Self::new(whole.numerator, whole.denominator).unwrap_or(whole)
    }

    /// Rounded; `None` when it does not fit an amount.
    pub fn round(self, rounding: Rounding) -> Option<Amount> {
        rounding.ratio(self.numerator, self.denominator)
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let a = self.numerator.checked_mul(other.denominator)?;
        let b = other.numerator.checked_mul(self.denominator)?;
        Self::new(a.checked_add(b)?, self.denominator.checked_mul(other.denominator)?)
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        // Crosswise in lowest terms first, so that less overflows.
        let (a, b) = (Self::new(self.numerator, other.denominator)?, Self::new(other.numerator, self.denominator)?);
        Self::new(a.numerator.checked_mul(b.numerator)?, a.denominator.checked_mul(b.denominator)?)
    }

    pub(super) fn negative(self) -> Self {
        Self { numerator: -self.numerator, ..self }
    }

    pub(super) fn inverse(self) -> Option<Self> {
        Self::new(self.denominator, self.numerator)
    }

    pub(super) fn size(self) -> Self {
        if self.numerator < 0 { self.negative() } else { self }
    }

    pub(super) fn least(self, other: Self) -> Option<Self> {
        Some(if self.plus(other.negative())?.numerator <= 0 { self } else { other })
    }

    pub(super) fn most(self, other: Self) -> Option<Self> {
        Some(if self.plus(other.negative())?.numerator >= 0 { self } else { other })
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}
