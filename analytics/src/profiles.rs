//! Profiles: the load shape and key figures of one usage point and civil month.
//!
//! Only actual hours count, and daily figures only days of which every hour is actual: nothing follows from estimates.
//! Figures bear no money: they are floats, each from one division of exact integers, so that a rerun gives the same
//! bits. [`picture`] and [`terminal`] show one profile.

use std::collections::{BTreeMap, BTreeSet};

use meterlake_model::{Amount, CivilDay, Timestamp, Zone};

mod compute;
mod scale;

pub mod picture;
pub mod terminal;

pub use compute::profile;

/// What the figures go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRules {
    /// Fewer complete days give no key figures.
    pub min_days: u16,
    /// Night, in hours of the wall clock, from and up to.
    pub night: (u8, u8),
    /// Evening, in hours of the wall clock, from and up to.
    pub evening: (u8, u8),
    /// Midday, in hours of the wall clock, from and up to.
    pub midday: (u8, u8),
}

impl Default for ProfileRules {
    fn default() -> Self {
        Self { min_days: 7, night: (0, 6), evening: (17, 22), midday: (11, 14) }
    }
}

/// What days have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DayType {
    /// Monday to Friday.
    Workday,
    /// Saturday.
    Saturday,
    /// Sunday and holidays.
    Sunday,
}

impl DayType {
    /// All, in the order of tables and pictures.
    pub const ALL: [Self; 3] = [Self::Workday, Self::Saturday, Self::Sunday];

    /// The type of a day.
    pub fn of(day: CivilDay, holidays: &BTreeSet<CivilDay>) -> Self {
        match day.weekday() {
            _ if holidays.contains(&day) => Self::Sunday,
            6 => Self::Sunday,
            5 => Self::Saturday,
            _ => Self::Workday,
        }
    }

    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workday => "workday",
            Self::Saturday => "saturday",
            Self::Sunday => "sunday",
        }
    }
}

/// Use of one slot of at most an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotUse {
    /// First instant.
    pub start: Timestamp,
    /// The instant after the last.
    pub end: Timestamp,
    /// In the channel's unit.
    pub value: Amount,
    /// Whether it was read or follows from readings.
    pub actual: bool,
}

/// Mean use by hour of the wall clock, in the channel's unit an hour; `None` where no hour was actual.
pub type Shape = [Option<f64>; 24];

/// Key figures over complete days.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyFigures {
    /// Mean use of a day, in the channel's unit.
    pub daily_use: f64,
    /// Share of the use at night, 0 to 1; `None` when nothing was used.
    pub night_share: Option<f64>,
    /// Share of the use in the evening, 0 to 1.
    pub evening_share: Option<f64>,
    /// Share of the use at midday, 0 to 1.
    pub midday_share: Option<f64>,
    /// Hourly use below which 5 % of the hours are (nearest rank), in the channel's unit an hour.
    pub p5: f64,
    /// Half of the hours are below.
    pub p50: f64,
    /// 95 % of the hours are below.
    pub p95: f64,
    /// The strongest hour.
    pub peak: f64,
    /// The middle one of the days' smallest hours: what runs always.
    pub base_load: f64,
    /// Mean ÷ peak, 0 to 1; `None` when nothing was used.
    pub load_factor: Option<f64>,
    /// Mean workday ÷ mean weekend day; `None` when either kind is missing or the weekend used nothing.
    pub weekday_to_weekend: Option<f64>,
    /// Strongest ÷ weakest hour of the mean day; `None` when the weakest used nothing.
    pub peak_to_valley: Option<f64>,
}

/// Shape and key figures of one usage point, channel and period.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// First day.
    pub first_day: CivilDay,
    /// Use of each day of the period; `None` for days that are not complete.
    pub daily: Vec<Option<Amount>>,
    /// Mean hours of workdays, Saturdays and Sundays.
    pub shapes: [Shape; 3],
    /// Key figures, when there are complete days enough.
    pub figures: Option<KeyFigures>,
}

impl Profile {
    /// Number of complete days.
    pub fn complete_days(&self) -> usize {
        self.daily.iter().flatten().count()
    }
}
