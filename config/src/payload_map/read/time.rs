//! When a reading was taken.

use std::time::Duration;

use meterlake_model::{Timestamp, Zone};

use super::super::{Format, TimeFormat, TimeRule};
use super::path_or_paths;
use crate::document::Section;

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Rfc3339,
    /// Of 10^-n seconds.
    Count(u8),
    Local,
    Dsmr,
    Arrival,
}

const KINDS: &[(&str, Kind)] = &[
    ("rfc3339", Kind::Rfc3339),
    ("unix_s", Kind::Count(0)),
    ("unix_ms", Kind::Count(3)),
    ("unix_us", Kind::Count(6)),
    ("unix_ns", Kind::Count(9)),
    ("local", Kind::Local),
    ("dsmr", Kind::Dsmr),
    ("arrival", Kind::Arrival),
];

pub(super) fn time(root: &mut Section<'_>, has_intervals: bool, format: Option<&Format>) -> Option<TimeRule> {
    let mut section = root.section("time");
    if format == Some(&Format::Protobuf) {
        return schema(root, &mut section);
    }
    let kind = section.choice("format", KINDS);
    let kind = section.required("format", kind);
    let paths = match kind {
        Some(Kind::Arrival) | None if !section.has("path") && !section.has("paths") => Vec::new(),
        _ => path_or_paths(&mut section),
    };
    let joined = section.boolean("joined").unwrap_or(false);
    let or_arrival = section.boolean("or_arrival").unwrap_or(false);
    let live = section.boolean("live").unwrap_or(false);
    if kind == Some(Kind::Arrival) {
        for key in ["path", "paths", "joined", "or_arrival", "live"] {
            if section.has(key) {
                section.refuse(key, "has no meaning with `format = \"arrival\"`");
            }
        }
    }
    let epoch = section.parsed("epoch", |text| {
        Timestamp::parse_rfc3339(text)
            .map_err(|_| format!("is \"{text}\"; a time such as \"2000-01-01T00:00:00Z\" is wanted"))
    });
    let pattern = section.parsed("pattern", |text| match jiff::fmt::strtime::format(text, sample_time()) {
        Ok(_) if text.contains('%') => Ok(text.to_owned()),
        _ => Err(format!("is \"{text}\"; strftime codes such as \"%Y-%m-%dT%H:%M:%S\" are wanted")),
    });
    let zone = section.parsed("zone", |text| match text {
        "registry" => Ok(None),
        name => Zone::parse(name).map(Some).map_err(|error| format!("is no zone: {error}")),
    });
    if kind.is_some_and(|kind| kind != Kind::Local) && section.has("pattern") {
        section.refuse("pattern", "has a meaning only with `format = \"local\"`");
    }
    if kind.is_some_and(|kind| !matches!(kind, Kind::Local | Kind::Dsmr)) && section.has("zone") {
        section.refuse("zone", "has a meaning only with `format = \"local\"` or \"dsmr\"");
    }
    if section.has("epoch") && kind.is_some_and(|kind| !matches!(kind, Kind::Count(_))) {
        section.refuse("epoch", "has a meaning only with a count such as `format = \"unix_s\"`");
    }
    let add_micros = added(&mut section, has_intervals);
    let format = match kind? {
        Kind::Rfc3339 => TimeFormat::Rfc3339,
        Kind::Count(digits) => TimeFormat::Count { digits, epoch: epoch.unwrap_or(Timestamp::EPOCH) },
        Kind::Arrival => TimeFormat::Arrival,
        Kind::Dsmr => TimeFormat::Dsmr { zone: section.required("zone", zone)? },
        Kind::Local => {
            let pattern = section.required("pattern", pattern);
            let zone = section.required("zone", zone);
            TimeFormat::Local { pattern: pattern?, zone: zone? }
        }
    };
    Some(TimeRule { paths, joined, format, add_micros, or_arrival, live })
}

/// The published schema says how times are written; whether they are live, it does not.
fn schema(root: &Section<'_>, section: &mut Section<'_>) -> Option<TimeRule> {
    let live = section.boolean("live").unwrap_or(false);
    if root.has("time") && !section.has("live") {
        root.refuse("time", "has no meaning but for `live` with `format = \"protobuf\"`");
    }
    let format = TimeFormat::Count { digits: 6, epoch: Timestamp::EPOCH };
    Some(TimeRule { paths: Vec::new(), joined: false, format, add_micros: 0, or_arrival: false, live })
}

/// What is added to the time that is written, in microseconds.
fn added(section: &mut Section<'_>, has_intervals: bool) -> i64 {
    let starts = section.choice("stamp", &[("end", false), ("start", true)]).unwrap_or(false);
    let interval = section.duration("interval", Duration::from_secs(1)..=31 * DAY);
    let add = match (starts, interval) {
        (true, None) if !section.has("interval") => {
            section.refuse("interval", "is missing: with `stamp = \"start\"` the interval's length is added");
            Duration::ZERO
        }
        (true, Some(_)) if !has_intervals => {
            section.refuse("stamp", "is \"start\", but no field is the use of an interval");
            Duration::ZERO
        }
        (true, Some(length)) => length,
        _ => Duration::ZERO,
    };
    i64::try_from(add.as_micros()).unwrap_or(0)
}

fn sample_time() -> jiff::civil::DateTime {
    jiff::civil::date(2016, 10, 30).at(2, 15, 0, 0)
}
