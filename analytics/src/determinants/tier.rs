//! D7: use by tiers of a year or a cycle.

use meterlake_model::determinant::Rounding;
use meterlake_model::{Amount, CivilDay};

use super::{Figure, Note, round};

/// A stretch of a cycle within one year of tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierUse {
    /// What was used of the year before the stretch.
    pub before: Amount,
    /// What was used in it.
    pub used: Amount,
}

/// Use by tier, one more than there are limits: what of it lies below the first limit, between it and the second, and so
/// on. The tiers add up to the use; a negative use takes from the tiers that it falls back into. `None` when a sum does not
/// fit.
pub fn tiers(limits: &[Amount], of: TierUse) -> Option<Vec<Amount>> {
    let after = of.before.checked_add(of.used)?;
    let mut found = Vec::with_capacity(limits.len() + 1);
    let mut low = i64::MIN;
    for high in limits.iter().map(|limit| limit.micros()).chain([i64::MAX]) {
        // What of an amount lies in this tier; below zero it is all of the first.
        let part = |amount: Amount| {
            let base = if low == i64::MIN { 0 } else { low };
            amount.micros().min(high).max(low).saturating_sub(base)
        };
        let within = part(after).checked_sub(part(of.before))?;
        found.push(Amount::from_micros(within)?);
        low = high;
    }
    Some(found)
}

/// Limits of a year for a customer who moved in during it: for the months from that one to the end, rounded to a step.
pub fn prorated(
    limits: &[Amount],
    year_start: CivilDay,
    moved_in: Option<CivilDay>,
    rounding: Rounding,
) -> Vec<Amount> {
    let year_end = year_start.plus_months(12);
    let Some(moved_in) = moved_in.filter(|day| *day > year_start && *day < year_end) else { return limits.to_vec() };
    let mut months = 0_i32;
    while months < 12 && year_start.plus_months(months + 1) <= moved_in {
        months += 1;
    }
    let left = i128::from(12 - months);
    let limit = |limit: &Amount| rounding.ratio(i128::from(limit.micros()) * left, 12 * 1_000_000);
    limits.iter().map(|amount| limit(amount).unwrap_or(*amount)).collect()
}

/// Parts `t1`, `t2`, … of a cycle, over the stretches of it that lie in different years, each with its limits.
/// `total` is the figure of the whole use, which they share.
pub fn by_tier(total: &Figure, stretches: &[(Vec<Amount>, TierUse)], rounding: Rounding) -> Vec<Figure> {
    let count = stretches.iter().map(|(limits, _)| limits.len() + 1).max().unwrap_or(1);
    let mut sums = vec![Amount::ZERO; count];
    let mut fits = true;
    for (limits, of) in stretches {
        match tiers(limits, *of) {
            Some(found) => {
                for (sum, part) in sums.iter_mut().zip(found) {
                    match sum.checked_add(part) {
                        Some(more) => *sum = more,
                        None => fits = false,
                    }
                }
            }
            None => fits = false,
        }
    }
    let values = round::parts(&sums, rounding).filter(|_| fits && total.value.is_some());
    let part = |at: usize| {
        let value = values.as_ref().and_then(|values| values.get(at)).copied();
        let mut figure = Figure { part: format!("t{}", at + 1), value, ..total.clone() };
        if !fits {
            figure.notes.push(Note::new("overflow", true, "a sum has more than 18 digits"));
        }
        figure
    };
    (0..count).map(part).collect()
}
