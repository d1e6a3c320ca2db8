//! Items as CSV: the columns of the configuration, decimals written out, times in UTC.

use std::io::Write;

use super::column::Column;
use super::error::ExportError;
use super::item::{Head, LeftOut, Point};
use super::writer::PointWriter;

/// Writes rows of chosen columns.
pub(super) struct CsvWriter<'a, W: Write> {
    head: &'a Head,
    columns: &'a [Column],
    out: csv::Writer<W>,
}

impl<'a, W: Write> CsvWriter<'a, W> {
    pub(super) fn begin(head: &'a Head, columns: &'a [Column], out: W) -> Result<Self, ExportError> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(columns.iter().map(|c| c.name())).map_err(failed)?;
        Ok(Self { head, columns, out })
    }
}

impl<W: Write> PointWriter<W> for CsvWriter<'_, W> {
    fn point(&mut self, point: &Point) -> Result<Vec<LeftOut>, ExportError> {
        for item in &point.items {
            for column in self.columns {
                self.out.write_field(column.cell(self.head, point, item).text().as_bytes()).map_err(failed)?;
            }
            self.out.write_record(None::<&[u8]>).map_err(failed)?;
        }
        Ok(Vec::new())
    }

    fn finish(self: Box<Self>) -> Result<W, ExportError> {
        self.out.into_inner().map_err(|e| ExportError::Write(e.into_error()))
    }
}

fn failed(error: csv::Error) -> ExportError {
    ExportError::Write(error.into())
}
