//! Weights of a gap's pieces as exact fractions: shares that should tie do, and the earliest of them gets the rest.

/// Parts of one where no common denominator fits.
const FINE: i128 = 1024;
/// A common denominator stays below this, so that products with it fit.
const WIDEST: i128 = 1 << 56;

/// A fraction that is not negative, in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    numerator: i128,
    denominator: i128,
}

impl Weight {
    pub(super) const ZERO: Self = Self { numerator: 0, denominator: 1 };

    /// Zero where it would be negative or nothing.
    pub(super) fn new(numerator: i128, denominator: i128) -> Self {
        if numerator <= 0 || denominator <= 0 {
            return Self::ZERO;
        }
        let common = common_divisor(numerator, denominator);
        Self { numerator: numerator / common, denominator: denominator / common }
    }

    /// As [`Self::new`], to some twelve digits: terms that are large enough to be the product of several.
    pub(super) fn about(numerator: i128, denominator: i128) -> Self {
        let wide = (128 - denominator.max(0).leading_zeros()).saturating_sub(40);
        Self::new(numerator >> wide, denominator >> wide)
    }

    pub(super) const fn is_zero(self) -> bool {
        self.numerator == 0
    }
}

/// All of them in whole numbers over one denominator, which comes second. Rounded down to parts of 1024 where that would
/// not fit.
pub(super) fn over_one(weights: &[Weight]) -> (Vec<i128>, i128) {
    exact(weights).unwrap_or_else(|| {
        let coarse = |w: &Weight| w.numerator.saturating_mul(FINE) / w.denominator;
        (weights.iter().map(coarse).collect(), FINE)
    })
}

fn exact(weights: &[Weight]) -> Option<(Vec<i128>, i128)> {
    let mut denominator = 1;
    for weight in weights {
        if denominator % weight.denominator != 0 {
            denominator *= weight.denominator / common_divisor(denominator, weight.denominator);
            if denominator > WIDEST {
                return None;
            }
        }
    }
    let whole = |w: &Weight| w.numerator.checked_mul(denominator / w.denominator);
    Some((weights.iter().map(whole).collect::<Option<_>>()?, denominator))
}

fn common_divisor(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_and_quarters_meet_exactly() {
        let weights = [Weight::new(1, 3), Weight::new(2, 4), Weight::ZERO, Weight::new(-1, 2), Weight::new(5, 1)];
        assert_eq!(over_one(&weights), (vec![2, 3, 0, 0, 30], 6));
        assert_eq!(over_one(&[]), (vec![], 1));
        assert!(Weight::new(3, 0).is_zero() && !Weight::new(1, 9).is_zero());
    }

    #[test]
    fn terms_of_many_digits_keep_their_first_twelve() {
        assert_eq!(Weight::about(3 << 20, 1 << 21), Weight::new(3, 2), "small ones are exact");
        let wide = Weight::about(7_i128.pow(40), 7_i128.pow(39));
        let (numerator, denominator) = (wide.numerator, wide.denominator);
        assert!((numerator - 7 * denominator).abs() < denominator >> 35, "{wide:?}");
        assert_eq!(over_one(&[wide]).1, denominator, "and they still have a common denominator");
    }

    #[test]
    fn what_has_no_common_denominator_in_reach_is_rounded() {
        let primes = [999_999_937, 999_999_929, 999_999_893].map(|p| Weight::new(3 * p + 1, p));
        let (weights, denominator) = over_one(&primes);
        assert_eq!((weights, denominator), (vec![3072; 3], 1024));
        let large = [Weight::new(i128::MAX, 3), Weight::new(1, 7)];
        assert_eq!(over_one(&large).1, 1024, "a product that does not fit");
    }
}
