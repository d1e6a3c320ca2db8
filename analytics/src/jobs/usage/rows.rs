//! The operator's rows as rows of the tables.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{Int8Type, Int64Type, Schema};
use datafusion::error::DataFusionError;
use meterlake_model::{Quality, Zone};
use meterlake_store::{TableSpec, sort_rows};

use crate::jobs::derive::{BORDER, FINDING};
use crate::tables::read::{Rows, instant_at, other};
use crate::tables::{AMOUNT, write::days_since_1970};
use crate::usage::Level;

type Result<T> = std::result::Result<T, DataFusionError>;

/// Numbers of a border's detail: see the operator.
const BORDER_DETAILS: usize = 9;
const STATES: [&str; 3] = ["unsure", "nothing", "anchor"];

/// The names of what is known at a border, as in `usage_anchors`.
pub(super) const ANCHOR: &str = STATES[2];
/// See [`ANCHOR`].
pub(super) const NOTHING: &str = STATES[1];

/// A column of few texts.
pub(super) fn short_texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a DictionaryArray<Int8Type>> {
    let column = batch.column_by_name(name).and_then(|c| c.as_dictionary_opt::<Int8Type>());
    column.ok_or_else(|| other(format!("the walk gives no column {name}")))
}

/// The rows of one usage point and month that belong in a table, in its columns and order; partition columns are left out.
pub(in crate::jobs) fn table_rows(
    spec: &TableSpec,
    batches: &[RecordBatch],
    zone: &Zone,
) -> Result<Option<RecordBatch>> {
    let wanted: &[&str] = match spec.name {
        "usage_days" => &[Level::Day.as_str()],
        "findings" => &[FINDING],
        "usage_anchors" => &[BORDER],
        _ => &[Level::Day.as_str(), Level::Slot.as_str()],
    };
    let mut parts = Vec::new();
    for batch in batches {
        let batch = of_level(batch, wanted)?;
        if batch.num_rows() == 0 {
            continue;
        }
        parts.push(as_table(spec, &batch, |name| match spec.name {
            "usage_days" => day_column(&batch, name, zone),
            "usage_anchors" => anchor_column(&batch, name),
            _ => Ok(None),
        })?);
    }
    let Some(first) = parts.first() else { return Ok(None) };
    let rows = concat_batches(first.schema_ref(), &parts)?;
    sort_rows(spec, &rows).map(Some).map_err(|e| DataFusionError::External(Box::new(e)))
}

fn of_level(batch: &RecordBatch, wanted: &[&str]) -> Result<RecordBatch> {
    let levels = short_texts(batch, "level")?;
    let names: &StringArray = levels.values().as_string();
    let keys: Vec<bool> = names.iter().map(|name| name.is_some_and(|name| wanted.contains(&name))).collect();
    let mask: BooleanArray =
        levels.keys().iter().map(|key| key.and_then(|k| keys.get(usize::try_from(k).ok()?).copied())).collect();
    Ok(filter_record_batch(batch, &mask)?)
}

/// The columns of a table: what the operator gives in the table's types, or what `made` makes of it.
fn as_table(
    spec: &TableSpec,
    batch: &RecordBatch,
    made: impl Fn(&str) -> Result<Option<ArrayRef>>,
) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for field in spec.schema.fields().iter().filter(|f| !spec.partition_by.contains(&f.name().as_str())) {
        let column = match made(field.name())? {
            Some(column) => column,
            None => {
                let column = batch.column_by_name(field.name());
                let column = column.ok_or_else(|| other(format!("the walk gives no column {}", field.name())))?;
                cast(column, field.data_type())?
            }
        };
        columns.push(column);
        fields.push(field.clone());
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// What `usage_days` has beside the columns of a span.
fn day_column(batch: &RecordBatch, name: &str, zone: &Zone) -> Result<Option<ArrayRef>> {
    let at = |state: &str| Quality::ALL.iter().position(|q| q.as_str() == state);
    if name == "day" {
        let start = Rows(batch).time("start")?;
        let days = (0..batch.num_rows()).map(|row| Ok(days_since_1970(zone.day_of(instant_at(start, row)?))));
        return Ok(Some(Arc::new(Date32Array::from(days.collect::<Result<Vec<_>>>()?))));
    }
    let states = Quality::ALL.len();
    let details = Details::of(batch, 2 * states + 2)?;
    let amounts = |at| -> ArrayRef {
        Arc::new(details.column(at).map(|n| n.map(i128::from)).collect::<Decimal128Array>().with_data_type(AMOUNT))
    };
    match name {
        "estimated_start" => return Ok(Some(amounts(2 * states))),
        "estimated_end" => return Ok(Some(amounts(2 * states + 1))),
        _ => {}
    }
    if let Some(at) = name.strip_prefix("slots_").and_then(at) {
        let counts = details.column(at).map(|n| i32::try_from(n.unwrap_or(0)).unwrap_or(i32::MAX));
        return Ok(Some(Arc::new(Int32Array::from_iter_values(counts))));
    }
    if let Some(at) = name.strip_prefix("use_").and_then(at) {
        let used = details.column(states + at).map(|n| i128::from(n.unwrap_or(0)));
        return Ok(Some(Arc::new(Decimal128Array::from_iter_values(used).with_data_type(AMOUNT))));
    }
    Ok(None)
}

fn anchor_column(batch: &RecordBatch, name: &str) -> Result<Option<ArrayRef>> {
    let details = Details::of(batch, BORDER_DETAILS)?;
    let instants =
        |at| -> ArrayRef { Arc::new(details.column(at).collect::<TimestampMicrosecondArray>().with_timezone("UTC")) };
    let amounts = |at| -> ArrayRef {
        Arc::new(details.column(at).map(|n| n.map(i128::from)).collect::<Decimal128Array>().with_data_type(AMOUNT))
    };
    Ok(Some(match name {
        "state" => {
            let state = |n: Option<i64>| n.and_then(|n| usize::try_from(n).ok()).and_then(|n| STATES.get(n).copied());
            Arc::new(details.column(0).map(state).collect::<StringArray>())
        }
        "installation" => {
            Arc::new(details.column(1).map(|n| n.and_then(|n| i32::try_from(n).ok())).collect::<Int32Array>())
        }
        "ts" => instants(2),
        "register" => amounts(3),
        "line_register" => amounts(4),
        "line_start" => instants(5),
        "first_line" => Arc::new(details.column(6).map(|n| n.map(|n| n != 0)).collect::<BooleanArray>()),
        "settled_at" => instants(7),
        "closed_at" => instants(8),
        _ => return Ok(None),
    }))
}

/// The lists of the column `detail`, all of one length, as columns.
struct Details<'a> {
    list: &'a ListArray,
    values: &'a Int64Array,
}

impl<'a> Details<'a> {
    fn of(batch: &'a RecordBatch, width: usize) -> Result<Self> {
        let column = batch.column_by_name("detail").and_then(|c| c.as_list_opt::<i32>());
        let list = column.ok_or_else(|| other("the walk gives no column detail".to_owned()))?;
        if (0..list.len()).any(|row| usize::try_from(list.value_length(row)).ok() != Some(width)) {
            return Err(other(format!("the walk gives details of another length than {width}")));
        }
        Ok(Self { list, values: list.values().as_primitive::<Int64Type>() })
    }

    fn column(&self, at: usize) -> impl Iterator<Item = Option<i64>> {
        let begins = self.list.value_offsets().iter().take(self.list.len());
        begins.map(move |begin| {
            let at = usize::try_from(*begin).unwrap_or(0) + at;
            self.values.is_valid(at).then(|| self.values.value(at))
        })
    }
}
