//! Results: a readable table on a terminal, CSV, JSON lines or Parquet in a pipe or a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use clap::ValueEnum;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;

/// Form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines and columns for people.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a row, one row a line.
    Json,
    /// A Parquet file; needs a pipe or --output.
    Parquet,
}

impl Format {
    /// A table on a terminal, CSV elsewhere.
    pub fn for_stdout() -> Self {
        if io::stdout().is_terminal() { Self::Table } else { Self::Csv }
    }
}

/// Rows that a table on a terminal shows at most; more belong in a file.
const TABLE_ROWS: usize = 1_000;

/// Writes a stream of rows to a file, or to standard output. Returns the number of rows written.
///
/// # Errors
/// When the query fails or the output cannot be written. A reader that closes its pipe early is no error.
pub async fn write_stream(
    stream: SendableRecordBatchStream,
    format: Format,
    path: Option<&Path>,
) -> anyhow::Result<usize> {
    let schema = stream.schema();
    let Some(path) = path else {
        if format == Format::Parquet && io::stdout().is_terminal() {
            bail!("Parquet is not for a terminal: name a file with --output, or use a pipe");
        }
        return quiet_on_closed_pipe(write_all(stream, schema, format, BufWriter::new(io::stdout())).await);
    };
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    write_all(stream, schema, format, BufWriter::new(file)).await
}

/// Writes one batch to standard output.
///
/// # Errors
/// As [`write_stream`].
pub async fn write_batch(batch: RecordBatch, format: Format) -> anyhow::Result<()> {
    let schema = batch.schema();
    let stream = RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(batch)]));
    write_stream(Box::pin(stream), format, None).await?;
    Ok(())
}

/// Writes rows of texts under their headings to standard output; an empty text is an absent one.
///
/// # Errors
/// As [`write_stream`].
pub async fn write_texts<const N: usize>(
    headings: [&str; N],
    rows: &[[String; N]],
    format: Option<Format>,
) -> anyhow::Result<()> {
    let column = |at: usize| -> ArrayRef {
        let cells = rows.iter().map(|row| Some(row[at].as_str()).filter(|cell| !cell.is_empty()));
        Arc::new(cells.collect::<StringArray>())
    };
    let fields = headings.map(|name| Field::new(name, DataType::Utf8, true)).to_vec();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), (0..N).map(column).collect())?;
    write_batch(batch, format.unwrap_or_else(Format::for_stdout)).await
}

fn quiet_on_closed_pipe(result: anyhow::Result<usize>) -> anyhow::Result<usize> {
    match result {
        Err(error) if error.chain().any(is_closed_pipe) => Ok(0),
        other => other,
    }
}

fn is_closed_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
        || cause.to_string().contains("Broken pipe")
}

async fn write_all<W: Write + Send>(
    mut stream: SendableRecordBatchStream,
    schema: SchemaRef,
    format: Format,
    mut out: W,
) -> anyhow::Result<usize> {
    let mut rows = 0;
    match format {
        Format::Table => return write_table(stream, schema, out).await,
        Format::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut out);
            writer.write(&RecordBatch::new_empty(schema))?;
            while let Some(batch) = stream.next().await.transpose()? {
                rows += batch.num_rows();
                writer.write(&batch)?;
            }
        }
        Format::Json => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
            while let Some(batch) = stream.next().await.transpose()? {
                rows += batch.num_rows();
                writer.write(&batch)?;
            }
            writer.finish()?;
        }
        Format::Parquet => {
            let mut writer = ArrowWriter::try_new(&mut out, schema, None)?;
            while let Some(batch) = stream.next().await.transpose()? {
                rows += batch.num_rows();
                writer.write(&batch)?;
            }
            writer.close()?;
        }
    }
    out.flush()?;
    Ok(rows)
}

async fn write_table<W: Write>(
    mut stream: SendableRecordBatchStream,
    schema: SchemaRef,
    mut out: W,
) -> anyhow::Result<usize> {
    let (mut batches, mut rows, mut more) = (vec![RecordBatch::new_empty(schema)], 0, false);
    while let Some(batch) = stream.next().await.transpose()? {
        let room = TABLE_ROWS - rows;
        more = batch.num_rows() > room;
        let shown = batch.slice(0, batch.num_rows().min(room));
        rows += shown.num_rows();
        batches.push(shown);
        if more || rows == TABLE_ROWS {
            break;
        }
    }
    writeln!(out, "{}", pretty_format_batches(&batches)?)?;
    match (more || stream.next().await.is_some(), rows) {
        (true, _) => writeln!(out, "the first {rows} rows; --format csv gives all")?,
        (false, 1) => writeln!(out, "1 row")?,
        (false, _) => writeln!(out, "{rows} rows")?,
    }
    out.flush()?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use arrow::array::Decimal128Array;

    use super::*;

    fn stream() -> SendableRecordBatchStream {
        let schema = Arc::new(Schema::new(vec![
            Field::new("meter_id", DataType::Utf8, false),
            Field::new("energy_import_kwh", DataType::Decimal128(15, 3), true),
        ]));
        let energy = Decimal128Array::from(vec![Some(1_234_567), None]).with_precision_and_scale(15, 3).unwrap();
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![Arc::new(StringArray::from(vec!["a", "b"])), Arc::new(energy)],
        )
        .unwrap();
        Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(batch)])))
    }

    async fn text(format: Format) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        assert_eq!(write_stream(stream(), format, Some(&path)).await.unwrap(), 2);
        std::fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn decimals_are_written_with_all_their_digits() {
        assert_eq!(text(Format::Csv).await, "meter_id,energy_import_kwh\na,1234.567\nb,\n");
        let json = text(Format::Json).await;
        assert!(json.starts_with("{\"meter_id\":\"a\",\"energy_import_kwh\":1234.567}\n"), "{json}");
        let table = text(Format::Table).await;
        assert!(table.contains("| a        | 1234.567          |") && table.ends_with("2 rows\n"), "{table}");
    }
}
