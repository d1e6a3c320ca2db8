//! Standard load profiles: the shape that E7 gives to a customer's own level.

use std::sync::Arc;

use meterlake_model::{Amount, Commodity};

use super::history::DayNumber;
use crate::profiles::DayType;

/// Weights are whole numbers below this, so that products with energy fit 128 bits.
const HEAVIEST: i64 = 1 << 40;
const DAY_S: i64 = 86_400;

/// How the use of a class of customers is spread over the day, by month and kind of day. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadProfile {
    /// Its name in evidence.
    pub name: String,
    /// What it is of: the use that a customer takes.
    pub commodity: Commodity,
    /// Classes of usage points that it stands for; empty: all.
    pub classes: Vec<String>,
    /// Use of a mean day of the class, in the unit of its channels, where a customer's own is not known.
    pub daily_use: Option<Amount>,
    /// Weights of equal steps from midnight on: by month, then by kind of day.
    weights: Arc<[[Vec<i64>; 3]; 12]>,
    /// Length of a step.
    step_s: i64,
}

impl LoadProfile {
    /// A profile from weights of equal steps that fill the day, by month and kind of day.
    ///
    /// `None` when the steps do not divide a day, differ in number, or have a weight that is negative or beyond a trillion;
    /// or when a month weighs nothing.
    pub fn new(name: String, commodity: Commodity, classes: Vec<String>, weights: [[Vec<i64>; 3]; 12]) -> Option<Self> {
        let steps = weights[0][0].len();
        let count = i64::try_from(steps).ok().filter(|n| *n > 0 && DAY_S % *n == 0)?;
        let sound = |day: &Vec<i64>| day.len() == steps && day.iter().all(|w| (0..HEAVIEST).contains(w));
        let weighs = |month: &[Vec<i64>; 3]| month.iter().flatten().any(|w| *w > 0);
        (weights.iter().all(|month| month.iter().all(sound) && weighs(month))).then(|| Self {
            name,
            commodity,
            classes,
            daily_use: None,
            weights: Arc::new(weights),
            step_s: DAY_S / count,
        })
    }

    /// With the class's own level.
    #[must_use]
    pub fn with_daily_use(mut self, daily_use: Option<Amount>) -> Self {
        self.daily_use = daily_use.filter(|use_| *use_ >= Amount::ZERO);
        self
    }

    /// Whether it stands for a usage point's class.
    pub fn is_of(&self, commodity: Commodity, class: &str) -> bool {
        self.commodity == commodity && (self.classes.is_empty() || self.classes.iter().any(|c| c == class))
    }

    /// What a stretch of the wall clock weighs on a day, in weights times seconds.
    pub(super) fn weight(&self, day: DayNumber, kind: DayType, from_s: i64, to_s: i64) -> i128 {
        let steps = &self.weights[month_of(day)][index_of(kind)];
        let (from_s, to_s) = (from_s.clamp(0, DAY_S), to_s.clamp(0, DAY_S));
        let (mut sum, mut at) = (0_i128, from_s);
        while at < to_s {
            let step = at / self.step_s;
            let end = ((step + 1) * self.step_s).min(to_s);
            let weight = usize::try_from(step).ok().and_then(|step| steps.get(step)).copied().unwrap_or(0);
            sum += i128::from(weight) * i128::from(end - at);
            at = end;
        }
        sum
    }

    /// What the seven days of a week of that month weigh, in weights times seconds.
    pub(super) fn week(&self, day: DayNumber) -> i128 {
        let of = |kind| self.weight(day, kind, 0, DAY_S);
        5 * of(DayType::Workday) + of(DayType::Saturday) + of(DayType::Sunday)
    }
}

fn index_of(kind: DayType) -> usize {
    DayType::ALL.iter().position(|k| *k == kind).unwrap_or(0)
}

/// The month of a day, 0 for January.
fn month_of(day: DayNumber) -> usize {
    // The calendar repeats after 400 years of 146,097 days; years begin in March here, so that the leap day comes last.
    let of_era = (day + 719_468).rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    usize::try_from(((5 * of_year + 2) / 153 + 2) % 12).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::history::number_of;
    use super::*;
    use meterlake_model::CivilDay;

    fn profile(day: impl Fn(usize, usize) -> Vec<i64>) -> Option<LoadProfile> {
        let weights = std::array::from_fn(|month| std::array::from_fn(|kind| day(month, kind)));
        LoadProfile::new("homes".into(), Commodity::Electricity, Vec::new(), weights)
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let mut day = CivilDay::parse("1999-12-20").unwrap();
        for _ in 0..1_500 {
            assert_eq!(month_of(number_of(day)), usize::from(day.month().unsigned_abs()) - 1, "{day}");
            day = day.plus_days(1);
        }
        assert_eq!(month_of(number_of(CivilDay::parse("2100-02-28").unwrap())), 1);
        assert_eq!(month_of(number_of(CivilDay::parse("0001-01-01").unwrap())), 0);
    }

    #[test]
    fn a_slot_weighs_what_its_steps_do() {
        let hours = profile(|month, kind| {
            (0..24).map(|h| h + if month == 0 { 100 } else { 0 } + i64::try_from(kind).unwrap()).collect()
        });
        let hours = hours.unwrap();
        let (winter, summer) =
            (number_of(CivilDay::parse("2026-01-07").unwrap()), number_of(CivilDay::parse("2026-07-01").unwrap()));
        let weight = |day, kind, from, to| hours.weight(day, kind, from, to);
        assert_eq!(weight(summer, DayType::Workday, 3_600, 7_200), 3_600);
        assert_eq!(weight(summer, DayType::Sunday, 3_600, 7_200), 3 * 3_600);
        assert_eq!(weight(winter, DayType::Workday, 3_600, 4_500), 101 * 900, "a quarter of an hour of it");
        assert_eq!(weight(summer, DayType::Workday, 5_400, 9_000), 1_800 + 2 * 1_800, "across a step");
        assert_eq!(weight(summer, DayType::Workday, 82_800, 90_000), 23 * 3_600, "a day ends at midnight");
        let day: i128 = (0..24).map(|h| weight(winter, DayType::Saturday, h * 3_600, (h + 1) * 3_600)).sum();
        assert_eq!(day, weight(winter, DayType::Saturday, 0, 86_400), "slots add up to their day");
        assert_eq!(hours.week(summer), 3_600 * (5 * 276 + 300 + 324));
    }

    #[test]
    fn weights_that_cannot_shape_a_day_are_refused() {
        assert!(profile(|_, _| vec![1; 96]).is_some());
        for (wrong, why) in [
            (profile(|_, _| vec![]), "no steps"),
            (profile(|_, _| vec![1; 7]), "steps that do not divide the day"),
            (profile(|m, _| vec![1; if m == 3 { 24 } else { 96 }]), "months of other steps"),
            (profile(|_, k| vec![i64::try_from(k).unwrap() - 1; 24]), "negative"),
            (profile(|m, _| vec![i64::from(m != 5); 24]), "a month of nothing"),
            (profile(|_, _| vec![HEAVIEST; 24]), "too heavy"),
        ] {
            assert!(wrong.is_none(), "{why}");
        }
    }
}
