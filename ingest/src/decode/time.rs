//! The meter's time as the map says it is written, and whether it can be true.

use meterlake_config::payload_map::{TimeFormat, TimeRule};
use meterlake_model::{DeadReason, LocalResolution, MeterEntry, ReadingFlags, Timestamp, Zone, parse_scaled_rounding};

use super::Refusal;
use super::document::{Kind, Value, shortened};

/// 2000-01-01T00:00:00Z: no remote meter is older.
const EARLIEST_S: i64 = 946_684_800;
/// A clock this far ahead is not a drift but a fault.
const MOST_AHEAD_S: i64 = 86_400;
/// A clock this far ahead is remarked.
const SUSPECT_AHEAD_S: i64 = 300;

/// Reads the time of one reading. `written` is what stands where the map says, `entry` what the registry knows.
pub(super) fn read(
    rule: &TimeRule,
    written: Option<Value<'_>>,
    meter: &str,
    entry: Option<&MeterEntry>,
    received_at_s: i64,
) -> Result<(Timestamp, ReadingFlags), Refusal> {
    let received = Timestamp::from_unix_seconds(received_at_s)
        .map_err(|error| Refusal::new(DeadReason::BadTime, format!("the time of arrival is unusable: {error}")))?;
    if rule.format == TimeFormat::Arrival {
        return Ok((received, ReadingFlags::COLLECTOR_TIME));
    }
    let value = written.ok_or_else(|| {
        let paths: Vec<_> = rule.paths.iter().map(|path| format!("`{path}`")).collect();
        Refusal::new(DeadReason::BadTime, format!("the time {} is missing", paths.join(" or ")))
    })?;
    let (ts, mut flags) = stated(&rule.format, value, meter, entry)?;
    let ts = ts.plus_micros(rule.add_micros);
    if ts.unix_seconds() < EARLIEST_S {
        return Err(Refusal::new(DeadReason::ImplausibleTime, format!("the time {ts} is before 2000")));
    }
    if ts > received.plus_seconds(MOST_AHEAD_S) {
        let detail = format!("the time {ts} is more than a day ahead of the arrival at {received}");
        return Err(Refusal::new(DeadReason::ImplausibleTime, detail));
    }
    if ts > received.plus_seconds(SUSPECT_AHEAD_S) {
        flags = flags.with(ReadingFlags::CLOCK_SUSPECT);
    }
    Ok((ts, flags))
}

fn stated(
    format: &TimeFormat,
    value: Value<'_>,
    meter: &str,
    entry: Option<&MeterEntry>,
) -> Result<(Timestamp, ReadingFlags), Refusal> {
    let bad = |wanted: &str| {
        Refusal::new(DeadReason::BadTime, format!("the time is {}; {wanted} is wanted", value.described()))
    };
    let is_text = matches!(value.kind(), Kind::Text { .. });
    let ts = match format {
        TimeFormat::Rfc3339 if is_text => {
            const WANTED: &str = "text with an offset such as 2026-03-29T01:00:00Z";
            Timestamp::parse_rfc3339(&value.unescaped()).map_err(|_| bad(WANTED))?
        }
        TimeFormat::Rfc3339 => return Err(bad("text with an offset")),
        TimeFormat::UnixSeconds => number_of(value, 6).ok_or_else(|| bad("the seconds since 1970"))?,
        TimeFormat::UnixMillis => number_of(value, 3).ok_or_else(|| bad("the milliseconds since 1970"))?,
        TimeFormat::Local { pattern, zone } => {
            let wanted = || format!("local time such as `{pattern}`");
            if !is_text {
                return Err(bad(&wanted()));
            }
            let zone = zone_of(zone.as_ref(), value, meter, entry)?;
            let local = zone.resolve_local_as(&value.unescaped(), pattern).map_err(|_| bad(&wanted()))?;
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
            if !is_text {
                return Err(bad(WANTED));
            }
            let zone = zone_of(zone.as_ref(), value, meter, entry)?;
            let text = value.unescaped();
            let (digits, summer) = match (text.strip_suffix('S'), text.strip_suffix('W')) {
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
    value: Value<'_>,
    meter: &str,
    entry: Option<&'a MeterEntry>,
) -> Result<&'a Zone, Refusal> {
    zone.or(entry.map(|entry| &entry.zone)).ok_or_else(|| {
        let detail = format!(
            "the time is {} without an offset, and the registry does not know the zone of meter `{}`",
            value.described(),
            shortened(meter)
        );
        Refusal::new(DeadReason::BadTime, detail)
    })
}

/// A number, or text that is one, in microseconds after moving the point by `scale`.
fn number_of(value: Value<'_>, scale: u8) -> Option<Timestamp> {
    let number = matches!(value.kind(), Kind::Number | Kind::Text { .. });
    let micros = number.then(|| parse_scaled_rounding(value.raw(), scale).ok()).flatten()?;
    Timestamp::from_micros(micros).ok()
}
