//! Items as one JSON object: `items` holds one object each, a line each. Decimals are texts, since most readers of JSON
//! make floats of numbers.

use std::io::Write;

use serde_json::Value;

use super::column::{Cell, Column};
use super::error::ExportError;
use super::item::{Head, LeftOut, Point};
use super::writer::PointWriter;

/// Writes all columns of each item.
pub(super) struct JsonWriter<'a, W: Write> {
    head: &'a Head,
    out: W,
    first: bool,
}

impl<'a, W: Write> JsonWriter<'a, W> {
    pub(super) fn begin(head: &'a Head, mut out: W) -> Result<Self, ExportError> {
        let list = head.list.map_or(Value::Null, Value::from);
        write!(out, "{{\"run\":{},\"list\":{list},\"items\":[", Value::from(head.run.as_str()))?;
        Ok(Self { head, out, first: true })
    }
}

impl<W: Write> PointWriter<W> for JsonWriter<'_, W> {
    fn point(&mut self, point: &Point) -> Result<Vec<LeftOut>, ExportError> {
        for item in &point.items {
            self.out.write_all(if self.first { b"\n{" } else { b",\n{" })?;
            // By hand, since the order of a map's keys depends on what other crates ask of the library.
            for (at, column) in Column::ALL.into_iter().enumerate() {
                let value = match column.cell(self.head, point, item) {
                    Cell::Nothing => Value::Null,
                    Cell::Number(number) => number.into(),
                    cell => cell.text().into_owned().into(),
                };
                let comma = if at == 0 { "" } else { "," };
                write!(self.out, "{comma}\"{}\":{value}", column.name())?;
            }
            self.out.write_all(b"}")?;
            self.first = false;
        }
        Ok(Vec::new())
    }

    fn finish(mut self: Box<Self>) -> Result<W, ExportError> {
        self.out.write_all(b"\n]}\n")?;
        Ok(self.out)
    }
}
