//! E1: a meter beside the one whose use is counted stands in where that one is silent.
//!
//! What it used is read off locally: from its readings around both ends of a slot and those in between, and from no others.
//! So it does not matter where a walk is taken up, nor what the twin said long ago. Where those readings do not rise, leave
//! too wide a gap at an end, say two things for one time or rise by more than can flow, the twin says nothing.

use meterlake_model::{Amount, ChannelKind, Quality, Timestamp};

use super::aside::set_aside;
use super::derive::rows;
use super::reconcile::tolerance;
use super::register::{Register, scale};
use super::{InstallationReadings, PointInput};

/// A check meter's readings.
pub(super) struct Twin {
    register: Register,
    kind: ChannelKind,
    /// In order of time, as read; times for which it said two things are left out.
    rows: Vec<(Timestamp, i64)>,
}

impl Twin {
    /// The twin of a usage point's channel; `register` is what its installation's channel says.
    pub(super) fn new(point: &PointInput<'_>, of: &InstallationReadings<'_>, register: Register) -> Self {
        let mut all = rows(point, of);
        set_aside(&mut all, of.channel, 0);
        let alike = all.chunk_by(|a, b| a.ts == b.ts).filter(|same| same.iter().all(|row| row.value == same[0].value));
        let rows = alike.map(|same| (same[0].ts, same[0].value.micros())).collect();
        Self { register, kind: of.channel.channel.kind(), rows }
    }

    /// Its use of a stretch of time, in millionths after the multiplier.
    pub(super) fn use_of(&self, from: Timestamp, to: Timestamp) -> Option<i64> {
        match self.kind {
            ChannelKind::Register => self.by_register(from, to),
            ChannelKind::Interval => self.by_interval(from, to),
            ChannelKind::Physical => None,
        }
    }

    /// Readings further than this from a stretch of time say nothing of it.
    pub(super) fn reach_us(&self) -> i64 {
        2 * self.register.actual_gap_us
    }

    fn by_register(&self, from: Timestamp, to: Timestamp) -> Option<i64> {
        let (first, start) = self.at(from)?;
        let (_, end) = self.at(to)?;
        // What lies near, too: a reading that is not its own leaves the line or comes back to it.
        let reach = self.reach_us();
        let begin = self.rows[..=first].partition_point(|(at, _)| from.micros_since(*at) > reach);
        let around = self.rows[begin..].iter().take_while(|(at, _)| at.micros_since(to) <= reach);
        if !around.is_sorted_by_key(|(_, value)| *value) {
            return None;
        }
        let (rise, time) = (end - start, to.micros_since(from));
        (!self.register.exceeds(rise, time, self.register.resolution)).then(|| scale(rise, self.register.multiplier))?
    }

    /// The register at a time, straight between the readings around it, with the index of the one before.
    fn at(&self, ts: Timestamp) -> Option<(usize, i64)> {
        let before = self.rows.partition_point(|(at, _)| *at <= ts).checked_sub(1)?;
        let (a, low) = self.rows[before];
        if a == ts {
            return Some((before, low));
        }
        let (b, high) = *self.rows.get(before + 1)?;
        let (rise, time) = (high - low, b.micros_since(a));
        if rise < 0 || time > self.register.actual_gap_us {
            return None;
        }
        let resolution = self.register.resolution;
        let part = 2 * i128::from(rise / resolution) * i128::from(ts.micros_since(a)) + i128::from(time);
        let steps = i64::try_from(part / (2 * i128::from(time))).ok()?;
        Some((before, low + steps * resolution))
    }

    /// A reading that is of this very slot.
    fn by_interval(&self, from: Timestamp, to: Timestamp) -> Option<i64> {
        let slack = self.register.interval_us / 10;
        if (to.micros_since(from) - self.register.interval_us).abs() > slack {
            return None;
        }
        let near = self.rows.partition_point(|(at, _)| to.micros_since(*at) > slack);
        let value = self.rows.get(near).filter(|(at, _)| at.micros_since(to) <= slack).map(|(_, value)| *value)?;
        let sound = value >= 0 && !self.register.exceeds(value, self.register.interval_us, self.register.resolution);
        sound.then(|| scale(value, self.register.multiplier))?
    }
}

/// What a twin tells of a gap whose total the register gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Nothing.
    None,
    /// All of it, and it closes with the register.
    Whole,
    /// This much, and the rest is unknown.
    Part {
        /// In millionths.
        known: i128,
    },
    /// More than the register, or all of it and something else: then it gives the shape alone.
    Shape,
}

impl Beside {
    /// Holds what a twin tells of a gap's parts against the gap's total; `lit` is how many of the parts had supply.
    pub(super) fn of(twins: &[Option<i64>], lit: usize, total: i128, unit: i64) -> Self {
        let told = twins.iter().flatten().count();
        if told == 0 {
            return Self::None;
        }
        let known: i128 = twins.iter().flatten().map(|value| i128::from(*value)).sum();
        let whole = i64::try_from(total).ok().and_then(Amount::from_micros).zip(Amount::from_micros(unit));
        let room = whole.map_or(0, |(whole, unit)| i128::from(tolerance(whole, unit).micros()));
        match (told == lit, total - known) {
            (true, off) if off.abs() <= room => Self::Whole,
            (false, rest) if rest >= 0 => Self::Part { known },
            _ => Self::Shape,
        }
    }

    /// What the twin's parts are.
    pub(super) fn quality(self) -> Quality {
        match self {
            Self::Whole | Self::Part { .. } => Quality::Derived,
            Self::None | Self::Shape => Quality::EstimatedScaled,
        }
    }
}
