//! What a bill needs of one usage point and cycle besides its reads: use by bucket, demand, power factor, tiers, curves,
//! formulas, evidence. Each is source → calendar filter → window → reduce → round → split, as configured
//! ([`meterlake_model::determinant`]).
//!
//! Pure: no tables, no clock, no floats. Parts add up to their whole exactly. Left out: prices, and what was billed before.

mod boundary;
mod bucket;
mod coincident;
mod curve;
mod cut;
mod evidence;
mod formula;
mod peak;
mod power_factor;
#[cfg(test)]
mod properties;
mod round;
#[cfg(test)]
mod tests;
mod tier;
mod unmetered;

use meterlake_model::{Amount, Channel, CivilDay, Quality, Timestamp, UsagePointId, Zone};

use crate::usage::Span;

pub use boundary::{boundary, known_use, use_of};
pub use bucket::{by_bucket, by_register, not_whole};
pub use coincident::{Together, share_in};
pub use curve::curve;
pub use evidence::evidence;
pub use formula::of_formula;
pub use peak::{at_least, highest};
pub use power_factor::{adjustment_permyriad, cos_phi_micros, power_factor};
pub use tier::{TierUse, by_tier, prorated, tiers};
pub use unmetered::unmetered;

/// The use of a channel in a cycle, slot by slot.
#[derive(Debug, Clone, Copy)]
pub struct Slots<'a> {
    /// Which channel.
    pub channel: Channel,
    /// Slots in order of time; those that do not lie whole in the cycle are passed over.
    pub spans: &'a [Span],
    /// The smallest step of the use, after the multiplier.
    pub step: Amount,
}

/// One billing cycle of a usage point.
#[derive(Debug, Clone, Copy)]
pub struct Cycle<'a> {
    /// Whose it is.
    pub point: &'a UsagePointId,
    /// Its civil time.
    pub zone: &'a Zone,
    /// First day.
    pub start_day: CivilDay,
    /// The day after the last.
    pub end_day: CivilDay,
}

impl Cycle<'_> {
    /// First instant, and the instant after the last.
    pub fn span(&self) -> (Timestamp, Timestamp) {
        (self.zone.start_of_day(self.start_day), self.zone.start_of_day(self.end_day))
    }

    /// The spans of it.
    fn of<'s>(&self, spans: &'s [Span]) -> &'s [Span] {
        let (start, end) = self.span();
        let from = spans.partition_point(|span| span.start < start);
        let to = spans.partition_point(|span| span.end <= end);
        spans.get(from..to).unwrap_or_default()
    }
}

/// One figure of a determinant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Which part of the determinant: a bucket, a tier, the start of a slot; empty for the whole.
    pub part: String,
    /// The figure; `None` where it is not known.
    pub value: Option<Amount>,
    /// What it is in.
    pub unit: String,
    /// The lowest of all that it rests on.
    pub quality: Quality,
    /// Share of the value that is estimated, in millionths.
    pub estimated_ppm: i64,
    /// When it was, where it is of a time within the cycle.
    pub at: Option<(Timestamp, Timestamp)>,
    /// What a person should know of it.
    pub notes: Vec<Note>,
}

/// The code of a note on a figure without a value that no bill could wait for: its buckets do not occur in the cycle.
const OUT_OF_SEASON: &str = "out_of_season";

impl Figure {
    /// Whether it speaks against a bill: a note holds it, or it is not known.
    pub fn holds(&self) -> bool {
        let unknown = self.value.is_none() && self.notes.iter().all(|note| note.code != OUT_OF_SEASON);
        unknown || self.notes.iter().any(|note| note.holds)
    }

    /// A figure without a value.
    pub(crate) fn unknown(part: impl Into<String>, unit: impl Into<String>, note: Note) -> Self {
        Self {
            part: part.into(),
            value: None,
            unit: unit.into(),
            quality: Quality::Missing,
            estimated_ppm: 0,
            at: None,
            notes: vec![note],
        }
    }
}

/// A remark on a figure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// A word that programs look for; checks by their numbers, such as `V16`.
    pub code: &'static str,
    /// Whether it holds the bill.
    pub holds: bool,
    /// What was found, for people.
    pub detail: String,
}

impl Note {
    pub(crate) fn new(code: &'static str, holds: bool, detail: impl Into<String>) -> Self {
        Self { code, holds, detail: detail.into() }
    }
}

/// What use of a channel is in: its name closes with it.
pub fn unit_of(channel: Channel) -> &'static str {
    match channel.name().rsplit('_').next() {
        Some("kvarh") => "kvarh",
        Some("m3") => "m3",
        _ => "kWh",
    }
}

/// What use of a channel by the hour is in.
pub fn rate_unit_of(channel: Channel) -> &'static str {
    match unit_of(channel) {
        "kvarh" => "kvar",
        "m3" => "m3/h",
        _ => "kW",
    }
}

/// `part ÷ whole` in millionths, 0 to 1,000,000.
fn share_ppm(part: i128, whole: i128) -> i64 {
    let (part, whole) = (part.unsigned_abs(), whole.unsigned_abs());
    match whole {
        _ if part == 0 => 0,
        0 => 1_000_000,
        whole => i64::try_from((part.min(whole) * 1_000_000 + whole / 2) / whole).unwrap_or(1_000_000),
    }
}
