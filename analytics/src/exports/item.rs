//! What is exported, as plain values: items of bills, and the curves behind them.

use std::sync::Arc;

use meterlake_model::{Amount, Channel, CivilDay, Commodity, Method, Quality, Timestamp, Zone};
use serde::Serialize;

use super::xml::segment;

/// What is the same in all files of one export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The run, such as `2026-03`.
    pub run: String,
    /// The list that went out; `None`: what is ready or out now, at [`Pins::commit_seq`].
    pub list: Option<i64>,
    /// The one usage point that it is of; `None`: all of them.
    pub only: Option<String>,
    /// The time that formats ask for as their own: when the list was issued. Never the clock of the machine that writes.
    pub as_of: Timestamp,
    /// What the numbers rest on.
    pub pins: Pins,
}

impl Head {
    /// The name of its files, without what tells formats apart.
    pub fn name(&self) -> String {
        let of = match self.list {
            Some(list) => format!("list-{list}"),
            None => format!("at-{}", self.pins.commit_seq),
        };
        let only = self.only.as_deref().map_or_else(String::new, |id| format!("-{}", segment(id)));
        format!("billing-{}-{of}{only}", self.run)
    }
}

/// What a run is pinned to: with the same pins the same bytes come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pins {
    /// Only readings of this commit and earlier ones count.
    pub commit_seq: i64,
    /// The registry's revision.
    pub registry_revision: i64,
    /// Hash of the configuration that decides what comes out.
    pub rules_hash: String,
    /// Name and version of the program.
    pub program: String,
}

/// What goes out of one usage point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The place of supply.
    pub usage_point_id: String,
    /// Who is billed.
    pub customer_id: Option<String>,
    /// What is supplied.
    pub commodity: Commodity,
    /// Civil time of its days and cycles.
    pub zone: Zone,
    /// Numbers of its bills.
    pub items: Vec<Item>,
    /// Curves of its channels, for the formats that carry them.
    pub curves: Vec<Curve>,
}

/// Whether a number is said for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is.
    Bill,
    /// It changes what was said.
    Correction,
}

impl Kind {
    /// `bill` or `correction`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bill => "bill",
            Self::Correction => "correction",
        }
    }
}

/// The determinant of a register at the start of a cycle, as read.
pub const START_READ: &str = "start_read";
/// The determinant of a register at the end of a cycle, as read.
pub const END_READ: &str = "end_read";

/// One number of one usage point and cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// A bill's number, or a change of one.
    pub kind: Kind,
    /// The first row of the ledger that it tells of; 0 for bills.
    pub seq: i32,
    /// Which determinant: `use`, `start_read`, `end_read`, or the id of a configured one.
    pub determinant: String,
    /// Which of its numbers: a channel, a bucket, a tier.
    pub part: String,
    /// The unit of its amounts: `kWh`, `kvarh`, `m3`, `kW`.
    pub unit: String,
    /// First day of the cycle.
    pub first_day: CivilDay,
    /// The day after its last.
    pub end_day: CivilDay,
    /// What it is.
    pub value: Amount,
    /// What was said before; `None` for a bill.
    pub old: Option<Amount>,
    /// The difference; of a bill its value.
    pub delta: Amount,
    /// How sure it is.
    pub quality: Quality,
    /// What of it is estimated.
    pub estimated: Amount,
    /// Why it is said: `issue`, or the causes of a correction.
    pub cause: String,
    /// Register at the start of the cycle, where there is one behind it.
    pub start_read: Option<Read>,
    /// Register at the end of the cycle, where there is one behind it.
    pub end_read: Option<Read>,
}

impl Item {
    /// Its name in every format, by which it is acknowledged or rejected: the same in every export of it.
    pub fn id(&self, usage_point_id: &str) -> String {
        let base = format!("{usage_point_id}/{}/{}/{}", self.determinant, self.part, self.first_day);
        if self.seq == 0 { base } else { format!("{base}#{}", self.seq) }
    }

    /// The channel that it is of, where its part is one.
    pub fn channel(&self) -> Option<Channel> {
        Channel::by_name(&self.part)
    }

    /// Whether it is a register as read: never to be added up.
    pub fn is_register(&self) -> bool {
        matches!(self.determinant.as_str(), START_READ | END_READ)
    }

    /// First instant of the cycle and the instant after its last.
    pub fn span(&self, zone: &Zone) -> (Timestamp, Timestamp) {
        (zone.start_of_day(self.first_day), zone.start_of_day(self.end_day))
    }

    /// What of the value is estimated, as a share from 0 to 1 of six decimals, rounded half to even; 0 of nothing.
    pub fn estimated_share(&self) -> Amount {
        let whole = self.value.micros().abs();
        Amount::from_micros(self.estimated.micros().abs())
            .and_then(|estimated| estimated.proportion(1_000_000, whole))
            .unwrap_or_default()
    }
}

/// A register, as the meter shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The register.
    pub register: Amount,
    /// How sure it is.
    pub quality: Quality,
}

/// The use of one channel, slot by slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    /// The channel.
    pub channel: Channel,
    /// Seconds of a slot.
    pub interval_s: i64,
    /// In order of time, none over another. What is not there is not known.
    pub slots: Vec<Slot>,
}

/// One slot of a curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// First instant.
    pub start: Timestamp,
    /// The instant after the last.
    pub end: Timestamp,
    /// The use; `None` where nobody knows it.
    pub value: Option<Amount>,
    /// How sure it is.
    pub quality: Quality,
    /// How a value that was not read came about.
    pub method: Option<Method>,
    /// Whose.
    pub meter_id: Arc<str>,
}

/// Something that a format has no place for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// An item's id, or a usage point and channel.
    pub what: String,
    /// Why.
    pub why: &'static str,
}
