//! What a usage point used in the slots of the days before, as far as it was read: what estimates learn from.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Write;

use meterlake_model::{CivilDay, Method};

use super::Shape;
use super::load_profile::LoadProfile;
use super::weather::Temperatures;
use crate::profiles::DayType;

/// Days counted from 1970-01-01, for arithmetic without a calendar.
pub(super) type DayNumber = i32;

const NONE: i64 = i64::MIN;
/// Like days: so many at most, and at least.
const LIKE_DAYS: (usize, usize) = (3, 2);
/// Days of the same type: so many at most, and at least.
const TYPE_DAYS: (usize, usize) = (10, 5);
/// Days of like weather: so many, and no fewer.
const PROXY_DAYS: usize = 3;

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
    lore: Lore<'a>,
    slots_a_day: usize,
    slot_s: i64,
    first: DayNumber,
    values: Vec<i64>,
    /// What was used before this day is not all here. `None`: nothing is left out.
    floor: Option<DayNumber>,
    /// A fill that is asked for would have looked at a day below the floor.
    short: Cell<bool>,
    /// The customer's own level as it was asked for last, until something new is remembered.
    level: Cell<Option<(DayNumber, Option<Level>)>>,
}

/// What fills go by beside what was used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lore<'a> {
    /// Days that are like no weekday.
    pub(super) holidays: &'a BTreeSet<DayNumber>,
    /// How far back days may lie that teach.
    pub(super) back: i32,
    /// Days of the own level.
    pub(super) average_days: i32,
    /// The rungs, in the order in which they are tried.
    pub(super) shapes: &'a [Shape],
    /// The weather where the usage point is.
    pub(super) temperatures: Option<&'a Temperatures>,
    /// The profile of its class.
    pub(super) profile: Option<&'a LoadProfile>,
    /// The day on which the customer moved in, and the first whole day since.
    pub(super) moved_in: Option<(DayNumber, DayNumber)>,
}

/// What was used of a profile's weight, over some days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    sum: i128,
    weight: i128,
    from: DayNumber,
    to: DayNumber,
}

/// What fills went by, for the evidence.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// Days that they learned from.
    pub(super) days: BTreeSet<DayNumber>,
    /// First and last day of the own level that a profile was given; `None` within: another level.
    pub(super) profile: Option<Option<(DayNumber, DayNumber)>>,
}

impl Used {
    pub(super) fn profile_at(&mut self, days: Option<(DayNumber, DayNumber)>) {
        let known = self.profile.flatten();
        let span = known.zip(days).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
        self.profile = Some(span.or(known).or(days));
    }
}

/// A suggestion of a fill rule: a sum divided by a count, exact. The mean of some values, or a profile's part of a level.
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
    pub(super) fn new(lore: Lore<'a>) -> Self {
        let (slots_a_day, slot_s, first, values) = (0, 0, 0, Vec::new());
        let (floor, short, level) = (None, Cell::new(false), Cell::new(None));
        Self { lore, slots_a_day, slot_s, first, values, floor, short, level }
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
    pub(super) fn set_slots(&mut self, slots_a_day: usize, slot_s: i64) {
        self.slot_s = slot_s;
        if self.slots_a_day != slots_a_day {
            if self.slots_a_day != 0 {
                self.floor = None;
            }
            self.slots_a_day = slots_a_day;
            self.values.clear();
            self.level.set(None);
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
        self.level.set(None);
    }

    fn get(&self, day: DayNumber, slot: usize) -> Option<i64> {
        let days = usize::try_from(day - self.first).ok()?;
        let value = *self.values.get(days * self.slots_a_day + slot)?;
        (value != NONE).then_some(value)
    }

    fn kind_of(&self, day: DayNumber) -> DayType {
        // 1970-01-01 was a Thursday.
        match (day + 3).rem_euclid(7) {
            _ if self.lore.holidays.contains(&day) => DayType::Sunday,
            6 => DayType::Sunday,
            5 => DayType::Saturday,
            _ => DayType::Workday,
        }
    }

    fn is_rest(&self, day: DayNumber) -> bool {
        (day + 3).rem_euclid(7) >= 5 || self.lore.holidays.contains(&day)
    }

    /// How many days back the same customer was there the whole day, at most `most`.
    fn back(&self, day: DayNumber, most: i32) -> i32 {
        match self.lore.moved_in {
            Some((moved, first)) if day >= moved => most.min(day - first),
            _ => most,
        }
    }

    /// The first of the shapes that history has for a slot; what it went by is added to `used`. `matters` says whether the
    /// fill is part of what is asked for.
    pub(super) fn fill(&self, day: DayNumber, slot: usize, used: &mut Used, matters: bool) -> Option<Fill> {
        if slot >= self.slots_a_day {
            return None;
        }
        self.lore.shapes.iter().find_map(|shape| match shape {
            Shape::LikeDay => {
                let holidays = self.lore.holidays;
                let holiday = holidays.contains(&day);
                let like = |back: &i32| {
                    let other = day - back;
                    if holiday { holidays.contains(&other) } else { back % 7 == 0 && !holidays.contains(&other) }
                };
                self.mean(day, slot, like, LIKE_DAYS, (used, matters), Method::LikeDay)
            }
            Shape::DayType => {
                let rest = self.is_rest(day);
                let same_type = |back: &i32| self.is_rest(day - back) == rest;
                self.mean(day, slot, same_type, TYPE_DAYS, (used, matters), Method::DayType)
            }
            Shape::ProxyDay => self.by_weather(day, slot, used, matters),
            Shape::Profile => self.by_profile(day, slot, used, matters),
        })
    }

    fn mean(
        &self,
        day: DayNumber,
        slot: usize,
        accepts: impl Fn(&i32) -> bool,
        (most, least): (usize, usize),
        (used, matters): (&mut Used, bool),
        method: Method,
    ) -> Option<Fill> {
        let mut found = [(0, 0_i64); 10];
        let mut count = 0;
        for back in (1..=self.back(day, self.lore.back)).filter(accepts) {
            self.look(day - back, matters);
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
        used.days.extend(found.iter().map(|(day, _)| *day));
        let sum = found.iter().map(|(_, value)| i128::from(*value)).sum();
        Some(Fill { sum, count: i128::try_from(count).ok()?, method })
    }

    /// Notes when a day is looked at that is left out.
    fn look(&self, day: DayNumber, matters: bool) {
        if matters && self.floor.is_some_and(|floor| day < floor) {
            self.short.set(true);
        }
    }

    /// E6: the mean of the days whose temperature was nearest, of several as near the latest.
    fn by_weather(&self, day: DayNumber, slot: usize, used: &mut Used, matters: bool) -> Option<Fill> {
        let temperatures = self.lore.temperatures?;
        let wanted = temperatures.of(day)?;
        let mut nearest: Vec<(u32, i32, i64)> = Vec::with_capacity(PROXY_DAYS + 1);
        for back in 1..=self.back(day, self.lore.back) {
            let Some(there) = temperatures.of(day - back) else { continue };
            self.look(day - back, matters);
            let Some(value) = self.get(day - back, slot) else { continue };
            let found = (there.abs_diff(wanted), back, value);
            nearest.insert(nearest.partition_point(|known| known < &found), found);
            nearest.truncate(PROXY_DAYS);
        }
        if nearest.len() < PROXY_DAYS {
            return None;
        }
        used.days.extend(nearest.iter().map(|(_, back, _)| day - back));
        let sum = nearest.iter().map(|(_, _, value)| i128::from(*value)).sum();
        Some(Fill { sum, count: i128::try_from(PROXY_DAYS).ok()?, method: Method::ProxyDay })
    }

    /// E7 at the customer's own level: what was used of the profile's weight in the days before.
    fn by_profile(&self, day: DayNumber, slot: usize, used: &mut Used, matters: bool) -> Option<Fill> {
        let weight = self.weight(day, slot)?;
        let level = match self.level.get().filter(|(of, _)| *of == day) {
            Some((_, level)) => level,
            None => {
                let level = self.own_level(day);
                self.level.set(Some((day, level)));
                level
            }
        };
        // Also when it was found before: then for something that did not matter.
        (1..=self.back(day, self.lore.average_days)).for_each(|back| self.look(day - back, matters));
        let level = level?;
        used.profile_at(Some((level.from, level.to)));
        Some(Fill { sum: level.sum.checked_mul(weight)?, count: level.weight, method: Method::Profile })
    }

    fn own_level(&self, day: DayNumber) -> Option<Level> {
        let mut level = Level { sum: 0, weight: 0, from: day, to: day };
        let mut known = 0;
        for of in (1..=self.back(day, self.lore.average_days)).map(|back| day - back) {
            for slot in 0..self.slots_a_day {
                let Some(value) = self.get(of, slot) else { continue };
                level.sum += i128::from(value);
                level.weight += self.weight(of, slot)?;
                if known == 0 {
                    level.to = of;
                }
                (known, level.from) = (known + 1, of);
            }
        }
        // Less than a day's slots say little of a level, whatever hours they are of.
        (known >= self.slots_a_day && level.weight > 0).then_some(level)
    }

    /// What a slot weighs in the profile, where there is one and it is asked for.
    pub(super) fn weight(&self, day: DayNumber, slot: usize) -> Option<i128> {
        let from = i64::try_from(slot).ok()? * self.slot_s;
        Some(self.profile()?.weight(day, self.kind_of(day), from, from + self.slot_s))
    }

    /// What a week weighs in the profile, at the time of a day.
    pub(super) fn week(&self, day: DayNumber) -> Option<i128> {
        self.profile().map(|profile| profile.week(day))
    }

    /// The profile, where it is one of the shapes.
    fn profile(&self) -> Option<&'a LoadProfile> {
        self.lore.profile.filter(|_| self.lore.shapes.contains(&Shape::Profile))
    }

    /// E7 at the level of the class.
    pub(super) fn by_class(&self, day: DayNumber, slot: usize, used: &mut Used) -> Option<Fill> {
        let daily = self.profile()?.daily_use?;
        let (weight, week) = (self.weight(day, slot)?, self.week(day)?);
        used.profile_at(None);
        Some(Fill { sum: i128::from(daily.micros()) * 7 * weight, count: week.max(1), method: Method::Profile })
    }

    /// What fills went by, in words that follow a gap's.
    pub(super) fn told(&self, used: &Used, civil: impl Fn(DayNumber) -> CivilDay) -> String {
        let mut text = String::new();
        for (i, day) in used.days.iter().enumerate() {
            let lead = if i == 0 { "; like days " } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{lead}{}", civil(*day));
        }
        if let (Some(level), Some(profile)) = (used.profile, self.profile()) {
            let _ = write!(text, "; profile {}", profile.name);
            if let Some((from, to)) = level {
                let _ = write!(text, " at the use of {} to {}", civil(from), civil(to));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> DayNumber {
        number_of(CivilDay::parse(text).unwrap())
    }

    fn lore(holidays: &BTreeSet<DayNumber>) -> Lore<'_> {
        let (temperatures, profile, moved_in) = (None, None, None);
        Lore { holidays, back: 90, average_days: 28, shapes: &Shape::ALL, temperatures, profile, moved_in }
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
        let mut history = History::new(lore(&holidays));
        history.set_slots(24, 3_600);
        for (text, value) in
            [("2026-05-11", 1_500_000), ("2026-05-18", 900_000), ("2026-05-25", 3_000_000), ("2026-06-01", 1_200_000)]
        {
            history.remember(day(text), 7, value);
        }
        let mut used = Used::default();
        let fill = history.fill(day("2026-06-08"), 7, &mut used, true);
        assert_eq!(fill, Some(Fill { sum: 3_600_000, count: 3, method: Method::LikeDay }), "1.2");
        assert_eq!(used.days.len(), 3);
        assert_eq!(history.fill(day("2026-06-08"), 8, &mut used, true), None, "another hour teaches nothing");
        assert_eq!(history.fill(day("2026-06-09"), 7, &mut used, true), None, "one Monday makes no Tuesday");
    }

    #[test]
    fn five_days_of_the_type_stand_in_for_like_days() {
        let holidays = BTreeSet::new();
        let mut history = History::new(lore(&holidays));
        history.set_slots(24, 3_600);
        for (i, text) in ["2026-06-01", "2026-06-02", "2026-06-03", "2026-06-04", "2026-06-05"].into_iter().enumerate()
        {
            history.remember(day(text), 0, i64::try_from(i).unwrap() * 10);
        }
        let mut used = Used::default();
        let fill = history.fill(day("2026-06-08"), 0, &mut used, true);
        assert_eq!(fill, Some(Fill { sum: 100, count: 5, method: Method::DayType }));
        assert_eq!(history.fill(day("2026-06-06"), 0, &mut used, true), None, "workdays make no Saturday");
        assert_eq!(history.fill(day("2026-12-08"), 0, &mut used, true), None, "beyond 90 days nothing is remembered");
    }
}
