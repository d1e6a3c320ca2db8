//! Exact statistics of a data file: from its columns, into the Delta log's text and back.
//!
//! deltalake's own writer sends scaled decimals through floats; here a decimal is written and read digit by digit. Bounds
//! of files that another program wrote are kept only where that program cannot have shortened them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{max, max_string, min, min_string};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;
use meterlake_model::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::table::ColumnRange;

/// Longer texts have no bounds in the log: their whole value would be kept in memory for each file.
const MAX_TEXT: usize = 128;

/// Gathers the statistics of rows as they are written.
#[derive(Debug, Default)]
pub(crate) struct StatsBuilder {
    rows: u64,
    columns: BTreeMap<String, Bounds>,
}

#[derive(Debug, Default)]
struct Bounds {
    range: ColumnRange,
    /// A value had no place in an order (a float that is no number, a text too long): there are no bounds.
    unbounded: bool,
}

impl StatsBuilder {
    /// Takes the columns of further rows into account.
    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let bounds = self.columns.entry(field.name().clone()).or_default();
            let nulls = column.null_count() as u64;
            bounds.range.nulls = Some(bounds.range.nulls.unwrap_or(0) + nulls);
            if bounds.unbounded || nulls == column.len() as u64 {
                continue;
            }
            match extremes(column) {
                Some((low, high)) => {
                    widen(&mut bounds.range.min, low, Ordering::Less);
                    widen(&mut bounds.range.max, high, Ordering::Greater);
                }
                None => {
                    bounds.unbounded = true;
                    bounds.range.min = None;
                    bounds.range.max = None;
                }
            }
        }
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The statistics by column.
    pub(crate) fn finish(self) -> BTreeMap<String, ColumnRange> {
        self.columns.into_iter().map(|(name, bounds)| (name, bounds.range)).collect()
    }
}

fn widen(bound: &mut Option<ScalarValue>, value: ScalarValue, wanted: Ordering) {
    let better = bound.as_ref().is_none_or(|b| value.partial_cmp(b) == Some(wanted));
    if better {
        *bound = Some(value);
    }
}

fn extremes(column: &ArrayRef) -> Option<(ScalarValue, ScalarValue)> {
    match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            let (low, high) = (min_string(texts)?, max_string(texts)?);
            let long = low.len() > MAX_TEXT || high.len() > MAX_TEXT;
            (!long).then(|| (ScalarValue::from(low), ScalarValue::from(high)))
        }
        DataType::Int32 => {
            let values = column.as_primitive::<Int32Type>();
            Some((ScalarValue::from(min(values)?), ScalarValue::from(max(values)?)))
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>();
            Some((ScalarValue::from(min(values)?), ScalarValue::from(max(values)?)))
        }
        DataType::Date32 => {
            let values = column.as_primitive::<Date32Type>();
            Some((ScalarValue::Date32(min(values)), ScalarValue::Date32(max(values))))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let values = column.as_primitive::<TimestampMicrosecondType>();
            let scalar = |v| ScalarValue::TimestampMicrosecond(Some(v), zone.clone());
            Some((scalar(min(values)?), scalar(max(values)?)))
        }
        DataType::Decimal128(precision, scale) => {
            let values = column.as_primitive::<Decimal128Type>();
            let scalar = |v| ScalarValue::Decimal128(Some(v), *precision, *scale);
            Some((scalar(min(values)?), scalar(max(values)?)))
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            let finite = values.iter().flatten().all(f64::is_finite);
            finite.then_some((ScalarValue::Float64(min(values)), ScalarValue::Float64(max(values))))
        }
        _ => None,
    }
}

/// The text of the log: `numRecords`, `minValues`, `maxValues`, `nullCount`.
pub(crate) fn to_json(rows: u64, columns: &BTreeMap<String, ColumnRange>) -> String {
    let member = |pick: &dyn Fn(&ColumnRange) -> Option<String>| {
        let mut text = String::new();
        for (name, range) in columns {
            if let Some(value) = pick(range) {
                let comma = if text.is_empty() { "" } else { "," };
                // A text always serialises.
                let _ = write!(text, "{comma}{}:{value}", serde_json::Value::from(name.as_str()));
            }
        }
        text
    };
    let low = member(&|r| value_json(r.min.as_ref()?));
    let high = member(&|r| value_json(r.max.as_ref()?));
    let nulls = member(&|r| r.nulls.map(|n| n.to_string()));
    format!(r#"{{"numRecords":{rows},"minValues":{{{low}}},"maxValues":{{{high}}},"nullCount":{{{nulls}}}}}"#)
}

fn value_json(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(Some(text)) => Some(serde_json::Value::from(text.as_str()).to_string()),
        ScalarValue::Int32(Some(v)) => Some(v.to_string()),
        ScalarValue::Int64(Some(v)) => Some(v.to_string()),
        ScalarValue::Float64(Some(v)) => serde_json::Number::from_f64(*v).map(|n| n.to_string()),
        ScalarValue::Decimal128(Some(v), _, scale) => Some(decimal_text(*v, usize::try_from(*scale).ok()?)),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => instant_text(*micros).map(|t| format!("\"{t}\"")),
        ScalarValue::Date32(Some(days)) => {
            let start = instant_text(i64::from(*days) * 86_400_000_000)?;
            Some(format!("\"{}\"", start.split_once('T')?.0))
        }
        _ => None,
    }
}

fn decimal_text(value: i128, scale: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// Always with six decimals, so that a reader sees that nothing was cut.
fn instant_text(micros: i64) -> Option<String> {
    let whole = Timestamp::from_micros(micros.div_euclid(1_000_000) * 1_000_000).ok()?.to_string();
    Some(format!("{}.{:06}Z", whole.strip_suffix('Z')?, micros.rem_euclid(1_000_000)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatsText<'a> {
    #[serde(default)]
    num_records: Option<u64>,
    #[serde(borrow, default)]
    min_values: HashMap<String, &'a RawValue>,
    #[serde(borrow, default)]
    max_values: HashMap<String, &'a RawValue>,
    #[serde(borrow, default)]
    null_count: HashMap<String, &'a RawValue>,
}

/// Reads the text of the log. `exact`: this program wrote it, so no bound was shortened.
///
/// `None` when it is no such text or does not tell the number of rows.
pub(crate) fn from_json(text: &str, schema: &Schema, exact: bool) -> Option<(u64, BTreeMap<String, ColumnRange>)> {
    let stats: StatsText<'_> = serde_json::from_str(text).ok()?;
    let mut columns = BTreeMap::new();
    for field in schema.fields() {
        let kind = field.data_type();
        let sure = exact || !matches!(kind, DataType::Utf8 | DataType::Timestamp(..));
        let bound = |values: &HashMap<String, &RawValue>| {
            let text = values.get(field.name())?.get();
            sure.then(|| parse_value(text, kind)).flatten()
        };
        let range = ColumnRange {
            min: bound(&stats.min_values),
            max: bound(&stats.max_values),
            nulls: stats.null_count.get(field.name()).and_then(|n| n.get().parse().ok()),
        };
        if range != ColumnRange::default() {
            columns.insert(field.name().clone(), range);
        }
    }
    Some((stats.num_records?, columns))
}

fn parse_value(text: &str, kind: &DataType) -> Option<ScalarValue> {
    // Some writers put numbers into quotes.
    let bare = text.trim_matches('"');
    match kind {
        DataType::Utf8 => Some(ScalarValue::Utf8(Some(serde_json::from_str(text).ok()?))),
        DataType::Int32 => Some(ScalarValue::Int32(Some(bare.parse().ok()?))),
        DataType::Int64 => Some(ScalarValue::Int64(Some(bare.parse().ok()?))),
        DataType::Float64 => Some(ScalarValue::Float64(Some(bare.parse().ok()?))),
        DataType::Decimal128(precision, scale) => {
            let value = meterlake_model::parse_scaled(bare, u8::try_from(*scale).ok()?).ok()?;
            Some(ScalarValue::Decimal128(Some(i128::from(value)), *precision, *scale))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = Timestamp::parse_rfc3339(bare).ok()?.micros();
            Some(ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()))
        }
        DataType::Date32 => {
            let start = Timestamp::parse_rfc3339(&format!("{bare}T00:00:00Z")).ok()?;
            Some(ScalarValue::Date32(Some(i32::try_from(start.unix_seconds().div_euclid(86_400)).ok()?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::Field;
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let decimals = Decimal128Array::from(vec![Some(-1), None, Some(999_999_999_999_999_999)]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("amount", Arc::new(decimals.with_precision_and_scale(18, 6).unwrap())),
            ("id", Arc::new(StringArray::from(vec!["b", "a\"", "c"]))),
            ("ts", Arc::new(TimestampMicrosecondArray::from(vec![-1, 1_790_000_000_123_456, 0]).with_timezone("UTC"))),
            ("n", Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX]))),
            ("day", Arc::new(Date32Array::from(vec![-1, 0, 20_000]))),
            ("share", Arc::new(Float64Array::from(vec![0.5, -0.25, 0.1]))),
            ("none", Arc::new(Int64Array::from(vec![None, None, None]))),
            ("yes", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("bytes", Arc::new(BinaryArray::from_vec(vec![b"x", b"y", b"z"]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap()
    }

    #[test]
    fn statistics_come_back_exactly() {
        let batch = batch();
        let mut builder = StatsBuilder::default();
        builder.add(&batch.slice(0, 1));
        builder.add(&batch.slice(1, 2));
        assert_eq!(builder.rows(), 3);
        let columns = builder.finish();
        let text = to_json(3, &columns);
        let (rows, read) = from_json(&text, batch.schema_ref(), true).unwrap();
        assert_eq!(rows, 3);
        assert_eq!(read, columns, "{text}");
        assert_eq!(columns["none"], ColumnRange { nulls: Some(3), ..ColumnRange::default() });
        assert!(text.contains(r#""amount":999999999999.999999"#), "{text}");
        assert!(text.contains(r#""ts":"1969-12-31T23:59:59.999999Z""#), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn what_another_program_may_have_shortened_has_no_bounds() {
        let schema = Schema::new(vec![Field::new("id", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]);
        let text =
            r#"{"numRecords":2,"minValues":{"id":"a","n":1},"maxValues":{"id":"b","n":"2"},"nullCount":{"id":0}}"#;
        let (_, columns) = from_json(text, &schema, false).unwrap();
        assert_eq!(columns["id"], ColumnRange { nulls: Some(0), ..ColumnRange::default() });
        assert_eq!(columns["n"].max, Some(ScalarValue::Int64(Some(2))));
        assert_eq!(from_json("{}", &schema, true), None);
    }

    #[test]
    fn a_value_without_an_order_takes_the_bounds_away() {
        let mut builder = StatsBuilder::default();
        let one =
            |v: f64| RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(vec![v])) as ArrayRef)]).unwrap();
        builder.add(&one(1.0));
        builder.add(&one(f64::NAN));
        builder.add(&one(2.0));
        assert_eq!(builder.finish()["x"], ColumnRange { nulls: Some(0), ..ColumnRange::default() });
    }

    #[test]
    fn decimals_are_written_digit_by_digit() {
        for (value, scale, text) in [(0, 3, "0.000"), (-1, 3, "-0.001"), (12_345, 1, "1234.5"), (7, 0, "7")] {
            assert_eq!(decimal_text(value, scale), text);
        }
    }
}
