//! Bills out of the lake, as exports: the items of a list that went out, or what is ready now, with the curves behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use meterlake_model::registry::{Registry, UsagePoint};
use meterlake_model::{Amount, Channel, CivilDay, Method, Quality, Timestamp};
use meterlake_store::query::{QueryError, ReadOptions};
use meterlake_store::{Lake, StoreError};

use super::codes::unit_name;
use super::error::ExportError;
use super::item::{Curve, END_READ, Head, Item, Kind, Pins, Point, Read, START_READ, Slot};
use super::manifest::Held;
use super::publish::{Exported, Exporter, Folder};
use super::writer::{ExportOptions, Format};
use crate::tables::read::{Rows, amount_at, instant_at, other};

const SLOTS: &str = include_str!("../../sql/export_slots.sql");

/// Which bills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillsWanted {
    /// The run, such as `2026-03`.
    pub run: String,
    /// What this list says; `None`: what is ready now.
    pub list: Option<i64>,
    /// Only this usage point: a customer's own file.
    pub usage_point_id: Option<String>,
}

/// Why bills were not exported.
#[derive(Debug, thiserror::Error)]
pub enum BillsError {
    /// There is nothing to export.
    #[error("{0}")]
    Nothing(String),
    /// The file could not be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake could not be opened for reading.
    #[error(transparent)]
    Read(#[from] QueryError),
    /// The tables could not be read.
    #[error("export: {0}")]
    Query(#[from] DataFusionError),
}

/// Writes one file of bills with its manifest. Memory holds the items of the run and the curve of one usage point.
///
/// # Errors
/// When nothing is to be exported, the lake cannot be read, or the file cannot be written or is there with other content.
pub async fn export_bills(
    lake: &Lake,
    wanted: &BillsWanted,
    format: Format,
    options: &ExportOptions,
    folder: &Folder,
) -> Result<Exported, BillsError> {
    let session = lake.open_session(ReadOptions::default()).await?;
    let source = Source { session: &session.context, wanted };
    for table in ["billing_reads", "job_runs"].into_iter().chain(wanted.list.map(|_| "billing_items")) {
        if !session.versions.contains_key(table) {
            let what = "has never been computed, or nothing of it was ever issued";
            return Err(BillsError::Nothing(format!("run {} {what}: there is no table {table}", wanted.run)));
        }
    }
    let (bills, held) = match wanted.list {
        Some(list) => (source.listed(list).await?, Vec::new()),
        None => {
            let (mut bills, mut held) = source.ready().await?;
            if session.versions.contains_key("billing_determinants") {
                source.determinants(&mut bills, &mut held).await?;
            }
            (bills, held)
        }
    };
    if bills.is_empty() {
        let what =
            wanted.list.map_or("nothing is ready to go out".to_owned(), |n| format!("list {n} says nothing of it"));
        return Err(BillsError::Nothing(format!("run {}: {what}; {} bills are held", wanted.run, held.len())));
    }
    let pins = source.pins().await?;
    let registry = lake.read_registry(Some(pins.registry_revision)).await?;
    let points = points(bills, &registry)?;
    let ends = points.iter().flat_map(|p| p.items.iter().map(|i| i.span(&p.zone).1)).max();
    let as_of = match wanted.list {
        Some(list) => source.issued_at(list).await?,
        None => ends.ok_or_else(|| other("no bill has an end".to_owned()))?,
    };
    let head = Head { run: wanted.run.clone(), list: wanted.list, only: wanted.usage_point_id.clone(), as_of, pins };
    let mut exporter = Exporter::begin(folder, &head, format, options)?;
    let mut curves = match curve_range(format, &points).filter(|_| session.versions.contains_key("usage_spans")) {
        Some(range) => Some(Curves::open(&session.context, range, wanted.usage_point_id.as_deref()).await?),
        None => None,
    };
    for mut point in points {
        if let (Some(curves), Some(span)) = (&mut curves, span_of(format, &point)) {
            point.curves = curves.of(&point.usage_point_id, span).await?;
        }
        exporter.point(&point)?;
    }
    Ok(exporter.finish(held)?)
}

/// Items by usage point.
type Bills = BTreeMap<String, Vec<Item>>;

struct Source<'a> {
    session: &'a SessionContext,
    wanted: &'a BillsWanted,
}

impl Source<'_> {
    async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.session.sql(sql).await?.collect().await
    }

    /// A condition for one usage point, where one is asked for.
    fn only(&self) -> String {
        let id = self.wanted.usage_point_id.as_deref();
        id.map_or_else(String::new, |id| format!("AND usage_point_id = {}", quoted(id)))
    }

    /// What a list says.
    async fn listed(&self, list: i64) -> Result<Bills, DataFusionError> {
        let sql = format!(
            "SELECT kind, usage_point_id, determinant, part, unit, CAST(first_day AS VARCHAR) AS first_day,
                    CAST(last_day AS VARCHAR) AS last_day, old, value, delta, quality, estimated, cause,
                    CAST(first_seq AS INT) AS first_seq
             FROM billing_items WHERE number = {list} AND run = {} {}
             ORDER BY usage_point_id, first_day, determinant, part, first_seq",
            quoted(&self.wanted.run),
            self.only(),
        );
        let mut bills = Bills::new();
        for batch in self.rows(&sql).await? {
            let rows = Rows(&batch);
            let (kind, point) = (rows.text("kind")?, rows.text("usage_point_id")?);
            let (determinant, part, unit) = (rows.text("determinant")?, rows.text("part")?, rows.text("unit")?);
            let (first, last, cause) = (rows.text("first_day")?, rows.text("last_day")?, rows.text("cause")?);
            let (old, value, delta) = (rows.amount("old")?, rows.amount("value")?, rows.amount("delta")?);
            let (quality, estimated, seq) = (rows.text("quality")?, rows.amount("estimated")?, rows.int("first_seq")?);
            for row in 0..rows.len() {
                bills.entry(point.at(row).to_owned()).or_default().push(Item {
                    kind: if kind.at(row) == Kind::Bill.as_str() { Kind::Bill } else { Kind::Correction },
                    seq: seq.value(row),
                    determinant: determinant.at(row).to_owned(),
                    part: part.at(row).to_owned(),
                    unit: unit.at(row).to_owned(),
                    first_day: day(first.at(row))?,
                    end_day: day(last.at(row))?.plus_days(1),
                    value: amount_at(value, row)?.unwrap_or_default(),
                    old: amount_at(old, row)?,
                    delta: amount_at(delta, row)?.unwrap_or_default(),
                    quality: Quality::parse(quality.at(row)).unwrap_or(Quality::Missing),
                    estimated: amount_at(estimated, row)?.unwrap_or_default(),
                    cause: cause.at(row).to_owned(),
                    start_read: None,
                    end_read: None,
                });
            }
        }
        bills.values_mut().for_each(|items| join_reads(items));
        Ok(bills)
    }

    /// What is ready, and what is held.
    async fn ready(&self) -> Result<(Bills, Vec<Held>), DataFusionError> {
        let sql = format!(
            "SELECT usage_point_id, channel, CAST(first_day AS VARCHAR) AS first_day, CAST(last_day AS VARCHAR) AS last_day,
                    start_register, start_quality, end_register, end_quality, use_amount, estimated, state, reasons
             FROM billing_reads WHERE run = {} {} ORDER BY usage_point_id, first_day, channel",
            quoted(&self.wanted.run),
            self.only(),
        );
        let (mut bills, mut held) = (Bills::new(), Vec::new());
        for batch in self.rows(&sql).await? {
            let rows = Rows(&batch);
            let (point, channel) = (rows.text("usage_point_id")?, rows.text("channel")?);
            let (first, last) = (rows.text("first_day")?, rows.text("last_day")?);
            let (start, start_quality) = (rows.amount("start_register")?, rows.text("start_quality")?);
            let (end, end_quality) = (rows.amount("end_register")?, rows.text("end_quality")?);
            let (used, estimated) = (rows.amount("use_amount")?, rows.amount("estimated")?);
            let (state, reasons) = (rows.text("state")?, rows.text("reasons")?);
            for row in 0..rows.len() {
                let (Some(channel), used) = (Channel::by_name(channel.at(row)), amount_at(used, row)?) else {
                    continue;
                };
                let (Some(used), "ready") = (used, state.at(row)) else {
                    held.push(Held {
                        usage_point_id: point.at(row).to_owned(),
                        channel: channel.name().to_owned(),
                        first_day: first.at(row).to_owned(),
                        last_day: last.at(row).to_owned(),
                        state: state.at(row).to_owned(),
                        reasons: holding(reasons.at(row)),
                    });
                    continue;
                };
                let estimated = amount_at(estimated, row)?.unwrap_or_default();
                let days = (day(first.at(row))?, day(last.at(row))?.plus_days(1));
                let boundaries = [
                    (START_READ, amount_at(start, row)?, Quality::parse(start_quality.at(row))),
                    (END_READ, amount_at(end, row)?, Quality::parse(end_quality.at(row))),
                ];
                let items = items_of(channel, days, boundaries, (used, estimated));
                bills.entry(point.at(row).to_owned()).or_default().extend(items);
            }
        }
        Ok((bills, held))
    }

    /// Configured determinants of the bills that are ready. A note that speaks against one is listed with what is held.
    async fn determinants(&self, bills: &mut Bills, held: &mut Vec<Held>) -> Result<(), DataFusionError> {
        let sql = format!(
            "SELECT usage_point_id, determinant, part, unit, CAST(first_day AS VARCHAR) AS first_day,
                    CAST(last_day AS VARCHAR) AS last_day, value, quality,
                    CAST(estimated_share_ppm AS VARCHAR) AS estimated_share_ppm, notes,
                    CASE WHEN held THEN 'held' ELSE 'ready' END AS state
             FROM billing_determinants WHERE month = {} AND kind <> 'curve' {}
             ORDER BY usage_point_id, first_day, determinant, part",
            quoted(&self.wanted.run),
            self.only(),
        );
        for batch in self.rows(&sql).await? {
            let rows = Rows(&batch);
            let (point, determinant, part) =
                (rows.text("usage_point_id")?, rows.text("determinant")?, rows.text("part")?);
            let (unit, first, last) = (rows.text("unit")?, rows.text("first_day")?, rows.text("last_day")?);
            let (value, quality, share) =
                (rows.amount("value")?, rows.text("quality")?, rows.text("estimated_share_ppm")?);
            let (notes, state) = (rows.text("notes")?, rows.text("state")?);
            for row in 0..rows.len() {
                let Some(items) = bills.get_mut(point.at(row)) else { continue };
                let (Some(value), "ready") = (amount_at(value, row)?, state.at(row)) else {
                    held.push(Held {
                        usage_point_id: point.at(row).to_owned(),
                        channel: format!("{}/{}", determinant.at(row), part.at(row)),
                        first_day: first.at(row).to_owned(),
                        last_day: last.at(row).to_owned(),
                        state: "held".to_owned(),
                        reasons: vec![notes.at(row).to_owned()],
                    });
                    continue;
                };
                let ppm: i64 = share.at(row).parse().unwrap_or(0);
                items.push(Item {
                    kind: Kind::Bill,
                    seq: 0,
                    determinant: determinant.at(row).to_owned(),
                    part: part.at(row).to_owned(),
                    unit: unit.at(row).to_owned(),
                    first_day: day(first.at(row))?,
                    end_day: day(last.at(row))?.plus_days(1),
                    value,
                    old: None,
                    delta: value,
                    quality: Quality::parse(quality.at(row)).unwrap_or(Quality::Missing),
                    estimated: value.proportion(ppm, 1_000_000).unwrap_or_default(),
                    cause: "ready".to_owned(),
                    start_read: None,
                    end_read: None,
                });
            }
        }
        Ok(())
    }

    /// What the numbers rest on: the last run that gave one of them.
    async fn pins(&self) -> Result<Pins, BillsError> {
        let first = day(&format!("{}-01", self.wanted.run))?;
        let which = match self.wanted.list {
            Some(list) => format!("run_id IN (SELECT run_id FROM billing_items WHERE number = {list})"),
            None => {
                format!("job = 'billing' AND from_day < DATE '{}' AND to_day > DATE '{first}'", first.plus_months(1))
            }
        };
        let sql = format!(
            "SELECT CAST(commit_seq AS VARCHAR) AS commit_seq, CAST(registry_revision AS VARCHAR) AS registry_revision,
                    rules_hash, program
             FROM job_runs WHERE {which} ORDER BY started_at DESC, run_id DESC LIMIT 1"
        );
        for batch in self.rows(&sql).await? {
            let rows = Rows(&batch);
            if rows.len() > 0 {
                let number = |text: &str| text.parse().map_err(|_| other(format!("`{text}` is no number of a run")));
                return Ok(Pins {
                    commit_seq: number(rows.text("commit_seq")?.at(0))?,
                    registry_revision: number(rows.text("registry_revision")?.at(0))?,
                    rules_hash: rows.text("rules_hash")?.at(0).to_owned(),
                    program: rows.text("program")?.at(0).to_owned(),
                });
            }
        }
        Err(BillsError::Nothing(format!("no run of the job billing is known for {}", self.wanted.run)))
    }

    /// When a list was issued.
    async fn issued_at(&self, list: i64) -> Result<Timestamp, BillsError> {
        for batch in self.rows(&format!("SELECT at FROM billing_events WHERE seq = {list}")).await? {
            let rows = Rows(&batch);
            if rows.len() > 0 {
                return Ok(instant_at(rows.time("at")?, 0)?);
            }
        }
        Err(BillsError::Nothing(format!("list {list} was begun and never issued")))
    }
}

/// The registers at both ends and the use of one channel.
fn items_of(
    channel: Channel,
    (first_day, end_day): (CivilDay, CivilDay),
    boundaries: [(&str, Option<Amount>, Option<Quality>); 2],
    (used, estimated): (Amount, Amount),
) -> Vec<Item> {
    let item = |determinant: &str, value, quality, estimated| Item {
        kind: Kind::Bill,
        seq: 0,
        determinant: determinant.to_owned(),
        part: channel.name().to_owned(),
        unit: unit_name(channel).to_owned(),
        first_day,
        end_day,
        value,
        old: None,
        delta: value,
        quality,
        estimated,
        cause: "ready".to_owned(),
        start_read: None,
        end_read: None,
    };
    let mut items = Vec::with_capacity(3);
    let mut least = Quality::Edited;
    for (what, register, quality) in boundaries {
        let Some(quality) = quality else { continue };
        least = least.min(quality);
        if let Some(register) = register {
            let estimated = if quality.is_estimate() { register } else { Amount::ZERO };
            items.push(item(what, register, quality, estimated));
        }
    }
    items.push(item("use", used, least, estimated));
    join_reads(&mut items);
    items
}

/// Gives each use the registers of its own cycle and channel.
fn join_reads(items: &mut [Item]) {
    let reads: Vec<(String, String, CivilDay, Read)> = items
        .iter()
        .filter(|i| i.is_register())
        .map(|i| (i.determinant.clone(), i.part.clone(), i.first_day, Read { register: i.value, quality: i.quality }))
        .collect();
    for item in items.iter_mut().filter(|i| i.determinant == "use") {
        let of = |what: &str| {
            let same = |r: &&(String, String, CivilDay, Read)| r.0 == what && r.1 == item.part && r.2 == item.first_day;
            reads.iter().rfind(same).map(|r| r.3)
        };
        (item.start_read, item.end_read) = (of(START_READ), of(END_READ));
    }
}

/// Items with their places, in order of the usage points' ids.
fn points(bills: Bills, registry: &Registry) -> Result<Vec<Point>, DataFusionError> {
    let known: BTreeMap<&str, &UsagePoint> = registry.usage_points.iter().map(|(id, p)| (id.as_str(), p)).collect();
    let point = |(id, items): (String, Vec<Item>)| {
        let place = known.get(id.as_str()).ok_or_else(|| {
            other(format!("usage point {id} is not in revision {} of the registry", registry.revision))
        })?;
        Ok(Point {
            customer_id: place.customer_id.as_ref().map(ToString::to_string),
            commodity: place.commodity,
            zone: place.zone.clone(),
            usage_point_id: id,
            items,
            curves: Vec::new(),
        })
    };
    bills.into_iter().map(point).collect()
}

/// The stretch of curve that a usage point's bills take.
fn span_of(format: Format, point: &Point) -> Option<(Timestamp, Timestamp)> {
    let first = point.items.iter().map(|i| i.first_day).min()?;
    let end = point.items.iter().map(|i| i.end_day).max()?;
    format.curve_span(&point.zone, first, end)
}

fn curve_range(format: Format, points: &[Point]) -> Option<(Timestamp, Timestamp)> {
    let spans: Vec<_> = points.iter().filter_map(|p| span_of(format, p)).collect();
    Some((spans.iter().map(|s| s.0).min()?, spans.iter().map(|s| s.1).max()?))
}

/// Curves in order of the usage points' ids: one usage point is held at a time.
struct Curves {
    rows: SendableRecordBatchStream,
    /// The rest of the batch that the last usage point ended in.
    rest: Option<RecordBatch>,
    /// The usage point that was read and not asked for yet.
    next: Option<(String, Vec<Curve>)>,
}

impl Curves {
    async fn open(
        session: &SessionContext,
        (from, to): (Timestamp, Timestamp),
        only: Option<&str>,
    ) -> Result<Self, DataFusionError> {
        let instant = |t: Timestamp| ScalarValue::TimestampMicrosecond(Some(t.micros()), Some("UTC".into()));
        let parameters = ParamValues::from(vec![("from", instant(from)), ("to", instant(to))]);
        let only = only.map_or_else(|| "true".to_owned(), |id| format!("usage_point_id = {}", quoted(id)));
        let frame = session.sql(&SLOTS.replace("$only", &only)).await?.with_param_values(parameters)?;
        Ok(Self { rows: frame.execute_stream().await?, rest: None, next: None })
    }

    /// The curves of a usage point, cut to a stretch. Ids are asked for in rising order.
    async fn of(&mut self, id: &str, (from, to): (Timestamp, Timestamp)) -> Result<Vec<Curve>, DataFusionError> {
        loop {
            if self.next.is_none() {
                self.next = self.read().await?;
            }
            match &self.next {
                Some((next, _)) if next.as_str() < id => self.next = None,
                Some((next, _)) if next == id => break,
                _ => return Ok(Vec::new()),
            }
        }
        let mut curves = self.next.take().map(|(_, curves)| curves).unwrap_or_default();
        for curve in &mut curves {
            curve.slots.retain(|s| from <= s.start && s.start < to);
        }
        curves.retain(|c| !c.slots.is_empty());
        Ok(curves)
    }

    async fn read(&mut self) -> Result<Option<(String, Vec<Curve>)>, DataFusionError> {
        let mut found: Option<(String, Vec<Curve>)> = None;
        loop {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None => match self.rows.try_next().await? {
                    Some(batch) => batch,
                    None => return Ok(found),
                },
            };
            let point = Rows(&batch).text("usage_point_id")?;
            let Some(of) =
                found.as_ref().map(|f| f.0.clone()).or_else(|| (batch.num_rows() > 0).then(|| point.at(0).to_owned()))
            else {
                continue;
            };
            let count = (0..batch.num_rows()).take_while(|row| point.at(*row) == of).count();
            let (_, curves) = found.get_or_insert_with(|| (of, Vec::new()));
            add_slots(curves, &batch.slice(0, count))?;
            if count < batch.num_rows() {
                self.rest = Some(batch.slice(count, batch.num_rows() - count));
                return Ok(found);
            }
        }
    }
}

/// Adds slots in order of channel and time. Slots of another length are another curve.
fn add_slots(curves: &mut Vec<Curve>, batch: &RecordBatch) -> Result<(), DataFusionError> {
    let rows = Rows(batch);
    let (channel, start, end) = (rows.text("channel")?, rows.time("start")?, rows.time("end")?);
    let (value, quality, method) = (rows.amount("value")?, rows.text("quality")?, rows.text("method")?);
    let meter = rows.text("meter_id")?;
    let mut meters: BTreeSet<Arc<str>> = BTreeSet::new();
    for row in 0..rows.len() {
        let Some(channel) = Channel::by_name(channel.at(row)) else { continue };
        let (start, end) = (instant_at(start, row)?, instant_at(end, row)?);
        let meter_id = match meters.get(meter.at(row)) {
            Some(known) => known.clone(),
            None => {
                let new: Arc<str> = meter.at(row).into();
                meters.insert(new.clone());
                new
            }
        };
        let slot = Slot {
            start,
            end,
            value: amount_at(value, row)?,
            quality: Quality::parse(quality.at(row)).unwrap_or(Quality::Missing),
            method: method.get(row).and_then(Method::parse),
            meter_id,
        };
        let interval_s = end.unix_seconds() - start.unix_seconds();
        match curves.iter_mut().rfind(|c| c.channel == channel && c.interval_s == interval_s) {
            Some(curve) => curve.slots.push(slot),
            None => curves.push(Curve { channel, interval_s, slots: vec![slot] }),
        }
    }
    Ok(())
}

/// The reasons that hold a bill, out of the table's list.
fn holding(reasons: &str) -> Vec<String> {
    let reasons: serde_json::Value = serde_json::from_str(reasons).unwrap_or_default();
    let holds = reasons.as_array().into_iter().flatten().filter(|r| r["holds"] == true);
    holds.map(|r| format!("{}: {}", r["code"].as_str().unwrap_or(""), r["detail"].as_str().unwrap_or(""))).collect()
}

fn day(text: &str) -> Result<CivilDay, DataFusionError> {
    CivilDay::parse(text).map_err(|e| other(e.to_string()))
}

/// A text in SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
