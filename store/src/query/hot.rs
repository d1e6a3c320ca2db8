//! Rows of the journal's tail, as the tables will hold them: not committed yet, so without `commit_seq`.
//!
//! Repeats among themselves are dropped and differing values get revisions, as the committer will do. Whether they
//! repeat or contradict a committed row is found out at the commit; the views resolve it before.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use meterlake_model::{
    Channel, Commodity, DeadLetter, MeterEvent, RawMessage, ReadingBatch, ReadingFlags, RowHeader, Timestamp,
    month_key, revision,
};

use super::error::QueryError;
use super::provider::reading_schema;
use crate::commit::revisions::{Revisions, Verdict};
use crate::journal::JournalReader;
use crate::schema;

/// The most rows that are held of a tail. A collector commits long before.
const MAX_ROWS: usize = 2_000_000;
/// The most bytes of payloads that are held.
const MAX_PAYLOAD: usize = 256 << 20;

/// The records behind the oldest table, in order.
pub(super) struct HotTail {
    records: Vec<(u64, ReadingBatch)>,
    /// The newest position that was read or looked for.
    pub(super) synced: u64,
}

impl HotTail {
    /// Reads all synced records behind `position`, the furthest behind of the tables' own (that of `table`).
    pub(super) fn read(reader: &JournalReader, position: u64, table: &str) -> Result<Self, QueryError> {
        let mut tail = Self { records: Vec::new(), synced: reader.synced()? };
        let (mut rows, mut payload) = (0, 0);
        for record in reader.read_from(position + 1)? {
            let (position, batch) = record?;
            rows += batch.reading_count() + batch.events.len() + batch.dead_letters.len() + batch.raw.len();
            payload += batch.dead_letters.iter().map(|l| l.message.payload.len()).sum::<usize>();
            payload += batch.raw.iter().map(|m| m.payload.len()).sum::<usize>();
            if rows > MAX_ROWS || payload > MAX_PAYLOAD {
                return Err(QueryError::TailTooLong { table: table.to_owned(), limit: MAX_ROWS });
            }
            tail.synced = tail.synced.max(position);
            tail.records.push((position, batch));
        }
        Ok(tail)
    }

    /// The rows of one table behind its own position, sorted; `None` when the journal does not feed the table.
    pub(super) fn rows(&self, table: &str, position: u64) -> Result<Option<RecordBatch>, ArrowError> {
        let at = self.records.partition_point(|(p, _)| *p <= position);
        let records = &self.records[at..];
        if let Some(commodity) = schema::commodity_of(table) {
            return readings(commodity, records).map(Some);
        }
        match table {
            "meter_events" => events(records).map(Some),
            "dead_letters" => dead_letters(records).map(Some),
            "raw_messages" => raw_messages(records).map(Some),
            _ => Ok(None),
        }
    }
}

type Records = [(u64, ReadingBatch)];

/// A reading with what the tail alone tells of it.
struct Row<'a> {
    header: &'a RowHeader,
    values: Vec<(Channel, i64)>,
    revision: i32,
    flags: ReadingFlags,
}

fn readings(commodity: Commodity, records: &Records) -> Result<RecordBatch, ArrowError> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (_, batch) in records {
        let found = batch.rows(commodity);
        rows.extend(found.headers().iter().enumerate().map(|(row, header)| Row {
            header,
            values: found.values(row).collect(),
            revision: 0,
            flags: header.flags,
        }));
    }
    // Stable: what came first stays first.
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
    let rows: Vec<Row<'_>> = rows.chunk_by(|a, b| key(a) == key(b)).flat_map(revised).collect();
    let schema = reading_schema(&schema::readings(commodity).schema);
    let columns = schema.fields().iter().map(|field| reading_column(field.name(), &rows)).collect::<Result<_, _>>()?;
    RecordBatch::try_new(schema, columns)
}

fn key<'a>(row: &Row<'a>) -> (&'a str, Timestamp) {
    (row.header.meter_id.as_str(), row.header.ts)
}

/// What one meter said of one time, in order of arrival, judged as the committer will.
fn revised<'a>(same: &[Row<'a>]) -> Vec<Row<'a>> {
    let mut revisions = Revisions::default();
    let mut kept: Vec<Row<'a>> = Vec::new();
    for row in same {
        let Verdict::Keep(revision) = revisions.judge(&row.values, row.flags) else { continue };
        let flags = if revision::contradicts(revision) { row.flags.with(ReadingFlags::CONFLICT) } else { row.flags };
        kept.push(Row { header: row.header, values: row.values.clone(), revision, flags });
    }
    kept.sort_by_key(|row| row.revision);
    kept
}

fn reading_column(name: &str, rows: &[Row<'_>]) -> Result<ArrayRef, ArrowError> {
    if let Some(channel) = Channel::by_name(name) {
        let value = |row: &Row<'_>| row.values.iter().find(|(c, _)| *c == channel).map(|(_, v)| i128::from(*v));
        let array: Decimal128Array = rows.iter().map(value).collect();
        let scale = i8::try_from(channel.scale()).unwrap_or(i8::MAX);
        return Ok(Arc::new(array.with_precision_and_scale(channel.precision(), scale)?));
    }
    Ok(match name {
        "meter_id" => texts(rows.iter().map(|r| r.header.meter_id.as_str())),
        "ts" => instants(rows.iter().map(|r| r.header.ts.micros())),
        "revision" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.revision))),
        "received_at" => seconds(rows.iter().map(|r| r.header.received_at_s)),
        "source" => texts(rows.iter().map(|r| &*r.header.source)),
        "profile" => texts(rows.iter().map(|r| &*r.header.profile)),
        "flags" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.flags.bits().cast_signed()))),
        "commit_seq" => uncommitted(rows.len()),
        schema::MONTH => texts(rows.iter().map(|r| month_key(r.header.ts))),
        other => return Err(ArrowError::SchemaError(format!("hot rows have no column {other}"))),
    })
}

fn events(records: &Records) -> Result<RecordBatch, ArrowError> {
    let mut rows: Vec<&MeterEvent> = records.iter().flat_map(|(_, batch)| &batch.events).collect();
    let key = |e: &&MeterEvent| (e.meter_id.clone(), e.ts, e.kind.as_str());
    rows.sort_by_key(key);
    rows.dedup_by_key(|e| key(e));
    let columns = vec![
        texts(rows.iter().map(|e| e.meter_id.as_str())),
        instants(rows.iter().map(|e| e.ts.micros())),
        texts(rows.iter().map(|e| e.kind.as_str())),
        texts(rows.iter().map(|e| &*e.detail)),
        seconds(rows.iter().map(|e| e.received_at_s)),
        texts(rows.iter().map(|e| &*e.source)),
        uncommitted(rows.len()),
        texts(rows.iter().map(|e| month_key(e.ts))),
    ];
    batch_of(&schema::meter_events().schema, columns)
}

/// Items of each record with their place in the journal.
fn items<'a, T: 'a>(
    records: &'a Records,
    of: impl Fn(&'a ReadingBatch) -> &'a [T] + 'a,
) -> (Vec<i64>, Vec<i32>, Vec<&'a T>) {
    let mut positions = Vec::new();
    let mut numbers = Vec::new();
    let mut found = Vec::new();
    for (position, batch) in records {
        for (number, item) in (0_i32..).zip(of(batch)) {
            positions.push(position.cast_signed());
            numbers.push(number);
            found.push(item);
        }
    }
    (positions, numbers, found)
}

fn dead_letters(records: &Records) -> Result<RecordBatch, ArrowError> {
    let (positions, numbers, rows) = items(records, |batch: &ReadingBatch| -> &[DeadLetter] { &batch.dead_letters });
    let columns = vec![
        Arc::new(Int64Array::from(positions)) as ArrayRef,
        Arc::new(Int32Array::from(numbers)),
        texts(rows.iter().map(|l| l.reason.as_str())),
        texts(rows.iter().map(|l| l.detail.as_str())),
        texts(rows.iter().map(|l| &*l.message.source)),
        texts(rows.iter().map(|l| &*l.message.topic)),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|l| &l.message.payload))),
        seconds(rows.iter().map(|l| l.message.received_at_s)),
        texts(rows.iter().map(|l| &*l.decoder)),
        uncommitted(rows.len()),
        months_of_arrival(rows.iter().map(|l| l.message.received_at_s)),
    ];
    batch_of(&schema::dead_letters().schema, columns)
}

fn raw_messages(records: &Records) -> Result<RecordBatch, ArrowError> {
    let (positions, numbers, rows) = items(records, |batch: &ReadingBatch| -> &[RawMessage] { &batch.raw });
    let columns = vec![
        Arc::new(Int64Array::from(positions)) as ArrayRef,
        Arc::new(Int32Array::from(numbers)),
        texts(rows.iter().map(|m| &*m.source)),
        texts(rows.iter().map(|m| &*m.topic)),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|m| &m.payload))),
        seconds(rows.iter().map(|m| m.received_at_s)),
        uncommitted(rows.len()),
        months_of_arrival(rows.iter().map(|m| m.received_at_s)),
    ];
    batch_of(&schema::raw_messages().schema, columns)
}

fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new(reading_schema(schema), columns)
}

fn texts(values: impl Iterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn instants(micros: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

fn seconds(values: impl Iterator<Item = i64>) -> ArrayRef {
    instants(values.map(|s| s.saturating_mul(1_000_000)))
}

fn months_of_arrival(seconds: impl Iterator<Item = i64>) -> ArrayRef {
    // A clock beyond the calendar is shown as its first month.
    texts(seconds.map(|s| Timestamp::from_unix_seconds(s).map(month_key).unwrap_or_else(|_| "1970-01".into())))
}

fn uncommitted(rows: usize) -> ArrayRef {
    Arc::new(Int64Array::new_null(rows))
}
