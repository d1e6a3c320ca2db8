//! Rounding a whole and its parts so that they still add up.

use meterlake_model::Amount;
use meterlake_model::determinant::Rounding;

/// Parts, rounded so that they add up to their rounded sum: each down to the step, what is then left to the largest
/// remainders, ties to the earliest. `None` when a number does not fit.
pub(super) fn parts(values: &[Amount], rounding: Rounding) -> Option<Vec<Amount>> {
    let step = rounding.step();
    let whole = rounding.amount(Amount::sum(values.iter().copied())?)?;
    let mut steps: Vec<i64> = values.iter().map(|value| value.micros().div_euclid(step)).collect();
    let given: i64 = steps.iter().sum();
    let left = usize::try_from(whole.micros() / step - given).ok()?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(values[*at].micros().rem_euclid(step)), *at));
    for at in order.into_iter().cycle().take(left) {
        steps[at] += 1;
    }
    steps.into_iter().map(|steps| steps.checked_mul(step).and_then(Amount::from_micros)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterlake_model::determinant::RoundMode;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_add_up_to_the_rounded_whole(values in prop::collection::vec(-1_000_000_000_i64..1_000_000_000, 1..9), digits in 0_u8..=6) {
            let values: Vec<_> = values.into_iter().map(|v| Amount::from_micros(v).unwrap()).collect();
            for mode in [RoundMode::HalfEven, RoundMode::HalfUp] {
                let rounding = Rounding { digits, mode };
                let whole = rounding.amount(Amount::sum(values.iter().copied()).unwrap()).unwrap();
                let rounded = parts(&values, rounding).unwrap();
                prop_assert_eq!(Amount::sum(rounded.iter().copied()).unwrap(), whole);
                for (value, rounded) in values.iter().zip(rounded) {
                    prop_assert!((value.micros() - rounded.micros()).abs() < rounding.step() + 1);
                }
            }
        }
    }
}
