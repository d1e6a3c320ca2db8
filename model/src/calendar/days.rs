//! Kinds of days, and days of the year.

use std::collections::BTreeSet;

use super::CalendarPlan;
use crate::time::CivilDay;

/// Days of a leap year: a day of the year is its place among them.
pub(super) const YEAR_DAYS: usize = 366;
/// Days before each month of a leap year.
const BEFORE: [usize; 12] = [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335];
const LENGTHS: [i8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// The place of a month (1 to 12) and day among those of a leap year.
pub(super) fn day_of_year(month: i8, day: i8) -> usize {
    let month = usize::try_from(month.clamp(1, 12) - 1).unwrap_or(0);
    BEFORE[month] + usize::try_from(day.clamp(1, LENGTHS[month]) - 1).unwrap_or(0)
}

/// The month and day of a place among those of a leap year, as `07-15`.
pub(super) fn month_day(place: usize) -> String {
    let month = BEFORE.iter().rposition(|before| *before <= place).unwrap_or(0);
    format!("{:02}-{:02}", month + 1, place - BEFORE[month] + 1)
}

/// A set of days of the year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthDays([u64; 6]);

impl MonthDays {
    /// No day.
    pub const fn none() -> Self {
        Self([0; 6])
    }

    /// Every day.
    pub fn all() -> Self {
        Self::months(1..=12)
    }

    /// The days of some months, 1 to 12.
    pub fn months(months: impl IntoIterator<Item = i8>) -> Self {
        let mut days = Self::none();
        for month in months {
            let last = LENGTHS[usize::try_from(month.clamp(1, 12) - 1).unwrap_or(0)];
            days.add((month, 1), (month, last));
        }
        days
    }

    /// Adds the days from one (month, day) to another, both included, over the end of the year where the first is later.
    /// Returns whether both are days of the calendar.
    pub fn add(&mut self, first: (i8, i8), last: (i8, i8)) -> bool {
        let is_day = |(month, day): (i8, i8)| {
            let length = usize::try_from(month - 1).ok().and_then(|at| LENGTHS.get(at));
            length.is_some_and(|length| (1..=*length).contains(&day))
        };
        if !is_day(first) || !is_day(last) {
            return false;
        }
        let (mut at, end) = (day_of_year(first.0, first.1), day_of_year(last.0, last.1));
        loop {
            self.0[at / 64] |= 1 << (at % 64);
            if at == end {
                return true;
            }
            at = (at + 1) % YEAR_DAYS;
        }
    }

    /// The days of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    pub(super) fn has(self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }

    /// Whether it holds no day.
    pub fn is_empty(self) -> bool {
        self.0 == [0; 6]
    }
}

/// Kinds of days that a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DayKinds {
    /// By weekday, from Monday.
    pub weekdays: [bool; 7],
    /// Weekend days that are worked.
    pub made_up: bool,
    /// Every holiday.
    pub every_holiday: bool,
    /// Holidays by name.
    pub holidays: BTreeSet<String>,
}

impl DayKinds {
    /// Every day that is no holiday.
    pub fn all() -> Self {
        Self { weekdays: [true; 7], made_up: true, ..Self::default() }
    }

    /// Monday to Friday, and weekend days that are worked.
    pub fn workdays() -> Self {
        Self { weekdays: [true, true, true, true, true, false, false], made_up: true, ..Self::default() }
    }

    /// Saturday and Sunday where they are not worked.
    pub fn weekends() -> Self {
        Self { weekdays: [false, false, false, false, false, true, true], ..Self::default() }
    }

    /// Every holiday.
    pub fn holidays() -> Self {
        Self { every_holiday: true, ..Self::default() }
    }

    /// Days of either.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        for (day, too) in self.weekdays.iter_mut().zip(other.weekdays) {
            *day |= too;
        }
        self.made_up |= other.made_up;
        self.every_holiday |= other.every_holiday;
        self.holidays.extend(other.holidays);
        self
    }

    pub(super) fn weekday(&self, weekday: u8) -> bool {
        self.weekdays.get(usize::from(weekday)).copied().unwrap_or(false)
    }

    pub(super) fn names(&self, holiday: &str) -> bool {
        self.every_holiday || self.holidays.contains(holiday)
    }

    /// Whether there may be a day of both.
    pub(super) fn meets(&self, other: &Self, plan: &CalendarPlan) -> bool {
        let weekdays = self.weekdays.iter().zip(other.weekdays).any(|(a, b)| *a && b);
        let holidays = plan.holidays.values().any(|name| self.names(name) && other.names(name));
        weekdays || self.made_up && other.made_up || holidays
    }
}

/// What a civil day is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DayKind {
    /// 0 for Monday to 6 for Sunday.
    Weekday(u8),
    /// A weekend day that is worked.
    MadeUp,
    /// A holiday by name, on a weekday.
    Holiday(String, u8),
}

impl DayKind {
    pub(super) fn of(day: CivilDay, plan: &CalendarPlan) -> Self {
        match plan.holidays.get(&day) {
            Some(name) => Self::Holiday(name.clone(), day.weekday()),
            None if plan.working_days.contains(&day) => Self::MadeUp,
            None => Self::Weekday(day.weekday()),
        }
    }

    /// As people say it.
    pub(super) fn words(&self) -> String {
        const NAMES: [&str; 7] = ["Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"];
        match self {
            Self::Weekday(weekday) => NAMES.get(usize::from(*weekday)).map_or("days", |name| *name).to_owned(),
            Self::MadeUp => "weekend days that are worked".to_owned(),
            Self::Holiday(name, _) => format!("holiday {name}"),
        }
    }
}
