//! Reads a map's file and tells everything that is wrong with it.

mod event;
mod field;
mod meter;
mod time;

use meterlake_model::{ChannelKind, Commodity};

use super::path::{Start, ValuePath};
use super::topic::TopicPattern;
use super::{Condition, ConditionTest, Format, PayloadMap, Piece, Shape, Source, format};
use crate::document::{Document, Section};
use crate::problem::Problem;

const COMMODITIES: &[(&str, Commodity)] = &[("electricity", Commodity::Electricity), ("water", Commodity::Water)];

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
    let ignore = root.sections("ignore").iter_mut().filter_map(condition).collect();
    let samples = paths_by(root, "samples", ValuePath::parse_many).unwrap_or_else(|| vec![ValuePath::message()]);
    let shape = shape(root);
    // An edge node sends what changed, and a telegram holds meters that nobody asked for.
    let sends_others = matches!(format, Some(Format::SparkplugB | Format::DsmrP1(_)));
    let may_be_empty = root.boolean("may_be_empty").unwrap_or(sends_others);
    let commodity = root.choice("commodity", COMMODITIES);
    let meter = meter::meter(root, topic.as_ref(), format.as_ref());
    let receipt = meter::receipt(root);
    let by_name = root.boolean("by_name").unwrap_or(false);
    let fields = field::fields(root, commodity, format.as_ref());
    let has_intervals = by_name || fields.iter().any(|field| field.channel.kind() == ChannelKind::Interval);
    let time = time::time(root, has_intervals, format.as_ref());
    let events: Vec<_> = root.sections("events").iter_mut().filter_map(event::event).collect();
    let event_list = root.has("event_list").then(|| {
        let mut section = root.section("event_list");
        let path = section.parsed("path", ValuePath::parse);
        section.required("path", path)
    });
    let keep_raw = root.boolean("keep_raw").unwrap_or(false);
    if format == Some(Format::Protobuf) {
        for key in
            ["samples", "columns", "columns_path", "parallel", "by_name", "fields", "events", "event_list", "match"]
        {
            if root.has(key) {
                root.refuse(key, "has no meaning with `format = \"protobuf\"`: the schema says what stands where");
            }
        }
    } else if fields.is_empty() && !by_name && events.is_empty() && event_list.is_none() && !root.has("fields") {
        root.refuse("fields", "is missing: without fields, events or `by_name` the map reads nothing");
    }
    let (name, version) = (name?, version?);
    let map = PayloadMap {
        label: format!("{name}@{version}").into(),
        name,
        version,
        topic: topic?,
        format: format?,
        compression,
        conditions,
        ignore,
        may_be_empty,
        samples,
        shape,
        meter,
        commodity,
        time: time?,
        fields,
        by_name,
        events,
        event_list: event_list.flatten(),
        receipt: receipt.flatten(),
        keep_raw,
    };
    check_names(root, &map);
    Some(map)
}

/// Every part of the topic that a path names is one that the topic has.
fn check_names(root: &Section<'_>, map: &PayloadMap) {
    let mut unknown = Vec::new();
    let pieces = map.meter.template.iter().filter_map(|piece| match piece {
        Piece::Topic(name) => Some(name),
        Piece::Text(_) => None,
    });
    let paths = every_path(map).into_iter().filter_map(|path| match &path.start {
        Start::Topic(name) => Some(name),
        _ => None,
    });
    for name in paths.chain(pieces) {
        if !map.topic.has(name) && !unknown.contains(&name) {
            root.refuse("topic", format_args!("has no level {{{name}}}, which a path of the map names"));
            unknown.push(name);
        }
    }
}

/// The paths of a map, wherever they stand.
fn every_path(map: &PayloadMap) -> Vec<&ValuePath> {
    let mut paths: Vec<&ValuePath> = Vec::new();
    let meter = &map.meter;
    paths.extend([&meter.path, &meter.serial, &meter.gateway, &map.event_list].into_iter().flatten());
    paths.extend(meter.topic_may_be.iter().chain(&map.time.paths).chain(&map.samples));
    paths.extend(map.receipt.iter().flat_map(|receipt| [&receipt.gateway, &receipt.sequence]));
    for field in &map.fields {
        match &field.source {
            Source::First(some) | Source::Sum(some) => paths.extend(some),
            Source::Constant(_) => {}
        }
        paths.extend(field.unit.iter().map(|unit| &unit.path));
    }
    paths.extend(map.events.iter().flat_map(|event| &event.paths));
    let conditions = map.conditions.iter().chain(&map.ignore);
    let of_fields = map.fields.iter().flat_map(|field| &field.when);
    let of_events = map.events.iter().flat_map(|event| &event.when);
    paths.extend(conditions.chain(of_fields).chain(of_events).flat_map(|condition| &condition.paths));
    paths
}

fn shape(root: &mut Section<'_>) -> Shape {
    let columns = root.texts("columns").map(|texts| texts.into_iter().map(|text| text.value).collect::<Vec<_>>());
    let columns_path = root.parsed("columns_path", ValuePath::parse);
    let parallel = root.boolean("parallel").unwrap_or(false);
    let given: Vec<_> = ["columns", "columns_path", "parallel"].into_iter().filter(|key| root.has(key)).collect();
    if let [first, second, ..] = given[..] {
        root.refuse(second, format_args!("stands beside `{first}`; only one of them can be given"));
    }
    match (columns, columns_path) {
        (Some(columns), _) => Shape::Columns(columns),
        (None, Some(path)) => Shape::ColumnsAt(path),
        (None, None) if parallel => Shape::Parallel,
        (None, None) => Shape::Plain,
    }
}

/// A list of paths, each with its own complaint.
fn paths_of(section: &mut Section<'_>, key: &'static str) -> Option<Vec<ValuePath>> {
    paths_by(section, key, ValuePath::parse)
}

fn paths_by(
    section: &mut Section<'_>,
    key: &'static str,
    read: impl Fn(&str) -> Result<ValuePath, String>,
) -> Option<Vec<ValuePath>> {
    let texts = section.texts(key)?;
    if texts.is_empty() {
        section.refuse(key, "is empty");
    }
    let mut paths = Vec::new();
    for text in texts {
        match read(&text.value) {
            Ok(path) => paths.push(path),
            Err(complaint) => section.document().note(text.line, format!("`{key}` {complaint}")),
        }
    }
    Some(paths)
}

/// One `path`, or several `paths` of which the first that is there counts.
fn path_or_paths(section: &mut Section<'_>) -> Vec<ValuePath> {
    let one = section.parsed("path", ValuePath::parse);
    let many = paths_of(section, "paths");
    match (section.has("path"), section.has("paths")) {
        (true, true) => section.refuse("paths", "stands beside `path`; only one of them can be given"),
        (false, false) => section.refuse("path", "is missing"),
        _ => {}
    }
    one.into_iter().chain(many.into_iter().flatten()).collect()
}

fn condition(section: &mut Section<'_>) -> Option<Condition> {
    let paths = path_or_paths(section);
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
    Some(Condition { paths, test: test? })
}

/// Short conditions beside a field or an event: `"{phase}=0|1"`, `"power"` where it must be there, `"!battery"` where not.
fn when(section: &mut Section<'_>) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for text in section.texts("when").into_iter().flatten() {
        match short_condition(&text.value) {
            Ok(condition) => conditions.push(condition),
            Err(complaint) => section.document().note(text.line, format!("`when` {complaint}")),
        }
    }
    conditions
}

fn short_condition(text: &str) -> Result<Condition, String> {
    // A path may hold `=` between brackets only.
    let plain_from = text.rfind(']').unwrap_or(0);
    let (path, test) = match text[plain_from..].split_once('=') {
        Some((before, wanted)) => {
            let path = &text[..plain_from + before.len()];
            (path, ConditionTest::AnyOf(wanted.split('|').map(str::to_owned).collect()))
        }
        None => match text.strip_prefix('!') {
            Some(path) => (path, ConditionTest::Exists(false)),
            None => (text, ConditionTest::Exists(true)),
        },
    };
    Ok(Condition { paths: vec![ValuePath::parse(path)?], test })
}
