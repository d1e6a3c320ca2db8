//! The meter's time as the map says it is written, and whether it can be true.

use std::borrow::Cow;

use meterlake_config::payload_map::{TimeFormat, TimeRule};
use meterlake_model::{DeadReason, LocalResolution, MeterEntry, ReadingFlags, Timestamp, Zone, parse_scaled_rounding};

use super::Refusal;
use super::document::{Kind, shortened};
use super::find::Places;

/// 2000-01-01T00:00:00Z: no remote meter is older.
const EARLIEST_S: i64 = 946_684_800;
/// A clock this far ahead is not a drift but a fault.
const MOST_AHEAD_S: i64 = 86_400;
/// A clock this far ahead is remarked.
const SUSPECT_AHEAD_S: i64 = 300;
/// A clock this far from the arrival is remarked where the sender keeps no history.
const SUSPECT_LIVE_S: i64 = 180;
/// Decimals of a count of microseconds.
const MICROS_SCALE: u8 = 6;

/// When and by whose clock.
pub(super) struct When {
    pub(super) ts: Timestamp,
    pub(super) flags: ReadingFlags,
}

/// What stands where the map says.
struct Written<'a> {
    text: Cow<'a, str>,
    kind: Kind,
}

/// Reads the time of one reading. `entry` is what the registry knows of the meter.
pub(super) fn read(
    rule: &TimeRule,
    places: &Places<'_>,
    meter: &str,
    entry: Option<&MeterEntry>,
    received_at_s: i64,
) -> Result<When, Refusal> {
    let received = arrival(received_at_s)?;
    let at_arrival = When { ts: received, flags: ReadingFlags::COLLECTOR_TIME };
    if rule.format == TimeFormat::Arrival {
        return Ok(at_arrival);
    }
    let Some(written) = written(rule, places)? else {
        if rule.or_arrival {
            return Ok(at_arrival);
        }
        let paths: Vec<_> = rule.paths.iter().map(|path| format!("`{path}`")).collect();
        let word = if rule.joined { " and " } else { " or " };
        return Err(Refusal::new(DeadReason::BadTime, format!("the time {} is missing", paths.join(word))));
    };
    let (ts, flags) = stated(&rule.format, &written, meter, entry)?;
    let ts = ts.plus_micros(rule.add_micros);
    plausible(ts, received, rule.live).map(|remarks| When { ts, flags: flags.with(remarks) })
}

/// When the message came.
pub(super) fn arrival(received_at_s: i64) -> Result<Timestamp, Refusal> {
    Timestamp::from_unix_seconds(received_at_s)
        .map_err(|error| Refusal::new(DeadReason::BadTime, format!("the time of arrival is unusable: {error}")))
}

/// What is to be remarked of a meter's time.
pub(super) fn plausible(ts: Timestamp, received: Timestamp, live: bool) -> Result<ReadingFlags, Refusal> {
    if ts.unix_seconds() < EARLIEST_S {
        return Err(Refusal::new(DeadReason::ImplausibleTime, format!("the time {ts} is before 2000")));
    }
    if ts > received.plus_seconds(MOST_AHEAD_S) {
        let detail = format!("the time {ts} is more than a day ahead of the arrival at {received}");
        return Err(Refusal::new(DeadReason::ImplausibleTime, detail));
    }
    let ahead = if live { SUSPECT_LIVE_S } else { SUSPECT_AHEAD_S };
    let suspect = ts > received.plus_seconds(ahead) || live && ts < received.plus_seconds(-SUSPECT_LIVE_S);
    Ok(if suspect { ReadingFlags::CLOCK_SUSPECT } else { ReadingFlags::NONE })
}

fn written<'a>(rule: &TimeRule, places: &Places<'a>) -> Result<Option<Written<'a>>, Refusal> {
    if !rule.joined {
        let found = places.find_first(&rule.paths)?;
        return Ok(found.map(|value| Written { text: value.unescaped(), kind: value.kind() }));
    }
    let mut text = String::new();
    for path in &rule.paths {
        let Some(part) = places.find(path)? else { return Ok(None) };
        if matches!(part.kind(), Kind::List | Kind::Object) {
            return Ok(Some(Written { text: Cow::Borrowed(""), kind: part.kind() }));
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&part.unescaped());
    }
    Ok(Some(Written { text: Cow::Owned(text), kind: Kind::Text { escaped: false } }))
}

impl Written<'_> {
    fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text { .. })
    }

    fn described(&self) -> String {
        match self.kind {
            Kind::Number => format!("the number {}", shortened(&self.text)),
            Kind::Text { .. } => format!("the text \"{}\"", shortened(&self.text)),
            Kind::List => "a list".to_owned(),
            Kind::Object => "an object".to_owned(),
            Kind::True | Kind::False | Kind::Null => self.text.clone().into_owned(),
        }
    }
}

fn stated(
    format: &TimeFormat,
    written: &Written<'_>,
    meter: &str,
    entry: Option<&MeterEntry>,
) -> Result<(Timestamp, ReadingFlags), Refusal> {
    let bad = |wanted: &str| {
        Refusal::new(DeadReason::BadTime, format!("the time is {}; {wanted} is wanted", written.described()))
    };
    let ts = match format {
        TimeFormat::Rfc3339 if written.is_text() => {
            const WANTED: &str = "text with an offset such as 2026-03-29T01:00:00Z";
            Timestamp::parse_rfc3339(&written.text).map_err(|_| bad(WANTED))?
        }
        TimeFormat::Rfc3339 => return Err(bad("text with an offset")),
        TimeFormat::Count { digits, epoch } => {
            let unit = match digits {
                0 => "seconds",
                3 => "milliseconds",
                6 => "microseconds",
                _ => "nanoseconds",
            };
            let number = matches!(written.kind, Kind::Number | Kind::Text { .. });
            let ts = if number { counted(&written.text, *digits, *epoch) } else { None };
            ts.ok_or_else(|| bad(&format!("the {unit} since {}", epoch.to_string().get(..4).unwrap_or_default())))?
        }
        TimeFormat::Local { pattern, zone } => {
            let wanted = || format!("local time such as `{pattern}`");
            if !written.is_text() {
                return Err(bad(&wanted()));
            }
            let zone = zone_of(zone.as_ref(), written, meter, entry)?;
            let local = zone.resolve_local_as(&written.text, pattern).map_err(|_| bad(&wanted()))?;
            let flags = match local {
                LocalResolution::Unique(_) => ReadingFlags::NONE,
                LocalResolution::Ambiguous { .. } => ReadingFlags::AMBIGUOUS_LOCAL_TIME,
                // A clock that shows the skipped hour was not set.
                LocalResolution::Skipped(_) => ReadingFlags::CLOCK_SUSPECT,
            };
            return Ok((local.earlier(), flags));
        }
        TimeFormat::Dsmr { zone } => {
            const WANTED: &str = "a time such as 101209113020W";
            if !written.is_text() {
                return Err(bad(WANTED));
            }
            let zone = zone_of(zone.as_ref(), written, meter, entry)?;
            let (digits, summer) = match (written.text.strip_suffix('S'), written.text.strip_suffix('W')) {
                (Some(digits), _) => (digits, true),
                (_, Some(digits)) => (digits, false),
                _ => return Err(bad(WANTED)),
            };
            if digits.len() != 12 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(bad(WANTED));
            }
            let local = zone.resolve_local_as(digits, "%y%m%d%H%M%S").map_err(|_| bad(WANTED))?;
            return Ok(by_season(zone, local, summer));
        }
        TimeFormat::Arrival => return Err(bad("nothing")),
    };
    Ok((ts, ReadingFlags::NONE))
}

/// The instant of a wall clock that says whether it shows summer time.
///
/// A clock that says so against its zone was not set forward or back: what it says is believed, and remarked.
fn by_season(zone: &Zone, local: LocalResolution, summer: bool) -> (Timestamp, ReadingFlags) {
    const HOUR_S: i64 = 3_600;
    match local {
        LocalResolution::Ambiguous { earlier, .. } if summer => (earlier, ReadingFlags::NONE),
        LocalResolution::Ambiguous { later, .. } => (later, ReadingFlags::NONE),
        LocalResolution::Unique(ts) if zone.is_summer(ts) == summer => (ts, ReadingFlags::NONE),
        LocalResolution::Unique(ts) => {
            (ts.plus_seconds(if summer { -HOUR_S } else { HOUR_S }), ReadingFlags::CLOCK_SUSPECT)
        }
        // The skipped hour, as a clock shows it that was not set forward yet.
        LocalResolution::Skipped(ts) => {
            (ts.plus_seconds(if summer { -HOUR_S } else { 0 }), ReadingFlags::CLOCK_SUSPECT)
        }
    }
}

/// Whose civil time it is: the map's, or else that of the meter by the registry.
fn zone_of<'a>(
    zone: Option<&'a Zone>,
    written: &Written<'_>,
    meter: &str,
    entry: Option<&'a MeterEntry>,
) -> Result<&'a Zone, Refusal> {
    zone.or(entry.map(|entry| &entry.zone)).ok_or_else(|| {
        let detail = format!(
            "the time is {} without an offset, and the registry does not know the zone of meter `{}`",
            written.described(),
            shortened(meter)
        );
        Refusal::new(DeadReason::BadTime, detail)
    })
}

/// A count of 10^-`digits` seconds since an epoch; what is below a microsecond is cut.
fn counted(text: &str, digits: u8, epoch: Timestamp) -> Option<Timestamp> {
    let micros = match MICROS_SCALE.checked_sub(digits) {
        Some(scale) => parse_scaled_rounding(text, scale).ok()?,
        None => parse_scaled_rounding(text, 0).ok()?.div_euclid(10_i64.pow(u32::from(digits - MICROS_SCALE))),
    };
    Timestamp::from_micros(micros.checked_add(epoch.micros())?).ok()
}
