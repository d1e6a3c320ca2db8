//! Items as Parquet: all columns, exact decimals, times in UTC.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use meterlake_model::CivilDay;

use super::column::{Cell, Column, Holds};
use super::error::ExportError;
use super::item::{Head, LeftOut, Point};
use super::writer::PointWriter;

/// Rows that are held before they are written as one group.
const GROUP_ROWS: usize = 1 << 16;

/// Writes all columns of each item.
pub(super) struct ParquetWriter<'a, W: Write + Send> {
    head: &'a Head,
    schema: SchemaRef,
    out: ArrowWriter<W>,
    rows: Vec<Vec<Cell<'static>>>,
}

impl<'a, W: Write + Send> ParquetWriter<'a, W> {
    pub(super) fn begin(head: &'a Head, out: W) -> Result<Self, ExportError> {
        let field = |c: Column| Field::new(c.name(), type_of(c.holds()), true);
        let schema = Arc::new(Schema::new(Column::ALL.map(field).to_vec()));
        let level = ZstdLevel::try_new(3).map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(head.pins.program.clone())
            .build();
        let out = ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(failed)?;
        Ok(Self { head, schema, out, rows: Vec::new() })
    }

    fn write_group(&mut self) -> Result<(), ExportError> {
        let column = |(at, column): (usize, Column)| array(column.holds(), self.rows.iter().map(|row| &row[at]));
        let columns = Column::ALL.into_iter().enumerate().map(column).collect::<Result<_, _>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(failed)?;
        self.rows.clear();
        self.out.write(&batch).map_err(failed)?;
        self.out.flush().map_err(failed)
    }
}

impl<W: Write + Send> PointWriter<W> for ParquetWriter<'_, W> {
    fn point(&mut self, point: &Point) -> Result<Vec<LeftOut>, ExportError> {
        for item in &point.items {
            let cell = |column: Column| match column.cell(self.head, point, item) {
                Cell::Text(text) => Cell::Text(text.into_owned().into()),
                Cell::Number(number) => Cell::Number(number),
                Cell::Day(day) => Cell::Day(day),
                Cell::Time(time) => Cell::Time(time),
                Cell::Amount(amount) => Cell::Amount(amount),
                Cell::Nothing => Cell::Nothing,
            };
            self.rows.push(Column::ALL.map(cell).to_vec());
        }
        if self.rows.len() >= GROUP_ROWS {
            self.write_group()?;
        }
        Ok(Vec::new())
    }

    fn finish(mut self: Box<Self>) -> Result<W, ExportError> {
        if !self.rows.is_empty() {
            self.write_group()?;
        }
        self.out.into_inner().map_err(failed)
    }
}

fn type_of(holds: Holds) -> DataType {
    match holds {
        Holds::Text => DataType::Utf8,
        Holds::Number => DataType::Int64,
        Holds::Day => DataType::Date32,
        Holds::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Holds::Amount => crate::tables::AMOUNT,
    }
}

fn array<'a>(holds: Holds, cells: impl Iterator<Item = &'a Cell<'static>>) -> Result<ArrayRef, ExportError> {
    let epoch = CivilDay::new(1970, 1, 1).map_err(failed)?;
    Ok(match holds {
        Holds::Text => {
            let text = |c: &'a Cell<'static>| match c {
                Cell::Text(text) => Some(text.as_ref()),
                _ => None,
            };
            Arc::new(cells.map(text).collect::<StringArray>())
        }
        Holds::Number => {
            let number = |c: &Cell<'static>| if let Cell::Number(number) = c { Some(*number) } else { None };
            Arc::new(cells.map(number).collect::<Int64Array>())
        }
        Holds::Day => {
            let day = |c: &Cell<'static>| if let Cell::Day(day) = c { Some(day.days_since(epoch)) } else { None };
            Arc::new(cells.map(day).collect::<Date32Array>())
        }
        Holds::Time => {
            let time = |c: &Cell<'static>| if let Cell::Time(time) = c { Some(time.micros()) } else { None };
            Arc::new(cells.map(time).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        Holds::Amount => {
            let amount = |c: &Cell<'static>| if let Cell::Amount(a) = c { Some(i128::from(a.micros())) } else { None };
            let amounts = cells.map(amount).collect::<Decimal128Array>();
            Arc::new(amounts.with_data_type(crate::tables::AMOUNT))
        }
    })
}

fn failed(error: impl std::fmt::Display) -> ExportError {
    ExportError::Parquet(error.to_string())
}
