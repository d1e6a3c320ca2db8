//! The slots of civil days: edges from midnight in steps of the interval, to the next midnight.
//!
//! A day commonly has 23, 24 or 25 hours; its last slot is cut at midnight where the interval does not divide it.

use meterlake_model::{CivilDay, Timestamp, Zone};

use super::history::{DayNumber, number_of};

pub(super) const DAY_US: i64 = 86_400_000_000;

/// The slot in which a walk stands. Cheap to clone for a look ahead.
#[derive(Clone)]
pub(super) struct Grid<'a> {
    zone: &'a Zone,
    interval_us: i64,
    day: CivilDay,
    number: DayNumber,
    day_start: Timestamp,
    day_end: Timestamp,
    slot_start: Timestamp,
    slot_end: Timestamp,
}

impl<'a> Grid<'a> {
    /// The slot that holds `ts`. Intervals run from a second to a day.
    pub(super) fn at(zone: &'a Zone, interval_s: i64, ts: Timestamp) -> Self {
        let interval_us = interval_s.clamp(1, 86_400) * 1_000_000;
        let day = zone.day_of(ts);
        let (day_start, day_end) = zone.span_of_day(day);
        let since = ts.micros_since(day_start);
        let slot_start = day_start.plus_micros(since - since.rem_euclid(interval_us));
        let slot_end = slot_start.plus_micros(interval_us).min(day_end);
        Self { zone, interval_us, day, number: number_of(day), day_start, day_end, slot_start, slot_end }
    }

    pub(super) fn slots_a_day(&self) -> usize {
        usize::try_from((DAY_US + self.interval_us - 1) / self.interval_us).unwrap_or(1)
    }

    pub(super) fn interval_us(&self) -> i64 {
        self.interval_us
    }

    /// First instant of the slot.
    pub(super) fn start(&self) -> Timestamp {
        self.slot_start
    }

    /// The instant after the slot's last.
    pub(super) fn end(&self) -> Timestamp {
        self.slot_end
    }

    /// Midnight after the day.
    pub(super) fn day_end(&self) -> Timestamp {
        self.day_end
    }

    /// The day's number.
    pub(super) fn day(&self) -> DayNumber {
        self.number
    }

    /// The day of another number.
    pub(super) fn civil(&self, number: DayNumber) -> CivilDay {
        self.day.plus_days(number - self.number)
    }

    /// The slot's place on the wall clock, counted in intervals from midnight.
    pub(super) fn place(&self) -> usize {
        let regular = self.day_end.micros_since(self.day_start) == DAY_US;
        let since = if regular {
            self.slot_start.micros_since(self.day_start)
        } else {
            i64::from(self.zone.minute_of_day(self.slot_start)) * 60_000_000
        };
        usize::try_from(since / self.interval_us).unwrap_or(0)
    }

    /// Moves to the next slot.
    pub(super) fn advance(&mut self) {
        self.slot_start = self.slot_end;
        // A day that the zone left out whole has no slots.
        while self.slot_start >= self.day_end {
            self.day = self.day.plus_days(1);
            self.number += 1;
            self.day_start = self.day_end;
            self.day_end = self.zone.start_of_day(self.day.plus_days(1));
        }
        self.slot_end = self.slot_start.plus_micros(self.interval_us).min(self.day_end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(zone: &str, interval_s: i64, day: &str) -> usize {
        let zone = Zone::parse(zone).unwrap();
        let (start, end) = zone.span_of_day(CivilDay::parse(day).unwrap());
        let mut grid = Grid::at(&zone, interval_s, start);
        let mut count = 0;
        while grid.start() < end {
            count += 1;
            grid.advance();
        }
        assert!(count == 0 || grid.start() == end, "slots tile the day");
        count
    }

    #[test]
    fn a_civil_day_has_its_own_number_of_slots() {
        for (zone, interval_s, day, expected) in [
            ("Europe/Madrid", 3600, "2016-03-26", 24),
            ("Europe/Madrid", 3600, "2016-03-27", 23),
            ("Europe/Madrid", 900, "2016-03-27", 92),
            ("Europe/Madrid", 3600, "2016-10-30", 25),
            ("Australia/Lord_Howe", 900, "2024-04-07", 98),
            ("Australia/Lord_Howe", 900, "2024-10-06", 94),
            ("Pacific/Apia", 3600, "2011-12-30", 0),
            ("America/Sao_Paulo", 3600, "2018-11-04", 23),
        ] {
            assert_eq!(slots(zone, interval_s, day), expected, "{zone} {day}");
        }
    }

    #[test]
    fn places_follow_the_wall_clock() {
        let zone = Zone::parse("Europe/Madrid").unwrap();
        let mut grid = Grid::at(&zone, 3600, zone.start_of_day(CivilDay::parse("2016-03-27").unwrap()));
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(grid.place());
            grid.advance();
        }
        assert_eq!(places, [0, 1, 3, 4]);
    }
}
