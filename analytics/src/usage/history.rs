//! What a usage point used in the slots of the days before, as far as it was read: what estimates learn from.

use std::cell::Cell;
use std::collections::BTreeSet;

use meterlake_model::{CivilDay, Method};

/// Days counted from 1970-01-01, for arithmetic without a calendar.
pub(super) type DayNumber = i32;

const NONE: i64 = i64::MIN;
/// Like days: so many at most, and at least.
const LIKE_DAYS: (usize, usize) = (3, 2);
/// Days of the same type: so many at most, and at least.
const TYPE_DAYS: (usize, usize) = (10, 5);

/// The number of a day.
pub(super) fn number_of(day: CivilDay) -> DayNumber {
    // Years begin in March here, so that the leap day comes last.
    let month = i32::from(day.month());
    let year = i32::from(day.year()) - i32::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + i32::from(day.day()) - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

/// Values of whole slots that were read, by day and place on the wall clock. Millionths, after the multiplier.
pub(super) struct History<'a> {
    holidays: &'a BTreeSet<DayNumber>,
    back: i32,
    slots_a_day: usize,
    first: DayNumber,
    values: Vec<i64>,
    /// What was used before this day is not all here. `None`: nothing is left out.
    floor: Option<DayNumber>,
    /// A fill that is asked for would have looked at a day below the floor.
    short: Cell<bool>,
}

/// A suggestion of a fill rule: the mean of some values, exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) sum: i128,
    pub(super) count: i128,
    pub(super) method: Method,
}

impl Fill {
    /// The mean in whole millionths, half a one up.
    pub(super) fn value(self) -> i64 {
        i64::try_from((2 * self.sum + self.count).div_euclid(2 * self.count)).unwrap_or(i64::MAX)
    }
}

impl<'a> History<'a> {
    pub(super) fn new(holidays: &'a BTreeSet<DayNumber>, back: i32) -> Self {
        let (slots_a_day, first, values) = (0, 0, Vec::new());
        Self { holidays, back, slots_a_day, first, values, floor: None, short: Cell::new(false) }
    }

    /// Says that days before this one are left out.
    pub(super) fn set_floor(&mut self, floor: DayNumber) {
        self.floor = Some(floor);
    }

    /// Whether a fill would have looked at what is left out.
    pub(super) fn is_short(&self) -> bool {
        self.short.get()
    }

    /// Begins anew when the slots have another length: unlike slots teach nothing.
    pub(super) fn set_slots(&mut self, slots_a_day: usize) {
        if self.slots_a_day != slots_a_day {
            if self.slots_a_day != 0 {
                self.floor = None;
            }
            self.slots_a_day = slots_a_day;
            self.values.clear();
        }
    }

    /// Remembers a slot that was read. Days mostly come in rising order.
    pub(super) fn remember(&mut self, day: DayNumber, slot: usize, value: i64) {
        if slot >= self.slots_a_day {
            return;
        }
        if self.values.is_empty() {
            self.first = day;
        }
        if let Ok(before @ 1..) = usize::try_from(self.first - day) {
            // Another meter of the point may have begun earlier.
            let earlier = std::iter::repeat_n(NONE, before * self.slots_a_day);
            self.values.splice(0..0, earlier);
            self.first = day;
        }
        let Ok(days) = usize::try_from(day - self.first) else { return };
        let end = (days + 1) * self.slots_a_day;
        if self.values.len() < end {
            self.values.resize(end, NONE);
        }
        self.values[days * self.slots_a_day + slot] = value;
    }

    fn get(&self, day: DayNumber, slot: usize) -> Option<i64> {
        let days = usize::try_from(day - self.first).ok()?;
        let value = *self.values.get(days * self.slots_a_day + slot)?;
        (value != NONE).then_some(value)
    }

    fn rest_day(&self, day: DayNumber) -> bool {
        // 1970-01-01 was a Thursday.
        (day + 3).rem_euclid(7) >= 5 || self.holidays.contains(&day)
    }

    /// The mean of the slot over like days, else over days of the same type; the days are added to `used`. `matters`
    /// says whether the fill is part of what is asked for.
    pub(super) fn fill(
        &self,
        day: DayNumber,
        slot: usize,
        used: &mut BTreeSet<DayNumber>,
        matters: bool,
    ) -> Option<Fill> {
        if slot >= self.slots_a_day {
            return None;
        }
        let holiday = self.holidays.contains(&day);
        let like = |back: &i32| {
            let other = day - back;
            if holiday { self.holidays.contains(&other) } else { back % 7 == 0 && !self.holidays.contains(&other) }
        };
        let rest = self.rest_day(day);
        let same_type = |back: &i32| self.rest_day(day - back) == rest;
        self.mean(day, slot, like, LIKE_DAYS, used, matters)
            .map(|(sum, count)| Fill { sum, count, method: Method::LikeDay })
            .or_else(|| {
                let (sum, count) = self.mean(day, slot, same_type, TYPE_DAYS, used, matters)?;
                Some(Fill { sum, count, method: Method::DayType })
            })
    }

    fn mean(
        &self,
        day: DayNumber,
        slot: usize,
        accepts: impl Fn(&i32) -> bool,
        (most, least): (usize, usize),
        used: &mut BTreeSet<DayNumber>,
        matters: bool,
    ) -> Option<(i128, i128)> {
        let mut found = [(0, 0_i64); 10];
        let mut count = 0;
        for back in (1..=self.back).filter(accepts) {
            if matters && self.floor.is_some_and(|floor| day - back < floor) {
                self.short.set(true);
            }
            if let Some(value) = self.get(day - back, slot) {
                found[count] = (day - back, value);
                count += 1;
                if count == most {
                    break;
                }
            }
        }
        if count < least {
            return None;
        }
        let found = &found[..count];
        used.extend(found.iter().map(|(day, _)| *day));
        let sum: i128 = found.iter().map(|(_, value)| i128::from(*value)).sum();
        Some((sum, i128::try_from(count).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> DayNumber {
        number_of(CivilDay::parse(text).unwrap())
    }

    #[test]
    fn days_are_numbered_as_the_calendar_counts_them() {
        let epoch = CivilDay::parse("1970-01-01").unwrap();
        for text in ["0001-01-01", "1900-02-28", "1970-01-01", "2000-02-29", "2000-03-01", "2024-12-31", "9999-12-31"] {
            assert_eq!(day(text), CivilDay::parse(text).unwrap().days_since(epoch), "{text}");
        }
    }

    #[test]
    fn e11_like_days_leave_holidays_out_and_take_the_mean() {
        let holidays = BTreeSet::from([day("2026-05-25")]);
        let mut history = History::new(&holidays, 90);
        history.set_slots(24);
        for (text, value) in
            [("2026-05-11", 1_500_000), ("2026-05-18", 900_000), ("2026-05-25", 3_000_000), ("2026-06-01", 1_200_000)]
        {
            history.remember(day(text), 7, value);
        }
        let mut used = BTreeSet::new();
        let fill = history.fill(day("2026-06-08"), 7, &mut used, true);
        assert_eq!(fill, Some(Fill { sum: 3_600_000, count: 3, method: Method::LikeDay }), "1.2");
        assert_eq!(used.len(), 3);
        assert_eq!(history.fill(day("2026-06-08"), 8, &mut used, true), None, "another hour teaches nothing");
        assert_eq!(history.fill(day("2026-06-09"), 7, &mut used, true), None, "one Monday makes no Tuesday");
    }

    #[test]
    fn five_days_of_the_type_stand_in_for_like_days() {
        let holidays = BTreeSet::new();
        let mut history = History::new(&holidays, 90);
        history.set_slots(24);
        for (i, text) in ["2026-06-01", "2026-06-02", "2026-06-03", "2026-06-04", "2026-06-05"].into_iter().enumerate()
        {
            history.remember(day(text), 0, i64::try_from(i).unwrap() * 10);
        }
        let mut used = BTreeSet::new();
        let fill = history.fill(day("2026-06-08"), 0, &mut used, true);
        assert_eq!(fill, Some(Fill { sum: 100, count: 5, method: Method::DayType }));
        assert_eq!(history.fill(day("2026-06-06"), 0, &mut used, true), None, "workdays make no Saturday");
        assert_eq!(history.fill(day("2026-12-08"), 0, &mut used, true), None, "beyond 90 days nothing is remembered");
    }
}
