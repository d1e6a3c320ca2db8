//! When a device is read: at multiples of its interval, in the civil time of its place. Pure.
//!
//! Slots do not drift: each is computed from the calendar, never from the poll before.

use std::time::Duration;

use meterlake_model::{Timestamp, Zone};

const MICROS: i64 = 1_000_000;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;
/// Longer intervals are cut to this: a hundred years.
const LONGEST_S: i64 = 36_525 * DAY_S;
/// An answer this soon after its slot bears the slot's time: a device without a clock is as exact as that.
pub const SLOT_TOLERANCE_S: i64 = 10;

/// The slots of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    interval_s: i64,
    /// Where days begin; `None` for multiples of the interval in UTC.
    zone: Option<Zone>,
}

impl Slots {
    /// Slots every `interval` (whole seconds, at least one). Intervals that divide 24 hours count from civil midnight,
    /// so that a day's first slot is the reading of midnight; others count from 1970 in UTC.
    pub fn new(interval: Duration, zone: Zone) -> Self {
        let interval_s = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).clamp(1, LONGEST_S);
        Self { interval_s, zone: (DAY_S % interval_s == 0).then_some(zone) }
    }

    /// Time from slot to slot, but for the last slot before a civil midnight of a long or short day.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_s.unsigned_abs())
    }

    /// The last slot that is not after `ts`.
    pub fn at_or_before(&self, ts: Timestamp) -> Timestamp {
        let Some(zone) = &self.zone else {
            return ts.plus_micros(-ts.micros().rem_euclid(self.interval_s * MICROS));
        };
        let start = zone.span_of_day(zone.day_of(ts)).0;
        let passed = ts.micros_since(start).div_euclid(self.interval_s * MICROS);
        start.plus_seconds(passed.min(self.last_of_day()) * self.interval_s)
    }

    /// The first slot after `ts`.
    pub fn after(&self, ts: Timestamp) -> Timestamp {
        let before = self.at_or_before(ts);
        let next = before.plus_seconds(self.interval_s);
        let Some(zone) = &self.zone else { return next };
        let (start, end) = zone.span_of_day(zone.day_of(ts));
        let is_last = before.micros_since(start) >= self.last_of_day().saturating_mul(self.interval_s * MICROS);
        if is_last { end } else { next.min(end) }
    }

    /// The time of a reading that was answered at `answered_at` by a device that is read so long after each slot, and
    /// whether it came soon enough for it.
    ///
    /// Devices that are due within the tolerance bear the slot's time, the others that of their own regular instant,
    /// since a register that is read five minutes later is not what it was at the slot. What comes later than the
    /// tolerance bears the answer's time. All to the second.
    pub fn stamp(&self, answered_at: Timestamp, offset: Duration) -> (Timestamp, bool) {
        let tolerance = SLOT_TOLERANCE_S * MICROS;
        let offset = i64::try_from(offset.as_micros()).unwrap_or(i64::MAX);
        let shift = if offset <= tolerance { 0 } else { offset };
        let planned = whole_second(self.at_or_before(answered_at.plus_micros(-shift)).plus_micros(shift));
        let answered = whole_second(answered_at);
        let in_time = answered.micros_since(planned) <= tolerance;
        (if in_time { planned } else { answered }, in_time)
    }

    /// The number of a civil day's last slot, from 0. On a day of 25 hours, slots of up to an hour go on to the end;
    /// longer ones stay as many as on other days, so that a daily reading is not followed by one an hour before midnight.
    fn last_of_day(&self) -> i64 {
        if self.interval_s <= HOUR_S { i64::from(i32::MAX) } else { DAY_S / self.interval_s - 1 }
    }
}

fn whole_second(ts: Timestamp) -> Timestamp {
    ts.plus_micros(-ts.micros().rem_euclid(MICROS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ts(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn slots(minutes: u64, zone: &str) -> Slots {
        Slots::new(Duration::from_secs(minutes * 60), Zone::parse(zone).unwrap())
    }

    #[test]
    fn slots_are_multiples_of_the_interval_in_civil_time() {
        for (minutes, zone, at, before, after) in [
            (15, "Europe/Madrid", "2026-11-21T10:07:00Z", "2026-11-21T10:00:00Z", "2026-11-21T10:15:00Z"),
            (15, "Europe/Madrid", "2026-11-21T10:15:00Z", "2026-11-21T10:15:00Z", "2026-11-21T10:30:00Z"),
            (60, "Asia/Kolkata", "2026-11-21T10:07:00Z", "2026-11-21T09:30:00Z", "2026-11-21T10:30:00Z"),
            (1440, "Europe/Madrid", "2026-11-21T10:07:00Z", "2026-11-20T23:00:00Z", "2026-11-21T23:00:00Z"),
            (1440, "Europe/Madrid", "2016-03-27T10:00:00Z", "2016-03-26T23:00:00Z", "2016-03-27T22:00:00Z"),
            (1440, "Europe/Madrid", "2016-10-30T10:00:00Z", "2016-10-29T22:00:00Z", "2016-10-30T23:00:00Z"),
            (360, "Europe/Madrid", "2016-10-30T22:30:00Z", "2016-10-30T16:00:00Z", "2016-10-30T23:00:00Z"),
            (60, "Europe/Madrid", "2016-10-30T22:30:00Z", "2016-10-30T22:00:00Z", "2016-10-30T23:00:00Z"),
            (7, "Europe/Madrid", "1970-01-01T00:08:00Z", "1970-01-01T00:07:00Z", "1970-01-01T00:14:00Z"),
        ] {
            let slots = slots(minutes, zone);
            assert_eq!(slots.at_or_before(ts(at)), ts(before), "{minutes} min {zone} before {at}");
            assert_eq!(slots.after(ts(at)), ts(after), "{minutes} min {zone} after {at}");
        }
    }

    #[test]
    fn a_quarter_hour_day_has_as_many_slots_as_the_civil_day() {
        for (day, expected) in
            [("2016-03-26T23:00:00Z", 92), ("2016-10-29T22:00:00Z", 100), ("2026-11-20T23:00:00Z", 96)]
        {
            let (slots, zone) = (slots(15, "Europe/Madrid"), Zone::parse("Europe/Madrid").unwrap());
            let end = zone.span_of_day(zone.day_of(ts(day))).1;
            let mut slot = ts(day);
            let mut count = 0;
            while slot < end {
                count += 1;
                slot = slots.after(slot);
            }
            assert_eq!((count, slot), (expected, end), "{day}");
        }
    }

    #[test]
    fn an_answer_within_ten_seconds_bears_the_slots_time() {
        let slots = slots(15, "UTC");
        for (answered, stamped) in [
            ("2026-11-21T10:15:00Z", "2026-11-21T10:15:00Z"),
            ("2026-11-21T10:15:10.999Z", "2026-11-21T10:15:00Z"),
            ("2026-11-21T10:15:11Z", "2026-11-21T10:15:11Z"),
            ("2026-11-21T10:29:59.7Z", "2026-11-21T10:29:59Z"),
        ] {
            assert_eq!(slots.stamp(ts(answered), Duration::ZERO).0, ts(stamped));
        }
    }

    #[test]
    fn a_device_that_is_read_later_bears_its_slots_time_only_within_the_tolerance() {
        let slots = slots(15, "UTC");
        for (offset_ms, answered, stamped, in_time) in [
            (0, "2026-11-21T10:15:09Z", "2026-11-21T10:15:00Z", true),
            (4_700, "2026-11-21T10:15:05Z", "2026-11-21T10:15:00Z", true),
            (10_000, "2026-11-21T10:15:10.5Z", "2026-11-21T10:15:00Z", true),
            (4_700, "2026-11-21T10:15:11Z", "2026-11-21T10:15:11Z", false),
            (10_001, "2026-11-21T10:15:10.5Z", "2026-11-21T10:15:10Z", true),
            (211_318, "2026-11-21T10:18:31.4Z", "2026-11-21T10:18:31Z", true),
            (211_318, "2026-11-21T10:18:41.9Z", "2026-11-21T10:18:31Z", true),
            (211_318, "2026-11-21T10:18:42Z", "2026-11-21T10:18:42Z", false),
            (211_318, "2026-11-21T10:15:00Z", "2026-11-21T10:15:00Z", false),
        ] {
            let expected = (ts(stamped), in_time);
            assert_eq!(slots.stamp(ts(answered), Duration::from_millis(offset_ms)), expected, "{offset_ms} {answered}");
        }
    }

    proptest! {
        #[test]
        fn slots_neither_overlap_nor_drift(seconds in -2_000_000_000_i64..4_000_000_000, interval in 1_u64..200_000, kolkata: bool) {
            let zone = Zone::parse(if kolkata { "Asia/Kolkata" } else { "Australia/Lord_Howe" }).unwrap();
            let slots = Slots::new(Duration::from_secs(interval), zone);
            let at = Timestamp::from_unix_seconds(seconds).unwrap();
            let (before, after) = (slots.at_or_before(at), slots.after(at));
            prop_assert!(before <= at && at < after);
            prop_assert_eq!(slots.after(before), after);
            prop_assert_eq!(slots.at_or_before(after), after);
            let longest = i64::try_from(interval).unwrap() + HOUR_S;
            prop_assert!(after.micros_since(before) <= longest * MICROS);
        }
    }
}
