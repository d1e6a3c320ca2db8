//! The rows of a case: CSV with the columns that matter, as batches with all columns of their tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Date32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::util::display::FormatOptions;
use meterlake_model::{CivilDay, Timestamp, month_key};

use super::super::{Month, given};
use crate::tables::write::days_since_1970;

/// Rows of a case by table, at most.
const MOST_ROWS: usize = 100_000;
const DAY_S: i64 = 86_400;

/// The tables of a case.
pub(super) struct Given {
    pub(super) tables: Vec<(String, RecordBatch)>,
}

/// One row, later than it is written by so many seconds.
struct Row<'a> {
    cells: &'a [String],
    later_s: i64,
}

impl Given {
    pub(super) fn read(rows: &[(String, String)], month: &Month) -> Result<Self, String> {
        let known = given::known();
        let mut tables = Vec::new();
        for (name, text) in rows {
            let schema = known.iter().find(|(known, _)| known == name).map(|(_, schema)| schema);
            let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let schema = schema.ok_or_else(|| format!("there is no table `{name}`; there are {}", names()))?;
            let batch =
                table(name, schema, text, month).map_err(|complaint| format!("rows of `{name}`: {complaint}"))?;
            tables.push((name.clone(), batch));
        }
        if !tables.iter().any(|(name, _)| name == "points") {
            // Whoever is named is there, with a customer.
            let ids: BTreeSet<String> = tables.iter().flat_map(|(_, batch)| ids(batch)).collect();
            let text = ids.iter().fold("usage_point_id,customer_id\n".to_owned(), |text, id| text + id + ",C-1\n");
            let schema = given::points();
            tables.push(("points".to_owned(), table("points", &schema, &text, month)?));
        }
        Ok(Self { tables })
    }
}

fn ids(batch: &RecordBatch) -> Vec<String> {
    let column = batch.column_by_name("usage_point_id").and_then(|c| c.as_any().downcast_ref::<StringArray>());
    column.map(|ids| ids.iter().flatten().map(str::to_owned).collect()).unwrap_or_default()
}

fn table(name: &str, schema: &SchemaRef, text: &str, month: &Month) -> Result<RecordBatch, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.trim().as_bytes());
    let head: Vec<String> = reader.headers().map_err(|e| e.to_string())?.iter().map(str::to_owned).collect();
    for column in head.iter().filter(|column| !["repeat", "every"].contains(&column.as_str())) {
        if given::column(schema, column).is_none() {
            return Err(format!("the table has no column `{column}`"));
        }
    }
    let records: Vec<Vec<String>> = reader
        .records()
        .map(|record| Ok(record.map_err(|e| e.to_string())?.iter().map(str::to_owned).collect()))
        .collect::<Result<_, String>>()?;
    let rows = Rows { head: &head, name, month };
    let mut all: Vec<Row<'_>> = Vec::new();
    for cells in &records {
        let (times, every) = rows.repeated(cells)?;
        all.extend((0..times).map(|n| Row { cells, later_s: n * every }));
        if all.len() > MOST_ROWS {
            return Err(format!("there are more than {MOST_ROWS} rows"));
        }
    }
    let columns = schema.fields().iter().map(|field| rows.column(field, &all)).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| e.to_string())
}

struct Rows<'a> {
    head: &'a [String],
    name: &'a str,
    month: &'a Month,
}

impl Rows<'_> {
    /// What stands in a column; an empty cell is nothing.
    fn cell<'c>(&self, cells: &'c [String], column: &str) -> Option<&'c str> {
        let at = self.head.iter().position(|name| name == column)?;
        cells.get(at).map(String::as_str).filter(|cell| !cell.is_empty())
    }

    fn time(&self, cells: &[String], column: &str) -> Result<Option<Timestamp>, String> {
        let parse = |text| Timestamp::parse_rfc3339(text).map_err(|e| format!("{column} is {text}: {e}"));
        self.cell(cells, column).map(parse).transpose()
    }

    /// How often a row stands, and how much later each time, in seconds.
    fn repeated(&self, cells: &[String]) -> Result<(i64, i64), String> {
        let number = |column: &str| -> Result<Option<i64>, String> {
            let text = self.cell(cells, column);
            text.map(|text| text.parse().map_err(|_| format!("`{column}` is {text}, which is no number"))).transpose()
        };
        let length = self.time(cells, "start")?.zip(self.time(cells, "end")?);
        let length = length.map_or(DAY_S, |(start, end)| end.micros_since(start) / 1_000_000);
        let times = number("repeat")?.unwrap_or(1).clamp(0, i64::try_from(MOST_ROWS).unwrap_or(i64::MAX));
        Ok((times, number("every")?.unwrap_or(length)))
    }

    fn column(&self, field: &Field, rows: &[Row<'_>]) -> Result<ArrayRef, String> {
        let name = field.name();
        match field.data_type() {
            DataType::Timestamp(..) => {
                let value = |row: &Row<'_>| -> Result<Option<i64>, String> {
                    let at = self.time(row.cells, name)?.map(|at| at.plus_seconds(row.later_s));
                    let at = at.or_else(|| (!field.is_nullable()).then_some(self.month.from));
                    Ok(at.map(Timestamp::micros))
                };
                let values: TimestampMicrosecondArray = rows.iter().map(value).collect::<Result<_, String>>()?;
                Ok(Arc::new(values.with_timezone("UTC")))
            }
            DataType::Date32 => {
                let value = |row: &Row<'_>| -> Result<Option<i32>, String> {
                    let text = self.cell(row.cells, name);
                    let day = text.map(|text| CivilDay::parse(text).map_err(|e| format!("{name} is {text}: {e}")));
                    let later = i32::try_from(row.later_s / DAY_S).unwrap_or(i32::MAX);
                    let day = day.transpose()?.map(|day| days_since_1970(day.plus_days(later)));
                    Ok(day.or_else(|| (!field.is_nullable()).then_some(0)))
                };
                Ok(Arc::new(rows.iter().map(value).collect::<Result<Date32Array, String>>()?))
            }
            wanted => {
                let values = rows.iter().map(|row| self.text(field, row)).collect::<Result<StringArray, String>>()?;
                let options = CastOptions { safe: false, format_options: FormatOptions::default() };
                let cast = cast_with_options(&values, wanted, &options).map_err(|e| format!("{name}: {e}"))?;
                match cast.null_count() > values.null_count() {
                    true => Err(format!("{name}: not every cell is a {wanted}")),
                    false => Ok(cast),
                }
            }
        }
    }

    fn text(&self, field: &Field, row: &Row<'_>) -> Result<Option<String>, String> {
        let name = field.name().as_str();
        if let Some(text) = self.cell(row.cells, name) {
            return Ok(Some(text.to_owned()));
        }
        if field.is_nullable() {
            return Ok(None);
        }
        Ok(Some(match (name, field.data_type()) {
            ("month", _) => self.partition(row)?,
            ("zone", _) => "UTC".to_owned(),
            ("commodity", _) => "electricity".to_owned(),
            ("active" | "counts" | "closed", _) => "true".to_owned(),
            (_, DataType::Boolean) => "false".to_owned(),
            (_, DataType::Utf8) => String::new(),
            (_, DataType::List(_) | DataType::Binary) => return Err(format!("column `{name}` cannot be given")),
            _ => "0".to_owned(),
        }))
    }

    /// The partition that a row is in: what belongs to a bill, in the month of its end.
    fn partition(&self, row: &Row<'_>) -> Result<String, String> {
        let of =
            |at: Option<Timestamp>, later: i64| at.map(|at| month_key(at.plus_seconds(row.later_s).plus_micros(later)));
        let (start, end) = (self.time(row.cells, "start")?, self.time(row.cells, "end")?);
        let own = if self.name.starts_with("billing_") { of(end, -1) } else { of(start, 0) };
        let day = self.cell(row.cells, "day").and_then(|day| day.get(..7)).map(str::to_owned);
        Ok(own.or(day).unwrap_or_else(|| self.month.key.clone()))
    }
}
