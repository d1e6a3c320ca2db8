//! `[usage]`, `[billing]`, `[profiles]` and `[completeness]`: what the jobs go by. The defaults are those of domain.md and mdm.md.

use std::time::Duration;

use meterlake_model::{Commodity, Method};

use super::Surroundings;
use super::fills::{self, LoadProfileConfig, StormConfig, Weather};
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
    /// The rungs that go by what was used before, in the order in which they are tried (E4 to E7).
    pub shapes: Vec<Method>,
    /// What E6 compares days by.
    pub weather: Weather,
    /// What E7 shapes a day by; of several for one class the first.
    pub profiles: Vec<LoadProfileConfig>,
    /// When estimates of an area wait (E15).
    pub storm: StormConfig,
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
            shapes: fills::SHAPES.to_vec(),
            weather: Weather::new(),
            profiles: Vec::new(),
            storm: StormConfig::default(),
        }
    }
}

impl UsageConfig {
    pub(super) fn read(mut section: Section<'_>, around: &Surroundings<'_>) -> Self {
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
            shapes: fills::shapes(s),
            weather: fills::weather(s.section("weather"), around),
            profiles: fills::profiles(s.sections("profile"), around),
            storm: StormConfig::read(s.section("storm")),
        }
    }
}

/// From use to billing reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillingConfig {
    /// A bill of which more than this is estimated waits or is held, in ‰ of its use (mdm.md 2.4).
    pub estimated_limit_permille: u16,
    /// After the deadline a bill goes out with estimates up to this, in ‰ of its use.
    pub late_estimated_permille: u16,
    /// A boundary is good when a reading lies within so many days of it.
    pub boundary_days: u16,
    /// So many days after its cycle a bill no longer waits for readings.
    pub deadline_days: u16,
    /// A bill is held when its last actual boundary lies further back (V26).
    pub last_actual_days: u16,
    /// A bill is held when so many before it ended on an estimate (V26).
    pub estimated_cycles: u16,
    /// A change of energy is told from this on, in millionths of a kWh.
    pub notice_kwh_micros: i64,
    /// A change of water is told from this on, in cm³.
    pub notice_m3_micros: i64,
    /// A change is told from this share of the value on, in ‰, where that is more.
    pub notice_permille: u16,
    /// Cycles by group of usage points; the first that applies.
    pub cycles: Vec<CycleConfig>,
}

/// How often a group of usage points is billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleConfig {
    /// Its name.
    pub name: String,
    /// Only points of this commodity.
    pub commodity: Option<Commodity>,
    /// Only points of these classes; empty: of any.
    pub classes: Vec<String>,
    /// Months of a cycle; they divide the year.
    pub months: u8,
    /// A month of the year in which a cycle begins.
    pub first_month: u8,
    /// Day of the month on which it begins; `None`: as the registry says.
    pub day: Option<u8>,
}

impl Default for BillingConfig {
    fn default() -> Self {
        Self {
            estimated_limit_permille: 50,
            late_estimated_permille: 500,
            boundary_days: 2,
            deadline_days: 3,
            last_actual_days: 90,
            estimated_cycles: 3,
            notice_kwh_micros: 1_000_000,
            notice_m3_micros: 100_000,
            notice_permille: 5,
            cycles: Vec::new(),
        }
    }
}

impl BillingConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let s = &mut section;
        Self {
            estimated_limit_permille: s
                .permille("estimated_limit_percent", 0..=1000)
                .unwrap_or(default.estimated_limit_permille),
            late_estimated_permille: s
                .permille("late_estimated_percent", 0..=1000)
                .unwrap_or(default.late_estimated_permille),
            boundary_days: s.multiple("boundary_within", DAY, 0..=31).unwrap_or(default.boundary_days),
            deadline_days: s.multiple("deadline", DAY, 0..=60).unwrap_or(default.deadline_days),
            last_actual_days: s.multiple("last_actual", DAY, 1..=800).unwrap_or(default.last_actual_days),
            estimated_cycles: s.integer("estimated_cycles", 1..=60_u16).unwrap_or(default.estimated_cycles),
            notice_kwh_micros: s.decimal("notice_kwh", 6, 0..=1_000_000_000_000).unwrap_or(default.notice_kwh_micros),
            notice_m3_micros: s.decimal("notice_m3", 6, 0..=1_000_000_000_000).unwrap_or(default.notice_m3_micros),
            notice_permille: s.permille("notice_percent", 0..=1000).unwrap_or(default.notice_permille),
            cycles: s.sections("cycle").into_iter().filter_map(CycleConfig::read).collect(),
        }
    }
}

impl CycleConfig {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let s = &mut section;
        let name = s.text("name");
        let commodity = s.choice("commodity", &Commodity::ALL.map(|c| (c.as_str(), c)));
        let classes = s.texts("classes").unwrap_or_default().into_iter().map(|class| class.value).collect();
        let months = s.integer("months", 1..=12_u8).unwrap_or(1);
        if 12 % months != 0 {
            s.refuse("months", format_args!("is {months}; 1, 2, 3, 4, 6 or 12 is wanted, so that every year is alike"));
        }
        let first_month = s.integer("first_month", 1..=12_u8).unwrap_or(1);
        let day = s.integer("day", 1..=28_u8);
        let name = s.required("name", name)?;
        Some(Self { name, commodity, classes, months, first_month, day })
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
