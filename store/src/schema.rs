//! The tables that `collect` writes: readings by commodity, meter events, dead letters and raw messages.
//!
//! A reading's columns come from the catalogue of channels, so that a new channel is one line in the model.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use meterlake_model::{Channel, Commodity};

use crate::table::TableSpec;

/// The partition column of everything that has a time: its UTC month as `2026-11`.
pub const MONTH: &str = "month";

/// Type of every instant: microseconds in UTC.
pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Type of a channel's column.
pub fn channel_type(channel: Channel) -> DataType {
    DataType::Decimal128(channel.precision(), i8::try_from(channel.scale()).unwrap_or(i8::MAX))
}

/// Name of a commodity's readings table.
pub const fn readings_name(commodity: Commodity) -> &'static str {
    match commodity {
        Commodity::Electricity => "electricity_readings",
        Commodity::Water => "water_readings",
    }
}

/// The commodity of a readings table.
pub fn commodity_of(table: &str) -> Option<Commodity> {
    Commodity::ALL.into_iter().find(|c| readings_name(*c) == table)
}

/// Columns of a reading that say nothing of what the meter said.
pub(crate) const HOW_A_ROW_CAME: [&str; 5] = ["received_at", "source", "profile", "flags", "commit_seq"];

/// What meters of one commodity said, one row a message and meter time; key (meter_id, ts, revision).
///
/// Rows that differ in a value of the same meter and time have different revisions; rows of one revision complete each
/// other column by column.
pub fn readings(commodity: Commodity) -> TableSpec {
    let mut fields = vec![text("meter_id"), time("ts"), required("revision", DataType::Int32)];
    fields.extend(Channel::of(commodity).map(|c| Field::new(c.name(), channel_type(c), true)));
    fields.extend([
        time("received_at"),
        text("source"),
        text("profile"),
        required("flags", DataType::Int32),
        required("commit_seq", DataType::Int64),
        text(MONTH),
    ]);
    spec(readings_name(commodity), fields, &[MONTH], &["meter_id", "ts", "revision"])
}

/// What meters report beside their readings; key (meter_id, ts, event).
pub fn meter_events() -> TableSpec {
    let fields = vec![
        text("meter_id"),
        time("ts"),
        text("event"),
        text("detail"),
        time("received_at"),
        text("source"),
        required("commit_seq", DataType::Int64),
        text(MONTH),
    ];
    spec("meter_events", fields, &[MONTH], &["meter_id", "ts", "event"])
}

/// Input that could not be read, whole, with its reason; key (position, item).
pub fn dead_letters() -> TableSpec {
    let fields = vec![
        required("position", DataType::Int64),
        required("item", DataType::Int32),
        text("reason"),
        text("detail"),
        text("source"),
        text("topic"),
        required("payload", DataType::Binary),
        time("received_at"),
        text("decoder"),
        required("commit_seq", DataType::Int64),
        text(MONTH),
    ];
    spec("dead_letters", fields, &[MONTH], &["position", "item"])
}

/// Input as it came, where its map keeps it; key (position, item).
pub fn raw_messages() -> TableSpec {
    let fields = vec![
        required("position", DataType::Int64),
        required("item", DataType::Int32),
        text("source"),
        text("topic"),
        required("payload", DataType::Binary),
        time("received_at"),
        required("commit_seq", DataType::Int64),
        text(MONTH),
    ];
    spec("raw_messages", fields, &[MONTH], &["position", "item"])
}

/// All tables that the journal feeds; each carries the journal position as its application transaction.
pub fn collected() -> [TableSpec; 5] {
    [readings(Commodity::Electricity), readings(Commodity::Water), meter_events(), dead_letters(), raw_messages()]
}

/// A table of these columns.
pub fn spec(
    name: &'static str,
    fields: Vec<Field>,
    partition_by: &'static [&'static str],
    sort_by: &'static [&'static str],
) -> TableSpec {
    TableSpec { name, schema: Arc::new(Schema::new(fields)), partition_by, sort_by }
}

/// A column without nulls.
pub fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// A column that may be null.
pub fn maybe(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// A text column without nulls.
pub fn text(name: &str) -> Field {
    required(name, DataType::Utf8)
}

/// A column of instants without nulls.
pub fn time(name: &str) -> Field {
    required(name, instant())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_names_only_columns_that_it_has_and_ends_with_its_partition() {
        for spec in collected() {
            for column in spec.sort_by.iter().chain(spec.partition_by) {
                assert!(spec.schema.column_with_name(column).is_some(), "{} has no {column}", spec.name);
            }
            assert_eq!(spec.schema.fields().last().unwrap().name(), MONTH);
        }
    }

    #[test]
    fn channels_are_exact_decimals_of_their_catalogue() {
        let spec = readings(Commodity::Water);
        let field = spec.schema.field_with_name("volume_m3").unwrap();
        assert_eq!(field.data_type(), &DataType::Decimal128(15, 3));
        assert_eq!(spec.schema.fields().len(), 3 + Channel::of(Commodity::Water).count() + 6);
        assert_eq!(commodity_of("water_readings"), Some(Commodity::Water));
    }
}
