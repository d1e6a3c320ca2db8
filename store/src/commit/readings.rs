//! Rows of readings: which of those that came are kept, in which order, and as which columns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::datatypes::{Decimal128Type, Int32Type, SchemaRef, TimestampMicrosecondType};
use meterlake_model::{Channel, Commodity, MeterId, ReadingFlags, ReadingRows, revision};

use crate::commit::known::{Known, column, look_up, text};
use crate::commit::months::ByMonth;
use crate::commit::revisions::{Revisions, Values, Verdict};
use crate::commit::{Chosen, Record};
use crate::error::StoreError;
use crate::log::Log;
use crate::schema::commodity_of;

/// One row that came, by its place.
#[derive(Debug, Clone, Copy)]
struct Came {
    /// Place of the meter's name among all that came.
    meter: u32,
    ts: i64,
    record: u32,
    row: u32,
}

/// One row that is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    record: u32,
    row: u32,
    revision: i32,
}

/// Which rows of one commodity are kept: sorted by meter, time, revision and arrival, by month.
pub(crate) async fn choose(
    log: &Log,
    known: &Known,
    commodity: Commodity,
    records: &[Record],
) -> Result<Chosen<Kept>, StoreError> {
    let mut came = Vec::new();
    let meters = arrivals(commodity, records, &mut came);
    let mut wanted: BTreeMap<MeterId, BTreeSet<i64>> = BTreeMap::new();
    for row in &came {
        let meter = meters[row.meter as usize];
        if !known.is_fresh(meter, row.ts) {
            wanted.entry(meter.clone()).or_default().insert(row.ts);
        }
    }
    let mut chosen = Chosen::default();
    let mut committed = HashMap::new();
    if !wanted.is_empty() {
        let channels: Vec<Channel> = Channel::of(commodity).collect();
        let mut columns = vec!["meter_id", "ts", "revision"];
        columns.extend(channels.iter().map(|c| c.name()));
        let found = look_up(log, known, &wanted, &columns).await?;
        for batch in &found.rows {
            read_committed(&log.state().name, &channels, batch, &mut committed)?;
        }
        chosen.newest.extend(found.bounds);
    }
    let mut months = ByMonth::default();
    for group in came.chunk_by(|a, b| (a.meter, a.ts) == (b.meter, b.ts)) {
        let Some(first) = group.first() else { continue };
        let meter = meters[first.meter as usize];
        let known_rows = committed.remove(&(meter.clone(), first.ts));
        let mut kept = judge(commodity, records, group, known_rows.unwrap_or_default(), &mut chosen);
        // Arrival stays the order within one revision.
        kept.sort_by_key(|k| k.revision);
        if !kept.is_empty() {
            chosen.newest.push((meter.clone(), first.ts));
            months.extend(first.ts, kept);
        }
    }
    chosen.months = months.finish();
    Ok(chosen)
}

/// All rows in order of meter, time and arrival, and the meters by their place.
fn arrivals<'a>(commodity: Commodity, records: &'a [Record], came: &mut Vec<Came>) -> Vec<&'a MeterId> {
    let mut places: HashMap<&MeterId, u32> = HashMap::new();
    let mut meters: Vec<&MeterId> = Vec::new();
    for (record, (_, batch)) in (0_u32..).zip(records) {
        for (row, header) in (0_u32..).zip(batch.rows(commodity).headers()) {
            let meter = *places.entry(&header.meter_id).or_insert_with(|| {
                meters.push(&header.meter_id);
                u32::try_from(meters.len() - 1).unwrap_or(u32::MAX)
            });
            came.push(Came { meter, ts: header.ts.micros(), record, row });
        }
    }
    let mut order: Vec<u32> = (0..u32::try_from(meters.len()).unwrap_or(u32::MAX)).collect();
    order.sort_by(|a, b| meters[*a as usize].cmp(meters[*b as usize]));
    let mut rank = vec![0_u32; meters.len()];
    for (place, meter) in (0_u32..).zip(&order) {
        rank[*meter as usize] = place;
    }
    for row in came.iter_mut() {
        row.meter = rank[row.meter as usize];
    }
    came.sort_unstable_by_key(|c| (c.meter, c.ts, c.record, c.row));
    order.into_iter().map(|meter| meters[meter as usize]).collect()
}

fn judge(
    commodity: Commodity,
    records: &[Record],
    group: &[Came],
    mut revisions: Revisions,
    chosen: &mut Chosen<Kept>,
) -> Vec<Kept> {
    let mut kept = Vec::with_capacity(group.len());
    for came in group {
        let rows = records[came.record as usize].1.rows(commodity);
        let values: Values = rows.values(came.row as usize).collect();
        match revisions.judge(&values, rows.headers()[came.row as usize].flags) {
            Verdict::Duplicate => chosen.duplicates += 1,
            Verdict::Keep(revision) => {
                chosen.conflicts += u64::from(revision::contradicts(revision));
                kept.push(Kept { record: came.record, row: came.row, revision });
            }
        }
    }
    kept
}

fn read_committed(
    table: &str,
    channels: &[Channel],
    batch: &RecordBatch,
    committed: &mut HashMap<(MeterId, i64), Revisions>,
) -> Result<(), StoreError> {
    let meters = column(table, batch, "meter_id")?.as_string::<i32>();
    let times = column(table, batch, "ts")?.as_primitive::<TimestampMicrosecondType>();
    let revisions = column(table, batch, "revision")?.as_primitive::<Int32Type>();
    let columns = channels
        .iter()
        .map(|c| Ok((*c, column(table, batch, c.name())?.as_primitive::<Decimal128Type>())))
        .collect::<Result<Vec<_>, StoreError>>()?;
    for row in 0..batch.num_rows() {
        let meter = MeterId::new(meters.value(row)).map_err(|e| StoreError::foreign(table, e.to_string()))?;
        let present = columns.iter().filter(|(_, column)| column.is_valid(row));
        let values: Values =
            present.filter_map(|(c, column)| Some((*c, i64::try_from(column.value(row)).ok()?))).collect();
        committed.entry((meter, times.value(row))).or_default().insert(revisions.value(row), &values);
    }
    Ok(())
}

/// The kept rows as columns of a file.
pub(crate) fn columns(
    schema: &SchemaRef,
    table: &str,
    records: &[Record],
    kept: &[Kept],
    commit_seq: i64,
) -> Result<RecordBatch, StoreError> {
    let commodity = commodity_of(table).ok_or_else(|| StoreError::NoTable(table.to_owned()))?;
    let rows: Vec<&ReadingRows> = records.iter().map(|(_, batch)| batch.rows(commodity)).collect();
    let header = |k: &Kept| &rows[k.record as usize].headers()[k.row as usize];
    let instant = |of: &dyn Fn(&Kept) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(kept.iter().map(of)).with_timezone("UTC"))
    };
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            Ok(match field.name().as_str() {
                "meter_id" => text(kept, |k| header(k).meter_id.as_str()),
                "ts" => instant(&|k| header(k).ts.micros()),
                "revision" => Arc::new(Int32Array::from_iter_values(kept.iter().map(|k| k.revision))),
                "received_at" => instant(&|k| header(k).received_at_s.saturating_mul(1_000_000)),
                "source" => text(kept, |k| &*header(k).source),
                "profile" => text(kept, |k| &*header(k).profile),
                "flags" => Arc::new(Int32Array::from_iter_values(kept.iter().map(|k| flags(header(k).flags, k)))),
                "commit_seq" => Arc::new(Int64Array::from(vec![commit_seq; kept.len()])),
                name => match Channel::by_name(name) {
                    Some(channel) => channel_column(channel, &rows, kept, field.data_type(), table)?,
                    None => return Err(StoreError::foreign(table, format!("nothing fills the column {name}"))),
                },
            })
        })
        .collect::<Result<Vec<ArrayRef>, StoreError>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|source| StoreError::arrow(table, source))
}

/// A row that contradicts another is flagged. The other is in the table already and stays as it is.
fn flags(flags: ReadingFlags, kept: &Kept) -> i32 {
    let flags = if revision::contradicts(kept.revision) { flags.with(ReadingFlags::CONFLICT) } else { flags };
    flags.bits().cast_signed()
}

fn channel_column(
    channel: Channel,
    rows: &[&ReadingRows],
    kept: &[Kept],
    kind: &arrow::datatypes::DataType,
    table: &str,
) -> Result<ArrayRef, StoreError> {
    let by_record: Vec<Option<&[Option<i64>]>> =
        rows.iter().map(|r| r.columns().find(|(c, _)| *c == channel).map(|(_, values)| values)).collect();
    let value = |k: &Kept| by_record[k.record as usize].and_then(|values| values[k.row as usize]);
    if let Some(bad) = kept.iter().filter_map(value).find(|v| !channel.fits(*v)) {
        return Err(StoreError::rows(table, format!("{bad} does not fit {channel}")));
    }
    let values: Decimal128Array = kept.iter().map(|k| value(k).map(i128::from)).collect();
    Ok(Arc::new(values.with_data_type(kind.clone())))
}
