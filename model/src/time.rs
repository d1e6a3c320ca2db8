//! Instants in UTC, civil days by zone. Civil time appears only at the edges, by the usage point's zone.

use std::fmt;
use std::sync::Arc;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};

/// Why a time cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The text is no time of the expected form.
    #[error("`{0}` is not a time with offset such as 2026-03-29T01:00:00Z")]
    Syntax(String),
    /// The text is no civil date or local time of the expected form.
    #[error("`{0}` is not a {1}")]
    Civil(String, &'static str),
    /// Outside the years that a timestamp holds.
    #[error("{0} is outside the years 1 to 9999")]
    Range(i64),
    /// No zone of this name.
    #[error("`{0}` is not a time zone of the IANA database such as Europe/Madrid")]
    UnknownZone(String),
}

/// An instant in microseconds since 1970-01-01T00:00:00Z, in the years 1 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const MICROS: i64 = 1_000_000;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since 1970.
    ///
    /// # Errors
    /// Outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Result<Self, TimeError> {
        jiff::Timestamp::from_microsecond(micros).map(|_| Self(micros)).map_err(|_| TimeError::Range(micros))
    }

    /// From seconds since 1970.
    ///
    /// # Errors
    /// Outside the years 1 to 9999.
    pub fn from_unix_seconds(seconds: i64) -> Result<Self, TimeError> {
        Self::from_micros(seconds.checked_mul(MICROS).ok_or(TimeError::Range(seconds))?)
    }

    /// From text with an offset (RFC 3339). Digits below a microsecond are cut.
    ///
    /// # Errors
    /// When the text has another form or no offset.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimeError> {
        if let Some(seconds) = plain_utc_seconds(text.as_bytes()) {
            return Self::from_unix_seconds(seconds);
        }
        let parsed: jiff::Timestamp = text.parse().map_err(|_| TimeError::Syntax(text.to_owned()))?;
        Ok(Self(parsed.as_microsecond()))
    }

    /// The present, by the machine's clock. Jobs never call it.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(MICROS)
    }

    /// Later (or earlier) by some microseconds; stays at the ends of the range.
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Later (or earlier) by some seconds; stays at the ends of the range.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        self.plus_micros(seconds.saturating_mul(MICROS))
    }

    /// Microseconds from `earlier` to this.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    fn jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }
}

/// The seconds since 1970 of a text such as `2026-03-29T01:00:00Z`, the form that most senders write; `None` for any
/// other, and for what might be no time.
fn plain_utc_seconds(text: &[u8]) -> Option<i64> {
    let text: &[u8; 20] = text.try_into().ok()?;
    for (at, sign) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')] {
        if text[at] != sign {
            return None;
        }
    }
    let number = |at: usize, digits: usize| {
        text[at..at + digits]
            .iter()
            .try_fold(0_i64, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    // The last days of months and the leap second are left to the calendar.
    if year < 1 || !(1..=12).contains(&month) || !(1..=28).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years begin in March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.jiff().fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.jiff().fmt(f)
    }
}

/// The UTC month of an instant as `2026-11`: the partition of the readings tables.
pub fn month_key(ts: Timestamp) -> String {
    let date = ts.jiff().to_zoned(TimeZone::UTC).date();
    format!("{:04}-{:02}", date.year(), date.month())
}

/// A day of the civil calendar, without a zone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CivilDay(Date);

impl CivilDay {
    /// From year, month and day.
    ///
    /// # Errors
    /// When there is no such day.
    pub fn new(year: i16, month: i8, day: i8) -> Result<Self, TimeError> {
        Date::new(year, month, day)
            .map(Self)
            .map_err(|_| TimeError::Civil(format!("{year}-{month}-{day}"), "day of the calendar"))
    }

    /// From `2026-03-29`.
    ///
    /// # Errors
    /// When the text has another form or names no day.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        Date::strptime("%Y-%m-%d", text)
            .map(Self)
            .map_err(|_| TimeError::Civil(text.to_owned(), "day such as 2026-03-29"))
    }

    /// Year.
    pub fn year(self) -> i16 {
        self.0.year()
    }

    /// Month, 1 to 12.
    pub fn month(self) -> i8 {
        self.0.month()
    }

    /// Day of the month, 1 to 31.
    pub fn day(self) -> i8 {
        self.0.day()
    }

    /// 0 for Monday to 6 for Sunday.
    pub fn weekday(self) -> u8 {
        u8::try_from(self.0.weekday().to_monday_zero_offset()).unwrap_or(0)
    }

    /// Whether it is a Saturday or a Sunday.
    pub fn is_weekend(self) -> bool {
        self.weekday() >= 5
    }

    /// Some days later (or earlier); stays at the ends of the calendar.
    #[must_use]
    pub fn plus_days(self, days: i32) -> Self {
        Self(self.0.saturating_add(jiff::Span::new().days(days)))
    }

    /// The same day some months later (or earlier), or the last day of a shorter month.
    #[must_use]
    pub fn plus_months(self, months: i32) -> Self {
        Self(self.0.saturating_add(jiff::Span::new().months(months)))
    }

    /// The first day of its month.
    #[must_use]
    pub fn first_of_month(self) -> Self {
        Self(self.0.first_of_month())
    }

    /// Whole days from `earlier` to this.
    pub fn days_since(self, earlier: Self) -> i32 {
        (self.0 - earlier.0).get_days()
    }
}

impl fmt::Display for CivilDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CivilDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a local time without offset means in a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalResolution {
    /// One instant.
    Unique(Timestamp),
    /// The repeated hour in autumn: two instants.
    Ambiguous {
        /// The first of the two.
        earlier: Timestamp,
        /// The second of the two.
        later: Timestamp,
    },
    /// The skipped hour in spring: no instant. A clock that had not been set shows it at this one.
    Skipped(Timestamp),
}

impl LocalResolution {
    /// The instant that is stored: the earlier one where there are two.
    pub const fn earlier(self) -> Timestamp {
        match self {
            Self::Unique(ts) | Self::Skipped(ts) | Self::Ambiguous { earlier: ts, .. } => ts,
        }
    }
}

/// A time zone of the IANA database. Cheap to clone.
#[derive(Clone)]
pub struct Zone(Arc<(String, TimeZone)>);

impl Zone {
    /// By IANA name, from the database that is built in, so that every machine agrees.
    ///
    /// # Errors
    /// When there is no zone of this name.
    pub fn parse(name: &str) -> Result<Self, TimeError> {
        if name == "UTC" {
            return Ok(Self::utc());
        }
        let zone =
            jiff::tz::TimeZoneDatabase::bundled().get(name).map_err(|_| TimeError::UnknownZone(name.to_owned()))?;
        Ok(Self(Arc::new((name.to_owned(), zone))))
    }

    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self(Arc::new(("UTC".to_owned(), TimeZone::UTC)))
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        &self.0.0
    }

    /// The civil day on which an instant falls.
    pub fn day_of(&self, ts: Timestamp) -> CivilDay {
        CivilDay(self.local(ts).date())
    }

    /// Hour of the civil day, 0 to 23, of an instant.
    pub fn hour_of(&self, ts: Timestamp) -> u8 {
        u8::try_from(self.local(ts).hour()).unwrap_or(0)
    }

    /// Minutes since civil midnight as the wall clock shows them, 0 to 1439.
    pub fn minute_of_day(&self, ts: Timestamp) -> u16 {
        let local = self.local(ts);
        u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0)
    }

    /// Microseconds since civil midnight as the wall clock shows them, less than those of 24 hours.
    pub fn micros_of_day(&self, ts: Timestamp) -> i64 {
        let local = self.local(ts);
        let seconds = i64::from(local.hour()) * 3600 + i64::from(local.minute()) * 60 + i64::from(local.second());
        seconds * MICROS + i64::from(local.subsec_nanosecond()) / 1000
    }

    /// The next instant at which the zone's distance from UTC, its name or its summer time changes; `None` where none is
    /// known.
    pub fn next_change(&self, ts: Timestamp) -> Option<Timestamp> {
        self.0.1.following(ts.jiff()).next().map(|change| Timestamp(change.timestamp().as_microsecond()))
    }

    /// The first instant of a civil day. Where midnight is skipped it is the first instant after the gap; a day that a
    /// zone left out whole starts where the next one does.
    pub fn start_of_day(&self, day: CivilDay) -> Timestamp {
        let zoned = day.0.to_zoned(self.0.1.clone()).and_then(|z| z.start_of_day());
        match zoned {
            // A day that the zone left out is resolved into the next one.
            Ok(start) => Timestamp(start.timestamp().as_microsecond()),
            // At the ends of the calendar.
            Err(_) => self.resolve(day.0.to_datetime(jiff::civil::Time::midnight())).earlier(),
        }
    }

    /// The half-open span of a civil day: commonly 23, 24 or 25 hours.
    pub fn span_of_day(&self, day: CivilDay) -> (Timestamp, Timestamp) {
        (self.start_of_day(day), self.start_of_day(day.plus_days(1)))
    }

    /// What a local time such as `2016-10-30 02:15:00` (blank or `T`) means here.
    ///
    /// # Errors
    /// When the text has another form or names no time of the calendar.
    pub fn resolve_local(&self, text: &str) -> Result<LocalResolution, TimeError> {
        let local: DateTime =
            text.parse().map_err(|_| TimeError::Civil(text.to_owned(), "local time such as 2016-10-30T02:15:00"))?;
        Ok(self.resolve(local))
    }

    /// As [`Self::resolve_local`], for a text in `format` (strftime codes, such as `%d/%m/%Y %H:%M:%S`).
    ///
    /// # Errors
    /// When the text does not follow the format or names no time of the calendar.
    pub fn resolve_local_as(&self, text: &str, format: &str) -> Result<LocalResolution, TimeError> {
        let local = DateTime::strptime(format, text)
            .map_err(|_| TimeError::Civil(text.to_owned(), "local time of the format given"))?;
        Ok(self.resolve(local))
    }

    fn resolve(&self, local: DateTime) -> LocalResolution {
        let instant = |offset: jiff::tz::Offset| {
            let micros = offset.to_timestamp(local).unwrap_or(jiff::Timestamp::MAX).as_microsecond();
            Timestamp(micros)
        };
        match self.0.1.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => LocalResolution::Unique(instant(offset)),
            // `before` is summer time, so the same wall clock comes first with it.
            AmbiguousOffset::Fold { before, after } => {
                LocalResolution::Ambiguous { earlier: instant(before), later: instant(after) }
            }
            AmbiguousOffset::Gap { before, .. } => LocalResolution::Skipped(instant(before)),
        }
    }

    /// Whether the zone keeps summer time at an instant.
    pub fn is_summer(&self, ts: Timestamp) -> bool {
        self.0.1.to_offset_info(ts.jiff()).dst().is_dst()
    }

    /// The wall clock at an instant as `2016-10-30T02:15:00`.
    pub fn local_text(&self, ts: Timestamp) -> String {
        self.local(ts).to_string()
    }

    fn local(&self, ts: Timestamp) -> DateTime {
        self.0.1.to_datetime(ts.jiff())
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
