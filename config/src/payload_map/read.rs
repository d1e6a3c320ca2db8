//! Reads a map's file and tells everything that is wrong with it.

use std::time::Duration;

use meterlake_model::{Channel, ChannelKind, Commodity, EventKind, Zone};

use super::conversion::{Conversion, Fraction};
use super::path::JsonPath;
use super::topic::TopicPattern;
use super::{
    Condition, ConditionTest, EventRule, EventTest, Field, MeterRule, PayloadMap, TimeFormat, TimeRule, format,
};
use crate::document::{Document, Section};
use crate::problem::Problem;

const COMMODITIES: &[(&str, Commodity)] = &[("electricity", Commodity::Electricity), ("water", Commodity::Water)];
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn read(text: &str, file: &str) -> Result<PayloadMap, Vec<Problem>> {
    let (doc, table) = Document::parse(file, text);
    let map = read_root(&mut Section::root(&doc, &table));
    let problems = doc.into_problems();
    map.filter(|_| problems.is_empty()).ok_or(problems)
}

fn read_root(root: &mut Section<'_>) -> Option<PayloadMap> {
    let name = root.parsed("name", |text| {
        if text.is_empty() || text.len() > 64 || text.contains(char::is_whitespace) {
            Err(format!("is \"{text}\"; 1 to 64 characters without blanks are wanted"))
        } else {
            Ok(text.to_owned())
        }
    });
    let name = root.required("name", name);
    let version = root.integer("version", 1..=1_000_000_u32);
    let version = root.required("version", version);
    let topic = root.parsed("topic", TopicPattern::parse);
    let topic = root.required("topic", topic);
    let (format, compression) = format::read(root);
    let conditions = root.sections("match").iter_mut().filter_map(condition).collect();
    let start = JsonPath { from_root: true, steps: Vec::new() };
    let samples = paths_of(root, "samples").unwrap_or_else(|| vec![start]);
    let commodity = root.choice("commodity", COMMODITIES);
    let meter = meter(root, topic.as_ref());
    let by_name = root.boolean("by_name").unwrap_or(false);
    let fields = fields(root, commodity);
    let time = time(root, by_name || fields.iter().any(|field| field.channel.kind() == ChannelKind::Interval));
    let events: Vec<_> = root.sections("events").iter_mut().filter_map(event).collect();
    let event_list = root.has("event_list").then(|| {
        let mut section = root.section("event_list");
        let path = section.parsed("path", JsonPath::parse);
        section.required("path", path)
    });
    let keep_raw = root.boolean("keep_raw").unwrap_or(false);
    if fields.is_empty() && !by_name && events.is_empty() && event_list.is_none() && !root.has("fields") {
        root.refuse("fields", "is missing: without fields, events or `by_name` the map reads nothing");
    }
    let (name, version) = (name?, version?);
    Some(PayloadMap {
        label: format!("{name}@{version}").into(),
        name,
        version,
        topic: topic?,
        format: format?,
        compression,
        conditions,
        samples,
        meter,
        commodity,
        time: time?,
        fields,
        by_name,
        events,
        event_list: event_list.flatten(),
        keep_raw,
    })
}

/// A list of paths, each with its own complaint.
fn paths_of(section: &mut Section<'_>, key: &'static str) -> Option<Vec<JsonPath>> {
    let texts = section.texts(key)?;
    if texts.is_empty() {
        section.refuse(key, "is empty");
    }
    let mut paths = Vec::new();
    for text in texts {
        match JsonPath::parse(&text.value) {
            Ok(path) => paths.push(path),
            Err(complaint) => section.document().note(text.line, format!("`{key}` {complaint}")),
        }
    }
    Some(paths)
}

/// One `path`, or several `paths` of which the first that is there counts.
fn path_or_paths(section: &mut Section<'_>) -> Vec<JsonPath> {
    let one = section.parsed("path", JsonPath::parse);
    let many = paths_of(section, "paths");
    match (section.has("path"), section.has("paths")) {
        (true, true) => section.refuse("paths", "stands beside `path`; only one of them can be given"),
        (false, false) => section.refuse("path", "is missing"),
        _ => {}
    }
    one.into_iter().chain(many.into_iter().flatten()).collect()
}

fn condition(section: &mut Section<'_>) -> Option<Condition> {
    let path = section.parsed("path", JsonPath::parse);
    let path = section.required("path", path);
    let exists = section.boolean("exists");
    let any = section.texts("any").map(|texts| texts.into_iter().map(|text| text.value).collect::<Vec<_>>());
    let test = match (exists, any) {
        (Some(exists), None) => Some(ConditionTest::Exists(exists)),
        (None, Some(any)) if !any.is_empty() => Some(ConditionTest::AnyOf(any)),
        _ if section.has("any") || section.has("exists") => {
            section.refuse("any", "or `exists`: exactly one of them is wanted, and `any` must not be empty");
            None
        }
        _ => {
            section.refuse("any", "or `exists` is missing");
            None
        }
    };
    Some(Condition { path: path?, test: test? })
}

fn meter(root: &mut Section<'_>, topic: Option<&TopicPattern>) -> MeterRule {
    let mut section = root.section("meter");
    let path = section.parsed("path", JsonPath::parse);
    let topic_may_be = paths_of(&mut section, "topic_may_be").unwrap_or_default();
    let serial = section.parsed("serial", JsonPath::parse);
    let topic_names = topic.is_none_or(TopicPattern::names_meter);
    if !topic_names && !section.has("path") {
        section.refuse("path", "is missing: the topic does not name the meter either");
    }
    if section.has("topic_may_be") && !(topic_names && section.has("path")) {
        section.refuse("topic_may_be", "needs both {meter} in the topic and a `path`");
    }
    MeterRule { path, topic_may_be, serial }
}

fn time(root: &mut Section<'_>, has_intervals: bool) -> Option<TimeRule> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Rfc3339,
        Seconds,
        Millis,
        Local,
        Dsmr,
        Arrival,
    }
    const KINDS: &[(&str, Kind)] = &[
        ("rfc3339", Kind::Rfc3339),
        ("unix_s", Kind::Seconds),
        ("unix_ms", Kind::Millis),
        ("local", Kind::Local),
        ("dsmr", Kind::Dsmr),
        ("arrival", Kind::Arrival),
    ];
    let mut section = root.section("time");
    let kind = section.choice("format", KINDS);
    let kind = section.required("format", kind);
    let paths = match kind {
        Some(Kind::Arrival) | None if !section.has("path") && !section.has("paths") => Vec::new(),
        _ => path_or_paths(&mut section),
    };
    if kind == Some(Kind::Arrival) && !paths.is_empty() {
        section.refuse("path", "has no meaning with `format = \"arrival\"`");
    }
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
    let format = match kind? {
        Kind::Rfc3339 => TimeFormat::Rfc3339,
        Kind::Seconds => TimeFormat::UnixSeconds,
        Kind::Millis => TimeFormat::UnixMillis,
        Kind::Arrival => TimeFormat::Arrival,
        Kind::Dsmr => TimeFormat::Dsmr { zone: section.required("zone", zone)? },
        Kind::Local => {
            let pattern = section.required("pattern", pattern);
            let zone = section.required("zone", zone);
            TimeFormat::Local { pattern: pattern?, zone: zone? }
        }
    };
    Some(TimeRule { paths, format, add_micros: i64::try_from(add.as_micros()).unwrap_or(0) })
}

fn sample_time() -> jiff::civil::DateTime {
    jiff::civil::date(2016, 10, 30).at(2, 15, 0, 0)
}

fn fields(root: &mut Section<'_>, commodity: Option<Commodity>) -> Vec<Field> {
    let mut section = root.section("fields");
    let mut fields = Vec::new();
    for channel in Channel::all() {
        let mut one = section.section(channel.name());
        if !section.has(channel.name()) {
            continue;
        }
        if commodity.is_some_and(|commodity| commodity != channel.commodity()) {
            section
                .refuse(channel.name(), format!("is a column of {}, not of the map's commodity", channel.commodity()));
        }
        fields.extend(field(&mut one, channel));
    }
    fields
}

fn field(section: &mut Section<'_>, channel: Channel) -> Option<Field> {
    let paths = path_or_paths(section);
    let unit = section.text("unit");
    let factor = section.parsed("factor", fraction);
    let resolution = section.parsed("resolution", fraction);
    let text = section.boolean("text").unwrap_or(false);
    let optional = section.boolean("optional").unwrap_or(false);
    let scalar_only = section.boolean("scalar_only").unwrap_or(false);
    let conversion = Conversion::new(channel, unit.as_deref(), factor, resolution)
        .map_err(|(key, complaint)| section.refuse(key, complaint))
        .ok()?;
    Some(Field { channel, paths, conversion, text, optional, scalar_only })
}

/// A positive decimal constant, in quotes so that it never was a float.
fn fraction(text: &str) -> Result<Fraction, String> {
    const DECIMALS: u8 = 9;
    match meterlake_model::parse_scaled(text, DECIMALS) {
        Ok(over) if over > 0 => Ok(Fraction { over, under: 10_i64.pow(u32::from(DECIMALS)) }),
        _ => Err(format!("is \"{text}\"; a positive number of at most {DECIMALS} decimals is wanted")),
    }
}

fn event(section: &mut Section<'_>) -> Option<EventRule> {
    let paths = path_or_paths(section);
    let kind = section.parsed("kind", |text| {
        EventKind::parse(text).ok_or_else(|| format!("is \"{text}\"; it is no event such as \"leak\" or \"tamper\""))
    });
    let kind = section.required("kind", kind);
    let word = section.parsed("word", |text| {
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(format!("is \"{text}\"; one word without blanks is wanted"));
        }
        Ok(EventTest::Word(text.to_owned()))
    });
    let equals = section.text("equals").map(EventTest::Equals);
    let bit = section.integer("bit", 0..=62_u8).map(EventTest::Bit);
    let flag = section.boolean("flag").map(|_| EventTest::Flag);
    let mut tests: Vec<_> = [word, equals, bit, flag].into_iter().flatten().collect();
    if tests.len() != 1 && ["word", "equals", "bit", "flag"].iter().filter(|key| section.has(key)).count() != 1 {
        section.refuse("path", "needs exactly one of `word`, `equals`, `bit`, `flag`");
    }
    Some(EventRule { paths, test: tests.pop()?, kind: kind? })
}
