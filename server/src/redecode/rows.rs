//! Rows of readings as columns and back: what waits in files while a re-decode is computed.

use std::sync::Arc;

use anyhow::Context;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use meterlake_model::{Channel, Commodity, MeterId, ReadingFlags, RowHeader, Timestamp, month_key};
use meterlake_store::schema;

use super::compare::{Decoded, Stored, Values};

/// Columns of decoded rows beside their channels.
pub(super) const DECODED: [&str; 8] =
    ["meter_id", "ts", "seq", "selected", "received_at_s", "source", "profile", "flags"];

/// The columns of rows that were decoded just now.
pub(super) fn decoded_schema(commodity: Commodity) -> SchemaRef {
    let long = |name: &str| Field::new(name, DataType::Int64, false);
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let mut fields = vec![
        text("meter_id"),
        long("ts"),
        long("seq"),
        Field::new("selected", DataType::Boolean, false),
        long("received_at_s"),
        text("source"),
        text("profile"),
        Field::new("flags", DataType::Int32, false),
    ];
    fields.extend(Channel::of(commodity).map(|c| Field::new(c.name(), DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

/// Decoded rows as columns; `first` is the number of the first one.
pub(super) fn decoded_batch(schema: &SchemaRef, rows: &[Decoded], first: i64) -> anyhow::Result<RecordBatch> {
    let text = |of: fn(&RowHeader) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| of(&r.header))))
    };
    let long = |of: fn(&RowHeader) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| of(&r.header))))
    };
    let columns = schema.fields().iter().map(|field| -> anyhow::Result<ArrayRef> {
        Ok(match field.name().as_str() {
            "meter_id" => text(|h| h.meter_id.as_str()),
            "ts" => long(|h| h.ts.micros()),
            "seq" => Arc::new(Int64Array::from_iter_values((first..).take(rows.len()))),
            "selected" => Arc::new(rows.iter().map(|r| Some(r.selected)).collect::<BooleanArray>()),
            "received_at_s" => long(|h| h.received_at_s),
            "source" => text(|h| &h.source),
            "profile" => text(|h| &h.profile),
            "flags" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.header.flags.bits().cast_signed()))),
            name => {
                let channel = Channel::by_name(name).with_context(|| format!("no channel {name}"))?;
                Arc::new(rows.iter().map(|r| value(&r.values, channel)).collect::<Int64Array>())
            }
        })
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<anyhow::Result<_>>()?)?)
}

/// A row that is to be written, with the revision that it will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) header: RowHeader,
    pub(super) revision: i32,
    pub(super) values: Values,
}

/// Rows as the table of readings will have them, with the commit that a preview takes them for.
pub(super) fn written_batch(commodity: Commodity, rows: &[Written], commit_seq: i64) -> anyhow::Result<RecordBatch> {
    let schema = schema::readings(commodity).schema;
    let text = |of: fn(&RowHeader) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| of(&r.header))))
    };
    let instant = |of: fn(&RowHeader) -> i64| -> ArrayRef {
        let values = rows.iter().map(|r| of(&r.header));
        Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
    };
    let columns = schema.fields().iter().map(|field| -> anyhow::Result<ArrayRef> {
        Ok(match field.name().as_str() {
            "meter_id" => text(|h| h.meter_id.as_str()),
            "ts" => instant(|h| h.ts.micros()),
            "revision" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.revision))),
            "received_at" => instant(|h| h.received_at_s.saturating_mul(1_000_000)),
            "source" => text(|h| &h.source),
            "profile" => text(|h| &h.profile),
            "flags" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.header.flags.bits().cast_signed()))),
            "commit_seq" => Arc::new(Int64Array::from(vec![commit_seq; rows.len()])),
            schema::MONTH => Arc::new(StringArray::from_iter_values(rows.iter().map(|r| month_key(r.header.ts)))),
            name => {
                let channel = Channel::by_name(name).with_context(|| format!("no channel {name}"))?;
                let values = rows.iter().map(|r| value(&r.values, channel).map(i128::from));
                Arc::new(values.collect::<Decimal128Array>().with_data_type(field.data_type().clone()))
            }
        })
    });
    Ok(RecordBatch::try_new(Arc::clone(&schema), columns.collect::<anyhow::Result<_>>()?)?)
}

fn value(values: &Values, channel: Channel) -> Option<i64> {
    values.iter().find(|(c, _)| *c == channel).map(|(_, value)| *value)
}

/// The columns of one batch by name, texts and instants in the forms that are read here.
struct Columns<'a> {
    batch: &'a RecordBatch,
    channels: Vec<(Channel, ArrayRef)>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> anyhow::Result<Self> {
        let schema = batch.schema();
        let named = schema.fields().iter().enumerate();
        let channels = named.filter_map(|(at, f)| Some((Channel::by_name(f.name())?, Arc::clone(batch.column(at)))));
        Ok(Self { batch, channels: channels.collect() })
    }

    fn column(&self, name: &str, form: &DataType) -> anyhow::Result<ArrayRef> {
        let column = self.batch.column_by_name(name).with_context(|| format!("there is no column {name}"))?;
        Ok(arrow::compute::cast(column, form)?)
    }

    fn texts(&self, name: &str) -> anyhow::Result<StringArray> {
        Ok(self.column(name, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    fn longs(&self, name: &str) -> anyhow::Result<Int64Array> {
        Ok(self.column(name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    fn ints(&self, name: &str) -> anyhow::Result<Int32Array> {
        Ok(self.column(name, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
    }

    fn micros(&self, name: &str) -> anyhow::Result<TimestampMicrosecondArray> {
        let column = self.batch.column_by_name(name).with_context(|| format!("there is no column {name}"))?;
        let column = column.as_primitive_opt::<TimestampMicrosecondType>();
        column.cloned().with_context(|| format!("{name} is no time"))
    }

    fn values(&self, row: usize) -> anyhow::Result<Values> {
        let mut values = Values::new();
        for (channel, column) in self.channels.iter().filter(|(_, column)| column.is_valid(row)) {
            let value = match column.data_type() {
                DataType::Int64 => column.as_primitive::<Int64Type>().value(row),
                DataType::Decimal128(..) => i64::try_from(column.as_primitive::<Decimal128Type>().value(row))?,
                other => anyhow::bail!("{channel} is of type {other}"),
            };
            values.push((*channel, value));
        }
        Ok(values)
    }
}

/// Texts that come again and again are held once.
#[derive(Default)]
pub(super) struct Names(std::collections::HashMap<String, Arc<str>>);

impl Names {
    fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let name: Arc<str> = text.into();
        self.0.insert(text.to_owned(), Arc::clone(&name));
        name
    }
}

/// Reads [`decoded_batch`] back, with any of its channels.
pub(super) fn decoded_rows(batch: &RecordBatch, names: &mut Names) -> anyhow::Result<Vec<Decoded>> {
    let columns = Columns::of(batch)?;
    let (meter, source, profile) = (columns.texts("meter_id")?, columns.texts("source")?, columns.texts("profile")?);
    let (ts, received, flags) = (columns.longs("ts")?, columns.longs("received_at_s")?, columns.ints("flags")?);
    let selected = columns.column("selected", &DataType::Boolean)?;
    let selected = selected.as_boolean();
    (0..batch.num_rows())
        .map(|row| {
            let header = RowHeader {
                meter_id: MeterId::new(meter.value(row))?,
                ts: Timestamp::from_micros(ts.value(row))?,
                received_at_s: received.value(row),
                source: names.get(source.value(row)),
                profile: names.get(profile.value(row)),
                flags: ReadingFlags::from_bits(flags.value(row).cast_unsigned()),
            };
            Ok(Decoded { header, values: columns.values(row)?, selected: selected.value(row) })
        })
        .collect()
}

/// Rows of a table of readings. Whether they may be asked for is not known yet.
pub(super) fn stored_rows(batch: &RecordBatch, names: &mut Names) -> anyhow::Result<Vec<Stored>> {
    let columns = Columns::of(batch)?;
    let (meter, source, profile) = (columns.texts("meter_id")?, columns.texts("source")?, columns.texts("profile")?);
    let (ts, received) = (columns.micros("ts")?, columns.micros("received_at")?);
    let (flags, revision, seq) = (columns.ints("flags")?, columns.ints("revision")?, columns.longs("commit_seq")?);
    (0..batch.num_rows())
        .map(|row| {
            let header = RowHeader {
                meter_id: MeterId::new(meter.value(row))?,
                ts: Timestamp::from_micros(ts.value(row))?,
                received_at_s: received.value(row).div_euclid(1_000_000),
                source: names.get(source.value(row)),
                profile: names.get(profile.value(row)),
                flags: ReadingFlags::from_bits(flags.value(row).cast_unsigned()),
            };
            let (revision, commit_seq) = (revision.value(row), seq.value(row));
            Ok(Stored { header, revision, commit_seq, values: columns.values(row)?, may_be_asked: false })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_as_they_were_written() {
        let channel = |name| Channel::by_name(name).unwrap();
        let header = |n: i64| RowHeader {
            meter_id: MeterId::new("m1").unwrap(),
            ts: Timestamp::from_micros(1_700_000_000_000_001 + n).unwrap(),
            received_at_s: 1_700_000_005 + n,
            source: "broker".into(),
            profile: "map@2".into(),
            flags: ReadingFlags::RE_DECODED,
        };
        let values = vec![(channel("energy_import_kwh"), 123_456), (channel("voltage_l1_v"), 2301)];
        let rows = vec![
            Decoded { header: header(0), values: values.clone(), selected: true },
            Decoded { header: header(1), values: Values::new(), selected: false },
        ];
        let schema = decoded_schema(Commodity::Electricity);
        let batch = decoded_batch(&schema, &rows, 7).unwrap();
        assert_eq!(batch.schema().fields().iter().take(8).map(|f| f.name().as_str()).collect::<Vec<_>>(), DECODED);
        assert_eq!(decoded_rows(&batch, &mut Names::default()).unwrap(), rows);
        let written = Written { header: header(0), revision: 1 << 20, values: values.clone() };
        let batch = written_batch(Commodity::Electricity, &[written], 9).unwrap();
        let read = stored_rows(&batch, &mut Names::default()).unwrap().remove(0);
        assert_eq!((read.header, read.values), (header(0), values));
        assert_eq!((read.revision, read.commit_seq), (1 << 20, 9));
    }
}
