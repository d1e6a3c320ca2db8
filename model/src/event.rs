//! End device events: what a meter reports beside its readings.

use std::fmt;
use std::sync::Arc;

use crate::id::MeterId;
use crate::time::Timestamp;

/// What happened at the meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// The supply went away; the meter's last message.
    LastGasp,
    /// The supply came back.
    Restoration,
    /// Tampering of a kind that the meter does not name.
    Tamper,
    /// The cover was opened.
    CoverOpen,
    /// A strong magnet is near.
    Magnet,
    /// The meter's own leak flag.
    Leak,
    /// The meter's own burst flag.
    Burst,
    /// The pipe is empty.
    Dry,
    /// Water flows backward.
    ReverseFlow,
    /// The battery is low.
    LowBattery,
    /// The meter's clock was set.
    ClockSet,
    /// Any other fault that the meter reports.
    Fault,
}

impl EventKind {
    const NAMES: [(Self, &'static str); 12] = [
        (Self::LastGasp, "last_gasp"),
        (Self::Restoration, "restoration"),
        (Self::Tamper, "tamper"),
        (Self::CoverOpen, "cover_open"),
        (Self::Magnet, "magnet"),
        (Self::Leak, "leak"),
        (Self::Burst, "burst"),
        (Self::Dry, "dry"),
        (Self::ReverseFlow, "reverse_flow"),
        (Self::LowBattery, "low_battery"),
        (Self::ClockSet, "clock_set"),
        (Self::Fault, "fault"),
    ];

    /// The name in tables and maps.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(k, _)| *k == self).map_or("", |(_, name)| name)
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(k, _)| *k)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One event of one meter; a row of `meter_events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterEvent {
    /// The meter.
    pub meter_id: MeterId,
    /// The meter's own time.
    pub ts: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// Detail as the meter gave it (status word, code); may be empty.
    pub detail: Arc<str>,
    /// When it reached the collector, in seconds since 1970.
    pub received_at_s: i64,
    /// Collector and line.
    pub source: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for (kind, name) in EventKind::NAMES {
            assert_eq!(kind.as_str(), name);
            assert_eq!(EventKind::parse(name), Some(kind));
        }
    }
}
