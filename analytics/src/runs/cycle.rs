//! Which days a cycle covers, by group of usage points.

use meterlake_model::registry::UsagePoint;
use meterlake_model::{CivilDay, Commodity};

/// The days of one bill: civil days of the usage point's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cycle {
    /// Its first day.
    pub first_day: CivilDay,
    /// The day after its last.
    pub end_day: CivilDay,
}

/// How often a group of usage points is billed, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleRule {
    /// Its name.
    pub name: String,
    /// Only points of this commodity; `None`: of any.
    pub commodity: Option<Commodity>,
    /// Only points of these classes; empty: of any.
    pub classes: Vec<String>,
    /// Months of a cycle: 1, 2, 3, 4, 6 or 12.
    pub months: i32,
    /// A month of the year, 1 to 12, in which a cycle begins.
    pub first_month: i8,
    /// Day of the month on which a cycle begins, 1 to 28; `None`: as the registry says of each point.
    pub day: Option<u8>,
}

impl CycleRule {
    fn applies_to(&self, point: &UsagePoint) -> bool {
        self.commodity.is_none_or(|c| c == point.commodity)
            && (self.classes.is_empty() || self.classes.contains(&point.class))
    }
}

/// The cycles of all usage points: the first rule that applies; without one a month from the point's billing day on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CycleCalendar {
    /// In the order in which they are tried.
    pub rules: Vec<CycleRule>,
}

impl CycleCalendar {
    /// The cycle of a point whose last day lies in the civil month that begins with `month`, if one ends there.
    pub fn ending_in(&self, month: CivilDay, point: &UsagePoint) -> Option<Cycle> {
        let rule = self.rules.iter().find(|rule| rule.applies_to(point));
        let day = rule.and_then(|r| r.day).unwrap_or(point.billing_day);
        let day = i32::from(day.clamp(1, 28));
        // A cycle from the first of the month on ends with a month; any other ends in the month after.
        let end_day = if day == 1 { month.plus_months(1) } else { month.plus_days(day - 1) };
        let months = rule.map_or(1, |r| r.months.max(1));
        let since = i32::from(end_day.month()) - rule.map_or(1, |r| i32::from(r.first_month));
        (since.rem_euclid(months) == 0).then(|| Cycle { first_day: end_day.plus_months(-months), end_day })
    }

    /// The longest cycle, in months.
    pub fn longest_months(&self) -> i32 {
        self.rules.iter().map(|r| r.months).max().unwrap_or(1).max(1)
    }
}
