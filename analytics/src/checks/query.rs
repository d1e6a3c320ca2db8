//! A check that is a query: bound, run, and its rows read as findings.

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use meterlake_model::check::{Check, Params, Value};
use meterlake_model::{Amount, Timestamp};
use meterlake_store::query::{QueryError, SqlLimits, sql_bound};
use meterlake_store::schema::instant;

use super::{Found, Month};
use crate::tables::AMOUNT;
use crate::tables::read::{Rows, amount_at, instant_at, other};

/// The columns that a query may give, and whether it must.
const COLUMNS: [(&str, bool); 10] = [
    ("usage_point_id", true),
    ("start", true),
    ("end", true),
    ("channel", false),
    ("meter_id", false),
    ("measured", false),
    ("reference", false),
    ("limit", false),
    ("estimated", false),
    ("evidence", false),
];
/// Their order: the same rows are kept whatever the plan.
const ORDER: [&str; 7] = ["usage_point_id", "channel", "start", "end", "meter_id", "measured", "evidence"];

/// Runs a query for a month with these parameters, and hands every finding over, with whether it rests on estimates.
pub(super) async fn run(
    context: &SessionContext,
    (check, sql): (&Check, &str),
    params: &Params,
    month: &Month,
    mut take: impl FnMut(Found, bool),
) -> Result<(), QueryError> {
    let result = sql_bound(context, sql, values(params, month), &ORDER, SqlLimits::default()).await?;
    let schema = result.schema();
    for (name, _) in COLUMNS.iter().filter(|(_, must)| *must) {
        if schema.column_with_name(name).is_none() {
            return Err(QueryError::Refused(format!("it gives no column {name}")));
        }
    }
    for field in schema.fields() {
        if !COLUMNS.iter().any(|(name, _)| name == field.name()) {
            let known = COLUMNS.map(|(name, _)| name).join(", ");
            return Err(QueryError::Refused(format!("it gives a column {}; a finding has {known}", field.name())));
        }
    }
    let mut batches = result.stream()?;
    while let Some(batch) = batches.try_next().await? {
        for (found, estimated) in findings(check, &batch)? {
            if month.touches(found.start, found.end) {
                take(found, estimated);
            }
        }
    }
    Ok(())
}

fn values(params: &Params, month: &Month) -> ParamValues {
    let instant = |ts: Timestamp| ScalarValue::TimestampMicrosecond(Some(ts.micros()), Some("UTC".into()));
    let value = |value: &Value| match value {
        Value::Integer(n) => ScalarValue::Int64(Some(*n)),
        Value::Decimal(amount) => ScalarValue::Decimal128(Some(i128::from(amount.micros())), 18, 6),
        Value::Flag(flag) => ScalarValue::Boolean(Some(*flag)),
        Value::Text(text) => ScalarValue::Utf8(Some(text.clone())),
    };
    let mut all: Vec<(&str, ScalarValue)> = params.iter().map(|(name, v)| (name.as_str(), value(v))).collect();
    all.push(("from", instant(month.from)));
    all.push(("to", instant(month.to)));
    all.push(("month", ScalarValue::Utf8(Some(month.key.clone()))));
    ParamValues::from(all)
}

/// The rows as findings, as the check has them: the policy comes later.
fn findings(check: &Check, batch: &RecordBatch) -> Result<Vec<(Found, bool)>, QueryError> {
    let typed = typed(batch)?;
    let rows = Rows(&typed);
    let (point, channel, meter) = (rows.text("usage_point_id")?, rows.text("channel")?, rows.text("meter_id")?);
    let (start, end, evidence) = (rows.time("start")?, rows.time("end")?, rows.text("evidence")?);
    let (measured, reference, limit) = (rows.amount("measured")?, rows.amount("reference")?, rows.amount("limit")?);
    let estimated: &BooleanArray = rows.flag("estimated")?;
    let mut found = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        if start.is_null(row) || end.is_null(row) || point.get(row).is_none() {
            return Err(QueryError::Refused("a finding has no usage_point_id, start or end".to_owned()));
        }
        let amount = |column| -> Result<Option<Amount>, QueryError> { Ok(amount_at(column, row)?) };
        let one = Found {
            usage_point_id: point.at(row).to_owned(),
            channel: channel.at(row).to_owned(),
            start: instant_at(start, row)?,
            rule: check.id.clone(),
            end: instant_at(end, row)?,
            severity: check.severity,
            on_fail: check.on_fail,
            measured: amount(measured)?,
            reference: amount(reference)?,
            limit: amount(limit)?,
            meter_id: meter.at(row).to_owned(),
            evidence: evidence.at(row).to_owned(),
        };
        found.push((one, estimated.is_valid(row) && estimated.value(row)));
    }
    Ok(found)
}

/// The columns in the types of findings; what the query does not give is null.
fn typed(batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
    let mut columns: Vec<(&str, ArrayRef, bool)> = Vec::with_capacity(COLUMNS.len());
    for (name, _) in COLUMNS {
        let wanted = match name {
            "start" | "end" => instant(),
            "measured" | "reference" | "limit" => AMOUNT,
            "estimated" => DataType::Boolean,
            _ => DataType::Utf8,
        };
        let column = match batch.column_by_name(name) {
            Some(column) => cast(column, &wanted).map_err(|e| other(format!("column {name}: {e}")))?,
            None => arrow::array::new_null_array(&wanted, batch.num_rows()),
        };
        columns.push((name, column, true));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns).map_err(datafusion::error::DataFusionError::from)?)
}
