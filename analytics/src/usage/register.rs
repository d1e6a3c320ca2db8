//! The register of an installation's channel in integers: its limits, its points, and its multiplier.

use meterlake_model::registry::InstallationChannel;
use meterlake_model::{Amount, Timestamp};

/// What the walk has to know of an installation's channel, in integers: registers in millionths as read.
#[derive(Debug, Clone)]
pub(super) struct Register {
    pub(super) installation: usize,
    pub(super) resolution: i64,
    pub(super) jitter: i64,
    /// 10^digits, where the register wraps.
    pub(super) wrap: Option<i64>,
    /// In millionths.
    pub(super) multiplier: i64,
    /// In millionths per hour, after the multiplier.
    pub(super) capacity: Option<i64>,
    pub(super) capacity_percent: i64,
    /// A step that half an interval allows, as read: what most readings stay below.
    pub(super) usual_step: i64,
    pub(super) interval_us: i64,
    /// Readings nearer than this leave no room for a reading in between.
    pub(super) actual_gap_us: i64,
    pub(super) settle_us: i64,
    pub(super) average_us: i64,
}

impl Register {
    /// Whether a step after the multiplier is more than capacity allows in a time, with some room on top.
    pub(super) fn exceeds(&self, step: i64, micros: i64, room: i64) -> bool {
        let Some(capacity) = self.capacity else { return false };
        if step <= self.usual_step && micros >= self.interval_us / 2 {
            return false;
        }
        let hour_percent = 3_600_000_000_i128 * 100;
        let allowed =
            i128::from(capacity).saturating_mul(i128::from(micros.max(0)) * i128::from(self.capacity_percent));
        let used = i128::from(step - room).saturating_mul(i128::from(self.multiplier));
        used.saturating_mul(hour_percent / 1_000_000) > allowed
    }

    /// What half an interval allows, as read.
    pub(super) fn step_of_half_interval(&self) -> i64 {
        self.limit(self.interval_us / 2)
            .and_then(|limit| {
                i64::try_from(i128::from(limit.micros()) * 1_000_000 / i128::from(self.multiplier.max(1))).ok()
            })
            .unwrap_or(0)
    }

    /// The most after the multiplier in a time.
    pub(super) fn limit(&self, micros: i64) -> Option<Amount> {
        let capacity = i128::from(self.capacity?);
        let allowed = capacity * i128::from(micros.max(0)) * i128::from(self.capacity_percent) / 360_000_000_000;
        i64::try_from(allowed).ok().and_then(Amount::from_micros)
    }
}

/// How a point of the line came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PointKind {
    /// A reading.
    Read,
    /// A reading whose step from the one before is above capacity, but confirmed.
    Over,
    /// A reading that is low by jitter: the register stood at its maximum.
    Low,
    /// Between two readings of a meter whose installation row changed there.
    Derived,
}

/// A point of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) ts: Timestamp,
    /// Unwrapped, as read.
    pub(super) register: i64,
    pub(super) kind: PointKind,
}

/// Rise and time over the last stretch of a line of at most `over` microseconds; `None` for less than an hour.
pub(super) fn average(line: &[Point], over: i64) -> Option<(i64, i64)> {
    let last = line.last()?;
    let from = line.partition_point(|p| last.ts.micros_since(p.ts) > over);
    let first = line.get(from)?;
    let (first, time) = match last.ts.micros_since(first.ts) {
        // One reading in the whole stretch: the one before it then begins it.
        0 => {
            let first = from.checked_sub(1).and_then(|at| line.get(at))?;
            (first, last.ts.micros_since(first.ts))
        }
        time => (first, time),
    };
    (time >= 3_600_000_000).then_some((last.register - first.register, time))
}

/// 10^digits, where a register wraps, in millionths.
pub(super) fn range(channel: &InstallationChannel) -> Option<i64> {
    channel.digits.and_then(|digits| 10_i64.checked_pow(u32::from(digits) + 6))
}

/// `register × multiplier`, rounded half to even where digits beyond the sixth decimal would be lost.
pub(super) fn scale(register: i64, multiplier: i64) -> Option<i64> {
    if multiplier == 1_000_000 {
        return Some(register);
    }
    let product = i128::from(register) * i128::from(multiplier);
    let (quotient, twice) = (product.div_euclid(1_000_000), product.rem_euclid(1_000_000) * 2);
    let up = twice > 1_000_000 || (twice == 1_000_000 && quotient % 2 != 0);
    i64::try_from(quotient + i128::from(up)).ok().filter(|micros| Amount::from_micros(*micros).is_some())
}

/// A register in words.
pub(super) fn shown(value: i64) -> String {
    Amount::from_micros(value).map_or_else(|| value.to_string(), |amount| amount.to_string())
}
