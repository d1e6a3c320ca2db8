//! Completeness: what each meter should have said on a civil day, what it did say, and why the rest is missing.
//!
//! What is expected follows from the registry: one reading an interval for as long as the meter is installed, 92, 96 or
//! 100 quarters of an hour a day as the zone has it. A reading belongs to the expected time that is nearest to its own,
//! so that one a second before midnight is not missed, and however many come for one time count once.
//!
//! Nothing here asks a clock. The present is the newest arrival of any reading up to the pin (`horizon`): an expected
//! time is missing once it lies further back than a reading may be late. So when nothing at all arrives, nothing is
//! missing yet; the next arrival shows the gap. Until then the age of the last reading tells (`/metrics`).

use std::sync::Arc;

use meterlake_model::{CivilDay, Commodity, MeterId, NodeId, Timestamp, UsagePointId};

pub(crate) mod bits;
pub(crate) mod cause;
pub(crate) mod clock;
pub(crate) mod count;
mod report;
pub(crate) mod steps;

pub use report::{
    Figures, GroupBy, Question, ReportError, Summary, Tally, days_told, last_day_figures, listing, summary,
};

use count::DayCount;

/// What counts as late, and as one cause for many meters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletenessRules {
    /// A reading that arrived later than this after its own time is late; one that is not there is missing only then.
    /// In seconds.
    pub late_after_s: i64,
    /// So much of what reports through a gateway, line or broker must be silent at the same time to blame it, in %, ...
    pub common_percent: u32,
    /// ... and so many meters.
    pub common_min_meters: u32,
}

impl Default for CompletenessRules {
    fn default() -> Self {
        Self { late_after_s: 3600, common_percent: 60, common_min_meters: 3 }
    }
}

/// The lowest common cause of what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Something came and could not be read: see `dead_letters`.
    Decode,
    /// Nothing arrived from anywhere: the collector, or its machine or network.
    Collector,
    /// The MQTT broker, or our session with it.
    Broker,
    /// The Modbus line.
    Line,
    /// The gateway or concentrator that carries the meter's messages.
    Gateway,
    /// The meter alone.
    Meter,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Decode, Self::Collector, Self::Broker, Self::Line, Self::Gateway, Self::Meter];

    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Collector => "collector",
            Self::Broker => "broker",
            Self::Line => "line",
            Self::Gateway => "gateway",
            Self::Meter => "meter",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }
}

/// Where the interval between a meter's readings is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalFrom {
    /// The registry states it.
    Registry,
    /// The registry does not: it is the median step between the meter's own readings.
    Estimated,
    /// Neither the registry nor the meter tells: what is usual for the commodity.
    Usual,
}

impl IntervalFrom {
    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Estimated => "estimated",
            Self::Usual => "usual",
        }
    }
}

/// Why most of what is missing is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MainCause {
    pub(crate) reason: Reason,
    /// Which gateway, line, broker or meter; the reason code of the dead letters. The collector has no name in tables.
    pub(crate) subject: Option<Arc<str>>,
    /// How many of the missing readings it explains.
    pub(crate) explains: i32,
}

/// One meter and civil day: a row of the table.
#[derive(Debug, Clone)]
pub(crate) struct MeterDay {
    pub(crate) meter_id: MeterId,
    pub(crate) day: CivilDay,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) usage_point_id: UsagePointId,
    pub(crate) node_id: Option<NodeId>,
    pub(crate) commodity: Commodity,
    /// Index into the names of gateways.
    pub(crate) gateway: Option<u32>,
    /// Index into the names of sources.
    pub(crate) source: Option<u32>,
    pub(crate) interval_s: i64,
    pub(crate) interval_from: IntervalFrom,
    pub(crate) count: DayCount,
    pub(crate) clock: Option<clock::ClockEstimate>,
    pub(crate) cause: Option<MainCause>,
}

#[cfg(test)]
mod tests;
