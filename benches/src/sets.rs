//! The sets of readings that bytes at rest are measured on: SM-1, simulated, and what real meters said.
//!
//! Each row has all columns of a table: when it arrived, from where, by which profile, in which commit.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::Field;
use meterlake_device_sim::replay::{Dataset, Recording};
use meterlake_model::{Channel, Commodity, MeterId, ReadingBatch, ReadingFlags, RowHeader, Timestamp, month_key};
use meterlake_store::{TableSpec, schema};

use crate::input::RECORD_ROWS;

/// 2026-01-01T00:00:00Z, where SM-1 begins.
const START_S: i64 = 1_767_225_600;
/// A quarter of an hour.
const SLOT_S: i64 = 900;
const SLOTS_A_DAY: i64 = 96;
/// Meters of one transformer share their voltage but for a drop and noise.
const METERS_A_TRANSFORMER: u64 = 50;
/// A collector commits so often.
const COMMIT_S: i64 = 15;

/// One reading with all that is stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    meter: Arc<str>,
    ts_s: i64,
    revision: i32,
    /// In the columns' own steps, in the order of the set's channels.
    values: [i64; 4],
    received_at_s: i64,
    flags: i32,
}

/// A set of readings.
#[derive(Debug)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Which table.
    pub commodity: Commodity,
    /// Columns of values.
    pub channels: Vec<Channel>,
    /// Values of one row: those of the channels, and the status where the meters send one.
    pub values_a_row: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Simulated { meters: u64, days: i64 },
    Recorded(Vec<Row>),
}

impl Set {
    /// SM-1: register in Wh, 0.1 V, 0.01 A, W and a status each quarter of an hour.
    ///
    /// # Errors
    /// When the catalogue of channels lacks one.
    pub fn sm1(meters: u64, days: i64) -> anyhow::Result<Self> {
        let channels = ["energy_import_kwh", "voltage_l1_v", "current_l1_a", "power_kw"];
        let channels = channels.map(|name| Channel::by_name(name).with_context(|| format!("no channel {name}")));
        Ok(Self {
            name: format!("SM-1, {meters} meters x {days} days"),
            commodity: Commodity::Electricity,
            channels: channels.into_iter().collect::<anyhow::Result<_>>()?,
            values_a_row: 5,
            source: Source::Simulated { meters, days },
        })
    }

    /// A recorded set, exact repeats left out; what contradicts an earlier row of its time is a further revision.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn recorded(dataset: Dataset, folder: &Path, limit: usize) -> anyhow::Result<Self> {
        let recording = Recording::open(dataset, folder)?;
        let mut channel = None;
        let mut rows: Vec<Row> = Vec::new();
        for message in recording.messages(100)? {
            let message = message?.rows;
            let only = *message.channels.first().context("a message without channels")?;
            ensure!(message.channels.len() == 1 && *channel.get_or_insert(only) == only, "more than one channel");
            let meter: Arc<str> = message.meter_id.as_str().into();
            for (ts, values) in message.iter() {
                let ts_s = ts.unix_seconds();
                let delay = 1 + noise(&[3, ts_s.cast_unsigned(), rows.len() as u64]) % 4;
                rows.push(Row {
                    meter: Arc::clone(&meter),
                    ts_s,
                    revision: 0,
                    values: [values[0], 0, 0, 0],
                    received_at_s: ts_s + delay.cast_signed(),
                    flags: 0,
                });
            }
            if rows.len() >= limit {
                break;
            }
        }
        rows.sort_by(|a, b| (&a.meter, a.ts_s).cmp(&(&b.meter, b.ts_s)));
        rows.dedup_by(|b, a| a.meter == b.meter && a.ts_s == b.ts_s && a.values == b.values);
        for at in 1..rows.len() {
            let (before, now) = rows.split_at_mut(at);
            if let (Some(before), Some(now)) = (before.last(), now.first_mut())
                && (&before.meter, before.ts_s) == (&now.meter, now.ts_s)
            {
                now.revision = before.revision + 1;
                now.flags = ReadingFlags::CONFLICT.bits().cast_signed();
            }
        }
        let channel = channel.context("an empty recording")?;
        Ok(Self {
            name: dataset.as_str().to_owned(),
            commodity: channel.commodity(),
            channels: vec![channel],
            values_a_row: 1,
            source: Source::Recorded(rows),
        })
    }

    /// The table that the rows belong to.
    pub fn table(&self) -> TableSpec {
        schema::readings(self.commodity)
    }

    /// Rows of all batches.
    pub fn rows(&self) -> u64 {
        match &self.source {
            Source::Simulated { meters, days } => meters * (days * SLOTS_A_DAY).unsigned_abs(),
            Source::Recorded(rows) => rows.len() as u64,
        }
    }

    /// The rows, some at a time: a day of all simulated meters.
    ///
    /// # Errors
    /// When columns cannot be made.
    pub fn batches(&self) -> impl Iterator<Item = anyhow::Result<RecordBatch>> {
        let parts = match &self.source {
            Source::Simulated { days, .. } => *days,
            Source::Recorded(_) => 1,
        };
        (0..parts).map(move |part| match &self.source {
            Source::Simulated { meters, .. } => self.batch(&day(*meters, part)),
            Source::Recorded(rows) => self.batch(rows),
        })
    }

    /// The same as records of a journal.
    ///
    /// # Errors
    /// When a row is none of the model's.
    pub fn records(&self) -> impl Iterator<Item = anyhow::Result<ReadingBatch>> {
        let parts = match &self.source {
            Source::Simulated { days, .. } => *days,
            Source::Recorded(_) => 1,
        };
        (0..parts).flat_map(move |part| {
            let rows = match &self.source {
                Source::Simulated { meters, .. } => day(*meters, part),
                Source::Recorded(rows) => rows.clone(),
            };
            let records: Vec<_> = rows.chunks(RECORD_ROWS).map(|rows| self.record(rows)).collect();
            records
        })
    }

    fn record(&self, rows: &[Row]) -> anyhow::Result<ReadingBatch> {
        let mut batch = ReadingBatch::default();
        let (source, profile): (Arc<str>, Arc<str>) = ("mqtt/main".into(), "meterlake-json@1".into());
        for row in rows {
            let header = RowHeader {
                meter_id: MeterId::new(&row.meter)?,
                ts: Timestamp::from_unix_seconds(row.ts_s)?,
                received_at_s: row.received_at_s,
                source: Arc::clone(&source),
                profile: Arc::clone(&profile),
                flags: ReadingFlags::from_bits(row.flags.cast_unsigned()),
            };
            let values: Vec<_> = self.channels.iter().copied().zip(row.values).collect();
            batch.rows_mut(self.commodity).push(header, &values);
        }
        Ok(batch)
    }

    fn batch(&self, rows: &[Row]) -> anyhow::Result<RecordBatch> {
        let spec = self.table();
        let columns = spec.schema.fields().iter().map(|field| self.column(field, rows));
        Ok(RecordBatch::try_new(spec.schema.clone(), columns.collect::<anyhow::Result<_>>()?)?)
    }

    fn column(&self, field: &Field, rows: &[Row]) -> anyhow::Result<ArrayRef> {
        let kind = field.data_type();
        if let Some(at) = self.channels.iter().position(|c| c.name() == field.name()) {
            let values = Decimal128Array::from_iter_values(rows.iter().map(|r| i128::from(r.values[at])));
            return Ok(Arc::new(values.with_data_type(kind.clone())));
        }
        let texts =
            |of: &dyn Fn(&Row) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
        let seconds = |of: &dyn Fn(&Row) -> i64| -> ArrayRef {
            let micros = rows.iter().map(|r| of(r) * 1_000_000);
            Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
        };
        Ok(match field.name().as_str() {
            "meter_id" => Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.meter))),
            "ts" => seconds(&|r| r.ts_s),
            "received_at" => seconds(&|r| r.received_at_s),
            "revision" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.revision))),
            "flags" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.flags))),
            "commit_seq" => {
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.received_at_s.div_euclid(COMMIT_S))))
            }
            "source" => texts(&|_| "mqtt/main".into()),
            "profile" => texts(&|_| "meterlake-json@1".into()),
            schema::MONTH => {
                let month = |r: &Row| Timestamp::from_unix_seconds(r.ts_s).map(month_key);
                let months = rows.iter().map(month).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StringArray::from_iter_values(months))
            }
            _ => new_null_array(kind, rows.len()),
        })
    }
}

/// One day of all simulated meters, meter by meter. What a register has counted before is computed from the beginning.
fn day(meters: u64, day: i64) -> Vec<Row> {
    let slots = day * SLOTS_A_DAY..(day + 1) * SLOTS_A_DAY;
    let mut rows = Vec::new();
    let mut levels: Option<(u64, Vec<i64>)> = None;
    for meter in 0..meters {
        let transformer = meter / METERS_A_TRANSFORMER;
        if levels.as_ref().is_none_or(|(of, _)| *of != transformer) {
            levels = Some((transformer, voltage(transformer, slots.end)));
        }
        let Some((_, levels)) = &levels else { continue };
        let name: Arc<str> = format!("SM1-{meter:06}").into();
        let mut register = (noise(&[10, meter]) % 60_000_000).cast_signed();
        for slot in 0..slots.end {
            let at = slot.cast_unsigned();
            let watts = load(meter, slot);
            register += watts / 4;
            if slot < slots.start {
                continue;
            }
            let power = watts * (90 + (noise(&[11, meter, at]) % 21).cast_signed()) / 100;
            let drop = (noise(&[12, meter]) % 31).cast_signed();
            let level = levels.get(usize::try_from(slot).unwrap_or(0)).copied().unwrap_or(2300);
            let decivolts = level - drop + (noise(&[13, meter, at]) % 31).cast_signed() - 15;
            let centiamperes = (power * 1000 + decivolts / 2) / decivolts;
            // A meter's clock is suspect for a day, now and then.
            let suspect = noise(&[14, meter, day.cast_unsigned()]).is_multiple_of(200);
            // Each meter has its own place within the minute, and the network its jitter.
            let delay = noise(&[15, meter]) % 60 + noise(&[16, meter, at]) % 3;
            rows.push(Row {
                meter: Arc::clone(&name),
                ts_s: START_S + slot * SLOT_S,
                revision: 0,
                values: [register, decivolts, centiamperes * 10, power],
                received_at_s: START_S + slot * SLOT_S + delay.cast_signed(),
                flags: if suspect { ReadingFlags::CLOCK_SUSPECT.bits().cast_signed() } else { 0 },
            });
        }
    }
    rows
}

/// Mean power of a slot in W: what runs always, the hour's habit with noise, and now and then a kettle or an oven.
fn load(meter: u64, slot: i64) -> i64 {
    const HABIT_W: [i64; 24] = [
        110, 95, 90, 90, 95, 120, 230, 380, 340, 240, 210, 230, 310, 330, 250, 220, 240, 320, 460, 560, 590, 510, 340,
        190,
    ];
    let of = |purpose: u64, range: u64| (noise(&[purpose, meter, slot.cast_unsigned()]) % range).cast_signed();
    let base = 40 + (noise(&[20, meter]) % 101).cast_signed();
    let scale = 60 + (noise(&[21, meter]) % 131).cast_signed();
    let habit = HABIT_W[usize::try_from(slot.rem_euclid(SLOTS_A_DAY) / 4).unwrap_or(0) % 24];
    let burst = of(22, 1000);
    let burst = if burst < habit / 6 { 400 + burst * 14 % 1900 } else { 0 };
    base + habit * scale / 100 * (55 + of(23, 91)) / 100 + burst
}

/// A transformer's voltage in 0.1 V: it wanders, drawn back to the middle.
fn voltage(transformer: u64, slots: i64) -> Vec<i64> {
    let mut level = 2300;
    (0..slots.cast_unsigned())
        .map(|slot| {
            level += (noise(&[30, transformer, slot]) % 13).cast_signed() - 6 + (2300 - level) / 12;
            level = level.clamp(2240, 2350);
            level
        })
        .collect()
}

/// The same on every machine, for whatever it is asked for.
fn noise(of: &[u64]) -> u64 {
    of.iter().fold(0x6A09_E667_F3BC_C908, |state, part| {
        let mut x = (state ^ part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_goes_on_where_the_one_before_it_ended() {
        let (first, second) = (day(3, 0), day(3, 1));
        assert_eq!((first.len(), second.len()), (288, 288));
        for meter in 0..3 {
            let (last, next) = (&first[meter * 96 + 95], &second[meter * 96]);
            assert_eq!((last.ts_s + SLOT_S, &last.meter), (next.ts_s, &next.meter));
            let used = next.values[0] - last.values[0];
            assert_eq!(used, load(meter as u64, 96) / 4);
        }
        assert!(first.iter().all(|r| (2180..=2380).contains(&r.values[1])));
        assert_eq!(first, day(3, 0));
    }

    #[test]
    fn a_batch_has_all_columns_of_its_table() {
        let set = Set::sm1(2, 1).unwrap();
        let batch = set.batches().next().unwrap().unwrap();
        assert_eq!(batch.num_rows() as u64, set.rows());
        assert_eq!(batch.schema(), set.table().schema);
    }
}
