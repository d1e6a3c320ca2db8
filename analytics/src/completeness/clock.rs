//! How far a meter's clock is off, from when its readings arrive.
//!
//! A reading cannot arrive before it is taken, so the smallest delays of a day are transport alone, and what they differ
//! from nothing is the clock. Only live readings tell: the newest of those that arrived together, arrived within an
//! interval of its own time. A frame of old values, a backlog after an outage or a retained message says nothing. One
//! bad time among twenty does not decide, since the fifth percentile does.
//!
//! What cannot be known: a meter whose every reading is on its way for ten minutes looks like a clock ten minutes slow,
//! and a clock that is slow by more than an interval looks like a backlog.

use std::collections::HashMap;

use meterlake_model::{ReadingFlags, Timestamp};

use super::count::Arrival;

/// The method's name in tables.
pub(crate) const METHOD: &str = "p5_live";
/// Fewer live readings tell nothing.
const LEAST: usize = 3;
/// An offset beyond is no offset but another time altogether.
const MOST_S: i64 = 86_400;

/// What a day's arrivals say about the meter's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockEstimate {
    /// The meter's clock less ours, in seconds: positive when it is fast.
    pub(crate) offset_s: i32,
    /// Live readings that it rests on.
    pub(crate) readings: i32,
}

/// Estimates from the readings of one day, in order of their time.
pub(crate) fn estimate(readings: &[Arrival], interval_s: i64) -> Option<ClockEstimate> {
    let untold = ReadingFlags::COLLECTOR_TIME.bits() | ReadingFlags::RETAINED.bits();
    let mut newest: HashMap<i64, Timestamp> = HashMap::new();
    for reading in readings.iter().filter(|r| r.flags.bits() & untold == 0) {
        newest.insert(reading.received_at_s, reading.ts);
    }
    let patience_s = interval_s.clamp(900, 3600);
    let mut delays: Vec<i64> = newest
        .into_iter()
        .map(|(received_at_s, ts)| received_at_s - ts.unix_seconds())
        .filter(|delay| (-MOST_S..=patience_s).contains(delay))
        .collect();
    if delays.len() < LEAST {
        return None;
    }
    delays.sort_unstable();
    let offset_s = i32::try_from(-delays[delays.len() / 20]).ok()?;
    Some(ClockEstimate { offset_s, readings: i32::try_from(delays.len()).ok()? })
}
