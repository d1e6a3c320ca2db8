//! Small results as text, for reports that compare or list them.

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use meterlake_store::query::{SqlLimits, sql};

/// One row: its cells as text, `None` where they are null.
pub type Row = Vec<Option<String>>;

/// Plans and starts a query through the one door.
///
/// # Errors
/// When the text is not one reading statement, or cannot be planned or started.
pub async fn stream(session: &SessionContext, text: &str) -> anyhow::Result<SendableRecordBatchStream> {
    Ok(sql(session, text, SqlLimits::default()).await?.stream()?)
}

/// The whole result of a query that is known to be small.
///
/// # Errors
/// As [`stream`], or when the query fails.
pub async fn batches(session: &SessionContext, text: &str) -> anyhow::Result<Vec<RecordBatch>> {
    Ok(datafusion::physical_plan::common::collect(stream(session, text).await?).await?)
}

/// All rows of a query whose result is known to be small.
///
/// # Errors
/// When the query fails.
pub async fn fetch(session: &SessionContext, text: &str) -> anyhow::Result<Vec<Row>> {
    let batches = batches(session, text).await?;
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(texts(batch)?);
    }
    Ok(rows)
}

/// The first cell of the first row as an integer; 0 when there is none.
///
/// # Errors
/// When the query fails.
pub async fn count(session: &SessionContext, text: &str) -> anyhow::Result<u64> {
    let rows = fetch(session, text).await?;
    Ok(rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok()).unwrap_or(0))
}

fn texts(batch: &RecordBatch) -> anyhow::Result<Vec<Row>> {
    let options = FormatOptions::default();
    let formatters = batch
        .columns()
        .iter()
        .map(|column| Ok((column, ArrayFormatter::try_new(column.as_ref(), &options)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let cell = |at: usize, (column, formatter): &(&arrow::array::ArrayRef, ArrayFormatter<'_>)| {
        column.is_valid(at).then(|| formatter.value(at).to_string())
    };
    Ok((0..batch.num_rows()).map(|at| formatters.iter().map(|f| cell(at, f)).collect()).collect())
}
