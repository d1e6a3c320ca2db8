//! Rows of meter events, dead letters and raw messages.
//!
//! An event that comes again is dropped like a reading. Dead letters and raw messages have the journal position as
//! their key, so they cannot come again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use meterlake_model::{MeterEvent, MeterId, RawMessage, ReadingBatch};

use crate::commit::known::{Known, column, look_up, text};
use crate::commit::months::ByMonth;
use crate::commit::{Chosen, Record};
use crate::error::StoreError;
use crate::log::Log;

/// One item of a record: an event, a dead letter or a raw message, by its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    record: u32,
    item: u32,
}

/// Which list of a record an item is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    DeadLetter,
    Raw,
}

type EventKey = (MeterId, i64, String, String);

fn event_key(event: &MeterEvent) -> EventKey {
    (event.meter_id.clone(), event.ts.micros(), event.kind.as_str().to_owned(), event.detail.to_string())
}

/// Events that are not in the table yet, sorted.
pub(crate) async fn choose_events(log: &Log, known: &Known, records: &[Record]) -> Result<Chosen<Item>, StoreError> {
    let mut came: BTreeMap<EventKey, Item> = BTreeMap::new();
    let mut wanted: BTreeMap<MeterId, BTreeSet<i64>> = BTreeMap::new();
    let mut chosen = Chosen::default();
    for (record, (_, batch)) in (0_u32..).zip(records) {
        for (item, event) in (0_u32..).zip(&batch.events) {
            if !known.is_fresh(&event.meter_id, event.ts.micros()) {
                wanted.entry(event.meter_id.clone()).or_default().insert(event.ts.micros());
            }
            match came.entry(event_key(event)) {
                std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(Item { record, item })),
                std::collections::btree_map::Entry::Occupied(_) => chosen.duplicates += 1,
            }
        }
    }
    let mut committed = HashSet::new();
    if !wanted.is_empty() {
        let found = look_up(log, known, &wanted, &["meter_id", "ts", "event", "detail"]).await?;
        for batch in &found.rows {
            read_events(&log.state().name, batch, &mut committed)?;
        }
        chosen.newest.extend(found.bounds);
    }
    let mut months = ByMonth::default();
    for (key, item) in came {
        if committed.contains(&key) {
            chosen.duplicates += 1;
            continue;
        }
        chosen.newest.push((key.0, key.1));
        months.extend(key.1, [item]);
    }
    chosen.months = months.finish();
    Ok(chosen)
}

fn read_events(table: &str, batch: &RecordBatch, committed: &mut HashSet<EventKey>) -> Result<(), StoreError> {
    let text = |name| Ok::<_, StoreError>(column(table, batch, name)?.as_string::<i32>());
    let (meters, kinds, details) = (text("meter_id")?, text("event")?, text("detail")?);
    let times = column(table, batch, "ts")?.as_primitive::<TimestampMicrosecondType>();
    for row in 0..batch.num_rows() {
        let meter = MeterId::new(meters.value(row)).map_err(|e| StoreError::foreign(table, e.to_string()))?;
        committed.insert((meter, times.value(row), kinds.value(row).to_owned(), details.value(row).to_owned()));
    }
    Ok(())
}

/// All dead letters or raw messages, by the month in which they arrived.
pub(crate) fn choose_messages(kind: Kind, records: &[Record]) -> Chosen<Item> {
    let mut months = ByMonth::default();
    for (record, (_, batch)) in (0_u32..).zip(records) {
        for (item, message) in (0_u32..).zip(messages(kind, batch)) {
            months.extend(message.received_at_s.saturating_mul(1_000_000), [Item { record, item }]);
        }
    }
    Chosen { months: months.finish(), ..Chosen::default() }
}

fn messages(kind: Kind, batch: &ReadingBatch) -> Box<dyn Iterator<Item = &RawMessage> + '_> {
    match kind {
        Kind::Event => Box::new(std::iter::empty()),
        Kind::DeadLetter => Box::new(batch.dead_letters.iter().map(|d| &d.message)),
        Kind::Raw => Box::new(batch.raw.iter()),
    }
}

/// The kept items as columns of a file.
pub(crate) fn columns(
    schema: &SchemaRef,
    table: &str,
    kind: Kind,
    records: &[Record],
    kept: &[Item],
    commit_seq: i64,
) -> Result<RecordBatch, StoreError> {
    let batch = |i: &Item| &records[i.record as usize].1;
    let event = |i: &Item| &batch(i).events[i.item as usize];
    let dead = |i: &Item| &batch(i).dead_letters[i.item as usize];
    let message = |i: &Item| match kind {
        Kind::Raw => &batch(i).raw[i.item as usize],
        _ => &dead(i).message,
    };
    let received = |i: &Item| match kind {
        Kind::Event => event(i).received_at_s,
        _ => message(i).received_at_s,
    };
    let instant = |of: &dyn Fn(&Item) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(kept.iter().map(of)).with_timezone("UTC"))
    };
    let position = |i: &Item| i64::try_from(records[i.record as usize].0).unwrap_or(i64::MAX);
    let number = |i: &Item| i32::try_from(i.item).unwrap_or(i32::MAX);
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            Ok(match (kind, field.name().as_str()) {
                (Kind::Event, "meter_id") => text(kept, |i| event(i).meter_id.as_str()),
                (Kind::Event, "ts") => instant(&|i| event(i).ts.micros()),
                (Kind::Event, "event") => text(kept, |i| event(i).kind.as_str()),
                (Kind::Event, "detail") => text(kept, |i| &*event(i).detail),
                (Kind::Event, "source") => text(kept, |i| &*event(i).source),
                (Kind::DeadLetter, "reason") => text(kept, |i| dead(i).reason.as_str()),
                (Kind::DeadLetter, "detail") => text(kept, |i| &*dead(i).detail),
                (Kind::DeadLetter, "decoder") => text(kept, |i| &*dead(i).decoder),
                (_, "position") => Arc::new(Int64Array::from_iter_values(kept.iter().map(position))),
                (_, "item") => Arc::new(Int32Array::from_iter_values(kept.iter().map(number))),
                (_, "source") => text(kept, |i| &*message(i).source),
                (_, "topic") => text(kept, |i| &*message(i).topic),
                (_, "payload") => {
                    Arc::new(BinaryArray::from_iter_values(kept.iter().map(|i| message(i).payload.as_slice())))
                }
                (_, "received_at") => instant(&|i| received(i).saturating_mul(1_000_000)),
                (_, "commit_seq") => Arc::new(Int64Array::from(vec![commit_seq; kept.len()])),
                (_, name) => return Err(StoreError::foreign(table, format!("nothing fills the column {name}"))),
            })
        })
        .collect::<Result<Vec<ArrayRef>, StoreError>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|source| StoreError::arrow(table, source))
}
