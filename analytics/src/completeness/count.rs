//! One meter's civil day: the times at which it was to speak, and which of them it kept.

use meterlake_model::{ReadingFlags, Timestamp};

use super::bits::Bits;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// One reading, as far as completeness looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The meter's own time.
    pub(crate) ts: Timestamp,
    /// When it first came, in seconds since 1970.
    pub(crate) received_at_s: i64,
    /// What is known about it.
    pub(crate) flags: ReadingFlags,
}

/// What one day is counted by.
pub(crate) struct DayInput<'a> {
    /// First instant of the civil day.
    pub(crate) start: Timestamp,
    /// First instant of the next.
    pub(crate) end: Timestamp,
    /// Seconds between readings.
    pub(crate) interval_s: i64,
    /// When the meter was installed, half-open.
    pub(crate) installed: &'a [(Timestamp, Timestamp)],
    /// All of the meter's readings in order of time, each time once.
    pub(crate) readings: &'a [Arrival],
    /// The newest arrival of anything, in seconds since 1970.
    pub(crate) horizon_s: i64,
    /// A reading may be so late, in seconds.
    pub(crate) late_after_s: i64,
}

/// The times at which readings are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots {
    first: Timestamp,
    step_us: i64,
    pub(crate) count: usize,
}

impl Slots {
    /// When a slot's reading is expected.
    pub(crate) fn time(&self, slot: usize) -> Timestamp {
        self.first.plus_micros(i64::try_from(slot).unwrap_or(i64::MAX).saturating_mul(self.step_us))
    }

    /// The slot whose time is nearest.
    fn nearest(&self, ts: Timestamp) -> Option<usize> {
        let slot = (ts.micros_since(self.first) + self.step_us / 2).div_euclid(self.step_us);
        usize::try_from(slot).ok().filter(|slot| *slot < self.count)
    }
}

/// A day, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DayCount {
    pub(crate) slots: Slots,
    /// Slots whose reading is due or came.
    pub(crate) expected: Bits,
    /// Those of them whose reading did not come.
    pub(crate) missing: Bits,
    /// Distinct times of readings in the day.
    pub(crate) readings: i32,
    /// Missing slots before a reading that came in arrears: between which arrivals, in seconds since 1970, theirs would
    /// have come.
    pub(crate) arrears: Vec<(usize, (i64, i64))>,
    /// Slots whose reading came, too late.
    pub(crate) late: i32,
    pub(crate) first: Option<Timestamp>,
    pub(crate) last: Option<Timestamp>,
    /// The longest time without a reading, the edges of the day too, in seconds.
    pub(crate) longest_gap_s: i64,
    /// Whether every expected time of the day has passed.
    pub(crate) closed: bool,
}

impl DayInput<'_> {
    fn is_installed(&self, ts: Timestamp) -> bool {
        self.installed.iter().any(|(from, to)| *from <= ts && ts < *to)
    }

    /// The readings from some time before the day to some time after it.
    fn around(&self, reach_us: i64) -> &[Arrival] {
        let (from, to) = (self.start.plus_micros(-reach_us), self.end.plus_micros(reach_us));
        let begin = self.readings.partition_point(|r| r.ts < from);
        let end = self.readings.partition_point(|r| r.ts < to);
        &self.readings[begin..end.max(begin)]
    }

    /// The readings of the day itself.
    pub(crate) fn of_day(&self) -> &[Arrival] {
        self.around(0)
    }

    fn slots(&self) -> Slots {
        let step_us = self.interval_s.max(1).saturating_mul(SECOND_US);
        if step_us > DAY_US {
            return self.rare_slots(step_us);
        }
        let length = self.end.micros_since(self.start);
        let count = usize::try_from((length + step_us / 2) / step_us).unwrap_or(1).max(1);
        let phase = self.phase(step_us);
        // Near the round times, as most meters are, the day's own grid holds, so that days fit together.
        let round = phase.min(step_us - phase) <= step_us / 4;
        Slots { first: self.start.plus_micros(if round { 0 } else { phase }), step_us, count }
    }

    /// How far after round times the meter speaks: the median of the day, around the first reading.
    fn phase(&self, step_us: i64) -> i64 {
        let readings = self.of_day();
        let Some(first) = readings.first() else { return 0 };
        let off = |r: &Arrival| (r.ts.micros_since(first.ts) + step_us / 2).rem_euclid(step_us) - step_us / 2;
        let mut off: Vec<i64> = readings.iter().map(off).collect();
        off.sort_unstable();
        (first.ts.micros_since(self.start) + off[off.len() / 2]).rem_euclid(step_us)
    }

    /// A meter that speaks less than daily is due an interval after it last spoke.
    fn rare_slots(&self, step_us: i64) -> Slots {
        let none = Slots { first: self.start, step_us, count: 0 };
        if let Some(reading) = self.of_day().first() {
            return Slots { first: reading.ts, count: 1, ..none };
        }
        let before = self.readings.partition_point(|r| r.ts < self.start);
        let Some(last) = before.checked_sub(1).map(|at| self.readings[at].ts) else {
            // Nothing says when: one day in each interval.
            let is_due = self.start.micros().rem_euclid(step_us) < DAY_US;
            return Slots { count: usize::from(is_due), ..none };
        };
        let passed = self.start.micros_since(last).div_euclid(step_us);
        let due = last.plus_micros(step_us.saturating_mul(passed + 1));
        Slots { first: due, count: usize::from(due < self.end), ..none }
    }

    /// Counts the day.
    pub(crate) fn count(&self) -> DayCount {
        let slots = self.slots();
        let reach_us = if slots.step_us > DAY_US { 0 } else { slots.step_us / 2 };
        let mut delays: Vec<Option<i64>> = vec![None; slots.count];
        for reading in self.around(reach_us) {
            let Some(slot) = slots.nearest(reading.ts) else { continue };
            let delay = reading.received_at_s - reading.ts.unix_seconds();
            let least = delays[slot].map_or(delay, |known| known.min(delay));
            delays[slot] = Some(least);
        }
        let (mut expected, mut missing, mut late) = (Bits::default(), Bits::default(), 0);
        for (slot, delay) in delays.into_iter().enumerate() {
            let time = slots.time(slot);
            let is_due = time.unix_seconds().saturating_add(self.late_after_s) <= self.horizon_s;
            if !self.is_installed(time) || (delay.is_none() && !is_due) {
                continue;
            }
            expected.insert(slot);
            match delay {
                Some(delay) => late += i32::from(delay > self.late_after_s),
                None => missing.insert(slot),
            }
        }
        let told = || self.of_day().iter().map(|r| r.ts).filter(|ts| self.is_installed(*ts));
        let arrears = missing.iter().filter_map(|slot| Some((slot, self.arrears(slots.time(slot))?))).collect();
        DayCount {
            slots,
            arrears,
            expected,
            missing,
            readings: i32::try_from(told().count()).unwrap_or(i32::MAX),
            late,
            first: told().next(),
            last: told().next_back(),
            longest_gap_s: self.longest_gap_us(told()) / SECOND_US,
            closed: self.end.unix_seconds().saturating_add(self.late_after_s) <= self.horizon_s,
        }
    }

    /// Between which arrivals a reading would have come, when the next one came later than an interval after its time.
    fn arrears(&self, time: Timestamp) -> Option<(i64, i64)> {
        let next = self.readings.partition_point(|r| r.ts <= time);
        let after = self.readings.get(next)?;
        let is_late = after.received_at_s - after.ts.unix_seconds() > self.interval_s;
        let before = next.checked_sub(1).map_or(after.received_at_s, |at| self.readings[at].received_at_s);
        is_late.then_some((before.min(after.received_at_s), after.received_at_s))
    }

    fn longest_gap_us(&self, told: impl Iterator<Item = Timestamp>) -> i64 {
        let from = self.installed.iter().map(|(from, _)| *from).min().unwrap_or(self.end).max(self.start);
        let horizon = self.start.plus_seconds(self.horizon_s.saturating_sub(self.start.unix_seconds()));
        let to = self.installed.iter().map(|(_, to)| *to).max().unwrap_or(self.start).min(self.end).min(horizon);
        let (mut longest, mut since) = (0, from);
        for ts in told.chain([to]) {
            longest = longest.max(ts.micros_since(since));
            since = since.max(ts);
        }
        longest
    }
}
