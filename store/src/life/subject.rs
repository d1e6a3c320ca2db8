//! Somebody or something, and its rows in every table: by the columns that name it, and by its words in free texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use meterlake_model::{CivilDay, Zone};

use super::sift::all_rows;
use super::words::Words;
use crate::error::StoreError;
use crate::lake::Lake;
use crate::registry::registry_tables;
use crate::table::DataFile;

/// Columns that people or devices fill with whatever they like.
const FREE_TEXTS: [&str; 8] = ["topic", "payload", "detail", "evidence", "summary", "note", "parts", "reason_subject"];
/// A serial number that is shorter may be anything.
const SURE_SERIAL: usize = 8;

/// What can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    /// One meter, and what was derived from it.
    Meter,
    /// One place of supply, with all that its meters said.
    UsagePoint,
    /// One customer, with all places that nobody else was ever billed for.
    Customer,
}

impl SubjectKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Meter, Self::UsagePoint, Self::Customer];

    /// The name in tables and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meter => "meter",
            Self::UsagePoint => "usage_point",
            Self::Customer => "customer",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

impl fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// From and to in microseconds, half-open; open ends reach everything.
type Span = (i64, i64);
const EVER: Span = (i64::MIN, i64::MAX);

/// A meter, a usage point or a customer with everything that the registry, in all of its revisions, says belongs to it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What it is.
    pub kind: SubjectKind,
    /// Its id.
    pub id: String,
    /// Meters whose rows are its own.
    pub meters: BTreeSet<String>,
    /// Places that were others' too: their data stay.
    pub shared_points: BTreeSet<String>,
    /// Places, with the times for which what was derived of them is its own.
    points: BTreeMap<String, Vec<Span>>,
    /// Sources and beginnings of topics of its messages, where they do not name it.
    addresses: Vec<(String, String)>,
    /// Words in free texts.
    texts: Words,
    /// Words that must be nowhere once it is erased.
    names: Words,
    /// Whether any table of the registry names it.
    pub registered: bool,
}

/// One row of the registry's tables, as far as subjects need it.
#[derive(Default)]
struct Known {
    /// Point, customer.
    customers_of: BTreeMap<String, BTreeSet<String>>,
    /// Meter, point, span.
    installed: BTreeSet<(String, String, Span)>,
    serials: BTreeMap<String, BTreeSet<String>>,
    customer_names: BTreeMap<String, BTreeSet<String>>,
    meters: BTreeSet<String>,
}

impl Known {
    async fn read(lake: &Lake) -> Result<Self, StoreError> {
        let mut known = Self::default();
        each(lake, "usage_points", &["usage_point_id", "customer_id"], |row| {
            let customers = known.customers_of.entry(row[0].clone().unwrap_or_default()).or_default();
            customers.extend(row[1].clone());
        })
        .await?;
        each(lake, "customers", &["customer_id", "name"], |row| {
            known.customer_names.entry(row[0].clone().unwrap_or_default()).or_default().extend(row[1].clone());
        })
        .await?;
        each(lake, "meters", &["meter_id", "serial"], |row| {
            let meter = row[0].clone().unwrap_or_default();
            known.serials.entry(meter.clone()).or_default().extend(row[1].clone());
            known.meters.insert(meter);
        })
        .await?;
        for batch in all_rows(lake, "installations").await? {
            let (meters, points) = (texts(&batch, "meter_id"), texts(&batch, "usage_point_id"));
            let instant = |name: &str, row: usize| {
                let column = batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()?;
                column.is_valid(row).then(|| column.value(row))
            };
            for row in 0..batch.num_rows() {
                let (Some(meters), Some(points)) = (meters, points) else { continue };
                let span =
                    (instant("installed_at", row).unwrap_or(EVER.0), instant("removed_at", row).unwrap_or(EVER.1));
                known.installed.insert((meters.value(row).to_owned(), points.value(row).to_owned(), span));
            }
        }
        Ok(known)
    }
}

/// Calls with the texts of some columns of every row of a table.
async fn each(
    lake: &Lake,
    table: &str,
    columns: &[&str],
    mut take: impl FnMut(Vec<Option<String>>),
) -> Result<(), StoreError> {
    for batch in all_rows(lake, table).await? {
        let columns: Vec<_> = columns.iter().map(|name| texts(&batch, name)).collect();
        for row in 0..batch.num_rows() {
            take(columns.iter().map(|column| cell(*column, row).map(str::to_owned)).collect());
        }
    }
    Ok(())
}

fn cell(column: Option<&StringArray>, row: usize) -> Option<&str> {
    column.filter(|c| c.is_valid(row)).map(|c| c.value(row))
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StringArray> {
    batch.column_by_name(name)?.as_string_opt::<i32>()
}

impl Lake {
    /// Gathers what belongs to a subject, by all revisions of the registry.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn subject(&self, kind: SubjectKind, id: &str) -> Result<Subject, StoreError> {
        Ok(Subject::of(&Known::read(self).await?, kind, id))
    }

    /// As [`Self::subject`], of many at once, in their order.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn subjects(&self, asked: &[(SubjectKind, String)]) -> Result<Vec<Subject>, StoreError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let known = Known::read(self).await?;
        Ok(asked.iter().map(|(kind, id)| Subject::of(&known, *kind, id)).collect())
    }
}

impl Subject {
    fn of(known: &Known, kind: SubjectKind, id: &str) -> Self {
        let mut subject = Self {
            kind,
            id: id.to_owned(),
            meters: BTreeSet::new(),
            shared_points: BTreeSet::new(),
            points: BTreeMap::new(),
            addresses: Vec::new(),
            texts: Words::default(),
            names: Words::default(),
            registered: false,
        };
        let mut names = vec![id.to_owned()];
        match kind {
            SubjectKind::Meter => {
                subject.meters.insert(id.to_owned());
                let serials = known.serials.get(id).into_iter().flatten();
                names.extend(serials.filter(|s| s.len() >= SURE_SERIAL).cloned());
                for (_, point, span) in known.installed.iter().filter(|(meter, ..)| meter == id) {
                    subject.points.entry(point.clone()).or_default().push(*span);
                }
                subject.registered = known.meters.contains(id);
            }
            SubjectKind::UsagePoint => {
                subject.points.insert(id.to_owned(), vec![EVER]);
                subject.registered = known.customers_of.contains_key(id);
            }
            SubjectKind::Customer => {
                names.extend(known.customer_names.get(id).into_iter().flatten().cloned());
                for (point, customers) in known.customers_of.iter().filter(|(_, c)| c.contains(id)) {
                    if customers.len() > 1 {
                        subject.shared_points.insert(point.clone());
                    } else {
                        subject.points.insert(point.clone(), vec![EVER]);
                    }
                }
                subject.registered = known.customer_names.contains_key(id) || !subject.points.is_empty();
            }
        }
        if kind != SubjectKind::Meter {
            let here = |point: &String| subject.points.contains_key(point);
            let (own, others): (Vec<_>, Vec<_>) = known.installed.iter().partition(|(_, point, _)| here(point));
            let elsewhere: BTreeSet<&String> = others.iter().map(|(meter, ..)| meter).collect();
            let own = own.iter().map(|(meter, ..)| meter).filter(|meter| !elsewhere.contains(meter));
            subject.meters = own.cloned().collect();
        }
        subject.names = Words::new(&names);
        let data = subject.meters.iter().chain(subject.points.keys().filter(|_| kind != SubjectKind::Meter));
        subject.texts = Words::new(names.iter().chain(data));
        subject
    }

    /// What must be nowhere once it is erased.
    pub fn names(&self) -> &Words {
        &self.names
    }

    /// Its messages are those of a source whose topic begins so: a device on a line is named by its address.
    #[must_use]
    pub fn reached_at(mut self, source: impl Into<String>, topic: impl Into<String>) -> Self {
        self.addresses.push((source.into(), topic.into()));
        self
    }

    /// Places whose derived rows are its own.
    pub fn points(&self) -> impl Iterator<Item = &str> {
        self.points.keys().map(String::as_str)
    }

    /// Whether it and another have rows in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let points = |s: &Self| s.points.keys().chain(&s.shared_points).cloned().collect::<BTreeSet<_>>();
        (self.kind == other.kind && self.id == other.id)
            || !self.meters.is_disjoint(&other.meters)
            || !points(self).is_disjoint(&points(other))
    }

    /// Whether a file can hold rows of it, by its statistics.
    pub(crate) fn may_be_in(&self, file: &DataFile) -> bool {
        let free = FREE_TEXTS.iter().any(|name| file.columns.contains_key(*name));
        if free || file.columns.contains_key("usage_point_id") || file.columns.contains_key("customer_id") {
            return true;
        }
        let text = |bound: Option<&ScalarValue>| match bound {
            Some(ScalarValue::Utf8(Some(text))) => Some(text.clone()),
            _ => None,
        };
        match (text(file.min("meter_id")), text(file.max("meter_id"))) {
            (Some(low), Some(high)) => self.meters.range(low..=high).next().is_some(),
            _ => true,
        }
    }

    /// Whether each row is the subject's.
    pub(crate) fn rows(&self, table: &str, batch: &RecordBatch, file: &DataFile) -> BooleanArray {
        let registry = registry_tables().iter().any(|spec| spec.name == table);
        let meter = texts(batch, "meter_id");
        let point = texts(batch, "usage_point_id");
        let customer = texts(batch, "customer_id");
        let (source, topic) = (texts(batch, "source"), texts(batch, "topic"));
        let month = file.partition_value("month").and_then(month_span);
        let free: Vec<_> = FREE_TEXTS.iter().filter_map(|name| batch.column_by_name(name)).collect();
        let row = |row: usize| {
            if registry {
                return self.is_registry_row(table, cell(meter, row), cell(customer, row));
            }
            if cell(meter, row).is_some_and(|id| self.meters.contains(id)) {
                return true;
            }
            if self.kind == SubjectKind::Customer && cell(customer, row).is_some_and(|c| c == self.id) {
                return true;
            }
            // Of a meter's places only what names no meter: another meter's rows name that one.
            if (self.kind != SubjectKind::Meter || meter.is_none())
                && let Some(spans) = cell(point, row).and_then(|p| self.points.get(p))
                && spans.iter().any(|span| month.is_none_or(|m| span.0 < m.1 && m.0 < span.1))
            {
                return true;
            }
            let address = cell(source, row).zip(cell(topic, row));
            address.is_some_and(|(s, t)| self.addresses.iter().any(|a| a.0 == s && t.starts_with(&a.1)))
                || free.iter().any(|column| self.is_told_in(column.as_ref(), row))
        };
        (0..batch.num_rows()).map(|r| Some(row(r))).collect()
    }

    /// A customer's places stay, without the customer; a meter's own rows and installations go.
    fn is_registry_row(&self, table: &str, meter: Option<&str>, customer: Option<&str>) -> bool {
        match self.kind {
            SubjectKind::Meter => meter.is_some_and(|m| m == self.id),
            SubjectKind::Customer => table == "customers" && customer.is_some_and(|c| c == self.id),
            SubjectKind::UsagePoint => false,
        }
    }

    fn is_told_in(&self, column: &dyn Array, row: usize) -> bool {
        if column.is_null(row) {
            return false;
        }
        match column.data_type() {
            DataType::Utf8 => self.texts.are_in(column.as_string::<i32>().value(row).as_bytes()),
            DataType::Binary => self.texts.are_in(column.as_binary::<i32>().value(row)),
            _ => false,
        }
    }
}

/// The instants of a month such as `2026-11`.
pub(crate) fn month_span(month: &str) -> Option<Span> {
    let first = CivilDay::parse(&format!("{month}-01")).ok()?;
    let utc = Zone::utc();
    Some((utc.start_of_day(first).micros(), utc.start_of_day(first.plus_months(1)).micros()))
}
