//! Tariff calendars: which bucket (peak, valley, …) an instant falls into, by the wall clock of a zone.
//!
//! A [`CalendarPlan`] is what people write; a [`Calendar`] is one that was proved: every minute of every kind of day has
//! exactly one bucket. An event outranks what holidays say, that outranks rules by season and weekday, and those outrank
//! the default. Where a clock is set forward or back, the bucket follows the wall: hours that the wall skips are in no
//! bucket, hours that it shows twice are twice in theirs.
//!
//! ```
//! use meterlake_model::calendar::{Calendar, CalendarPlan, CalendarRule, DayKinds, MonthDays};
//! use meterlake_model::{Timestamp, Zone};
//!
//! let mut plan = CalendarPlan::new("home", Zone::parse("Europe/Madrid").unwrap(), ["valley", "peak"]);
//! plan.default = Some(0);
//! plan.rules = vec![CalendarRule::new(DayKinds::workdays(), MonthDays::all(), (8 * 60, 22 * 60), 1)];
//! let calendar = Calendar::prove(plan).unwrap();
//! let noon = Timestamp::parse_rfc3339("2026-11-20T11:00:00Z").unwrap();
//! assert_eq!(calendar.bucket_at(noon, None).map(|bucket| calendar.bucket_name(bucket)), Some("peak"));
//! ```

mod days;
mod proof;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::UsagePointId;
use crate::time::{CivilDay, Timestamp, Zone};

pub use days::{DayKinds, MonthDays};
pub use proof::{Fault, Place};
pub use walk::{BucketSlice, BucketWalk};

use days::DayKind;

/// The number of a bucket: its place in [`CalendarPlan::buckets`].
pub type Bucket = u16;

/// Minutes of a day that has no clock change.
pub const DAY_MINUTES: u16 = 1440;

/// The most buckets that a calendar may have.
pub const MAX_BUCKETS: usize = 64;

/// All calendars of a configuration, by name.
pub type Calendars = BTreeMap<String, Calendar>;

/// A calendar as it is written, not proved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarPlan {
    /// Its name.
    pub name: String,
    /// Whose wall clock counts.
    pub zone: Zone,
    /// The names of the buckets, each once.
    pub buckets: Vec<String>,
    /// The bucket of what no rule names; `None`: rules name everything.
    pub default: Option<Bucket>,
    /// The civil years that it holds for; `None`: all. Outside nothing has a bucket.
    pub years: Option<BTreeSet<i16>>,
    /// Holidays by day, with their names.
    pub holidays: BTreeMap<CivilDay, String>,
    /// Days that are worked though they fall on a weekend.
    pub working_days: BTreeSet<CivilDay>,
    /// What a holiday is where no rule names it.
    pub holiday: HolidayMeans,
    /// By season, weekday and time.
    pub rules: Vec<CalendarRule>,
    /// Called for single stretches of time.
    pub events: Vec<CalendarEvent>,
}

impl CalendarPlan {
    /// A plan without default, holidays, rules and events.
    pub fn new<'b>(name: &str, zone: Zone, buckets: impl IntoIterator<Item = &'b str>) -> Self {
        Self {
            name: name.to_owned(),
            zone,
            buckets: buckets.into_iter().map(str::to_owned).collect(),
            default: None,
            years: None,
            holidays: BTreeMap::new(),
            working_days: BTreeSet::new(),
            holiday: HolidayMeans::ItsWeekday,
            rules: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// What a holiday is where no rule names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolidayMeans {
    /// The weekday that it falls on.
    ItsWeekday,
    /// A given weekday, 0 for Monday to 6 for Sunday.
    Weekday(u8),
    /// One bucket all day.
    Bucket(Bucket),
}

/// A stretch of the wall clock on some days of the year.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarRule {
    /// On which kinds of days.
    pub days: DayKinds,
    /// On which days of the year.
    pub dates: MonthDays,
    /// First minute and the minute after the last, 0 to 1440. Where the first is not before the last, it is two stretches
    /// of the same day: from midnight, and up to midnight.
    pub minutes: (u16, u16),
    /// What they are.
    pub bucket: Bucket,
    /// The higher wins where rules overlap; rules of one priority may not.
    pub priority: u8,
}

impl CalendarRule {
    /// A rule of the lowest priority.
    pub fn new(days: DayKinds, dates: MonthDays, minutes: (u16, u16), bucket: Bucket) -> Self {
        Self { days, dates, minutes, bucket, priority: 0 }
    }

    /// Its one or two stretches of minutes.
    fn stretches(&self) -> [(u16, u16); 2] {
        let (from, to) = self.minutes;
        if from < to { [(from, to), (0, 0)] } else { [(0, to), (from, DAY_MINUTES)] }
    }
}

/// A stretch of time that was called: a critical peak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarEvent {
    /// First instant.
    pub from: Timestamp,
    /// The instant after the last.
    pub to: Timestamp,
    /// What it is.
    pub bucket: Bucket,
    /// For whom; `None`: for all.
    pub points: Option<BTreeSet<UsagePointId>>,
}

impl CalendarEvent {
    fn is_for(&self, point: Option<&UsagePointId>) -> bool {
        self.points.as_ref().is_none_or(|points| point.is_some_and(|point| points.contains(point)))
    }
}

/// A stretch of a day's wall clock: up to this minute, this bucket.
type Stretch = (u16, Bucket);

/// A proved calendar. Two are equal when their plans are.
#[derive(Clone)]
pub struct Calendar {
    plan: CalendarPlan,
    /// Distinct days, each as stretches that end at minute 1440.
    patterns: Vec<Vec<Stretch>>,
    /// The pattern of each kind of day and day of the year.
    of_day: BTreeMap<DayKind, Vec<u16>>,
}

impl Calendar {
    /// Proves that every minute of every kind of day has exactly one bucket.
    ///
    /// # Errors
    /// Everything that is wrong with the plan.
    pub fn prove(mut plan: CalendarPlan) -> Result<Self, Vec<Fault>> {
        plan.events.sort_by_key(|event| (event.from, event.to));
        proof::prove(plan)
    }

    /// What it was made of, its events in order of time.
    pub fn plan(&self) -> &CalendarPlan {
        &self.plan
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Whose wall clock counts.
    pub fn zone(&self) -> &Zone {
        &self.plan.zone
    }

    /// The names of the buckets, in their order.
    pub fn buckets(&self) -> &[String] {
        &self.plan.buckets
    }

    /// The name of a bucket.
    pub fn bucket_name(&self, bucket: Bucket) -> &str {
        self.plan.buckets.get(usize::from(bucket)).map_or("", String::as_str)
    }

    /// The bucket of a name.
    pub fn bucket(&self, name: &str) -> Option<Bucket> {
        self.plan.buckets.iter().position(|bucket| bucket == name).and_then(|at| u16::try_from(at).ok())
    }

    /// The bucket of an instant, with the events of a usage point, or those that are for all; `None` outside the years
    /// that the calendar holds for.
    pub fn bucket_at(&self, ts: Timestamp, point: Option<&UsagePointId>) -> Option<Bucket> {
        let event = self.plan.events.iter().take_while(|event| event.from <= ts).filter(|event| event.is_for(point));
        if let Some(event) = event.into_iter().find(|event| ts < event.to) {
            return self.holds(self.plan.zone.day_of(ts)).then_some(event.bucket);
        }
        let minute = self.plan.zone.minute_of_day(ts);
        let pattern = self.pattern(self.plan.zone.day_of(ts))?;
        pattern.iter().find(|(end, _)| minute < *end).map(|(_, bucket)| *bucket)
    }

    /// Goes through time and tells where buckets end.
    pub fn walk(&self, point: Option<&UsagePointId>) -> BucketWalk<'_> {
        BucketWalk::new(self, point)
    }

    fn holds(&self, day: CivilDay) -> bool {
        self.plan.years.as_ref().is_none_or(|years| years.contains(&day.year()))
    }

    fn pattern(&self, day: CivilDay) -> Option<&[Stretch]> {
        if !self.holds(day) {
            return None;
        }
        let kind = DayKind::of(day, &self.plan);
        let number = *self.of_day.get(&kind)?.get(days::day_of_year(day.month(), day.day()))?;
        self.patterns.get(usize::from(number)).map(Vec::as_slice)
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        self.plan == other.plan
    }
}

impl Eq for Calendar {}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}
