//! The devices of a listener as a table: a thousand device servers are a thousand rows.

use std::collections::BTreeMap;
use std::time::Duration;

use csv::{ReaderBuilder, StringRecord, Trim};
use meterlake_model::MeterId;

use super::stagger::Stagger;
use super::{INTERVAL, INTERVALS, Known, ModbusDevice, ModbusLink, PROFILES, plain_name};
use crate::device_profile::DeviceProfile;
use crate::document::Section;
use crate::problem::Problem;
use crate::quantity::{duration_text, parse_duration};
use crate::settings::{Surroundings, named_by};
use crate::spelling::near_miss;

const COLUMNS: [&str; 6] = ["link", "unit", "meter_id", "profile", "interval", "offset"];
const REQUIRED: usize = 4;
/// A file of wrong rows is mended by its first ones.
const MOST_PROBLEMS: usize = 100;

/// Reads the file that the key `devices` names: by link, in the order of their ids, its devices. `links` are those that
/// the section names itself. What is wrong is noted with file and line.
pub(super) fn read(
    s: &mut Section<'_>,
    stagger: Stagger,
    links: &[ModbusLink],
    around: &Surroundings<'_>,
    known: &mut Known,
) -> BTreeMap<String, Vec<ModbusDevice>> {
    let Some(name) = s.text("devices") else { return BTreeMap::new() };
    let path = around.path(&name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            s.refuse("devices", format_args!(": {} cannot be read: {error}", path.display()));
            return BTreeMap::new();
        }
    };
    let file = path.display().to_string();
    let mut rows = Rows { file: &file, stagger, links, around, known, problems: Vec::new(), devices: BTreeMap::new() };
    rows.read(&text);
    let Rows { mut problems, devices, .. } = rows;
    if problems.len() > MOST_PROBLEMS {
        let more = problems.len() - MOST_PROBLEMS;
        problems.truncate(MOST_PROBLEMS);
        problems.push(Problem::of_file(&*file, format!("and {more} more problems")));
    }
    s.document().note_all(problems);
    devices
}

struct Rows<'r> {
    file: &'r str,
    stagger: Stagger,
    links: &'r [ModbusLink],
    around: &'r Surroundings<'r>,
    known: &'r mut Known,
    problems: Vec<Problem>,
    devices: BTreeMap<String, Vec<ModbusDevice>>,
}

impl Rows<'_> {
    fn note(&mut self, line: usize, message: impl Into<String>) {
        self.problems.push(Problem::at(self.file, line, message));
    }

    fn read(&mut self, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader =
            ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(text.as_bytes());
        let mut records = reader.records();
        let Some(Ok(header)) = records.next() else {
            return self.note(1, format!("has no header; {} are wanted", COLUMNS.join(",")));
        };
        let Some(places) = self.places(&header) else { return };
        for record in records {
            match record {
                Ok(record) => {
                    let line = record.position().map_or(0, |at| usize::try_from(at.line()).unwrap_or(usize::MAX));
                    if record.len() == header.len() {
                        self.row(&record, &places, line);
                    } else {
                        self.note(line, format!("has {} cells, the header {}", record.len(), header.len()));
                    }
                }
                Err(error) => {
                    let line = error.position().map_or(0, |at| usize::try_from(at.line()).unwrap_or(usize::MAX));
                    self.note(line, format!("is no row: {error}"));
                }
            }
        }
        if self.devices.is_empty() && self.problems.is_empty() {
            self.note(1, "has no rows");
        }
    }

    /// Where each column stands in a row.
    fn places(&mut self, header: &StringRecord) -> Option<[Option<usize>; COLUMNS.len()]> {
        let before = self.problems.len();
        for (at, name) in header.iter().enumerate() {
            if !COLUMNS.contains(&name) {
                let hint = match near_miss(name, &COLUMNS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", COLUMNS.join(", ")),
                };
                self.note(1, format!("unknown column `{name}`; {hint}"));
            } else if header.iter().take(at).any(|other| other == name) {
                self.note(1, format!("column `{name}` is given twice"));
            }
        }
        let places = COLUMNS.map(|column| header.iter().position(|name| name == column));
        for (column, place) in COLUMNS.iter().zip(&places).take(REQUIRED) {
            if place.is_none() {
                self.note(1, format!("column `{column}` is missing"));
            }
        }
        (self.problems.len() == before).then_some(places)
    }

    fn row(&mut self, record: &StringRecord, places: &[Option<usize>; COLUMNS.len()], line: usize) {
        let [link, unit, meter, profile, interval, offset] =
            places.map(|place| place.and_then(|place| record.get(place)).unwrap_or_default());
        let link = self.keep(line, plain_name(link).map_err(|complaint| format!("`link` {complaint}")));
        let number = unit.parse::<u8>().map_err(|_| format!("`unit` is \"{unit}\"; 0 to 255 is allowed"));
        let unit = self.keep(line, number);
        let meter_id = self.keep(line, MeterId::new(meter).map_err(|error| format!("`meter_id` is wrong: {error}")));
        let profile = self.profile(profile, line);
        let interval = self.keep(line, span("interval", interval, INTERVALS, INTERVAL));
        let offsets = Duration::ZERO..=*INTERVALS.end();
        let offset = self.keep(line, span("offset", offset, offsets, Duration::ZERO));
        let (Some(link), Some(unit), Some(meter_id), Some(profile)) = (link, unit, meter_id, profile) else { return };
        let (Some(interval), Some(offset)) = (interval, offset) else { return };
        if offset >= interval {
            self.note(line, "`offset` is not below the interval");
        }
        if self.links.iter().any(|other| other.id == link) {
            self.note(line, format!("`link` `{link}` has its devices under [[modbus_listen.link]]"));
        }
        if self.devices.get(&link).is_some_and(|devices| devices.iter().any(|device| device.unit == unit)) {
            self.note(line, format!("`unit` {unit} is given to two devices of `{link}`"));
        }
        let added = self.known.add_meter(&meter_id, format!("{}:{line}", self.file));
        self.keep(line, added.map_err(|complaint| format!("`meter_id` {complaint}")));
        let offset = self.stagger.shift(&meter_id, interval, offset);
        self.devices.entry(link).or_default().push(ModbusDevice { unit, meter_id, profile, interval, offset });
    }

    fn keep<T>(&mut self, line: usize, read: Result<T, String>) -> Option<T> {
        read.map_err(|complaint| self.note(line, complaint)).ok()
    }

    fn profile(&mut self, name: &str, line: usize) -> Option<DeviceProfile> {
        if let Some(profile) = self.known.profiles.get(name) {
            return Some(profile.clone());
        }
        if name.is_empty() {
            self.note(line, "`profile` is empty");
            return None;
        }
        let profile = match named_by("profile", name, self.around, &PROFILES) {
            Ok(profile) => profile,
            Err(super::super::Unusable::Name(complaint)) => {
                self.note(line, complaint);
                return None;
            }
            Err(super::super::Unusable::File(problems)) => {
                self.problems.extend(problems);
                return None;
            }
        };
        self.known.profiles.insert(name.to_owned(), profile.clone());
        Some(profile)
    }
}

fn span(
    column: &str,
    text: &str,
    range: std::ops::RangeInclusive<Duration>,
    default: Duration,
) -> Result<Duration, String> {
    if text.is_empty() {
        return Ok(default);
    }
    parse_duration(text).filter(|span| range.contains(span)).ok_or_else(|| {
        let (least, most) = (duration_text(*range.start()), duration_text(*range.end()));
        format!("`{column}` is \"{text}\"; a duration from \"{least}\" to \"{most}\" is wanted")
    })
}
