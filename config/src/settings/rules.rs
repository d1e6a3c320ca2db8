//! `[usage]`, `[billing]`, `[profiles]` and `[completeness]`: what the jobs go by. The defaults are those of domain.md and mdm.md.

use std::time::Duration;

use crate::document::Section;
use crate::quantity::{DAY, HOUR, MINUTE};

/// From readings to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageConfig {
    /// A register's fall of at most so many steps of its resolution is jitter (domain.md, registers).
    pub jitter_steps: u32,
    /// Later readings must stay below for so long before a fall is a reset (domain.md, registers).
    pub settle: Duration,
    /// Use above this share of the capacity on file fails, in % (V14).
    pub capacity_percent: u16,
    /// Water: an hour between readings at most so far apart is actual (domain.md, water).
    pub actual_gap_water: Duration,
    /// A gap up to this is filled by a straight line (E3).
    pub linear_gap: Duration,
    /// A boundary between readings at most so far apart is derived, else estimated (domain.md, registers).
    pub boundary_gap: Duration,
    /// How far back like days may lie (E4).
    pub lookback_days: u16,
    /// Average daily use is taken over so many days (V20, E8).
    pub average_days: u16,
    /// Use beyond the last reading is projected no further than this (E8).
    pub project: Duration,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self {
            jitter_steps: 20,
            settle: 6 * HOUR,
            capacity_percent: 110,
            actual_gap_water: 2 * HOUR,
            linear_gap: 2 * HOUR,
            boundary_gap: 24 * HOUR,
            lookback_days: 90,
            average_days: 28,
            project: 31 * DAY,
        }
    }
}

impl UsageConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let s = &mut section;
        Self {
            jitter_steps: s.integer("jitter_steps", 0..=10_000_u32).unwrap_or(default.jitter_steps),
            settle: s.duration("settle", MINUTE..=31 * DAY).unwrap_or(default.settle),
            capacity_percent: s.integer("capacity_percent", 100..=1000_u16).unwrap_or(default.capacity_percent),
            actual_gap_water: s.duration("actual_gap_water", HOUR..=DAY).unwrap_or(default.actual_gap_water),
            linear_gap: s.duration("linear_gap", Duration::ZERO..=DAY).unwrap_or(default.linear_gap),
            boundary_gap: s.duration("boundary_gap", MINUTE..=31 * DAY).unwrap_or(default.boundary_gap),
            lookback_days: s.multiple("lookback", DAY, 7..=400).unwrap_or(default.lookback_days),
            average_days: s.multiple("average", DAY, 1..=400).unwrap_or(default.average_days),
            project: s.duration("project", Duration::ZERO..=400 * DAY).unwrap_or(default.project),
        }
    }
}

/// From use to billing reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillingConfig {
    /// A read of which more than this is estimated is held, in ‰ of its use (mdm.md 2.4).
    pub estimated_limit_permille: u16,
}

impl Default for BillingConfig {
    fn default() -> Self {
        Self { estimated_limit_permille: 50 }
    }
}

impl BillingConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let limit = section.permille("estimated_limit_percent", 0..=1000);
        Self { estimated_limit_permille: limit.unwrap_or(Self::default().estimated_limit_permille) }
    }
}

/// Hours of the wall clock, `from` inclusive, `to` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourRange {
    /// First hour, 0 to 23.
    pub from: u8,
    /// Hour after the last, 1 to 24.
    pub to: u8,
}

/// Key figures of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfilesConfig {
    /// Fewer complete days give no figures.
    pub min_days: u16,
    /// Night (domain.md, profiles).
    pub night: HourRange,
    /// Evening (domain.md, profiles).
    pub evening: HourRange,
    /// Midday (domain.md, profiles).
    pub midday: HourRange,
}

impl Default for ProfilesConfig {
    fn default() -> Self {
        Self {
            min_days: 7,
            night: HourRange { from: 0, to: 6 },
            evening: HourRange { from: 17, to: 22 },
            midday: HourRange { from: 11, to: 14 },
        }
    }
}

impl ProfilesConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        Self {
            min_days: section.integer("min_days", 1..=366_u16).unwrap_or(default.min_days),
            night: hours(&mut section, "night").unwrap_or(default.night),
            evening: hours(&mut section, "evening").unwrap_or(default.evening),
            midday: hours(&mut section, "midday").unwrap_or(default.midday),
        }
    }
}

/// What is late, and what is one cause for many meters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletenessConfig {
    /// A reading that arrives later than this after its own time is late; one that is not there is missing only then.
    pub late_after: Duration,
    /// Share of a gateway's, line's or broker's meters that must be silent together to blame it, in % (domain.md, outage).
    pub common_cause_percent: u16,
    /// The fewest meters that make a common cause (domain.md, outage).
    pub common_cause_min_meters: u16,
}

impl Default for CompletenessConfig {
    fn default() -> Self {
        Self { late_after: HOUR, common_cause_percent: 60, common_cause_min_meters: 3 }
    }
}

impl CompletenessConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let s = &mut section;
        Self {
            late_after: s.duration("late_after", MINUTE..=7 * DAY).unwrap_or(default.late_after),
            common_cause_percent: s
                .integer("common_cause_percent", 1..=100_u16)
                .unwrap_or(default.common_cause_percent),
            common_cause_min_meters: s
                .integer("common_cause_min_meters", 2..=1000_u16)
                .unwrap_or(default.common_cause_min_meters),
        }
    }
}

fn hours(section: &mut Section<'_>, key: &'static str) -> Option<HourRange> {
    let [from, to] = section.integers(key, 0..=24)?;
    if from >= to {
        section.refuse(key, format_args!("is [{from}, {to}]; the first hour and the hour after the last are wanted"));
        return None;
    }
    Some(HourRange { from: u8::try_from(from).ok()?, to: u8::try_from(to).ok()? })
}
