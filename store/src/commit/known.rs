//! What is committed already: the newest time of each meter in memory, and look-ups in files for what is not newer.
//!
//! A row newer than everything committed of its meter is fresh without a look. For a meter that has not been seen since
//! the table was opened, the files' own statistics bound it. Only the rest is looked up, in the files and pages that
//! their statistics do not rule out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use meterlake_model::MeterId;

use crate::error::StoreError;
use crate::log::Log;
use crate::read::pages_with;
use crate::table::{DataFile, TableSnapshot};

/// Upper bounds of the committed times by meter: 16 bytes each.
///
/// A meter is told by a keyed hash of 64 bits, since a million identifiers would take several times the room. Two
/// meters of one lake share a hash once in some ten million lakes of a million meters; a repeat of the earlier one of
/// them could then be stored twice, and the next compaction merges it.
#[derive(Debug)]
pub(crate) struct Known {
    newest: HashMap<u64, i64, BuildHasherDefault<Itself>>,
    keys: RandomState,
    /// For every meter that is not in `newest`.
    otherwise: i64,
}

/// A hash is a good hash of itself.
#[derive(Debug, Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Known {
    /// From a table's statistics alone.
    pub(crate) fn of(state: &TableSnapshot) -> Self {
        let otherwise = state.files.iter().map(|f| time_bounds(f).1).max().unwrap_or(i64::MIN);
        Self { newest: HashMap::default(), keys: RandomState::new(), otherwise }
    }

    /// Whether nothing committed of the meter is as late as `ts`.
    pub(crate) fn is_fresh(&self, meter: &MeterId, ts: i64) -> bool {
        ts > self.newest.get(&self.key(meter)).copied().unwrap_or(self.otherwise)
    }

    fn is_met(&self, meter: &MeterId) -> bool {
        self.newest.contains_key(&self.key(meter))
    }

    fn key(&self, meter: &MeterId) -> u64 {
        self.keys.hash_one(meter.as_str())
    }

    /// Notes rows that are committed now. The meter must be known, or the rows must have been fresh.
    pub(crate) fn advance(&mut self, meter: &MeterId, ts: i64) {
        let newest = self.newest.entry(self.key(meter)).or_insert(ts);
        *newest = (*newest).max(ts);
    }
}

/// Rows of the table that may be repeated, and how late each of the meters asked for goes.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Batches of the columns asked for; every row is of a meter and time asked for.
    pub(crate) rows: Vec<RecordBatch>,
    /// For meters that were not known: nothing committed of the meter is later.
    pub(crate) bounds: HashMap<MeterId, i64>,
}

/// Looks up (meter, time) pairs. `columns` begin with `meter_id` and `ts`.
pub(crate) async fn look_up(
    log: &Log,
    known: &Known,
    wanted: &BTreeMap<MeterId, BTreeSet<i64>>,
    columns: &[&str],
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    for (meter, times) in wanted {
        if let (false, Some(first)) = (known.is_met(meter), times.first()) {
            // Everything before the first time asked for is earlier than it; what is later is read below.
            found.bounds.insert(meter.clone(), *first - 1);
        }
    }
    for file in &log.state().files {
        let meters: BTreeSet<&str> = wanted
            .iter()
            .filter(|(meter, times)| may_hold(file, known, meter, times))
            .map(|(m, _)| m.as_str())
            .collect();
        if meters.is_empty() {
            continue;
        }
        let mut stream = pages_with(log, file, "meter_id", &meters, columns).await?;
        let wrap = |source| StoreError::parquet(&log.state().name, &file.path, source);
        // Batch by batch: many meters of a large file are not all in memory at once.
        while let Some(batch) = stream.try_next().await.map_err(wrap)? {
            take(&batch, wanted, &mut found).map_err(|source| StoreError::arrow(&log.state().name, source))?;
        }
    }
    Ok(found)
}

fn may_hold(file: &DataFile, known: &Known, meter: &MeterId, times: &BTreeSet<i64>) -> bool {
    let text = |bound: Option<&ScalarValue>| match bound {
        Some(ScalarValue::Utf8(Some(text))) => Some(text.clone()),
        _ => None,
    };
    let below = text(file.min("meter_id")).is_some_and(|low| meter.as_str() < low.as_str());
    let above = text(file.max("meter_id")).is_some_and(|high| meter.as_str() > high.as_str());
    if below || above {
        return false;
    }
    let (low, high) = time_bounds(file);
    if known.is_met(meter) {
        times.range(low..=high.max(low)).next().is_some()
    } else {
        times.first().is_some_and(|first| *first <= high)
    }
}

fn time_bounds(file: &DataFile) -> (i64, i64) {
    let micros = |bound: Option<&ScalarValue>| match bound {
        Some(ScalarValue::TimestampMicrosecond(micros, _)) => *micros,
        _ => None,
    };
    (micros(file.min("ts")).unwrap_or(i64::MIN), micros(file.max("ts")).unwrap_or(i64::MAX))
}

/// A meter with the times asked for.
type Asked<'a> = (&'a MeterId, &'a BTreeSet<i64>);

fn take(
    batch: &RecordBatch,
    wanted: &BTreeMap<MeterId, BTreeSet<i64>>,
    found: &mut Found,
) -> Result<(), arrow::error::ArrowError> {
    let column = |name| batch.column_by_name(name).cloned();
    let (Some(meters), Some(times)) = (column("meter_id"), column("ts")) else { return Ok(()) };
    let meters = meters.as_string::<i32>();
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut rows: Vec<u32> = Vec::new();
    // Rows of one meter lie together, so its entry is looked for once.
    let mut current: Option<(&str, Option<Asked<'_>>)> = None;
    for row in 0..batch.num_rows() {
        let (meter, ts) = (meters.value(row), times.value(row));
        let entry = match current {
            Some((of, entry)) if of == meter => entry,
            _ => wanted.get_key_value(meter),
        };
        current = Some((meter, entry));
        let Some((id, asked)) = entry else { continue };
        if let Some(bound) = found.bounds.get_mut(id) {
            *bound = (*bound).max(ts);
        }
        if asked.contains(&ts) {
            rows.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
    }
    if !rows.is_empty() {
        let rows = arrow::array::UInt32Array::from(rows);
        found.rows.push(arrow::compute::take_record_batch(batch, &rows)?);
    }
    Ok(())
}

/// A column of texts, one for each row.
pub(crate) fn text<'a, T: 'a, S: AsRef<str>>(rows: &'a [T], of: impl Fn(&'a T) -> S) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
}

/// A column of a batch that was asked for by name.
pub(crate) fn column<'a>(table: &str, batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, StoreError> {
    batch.column_by_name(name).ok_or_else(|| StoreError::foreign(table, format!("a file lacks the column {name}")))
}
