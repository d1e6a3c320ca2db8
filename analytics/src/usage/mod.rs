//! From readings to use: the walk along a register, the slots and days under it, and what fills a gap.
//!
//! Pure functions over plain values: no Arrow, no clock, no I/O. Amounts are integers from the register to the day, and
//! parts add up to their whole exactly. The result does not depend on the order in which the readings are given.
//!
//! What a reading at `ts` can change lies between the accepted reading before it and [`UsageRules::history_days`] after
//! the gap that it closes: estimates learn from the days before them and from no later ones.
//!
//! Left out here: reading tables (the jobs do), high/low, spike and other checks over finished spans, and tariffs.

mod anchor;
mod aside;
mod derive;
mod finding;
mod fold;
mod gap;
mod grid;
mod history;
mod interval;
mod line;
mod load_profile;
mod reconcile;
mod register;
mod sink;
mod span;
pub mod storm;
#[cfg(test)]
pub(crate) mod tests;
mod twin;
mod walk;
mod weather;
mod weight;

use std::collections::BTreeSet;

use meterlake_model::registry::{Installation, InstallationChannel, UsagePoint};
use meterlake_model::{Amount, Channel, CivilDay, ReadingFlags, Timestamp};

pub use anchor::{Anchor, Border, Start};
pub use derive::derive;
pub use finding::{Finding, Rule, Severity};
pub use load_profile::LoadProfile;
pub use reconcile::{Closure, Part, Reconciled, reconcile, tolerance};
pub(crate) use reconcile::{common_step, share};
pub use span::{Boundary, Level, Parts, Span};
pub use weather::Temperatures;

/// One value that one message brought for one channel, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The meter's time in UTC; for interval use the end of the interval.
    pub ts: Timestamp,
    /// When it arrived, in seconds since 1970.
    pub received_at_s: i64,
    /// 0 for the first value at this time, 1 and up for differing later ones; those of another generation
    /// ([`meterlake_model::revision`]) are not given.
    pub revision: i32,
    /// The register or the interval's use, before the multiplier.
    pub value: Amount,
    /// Remarks of the collector.
    pub flags: ReadingFlags,
}

impl Reading {
    /// The canonical order: by time, then by arrival.
    fn order(&self) -> (Timestamp, i64, i32, Amount, u32) {
        (self.ts, self.received_at_s, self.revision, self.value, self.flags.bits())
    }
}

/// One installation and what its meter said, in any order; readings outside its dates are passed over.
#[derive(Debug, Clone, Copy)]
pub struct InstallationReadings<'a> {
    /// The meter at the point, from when to when.
    pub installation: &'a Installation,
    /// How this channel of it becomes use.
    pub channel: &'a InstallationChannel,
    /// Its readings.
    pub readings: &'a [Reading],
}

/// A known total over a time, after the multiplier: the register behind an interval channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// First instant.
    pub start: Timestamp,
    /// The instant after the last.
    pub end: Timestamp,
    /// The total.
    pub value: Amount,
}

/// All that the use of one usage point and channel follows from.
#[derive(Debug, Clone)]
pub struct PointInput<'a> {
    /// The place; its zone makes the civil days.
    pub usage_point: &'a UsagePoint,
    /// A register or interval channel.
    pub channel: Channel,
    /// In order of time. Spans and findings name them by their index here.
    pub installations: Vec<InstallationReadings<'a>>,
    /// Times without supply, by evidence other than silence.
    pub outages: &'a [(Timestamp, Timestamp)],
    /// Days that are like no weekday.
    pub holidays: &'a BTreeSet<CivilDay>,
    /// Totals that the parts of an interval channel must add up to. Empty for registers.
    pub wholes: &'a [Whole],
    /// What fills may go by beside all this.
    pub aids: Aids<'a>,
    /// Where the walk goes on, instead of at the installation. Readings at and before it are not looked at; installations
    /// before its own are passed over. It must lie at least two days before `from`.
    pub anchor: Option<Anchor>,
    /// Times in rising order for which [`PointUsage::borders`] are wanted.
    pub borders: &'a [Timestamp],
    /// Spans and findings that start before are not emitted.
    pub from: Timestamp,
    /// Spans and findings that start then or later are not emitted.
    pub to: Timestamp,
}

/// What fills may go by that is not of the meters whose use is counted. Without any of it the first rungs and the last remain.
#[derive(Debug, Clone, Default)]
pub struct Aids<'a> {
    /// Meters beside those whose use is counted, with readings of this channel, or of the register behind it (E1).
    pub twins: Vec<InstallationReadings<'a>>,
    /// The weather where the usage point is (E6).
    pub temperatures: Option<&'a Temperatures>,
    /// The profile of its class (E7).
    pub profile: Option<&'a LoadProfile>,
    /// From then on nothing is estimated there: too many meters of the area are silent at once.
    pub suspended: Option<Timestamp>,
}

/// A rung of the fills that goes by what was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// E4: the mean of the three nearest same weekdays, of two at least; of holidays for a holiday.
    LikeDay,
    /// E5: the mean of the ten nearest days of the same type, of five at least.
    DayType,
    /// E6: the mean of the three days whose temperature was nearest.
    ProxyDay,
    /// E7: the profile of the class at the customer's own level, else at the class's.
    Profile,
}

impl Shape {
    /// All, in the order in which they are tried unless somebody says otherwise.
    pub const ALL: [Self; 4] = [Self::LikeDay, Self::DayType, Self::ProxyDay, Self::Profile];

    /// The name in configurations, which is that of the method.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LikeDay => "like_day",
            Self::DayType => "day_type",
            Self::ProxyDay => "proxy_day",
            Self::Profile => "profile",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.as_str() == text)
    }
}

/// The limits of the walk and of the fills. The defaults are the domain's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRules {
    /// A fall of at most so many times the resolution is jitter.
    pub jitter_steps: i64,
    /// So long must later readings stay below before a fall is a reset, in seconds.
    pub settle_s: i64,
    /// Capacity is exceeded above so many hundredths of it.
    pub capacity_percent: i64,
    /// Water: slots between readings at most so far apart are as read, in seconds.
    pub actual_gap_water_s: i64,
    /// A gap up to this is a straight line, in seconds.
    pub linear_gap_s: i64,
    /// A boundary between readings at most so far apart is derived, in seconds.
    pub boundary_gap_s: i64,
    /// How far back like days may lie.
    pub history_days: i32,
    /// Average daily use is taken over so many days.
    pub average_days: i32,
    /// Beyond the last reading no more than this is projected up to a known removal, in seconds.
    pub project_s: i64,
    /// The rungs that go by what was used before, in the order in which they are tried.
    pub shapes: Vec<Shape>,
}

impl Default for UsageRules {
    fn default() -> Self {
        Self {
            jitter_steps: 20,
            settle_s: 6 * 3600,
            capacity_percent: 110,
            actual_gap_water_s: 2 * 3600,
            linear_gap_s: 2 * 3600,
            boundary_gap_s: 24 * 3600,
            history_days: 90,
            average_days: 28,
            project_s: 31 * 86_400,
            shapes: Shape::ALL.to_vec(),
        }
    }
}

/// How many readings went which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given, within the installations.
    pub readings: u64,
    /// Identical to another of the same time.
    pub repeats: u64,
    /// Lost against another value of the same time.
    pub conflicts: u64,
    /// Low by no more than jitter.
    pub jitter: u64,
    /// Dropped as another meter's, flipped, or with too many digits.
    pub foreign: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.readings += other.readings;
        self.repeats += other.repeats;
        self.conflicts += other.conflicts;
        self.jitter += other.jitter;
        self.foreign += other.foreign;
    }
}

/// The use of one usage point and channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PointUsage {
    /// Days, then slots, each in order of time; those that start in the range asked for.
    pub spans: Vec<Span>,
    /// In order of (start, rule, end); those that start in the range asked for.
    pub findings: Vec<Finding>,
    /// Over all readings given.
    pub counts: Counts,
    /// Days of a register channel whose both ends are known, those before the range asked for too.
    pub wholes: Vec<Whole>,
    /// Where later walks can be taken up, one for each border asked for.
    pub borders: Vec<Border>,
    /// Whether there was any reading within an installation.
    pub heard: bool,
    /// What lies before the anchor would have been looked at: the walk must be taken up further back, and the rest of
    /// this is not to be used.
    pub short: bool,
}
