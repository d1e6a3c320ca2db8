//! The sums of rows that a rewrite must leave as they were.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};

/// Rows, and for each column its values and their sum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    rows: i128,
    columns: BTreeMap<String, (i128, i128)>,
}

impl Tally {
    /// Adds rows.
    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        self.count(batch, 1);
    }

    /// Takes rows away that are merged with others.
    pub(crate) fn subtract(&mut self, batch: &RecordBatch) {
        self.count(batch, -1);
    }

    fn count(&mut self, batch: &RecordBatch, sign: i128) {
        self.rows += sign * batch.num_rows() as i128;
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let entry = self.columns.entry(field.name().clone()).or_default();
            entry.0 += sign * (column.len() - column.null_count()) as i128;
            entry.1 = entry.1.wrapping_add(sign.wrapping_mul(sum(column)));
        }
    }

    /// What differs; `None` when nothing does.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        if self.rows != other.rows {
            return Some(format!("{} rows became {}", self.rows, other.rows));
        }
        let names: std::collections::BTreeSet<_> = self.columns.keys().chain(other.columns.keys()).collect();
        names.into_iter().find_map(|name| {
            let of = |tally: &Self| tally.columns.get(name).copied().unwrap_or_default();
            let (ours, theirs) = (of(self), of(other));
            (ours != theirs).then(|| {
                format!("column {name} had {} values of sum {}, and has {} of {}", ours.0, ours.1, theirs.0, theirs.1)
            })
        })
    }
}

/// A number that changes when a value does: the sum of numbers, the bytes of texts.
fn sum(column: &ArrayRef) -> i128 {
    match column.data_type() {
        DataType::Decimal128(..) => add_up(column.as_primitive::<Decimal128Type>().iter()),
        DataType::Int32 => add_up(column.as_primitive::<Int32Type>().iter().map(|v| v.map(i128::from))),
        DataType::Int64 => add_up(column.as_primitive::<Int64Type>().iter().map(|v| v.map(i128::from))),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            add_up(column.as_primitive::<TimestampMicrosecondType>().iter().map(|v| v.map(i128::from)))
        }
        DataType::Utf8 => add_up(column.as_string::<i32>().iter().map(|v| v.map(|t| bytes(t.as_bytes())))),
        DataType::Binary => add_up(column.as_binary::<i32>().iter().map(|v| v.map(bytes))),
        _ => 0,
    }
}

fn add_up(values: impl Iterator<Item = Option<i128>>) -> i128 {
    values.flatten().fold(0, i128::wrapping_add)
}

fn bytes(bytes: &[u8]) -> i128 {
    i128::from(crc32c::crc32c(bytes)) + ((bytes.len() as i128) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    fn rows(values: &[(&str, Option<i64>)]) -> Tally {
        let mut tally = Tally::default();
        tally.add(&batch(values));
        tally
    }

    fn batch(values: &[(&str, Option<i64>)]) -> RecordBatch {
        let texts: StringArray = values.iter().map(|v| Some(v.0)).collect();
        let numbers: Int64Array = values.iter().map(|v| v.1).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(texts) as ArrayRef, true),
            ("n", Arc::new(numbers) as ArrayRef, true),
        ])
        .unwrap()
    }

    #[test]
    fn order_does_not_count_and_every_change_does() {
        let before = rows(&[("a", Some(1)), ("b", None)]);
        assert_eq!(before.difference(&rows(&[("b", None), ("a", Some(1))])), None);
        assert_eq!(before.difference(&rows(&[("a", Some(1))])).unwrap(), "2 rows became 1");
        for other in [[("a", Some(2)), ("b", None)], [("a", Some(1)), ("c", None)], [("a", Some(1)), ("b", Some(0))]] {
            assert!(before.difference(&rows(&other)).unwrap().starts_with("column "));
        }
        let mut twice = rows(&[("a", Some(1)), ("b", None), ("b", None)]);
        twice.subtract(&batch(&[("b", None)]));
        assert_eq!(before.difference(&twice), None);
    }
}
