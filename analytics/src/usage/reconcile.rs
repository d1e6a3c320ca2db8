//! One operator that makes parts add up to their whole, in integers of a unit.
//!
//! Known parts are never touched. What is left of the whole goes to the unknown parts in proportion to their fills, by
//! largest remainder, ties to the earliest. It is idempotent and looks at nothing but its arguments.

use meterlake_model::Amount;

/// One part under a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its value stands.
    Known(Amount),
    /// Nobody read it; a fill suggests this.
    Unknown(Amount),
}

/// How the whole and its parts came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closure {
    /// The parts add up to the whole.
    Closed,
    /// What is known misses the whole by this much, within tolerance: the whole carries the total, the parts the shape.
    Within(Amount),
    /// They miss it by this much (whole less parts), beyond tolerance: V16, and the fills stay as they were.
    Open(Amount),
}

/// Parts after reconciling, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// A value for each part.
    pub values: Vec<Amount>,
    /// Whether they add up.
    pub closure: Closure,
}

/// The tolerance of the sum check: the larger of two steps of the register after the multiplier and 1 % of the whole.
pub fn tolerance(whole: Amount, unit: Amount) -> Amount {
    let percent = whole.micros().unsigned_abs() / 100;
    let steps = unit.micros().unsigned_abs().saturating_mul(2);
    i64::try_from(percent.max(steps)).ok().and_then(Amount::from_micros).unwrap_or(whole)
}

/// Scales the unknown parts so that all parts add up to `whole`.
///
/// `unit` is the step in which shares are given: the resolution after the multiplier. Where the rest is no multiple of
/// it, shares are given in the largest step that fits both. `None` when a sum does not fit an [`Amount`].
pub fn reconcile(whole: Amount, parts: &[Part], unit: Amount) -> Option<Reconciled> {
    let tolerance = tolerance(whole, unit);
    let known = Amount::sum(parts.iter().map(|part| match part {
        Part::Known(value) => *value,
        Part::Unknown(_) => Amount::ZERO,
    }))?;
    let rest = whole.checked_sub(known)?;
    let fills: Vec<i128> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Known(_) => None,
            Part::Unknown(fill) => Some(i128::from(fill.micros().max(0))),
        })
        .collect();
    let within = rest.micros().unsigned_abs() <= tolerance.micros().unsigned_abs();
    let (shares, closure) = if fills.is_empty() {
        let closure = match rest {
            Amount::ZERO => Closure::Closed,
            _ if within => Closure::Within(rest),
            _ => Closure::Open(rest),
        };
        (Vec::new(), closure)
    } else if rest.micros() >= 0 {
        let step = common_step(rest.micros(), unit.micros());
        let mut shares = Vec::with_capacity(fills.len());
        share(rest.micros() / step, &fills, &mut shares);
        (shares.into_iter().map(|units| units * step).collect(), Closure::Closed)
    } else if within {
        (vec![0; fills.len()], Closure::Within(rest))
    } else {
        (fills.iter().filter_map(|fill| i64::try_from(*fill).ok()).collect(), Closure::Open(rest))
    };
    let mut shares = shares.into_iter();
    let values: Option<Vec<_>> = parts
        .iter()
        .map(|part| match part {
            Part::Known(value) => Some(*value),
            Part::Unknown(_) => shares.next().and_then(Amount::from_micros),
        })
        .collect();
    Some(Reconciled { values: values?, closure })
}

/// The largest step that divides both; 1 for none.
pub(crate) fn common_step(amount: i64, unit: i64) -> i64 {
    if unit <= 0 {
        return 1;
    }
    let (mut a, mut b) = (amount.unsigned_abs(), unit.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(1).max(1)
}

/// Shares `total` (not negative) by `weights` (not negative) into whole numbers that add up to it: largest remainder,
/// ties to the earliest; evenly where all weights are zero. Appends to `out` one share a weight.
pub(crate) fn share(total: i64, weights: &[i128], out: &mut Vec<i64>) {
    let begin = out.len();
    // Coarser weights where a product would not fit: the shares still add up.
    let widest = weights.iter().max().map_or(0, |widest| 128 - widest.leading_zeros());
    let coarser = (widest + 64 - total.leading_zeros()).saturating_sub(120);
    let weight_of = |weight: &i128| *weight >> coarser;
    let sum: i128 = weights.iter().map(weight_of).sum();
    let even = sum == 0;
    let sum = if even { i128::try_from(weights.len()).unwrap_or(1).max(1) } else { sum };
    let mut remainders: Vec<(i128, usize)> = Vec::with_capacity(weights.len());
    let mut left = total;
    for (at, weight) in weights.iter().enumerate() {
        let weight = if even { 1 } else { weight_of(weight) };
        let product = i128::from(total) * weight;
        let floor = i64::try_from(product / sum).unwrap_or(0);
        left -= floor;
        out.push(floor);
        remainders.push((product % sum, at));
    }
    let extra = usize::try_from(left).unwrap_or(0);
    if extra == 0 {
        return;
    }
    remainders.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, at) in remainders.into_iter().take(extra) {
        out[begin + at] += 1;
    }
}

/// Shares `total` (not negative) by `weights` (not negative) so that each running sum is the total's share of the running
/// weight, half a unit up: where a border lies does not depend on how finely its two sides are cut. Evenly where all weights
/// are zero. Appends to `out` one share a weight.
pub(super) fn spread(total: i64, weights: &[i128], out: &mut Vec<i64>) {
    let sum: i128 = weights.iter().sum();
    let even = sum == 0;
    // Coarser weights where a product would not fit: the shares still add up.
    let coarser = (128 - sum.leading_zeros() + 66 - total.leading_zeros()).saturating_sub(124);
    let whole = if even { i128::try_from(weights.len()).unwrap_or(1).max(1) } else { (sum >> coarser).max(1) };
    let (mut running, mut before) = (0_i128, 0_i64);
    for weight in weights {
        running += if even { 1 } else { *weight };
        let part = if even { running } else { running >> coarser };
        let upto = (2 * i128::from(total) * part + whole) / (2 * whole);
        let upto = i64::try_from(upto).unwrap_or(total);
        out.push(upto - before);
        before = upto;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).unwrap()
    }

    fn check(whole: &str, known: &[&str], fills: &[&str], expected: &[&str], closure: Closure) {
        let parts: Vec<_> = known
            .iter()
            .map(|v| Part::Known(amount(v)))
            .chain(fills.iter().map(|v| Part::Unknown(amount(v))))
            .collect();
        let result = reconcile(amount(whole), &parts, amount("0.001")).unwrap();
        let shares: Vec<_> = result.values[known.len()..].to_vec();
        assert_eq!(shares, expected.iter().map(|v| amount(v)).collect::<Vec<_>>());
        assert_eq!(result.closure, closure);
        for (value, text) in result.values.iter().zip(known) {
            assert_eq!(*value, amount(text), "a known part is never touched");
        }
    }

    #[test]
    fn e05_fills_are_scaled_to_what_is_left_of_the_whole() {
        check("50", &["2"; 21], &["2.75", "3.5", "4.25"], &["2.095", "2.667", "3.238"], Closure::Closed);
    }

    #[test]
    fn e06_more_known_than_the_whole_leaves_the_fills_and_holds() {
        let mut known = vec!["2"; 20];
        known.push("11");
        check("50", &known, &["1", "0", "2"], &["1", "0", "2"], Closure::Open(amount("-1")));
    }

    #[test]
    fn e07_an_even_share_is_exact_and_its_remainder_goes_to_the_earliest() {
        let expected: Vec<_> = (0..24).map(|i| if i < 16 { "4.167" } else { "4.166" }).collect();
        check("100.000", &[], &["0"; 24], &expected, Closure::Closed);
    }

    #[test]
    fn f03_a_border_in_a_long_gap_lies_by_elapsed_time() {
        for (hours, expected) in [([744, 720], [152_459, 147_541]), ([743, 720], [152_358, 147_642])] {
            let mut out = Vec::new();
            spread(300_000, &hours.map(i128::from), &mut out);
            assert_eq!(out, expected);
        }
        let mut out = Vec::new();
        spread(i64::MAX, &[i128::from(u64::MAX) << 40, i128::from(u64::MAX) << 40], &mut out);
        assert_eq!(out.iter().sum::<i64>(), i64::MAX);
        out.clear();
        spread(7, &[0, 0], &mut out);
        assert_eq!(out, [4, 3]);
    }

    #[test]
    fn a_little_too_much_known_makes_the_unknown_zero() {
        check("50", &["50.4"], &["1", "2"], &["0", "0"], Closure::Within(amount("-0.4")));
    }

    #[test]
    fn a_complete_set_within_tolerance_keeps_its_shape() {
        check("60", &["29.8", "29.8"], &[], &[], Closure::Within(amount("0.4")));
        check("60", &["29", "29"], &[], &[], Closure::Open(amount("2")));
        check("58", &["29", "29"], &[], &[], Closure::Closed);
    }

    #[test]
    fn e10_a_like_day_shapes_the_rest_of_the_day() {
        check("202", &["88"], &["8", "120"], &["7.125", "106.875"], Closure::Closed);
    }

    proptest! {
        #[test]
        fn shares_add_up_and_keep_their_order(total in 0_i64..1_000_000_000, weights in prop::collection::vec(0_i128..1_000_000, 1..40)) {
            let mut out = Vec::new();
            share(total, &weights, &mut out);
            prop_assert_eq!(out.iter().sum::<i64>(), total);
            for (a, b) in weights.iter().zip(&out).flat_map(|x| weights.iter().zip(&out).map(move |y| (x, y))) {
                prop_assert!(a.0 <= b.0 || a.1 >= b.1, "a larger weight has no smaller share");
            }
        }

        #[test]
        fn a_border_lies_where_the_weight_before_it_says(total in 0_i64..1_000_000_000, weights in prop::collection::vec(0_i128..1_000_000, 2..40), at in 1_usize..39) {
            let at = at.min(weights.len() - 1);
            let (mut fine, mut coarse) = (Vec::new(), Vec::new());
            spread(total, &weights, &mut fine);
            spread(total, &[weights[..at].iter().sum(), weights[at..].iter().sum()], &mut coarse);
            prop_assert_eq!(fine.iter().sum::<i64>(), total);
            prop_assert!(fine.iter().all(|share| *share >= 0));
            if weights.iter().any(|w| *w > 0) {
                prop_assert_eq!(fine[..at].iter().sum::<i64>(), coarse[0], "however finely both sides are cut");
            }
        }

        #[test]
        fn reconciling_twice_changes_nothing(whole in 0_i64..1_000_000, fills in prop::collection::vec(0_i64..10_000, 1..20)) {
            let whole = Amount::from_scaled(whole, 3).unwrap();
            let unit = amount("0.001");
            let parts: Vec<_> = fills.iter().map(|f| Part::Unknown(Amount::from_scaled(*f, 3).unwrap())).collect();
            let once = reconcile(whole, &parts, unit).unwrap();
            let again: Vec<_> = once.values.iter().map(|v| Part::Unknown(*v)).collect();
            prop_assert_eq!(reconcile(whole, &again, unit).unwrap(), once);
        }
    }
}
