//! From slots to a profile.

use super::{Amount, BTreeMap, BTreeSet, CivilDay, DayType, KeyFigures, Profile, ProfileRules, Shape, SlotUse, Zone};

const HOUR_US: i64 = 3_600_000_000;

/// The profile of the `days` days from `first_day` on. Slots of any order; those of other days are passed over, and
/// slots longer than an hour say nothing about a shape.
pub fn profile(
    slots: impl IntoIterator<Item = SlotUse>,
    zone: &Zone,
    first_day: CivilDay,
    days: u16,
    holidays: &BTreeSet<CivilDay>,
    rules: &ProfileRules,
) -> Profile {
    let mut calendar: Vec<Day> =
        (0..i32::from(days)).map(|i| Day::new(zone, first_day.plus_days(i), holidays)).collect();
    let starts: Vec<i64> = calendar.iter().map(|d| d.start_us).collect();
    for slot in slots {
        let start = slot.start.micros();
        let at = starts.partition_point(|s| *s <= start);
        if at > 0 && start < calendar[at - 1].end_us {
            calendar[at - 1].take(&slot);
        }
    }
    Profile {
        first_day,
        daily: calendar.iter().map(Day::total).collect(),
        shapes: shapes(&calendar),
        figures: figures(&calendar, rules),
    }
}

struct Day {
    kind: DayType,
    start_us: i64,
    end_us: i64,
    /// Real hours from the day's first instant on: 23, 24 or 25 of them.
    hours: Vec<Hour>,
}

struct Hour {
    /// What the wall clock shows at its start, 0 to 23.
    wall: u8,
    /// Microseconds that it has, and how many of them actual slots cover.
    length_us: i64,
    actual_us: i64,
    sum: i64,
}

impl Hour {
    /// In millionths of the unit; `None` unless all of it is actual.
    fn actual(&self) -> Option<i64> {
        (self.actual_us >= self.length_us).then_some(self.sum)
    }
}

impl Day {
    fn new(zone: &Zone, day: CivilDay, holidays: &BTreeSet<CivilDay>) -> Self {
        let (start, end) = zone.span_of_day(day);
        let mut hours = Vec::with_capacity(25);
        let mut at = start;
        while at < end {
            let length_us = end.micros_since(at).min(HOUR_US);
            hours.push(Hour { wall: zone.hour_of(at), length_us, actual_us: 0, sum: 0 });
            at = at.plus_micros(HOUR_US);
        }
        Self { kind: DayType::of(day, holidays), start_us: start.micros(), end_us: end.micros(), hours }
    }

    fn take(&mut self, slot: &SlotUse) {
        let length = slot.end.micros_since(slot.start);
        if !slot.actual || length > HOUR_US || length <= 0 {
            return;
        }
        let index = usize::try_from((slot.start.micros() - self.start_us) / HOUR_US).unwrap_or(usize::MAX);
        if let Some(hour) = self.hours.get_mut(index) {
            hour.actual_us += length;
            hour.sum = hour.sum.saturating_add(slot.value.micros());
        }
    }

    /// Use of the day; `None` unless every hour is actual.
    fn total(&self) -> Option<Amount> {
        if self.hours.is_empty() {
            return None;
        }
        let mut total = 0_i64;
        for hour in &self.hours {
            total = total.checked_add(hour.actual()?)?;
        }
        Amount::from_micros(total)
    }
}

fn shapes(calendar: &[Day]) -> [Shape; 3] {
    DayType::ALL.map(|kind| {
        let mut sums = [(0_i128, 0_u32); 24];
        for hour in calendar.iter().filter(|d| d.kind == kind).flat_map(|d| &d.hours) {
            if let (Some(value), Some(cell)) = (hour.actual(), sums.get_mut(usize::from(hour.wall))) {
                cell.0 += i128::from(value);
                cell.1 += 1;
            }
        }
        sums.map(|(sum, count)| (count > 0).then(|| units(sum) / f64::from(count)))
    })
}

fn figures(calendar: &[Day], rules: &ProfileRules) -> Option<KeyFigures> {
    let complete: Vec<(&Day, i128)> =
        calendar.iter().filter_map(|d| Some((d, i128::from(d.total()?.micros())))).collect();
    if complete.is_empty() || complete.len() < usize::from(rules.min_days) {
        return None;
    }
    let mut hours: Vec<i64> = complete.iter().flat_map(|(d, _)| d.hours.iter().map(|h| h.sum)).collect();
    hours.sort_unstable();
    let total: i128 = complete.iter().map(|(_, use_)| use_).sum();
    let mut smallest: Vec<i64> = complete.iter().filter_map(|(d, _)| d.hours.iter().map(|h| h.sum).min()).collect();
    smallest.sort_unstable();
    let peak = units(i128::from(rank(&hours, 100)));
    let mean_hour = units(total) / count(hours.len());
    Some(KeyFigures {
        daily_use: units(total) / count(complete.len()),
        night_share: share(&complete, rules.night, total),
        evening_share: share(&complete, rules.evening, total),
        midday_share: share(&complete, rules.midday, total),
        p5: units(i128::from(rank(&hours, 5))),
        p50: units(i128::from(rank(&hours, 50))),
        p95: units(i128::from(rank(&hours, 95))),
        peak,
        base_load: units(i128::from(rank(&smallest, 50))),
        load_factor: ratio(mean_hour, peak),
        weekday_to_weekend: weekday_to_weekend(&complete),
        peak_to_valley: peak_to_valley(&complete),
    })
}

fn share(complete: &[(&Day, i128)], (from, to): (u8, u8), total: i128) -> Option<f64> {
    let within = complete.iter().flat_map(|(d, _)| &d.hours).filter(|h| (from..to).contains(&h.wall));
    ratio(units(within.map(|h| i128::from(h.sum)).sum()), units(total))
}

fn weekday_to_weekend(complete: &[(&Day, i128)]) -> Option<f64> {
    let mean = |workday: bool| {
        let days: Vec<i128> =
            complete.iter().filter(|(d, _)| (d.kind == DayType::Workday) == workday).map(|(_, use_)| *use_).collect();
        (!days.is_empty()).then(|| units(days.iter().sum()) / count(days.len()))
    };
    ratio(mean(true)?, mean(false)?)
}

fn peak_to_valley(complete: &[(&Day, i128)]) -> Option<f64> {
    let mut by_hour: BTreeMap<u8, (i128, usize)> = BTreeMap::new();
    for hour in complete.iter().flat_map(|(d, _)| &d.hours) {
        let cell = by_hour.entry(hour.wall).or_default();
        cell.0 += i128::from(hour.sum);
        cell.1 += 1;
    }
    let means = || by_hour.values().map(|(sum, n)| units(*sum) / count(*n));
    ratio(means().fold(f64::MIN, f64::max), means().fold(f64::MAX, f64::min))
}

/// Nearest rank: the smallest value that `percent` of all values reach at most. 0 for no values.
fn rank(sorted: &[i64], percent: usize) -> i64 {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or(0)
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

#[expect(clippy::cast_precision_loss, reason = "figures bear no money")]
fn units(micros: i128) -> f64 {
    micros as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts of hours are small")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quarters of an hour of a month in Madrid: `watts(day, wall hour)` thousandths of a unit an hour.
    fn month(first: &str, watts: impl Fn(CivilDay, u8) -> i64) -> (Zone, CivilDay, Vec<SlotUse>) {
        let zone = Zone::parse("Europe/Madrid").unwrap();
        let first = CivilDay::parse(first).unwrap();
        let (mut at, end) = (zone.start_of_day(first), zone.start_of_day(first.plus_months(1)));
        let mut slots = Vec::new();
        while at < end {
            let value = Amount::from_scaled(watts(zone.day_of(at), zone.hour_of(at)), 3).unwrap();
            let value = value.proportion(1, 4).unwrap();
            slots.push(SlotUse { start: at, end: at.plus_seconds(900), value, actual: true });
            at = at.plus_seconds(900);
        }
        (zone, first, slots)
    }

    fn of(zone: &Zone, first: CivilDay, slots: Vec<SlotUse>) -> Profile {
        let days = u16::try_from(first.plus_months(1).days_since(first)).unwrap();
        profile(slots, zone, first, days, &BTreeSet::new(), &ProfileRules::default())
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn shares_and_shape_of_a_known_month() {
        // 1 kW from 0 to 6, 4 kW from 17 to 22, else 2 kW: 6 + 20 + 26 = 52 kWh a day.
        let (zone, first, slots) = month("2026-09-01", |_, hour| match hour {
            0..6 => 1000,
            17..22 => 4000,
            _ => 2000,
        });
        let found = of(&zone, first, slots);
        let figures = found.figures.unwrap();
        assert_eq!(found.complete_days(), 30);
        near(figures.daily_use, 52.0);
        near(figures.night_share.unwrap(), 6.0 / 52.0);
        near(figures.evening_share.unwrap(), 20.0 / 52.0);
        near(figures.midday_share.unwrap(), 6.0 / 52.0);
        near(figures.p5, 1.0);
        near(figures.p50, 2.0);
        near(figures.p95, 4.0);
        near(figures.peak, 4.0);
        near(figures.base_load, 1.0);
        near(figures.load_factor.unwrap(), 52.0 / 24.0 / 4.0);
        near(figures.weekday_to_weekend.unwrap(), 1.0);
        near(figures.peak_to_valley.unwrap(), 4.0);
        near(found.shapes[0][3].unwrap(), 1.0);
        near(found.shapes[2][18].unwrap(), 4.0);
    }

    #[test]
    fn estimates_give_no_figures() {
        let (zone, first, mut slots) = month("2026-09-01", |_, _| 1000);
        for slot in slots.iter_mut().filter(|s| zone.day_of(s.start).day() == 3 && zone.hour_of(s.start) == 5) {
            slot.actual = false;
            slot.value = Amount::parse("99").unwrap();
        }
        let found = of(&zone, first, slots.clone());
        assert_eq!(found.daily[2], None, "a day with an estimate is not complete");
        assert_eq!(found.complete_days(), 29);
        near(found.figures.unwrap().peak, 1.0);
        near(found.shapes[0][5].unwrap(), 1.0);

        for slot in &mut slots {
            slot.actual = false;
        }
        let none = of(&zone, first, slots);
        assert_eq!(none.figures, None);
        assert!(none.shapes.iter().flatten().all(Option::is_none));
    }

    #[test]
    fn days_of_23_and_25_hours_are_complete() {
        for (first, day, hours) in [("2026-03-01", 29, 23.0), ("2026-10-01", 25, 25.0)] {
            let (zone, first, slots) = month(first, |_, _| 1000);
            let found = of(&zone, first, slots);
            assert_eq!(found.complete_days(), 31);
            near(found.daily[day - 1].unwrap().to_f64(), hours);
        }
    }

    #[test]
    fn a_holiday_is_a_sunday_and_too_few_days_give_no_figures() {
        let (zone, first, slots) = month("2026-09-01", |day, _| if day.day() == 1 { 5000 } else { 1000 });
        let holidays = BTreeSet::from([first]);
        let found = profile(slots.clone(), &zone, first, 30, &holidays, &ProfileRules::default());
        near(found.shapes[0][0].unwrap(), 1.0);
        near(found.shapes[2][0].unwrap(), (5.0 + 4.0) / 5.0);
        let week = profile(slots, &zone, first, 6, &holidays, &ProfileRules::default());
        assert_eq!(week.figures, None);
        assert_eq!(week.complete_days(), 6);
    }

    #[test]
    fn nothing_used_is_no_division_by_zero() {
        let (zone, first, slots) = month("2026-09-01", |_, _| 0);
        let figures = of(&zone, first, slots).figures.unwrap();
        assert_eq!((figures.night_share, figures.load_factor, figures.peak_to_valley), (None, None, None));
        near(figures.daily_use, 0.0);
    }

    #[test]
    fn slots_of_a_day_say_nothing_about_hours() {
        let (zone, first, _) = month("2026-09-01", |_, _| 0);
        let start = zone.start_of_day(first);
        let day = SlotUse { start, end: start.plus_seconds(86_400), value: Amount::parse("10").unwrap(), actual: true };
        assert_eq!(of(&zone, first, vec![day]).complete_days(), 0);
    }
}
