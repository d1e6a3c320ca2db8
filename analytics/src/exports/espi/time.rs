//! `LocalTimeParameters` of ESPI: a zone as an offset and two rules for summer time.
//!
//! A rule is 32 bits: month in 28–31, which kind in 25–27 (0 on a day of the month, 2 to 6 on the first to fifth such weekday,
//! 7 on the last), day of the month in 20–24, weekday in 17–19 (Monday 1), hour in 12–16, seconds in the hour in 0–11.

use meterlake_model::{CivilDay, Timestamp, Zone};

/// No summer time.
const NONE: u32 = 0xFFFF_FFFF;

/// A zone as ESPI says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalTime {
    /// When summer time begins.
    pub start_rule: u32,
    /// When it ends.
    pub end_rule: u32,
    /// What it adds, in seconds.
    pub dst_offset: i64,
    /// Seconds that standard time is ahead of UTC.
    pub tz_offset: i64,
}

/// The zone in the year of a day. One that changed its clocks otherwise than twice has its offset at the day, and no rules:
/// ESPI cannot say it, and its times are in UTC anyway.
pub(super) fn local_time(zone: &Zone, day: CivilDay) -> LocalTime {
    let changes = changes(zone, day.year());
    match changes.as_slice() {
        [a, b] if a.by == -b.by => {
            let (start, end) = if a.by > 0 { (a, b) } else { (b, a) };
            let tz_offset = offset_s(zone, start.at.plus_seconds(-1));
            let rule = |change: &Change, summer| rule(zone, change, day.year(), summer);
            LocalTime { start_rule: rule(start, true), end_rule: rule(end, false), dst_offset: start.by, tz_offset }
        }
        _ => LocalTime {
            start_rule: NONE,
            end_rule: NONE,
            dst_offset: 0,
            tz_offset: offset_s(zone, zone.start_of_day(day)),
        },
    }
}

/// A change of clocks.
struct Change {
    /// First instant of the new time.
    at: Timestamp,
    /// By how many seconds clocks were put forward.
    by: i64,
}

impl Change {
    /// Day and second of the day that clocks showed when they were changed.
    fn wall(&self, zone: &Zone) -> (CivilDay, i64) {
        let before = self.at.plus_seconds(-60);
        let second = i64::from(zone.minute_of_day(before)) * 60 + 60;
        let day = zone.day_of(before);
        if second == 86_400 { (day.plus_days(1), 0) } else { (day, second) }
    }
}

/// Seconds that the zone's clocks are ahead of UTC.
fn offset_s(zone: &Zone, at: Timestamp) -> i64 {
    let utc = Zone::utc();
    let days = i64::from(zone.day_of(at).days_since(utc.day_of(at)));
    (days * 1440 + i64::from(zone.minute_of_day(at)) - i64::from(utc.minute_of_day(at))) * 60
}

/// The changes of a civil year, in order.
fn changes(zone: &Zone, year: i16) -> Vec<Change> {
    let (Ok(first), Ok(next)) = (CivilDay::new(year, 1, 1), CivilDay::new(year + 1, 1, 1)) else { return Vec::new() };
    let (mut low, end) = (zone.start_of_day(first), zone.start_of_day(next));
    let mut found = Vec::new();
    while low < end {
        let high = low.plus_seconds(86_400);
        let by = offset_s(zone, high) - offset_s(zone, low);
        if by != 0 {
            let (mut before, mut after) = (low, high);
            while after.micros_since(before) > 60_000_000 {
                let middle = before.plus_seconds(after.micros_since(before) / 120_000_000 * 60);
                if offset_s(zone, middle) == offset_s(zone, low) { before = middle } else { after = middle }
            }
            found.push(Change { at: after, by });
        }
        low = high;
    }
    found
}

fn rule(zone: &Zone, change: &Change, year: i16, summer: bool) -> u32 {
    let (day, second) = change.wall(zone);
    let nth = (day.day() - 1) / 7;
    // The last such weekday is often the fourth, too: what holds in the years after, holds.
    let candidates = [(is_last(day), 7_u32), (true, u32::from(nth.unsigned_abs()) + 2)];
    let holds = |kind: u32| {
        (year..year.saturating_add(6)).all(|y| {
            let same = changes(zone, y).into_iter().find(|c| (c.by > 0) == summer);
            same.is_some_and(|c| {
                let (d, s) = c.wall(zone);
                let right =
                    if kind == 7 { is_last(d) } else { u32::from(((d.day() - 1) / 7).unsigned_abs()) + 2 == kind };
                right && s == second && d.month() == day.month() && d.weekday() == day.weekday()
            })
        })
    };
    let kind = candidates.into_iter().find(|(possible, kind)| *possible && holds(*kind)).map(|(_, kind)| kind);
    let small = |n: i8| u32::from(n.unsigned_abs());
    let seconds = u32::try_from(second).unwrap_or(0);
    let (of_week, of_month) = match kind {
        Some(_) => (u32::from(day.weekday()) + 1, 0),
        None => (0, small(day.day())),
    };
    small(day.month()) << 28
        | kind.unwrap_or(0) << 25
        | of_month << 20
        | of_week << 17
        | (seconds / 3600) << 12
        | (seconds % 3600)
}

/// Whether no later day of the month has its weekday.
fn is_last(day: CivilDay) -> bool {
    day.plus_days(7).month() != day.month()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_become_the_rules_of_espi() {
        // Those of New York are in every example of Green Button; the others follow from their laws.
        for (name, start, end, dst, offset) in [
            ("America/New_York", 0x360E_2000, 0xB40E_2000, 3600, -18_000),
            ("Europe/Madrid", 0x3E0E_2000, 0xAE0E_3000, 3600, 3600),
            ("Australia/Sydney", 0xA40E_2000, 0x440E_3000, 3600, 36_000),
            ("Australia/Lord_Howe", 0xA40E_2000, 0x440E_2000, 1800, 37_800),
            ("Australia/Brisbane", NONE, NONE, 0, 36_000),
            ("Asia/Shanghai", NONE, NONE, 0, 28_800),
            ("Asia/Kolkata", NONE, NONE, 0, 19_800),
            ("UTC", NONE, NONE, 0, 0),
        ] {
            let zone = Zone::parse(name).unwrap();
            let found = local_time(&zone, CivilDay::parse("2026-05-01").unwrap());
            assert_eq!(
                found,
                LocalTime { start_rule: start, end_rule: end, dst_offset: dst, tz_offset: offset },
                "{name} {:X} {:X}",
                found.start_rule,
                found.end_rule
            );
        }
    }
}
