//! A span: use of one usage point and channel over a stretch of time, with how sure it is.

use std::sync::Arc;

use meterlake_model::{Amount, Method, Quality, Timestamp};

/// Whether a span is a part or a whole, so that nobody adds both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// One step of the installation's interval (a quarter of an hour, an hour).
    Slot,
    /// One civil day of the usage point's zone, cut to the installation. The slots inside add up to it exactly.
    Day,
}

impl Level {
    /// `slot` or `day`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slot => "slot",
            Self::Day => "day",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Slot, Self::Day].into_iter().find(|level| level.as_str() == text)
    }
}

/// What a day is made of: how many slots are of each state, and what was used in them. The use adds up to the day's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// Slots by state, in the order of [`Quality::ALL`].
    pub slots: [i64; Quality::ALL.len()],
    /// Use by state, in millionths of the unit.
    pub used: [i64; Quality::ALL.len()],
    /// What rests on an estimate of the register at the day's start up to its first reading, and from its last reading to
    /// its end, in millionths. `None` for a day without a reading, and without a register.
    pub loose: Option<[i64; 2]>,
}

impl Parts {
    pub(super) fn add(&mut self, quality: Quality, used: i64) {
        if let Some(at) = Quality::ALL.iter().position(|q| *q == quality) {
            self.slots[at] += 1;
            self.used[at] += used;
        }
    }
}

/// A register at the border of a span, as the meter shows it: never multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    /// The register.
    pub register: Amount,
    /// `Valid` where a reading stands there, `Derived` between near readings, else an estimate.
    pub quality: Quality,
}

/// Use over the half-open `[start, end)` of one usage point and channel (both are named by what it is part of).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Slot or day.
    pub level: Level,
    /// First instant.
    pub start: Timestamp,
    /// The instant after the last.
    pub end: Timestamp,
    /// The use, after the multiplier; `None` where nobody knows it.
    pub value: Option<Amount>,
    /// How sure the value is.
    pub quality: Quality,
    /// How a value that was not read came about.
    pub method: Option<Method>,
    /// The part of a day's value that rests on an estimate of a boundary or has no register behind it; of a slot, its
    /// value where that is an estimate.
    pub estimated: Amount,
    /// Register at the start; days of a register channel only.
    pub start_register: Option<Boundary>,
    /// Register at the end; days of a register channel only.
    pub end_register: Option<Boundary>,
    /// Which of the input's installations it belongs to.
    pub installation: usize,
    /// What an estimate or a missing value rests on: the gap, the like days.
    pub evidence: Option<Arc<str>>,
    /// Of a day, its slots by state.
    pub parts: Option<Box<Parts>>,
}
