//! How each recorded set writes a reading, and what its registry says.

use std::io::Write;

use meterlake_model::{Amount, Channel, CivilDay, MeterId, Timestamp, Zone, parse_scaled};

use super::Dataset;
use crate::error::SimError;
use crate::json;

/// Year of the ISO weeks of the Swiss set, which states none. Its weeks 44 to 50 lie behind the change of the clock.
const SWISS_YEAR: i16 = 2015;
/// First day of the Perth set, which states none.
const PERTH_START: (i16, i8, i8) = (2014, 1, 1);
/// Seconds of a Swiss slot.
const SLOT_S: i64 = 900;
/// Slots of a week.
const SLOTS: i64 = 7 * 96;

/// One reading of a file.
#[derive(Debug)]
pub(super) struct Record<'l> {
    /// The meter as the file names it.
    pub(super) meter: &'l str,
    /// The time under which it is stored: of interval use the end, of an ambiguous local time the earlier instant.
    pub(super) ts: Timestamp,
    /// In units of 10^-scale of the channel.
    pub(super) value: i64,
    /// ISO week, where the file has weeks.
    pub(super) week: Option<u8>,
    /// Whether the file's authors say that it leaked.
    pub(super) leak: bool,
}

/// A set's form.
#[derive(Debug)]
pub(super) struct Format {
    dataset: Dataset,
    zone: Zone,
    channel: Channel,
    prefix: &'static str,
    resolution: Amount,
    /// First instant of ISO week 1, or of the first day.
    start: Timestamp,
    start_day: CivilDay,
}

impl Format {
    pub(super) fn of(dataset: Dataset) -> Result<Self, SimError> {
        let (zone, channel, prefix, micros) = match dataset {
            Dataset::Daiad => ("Europe/Madrid", "volume_m3", "", 1000),
            Dataset::Swiss => ("Europe/Zurich", "energy_import_delta_kwh", "swiss-", 1),
            Dataset::Perth => ("Australia/Perth", "volume_delta_m3", "perth-", 1000),
        };
        let zone = Zone::parse(zone)?;
        let start_day = match dataset {
            Dataset::Swiss => {
                // ISO week 1 is the one with 4 January.
                let fourth = CivilDay::new(SWISS_YEAR, 1, 4)?;
                fourth.plus_days(-i32::from(fourth.weekday()))
            }
            Dataset::Daiad | Dataset::Perth => CivilDay::new(PERTH_START.0, PERTH_START.1, PERTH_START.2)?,
        };
        let channel = Channel::by_name(channel).ok_or_else(|| SimError::Plan(format!("no channel {channel}")))?;
        let resolution = Amount::from_micros(micros).unwrap_or_default();
        Ok(Self { dataset, start: zone.start_of_day(start_day), start_day, zone, channel, prefix, resolution })
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel
    }

    pub(super) fn resolution(&self) -> Amount {
        self.resolution
    }

    pub(super) fn interval_s(&self) -> i64 {
        match self.dataset {
            Dataset::Daiad | Dataset::Perth => 3600,
            Dataset::Swiss => SLOT_S,
        }
    }

    /// Q4 of a home's meter of 2.5 m³/h, which the Spanish file does not state and the largest true hour stays well below.
    /// The others are use as it was recorded.
    pub(super) fn capacity_per_hour(&self) -> Option<Amount> {
        match self.dataset {
            Dataset::Daiad => Amount::from_micros(3_125_000),
            Dataset::Swiss | Dataset::Perth => None,
        }
    }

    pub(super) fn meter_id(&self, record: &Record<'_>) -> Result<MeterId, String> {
        MeterId::new(&format!("{}{}", self.prefix, record.meter)).map_err(|e| e.to_string())
    }

    pub(super) fn is_meter(&self, meter_id: &MeterId, record: &Record<'_>) -> bool {
        meter_id.as_str().strip_prefix(self.prefix) == Some(record.meter)
    }

    /// Reads a line and writes its reading as JSON.
    pub(super) fn read<'l>(&self, line: &'l str, json: &mut Vec<u8>) -> Result<Record<'l>, String> {
        match self.dataset {
            Dataset::Daiad => self.daiad(line, json),
            Dataset::Swiss => self.swiss(line, json),
            Dataset::Perth => self.perth(line, json),
        }
    }

    /// `user key;datetime;meter reading;diff`
    fn daiad<'l>(&self, line: &'l str, json: &mut Vec<u8>) -> Result<Record<'l>, String> {
        let [meter, local, litres, _] = fields(line, ';')?;
        let resolved = self.zone.resolve_local_as(local, "%d/%m/%Y %H:%M:%S").map_err(|e| e.to_string())?;
        // Litres are thousandths of the column's unit.
        let value = number(litres, 0)?;
        let _ = write!(json, "{{\"datetime\":\"{local}\",\"litres\":{litres}}}");
        Ok(Record { meter, ts: resolved.earlier(), value, week: None, leak: false })
    }

    /// `household,iso_week,slot,kwh`
    fn swiss<'l>(&self, line: &'l str, json: &mut Vec<u8>) -> Result<Record<'l>, String> {
        let [meter, week, slot, kwh] = fields(line, ',')?;
        let week_number: u8 = week.parse().map_err(|_| format!("`{week}` is no ISO week"))?;
        let slot_number: i64 = slot.parse().map_err(|_| format!("`{slot}` is no slot"))?;
        if !(1..=53).contains(&week_number) || !(1..=SLOTS).contains(&slot_number) {
            return Err(format!("there is no slot {slot} of week {week}"));
        }
        let monday = self.start_day.plus_days(7 * (i32::from(week_number) - 1));
        let ts = self.zone.start_of_day(monday).plus_seconds(slot_number * SLOT_S);
        let value = number(kwh, self.channel.scale())?;
        self.own_json(json, ts, kwh.as_bytes());
        Ok(Record { meter, ts, value, week: Some(week_number), leak: false })
    }

    /// `household,hour,litres,leak`
    fn perth<'l>(&self, line: &'l str, json: &mut Vec<u8>) -> Result<Record<'l>, String> {
        let [meter, hour, litres, leak] = fields(line, ',')?;
        let hour: u32 = hour.parse().map_err(|_| format!("`{hour}` is no hour"))?;
        // Western Australia keeps one offset: hours since the first midnight are hours of the clock.
        let ts = self.start.plus_seconds((i64::from(hour) + 1) * 3600);
        let whole = number(litres, 0)?;
        let value = whole.checked_mul(1000).ok_or_else(|| format!("`{litres}` litres are too many"))?;
        let mut cubic_metres = Vec::new();
        json::scaled(&mut cubic_metres, whole, 3);
        self.own_json(json, ts, &cubic_metres);
        Ok(Record { meter, ts, value, week: None, leak: leak == "1" })
    }

    /// A reading in our own form, its value as text.
    fn own_json(&self, json: &mut Vec<u8>, ts: Timestamp, value: &[u8]) {
        json.extend_from_slice(b"{\"ts\":\"");
        json::utc(json, ts);
        json.extend_from_slice(b"\",\"");
        json.extend_from_slice(self.channel.name().as_bytes());
        json.extend_from_slice(b"\":");
        json.extend_from_slice(value);
        json.push(b'}');
    }
}

fn fields(line: &str, separator: char) -> Result<[&str; 4], String> {
    let mut parts = line.split(separator);
    let mut next = || parts.next().ok_or_else(|| format!("`{line}` has fewer than 4 fields"));
    let fields = [next()?, next()?, next()?, next()?];
    if parts.next().is_some() {
        return Err(format!("`{line}` has more than 4 fields"));
    }
    Ok(fields)
}

fn number(text: &str, scale: u8) -> Result<i64, String> {
    parse_scaled(text, scale).map_err(|e| format!("`{text}`: {e}"))
}
