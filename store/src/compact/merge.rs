//! Sorted files of one partition into fewer: a streaming merge in the table's order.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::PageIndexPolicy;

use crate::compact::tally::Tally;
use crate::error::StoreError;
use crate::parquet_file::{Effort, EncodedFile, FileWriter};
use crate::read;
use crate::table::{DataFile, TableSnapshot};
use crate::write::{data_file, file_schema, hash};

/// Rows that wait of all inputs together, so that many inputs take no more memory than few.
const WAITING_ROWS: usize = 1 << 18;
/// Rows of one batch of output.
const BATCH_ROWS: usize = 8192;

/// The files that a merge gave, each in its place.
pub(crate) struct Merged {
    pub(crate) files: Vec<DataFile>,
    pub(crate) repeats: u64,
}

/// Merges files of one partition. Each new file is put into its place as soon as it is whole, so that memory holds one
/// of them at a time. The sums of what was written are those of what was read, or it is refused; what was put until then
/// is in no table, and vacuum finds it.
pub(crate) async fn merge(
    store: &Arc<dyn ObjectStore>,
    state: &TableSnapshot,
    files: &[DataFile],
    effort: Effort,
    target_bytes: usize,
) -> Result<Merged, StoreError> {
    let table = &state.name;
    let schema = file_schema(&state.schema, &state.partition_by);
    let mut rows = sorted(store, state, files, &schema).await?;
    let mut repeats = Repeats::new(state, &schema)?;
    let mut output =
        Output { state, schema: &schema, effort, target_bytes, writer: None, last: None, files: Vec::new() };
    let (mut read, mut written, mut placed) = (Tally::default(), Tally::default(), Vec::new());
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|e| StoreError::refused(table, format!("its files cannot be merged: {e}")))?;
        read.add(&batch);
        let batch = match &mut repeats {
            Some(repeats) => repeats.merge(&batch, &mut read).map_err(|source| StoreError::arrow(table, source))?,
            None => batch,
        };
        output.write(&batch)?;
        for file in output.files.drain(..) {
            reread(table, &file, &mut written)?;
            placed.push(place(store, table, files, effort, file).await?);
        }
    }
    output.close()?;
    for file in output.files.drain(..) {
        reread(table, &file, &mut written)?;
        placed.push(place(store, table, files, effort, file).await?);
    }
    let expected: u64 = files.iter().map(|f| f.rows).sum();
    let merged = repeats.map_or(0, |r| r.merged);
    let rows: u64 = placed.iter().map(|f| f.rows).sum();
    if expected != rows + merged {
        let reason = format!("{expected} rows would become {rows} with {merged} repeats merged");
        return Err(StoreError::refused(table, reason));
    }
    if let Some(difference) = read.difference(&written) {
        return Err(StoreError::refused(table, difference));
    }
    Ok(Merged { files: placed, repeats: merged })
}

/// Puts a new file beside those that it replaces, under a name that its bytes give.
async fn place(
    store: &Arc<dyn ObjectStore>,
    table: &str,
    replaced: &[DataFile],
    effort: Effort,
    file: EncodedFile,
) -> Result<DataFile, StoreError> {
    let prefix = match effort {
        Effort::Open => "merged",
        Effort::Closed => "closed",
    };
    let (old, partition) = replaced.first().map(|f| (f.path.as_str(), f.partition.clone())).unwrap_or_default();
    let directory = old.rsplit_once('/').map_or_else(String::new, |(directory, _)| format!("{directory}/"));
    let path = format!("{directory}{prefix}-{}.parquet", hash(&file.bytes));
    let put = store.put(&Path::from(path.as_str()), file.bytes.clone().into()).await;
    put.map_err(|source| StoreError::storage(format!("write {table}/{path}"), source))?;
    Ok(data_file(path, partition, file))
}

/// All rows in the table's order; rows of equal key in the order in which they were committed.
async fn sorted(
    store: &Arc<dyn ObjectStore>,
    state: &TableSnapshot,
    files: &[DataFile],
    schema: &SchemaRef,
) -> Result<SendableRecordBatchStream, StoreError> {
    let batch_rows = (WAITING_ROWS / files.len().max(1)).clamp(256, BATCH_ROWS);
    let mut streams: Vec<SendableRecordBatchStream> = Vec::with_capacity(files.len());
    for file in files {
        let builder = read::open(store, state, file, PageIndexPolicy::Skip).await?;
        let stream = builder.with_batch_size(batch_rows).build();
        let stream = stream.map_err(|source| StoreError::parquet(&state.name, &file.path, source))?;
        let columns = schema.clone();
        let stream = stream.map(move |batch| Ok(read::conform(&batch?, &columns)?));
        streams.push(Box::pin(RecordBatchStreamAdapter::new(schema.clone(), stream)));
    }
    let refused = |e: DataFusionError| StoreError::refused(&state.name, e.to_string());
    let Some(order) = order(state, schema).map_err(refused)? else {
        let chained = futures::stream::iter(streams).flatten();
        return Ok(Box::pin(RecordBatchStreamAdapter::new(schema.clone(), chained)));
    };
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    StreamingMergeBuilder::new()
        .with_streams(streams)
        .with_schema(schema.clone())
        .with_expressions(&order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(BATCH_ROWS)
        .with_reservation(MemoryConsumer::new("compaction").register(&pool))
        .with_round_robin_tie_breaker(false)
        .build()
        .map_err(refused)
}

fn order(state: &TableSnapshot, schema: &SchemaRef) -> Result<Option<LexOrdering>, DataFusionError> {
    if state.sort_by.is_empty() {
        return Ok(None);
    }
    let seq = schema.column_with_name("commit_seq").map(|_| "commit_seq");
    let options = SortOptions { descending: false, nulls_first: true };
    let names = state.sort_by.iter().map(String::as_str).chain(seq);
    let columns = names.map(|name| Ok(PhysicalSortExpr { expr: col(name, schema)?, options }));
    Ok(LexOrdering::new(columns.collect::<Result<Vec<_>, DataFusionError>>()?))
}

/// Leaves out readings that repeat every value of an earlier row of the same meter, time and revision.
struct Repeats {
    keys: RowConverter,
    key_columns: Vec<usize>,
    values: RowConverter,
    value_columns: Vec<usize>,
    /// The key of the last row, and the values of the rows that have it.
    last: Option<(OwnedRow, Vec<OwnedRow>)>,
    merged: u64,
}

impl Repeats {
    /// For readings tables only; in others a row is told by its whole self. Values are all columns but those that say
    /// how a row came: also one that a newer program added and this one does not know.
    fn new(state: &TableSnapshot, schema: &SchemaRef) -> Result<Option<Self>, StoreError> {
        if crate::schema::commodity_of(&state.name).is_none() {
            return Ok(None);
        }
        let find = |name: &String| schema.index_of(name).map_err(|source| StoreError::arrow(&state.name, source));
        let key_columns = state.sort_by.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let is_value = |at: &usize| {
            !key_columns.contains(at) && !crate::schema::HOW_A_ROW_CAME.contains(&schema.field(*at).name().as_str())
        };
        let value_columns: Vec<usize> = (0..schema.fields().len()).filter(is_value).collect();
        let converter = |columns: &[usize]| {
            let fields = columns.iter().map(|i| SortField::new(schema.field(*i).data_type().clone())).collect();
            RowConverter::new(fields).map_err(|source| StoreError::arrow(&state.name, source))
        };
        let (keys, values) = (converter(&key_columns)?, converter(&value_columns)?);
        Ok(Some(Self { keys, key_columns, values, value_columns, last: None, merged: 0 }))
    }

    fn merge(&mut self, batch: &RecordBatch, read: &mut Tally) -> Result<RecordBatch, arrow::error::ArrowError> {
        let pick = |columns: &[usize]| columns.iter().map(|i| batch.column(*i).clone()).collect::<Vec<_>>();
        let keys = self.keys.convert_columns(&pick(&self.key_columns))?;
        let values = self.values.convert_columns(&pick(&self.value_columns))?;
        let (mut kept, mut repeats) = (Vec::with_capacity(batch.num_rows()), Vec::new());
        for (row, number) in (0..batch.num_rows()).zip(0_u32..) {
            let (key, value) = (keys.row(row), values.row(row));
            match &mut self.last {
                Some((last, seen)) if last.row() == key => {
                    if seen.iter().any(|s| s.row() == value) {
                        repeats.push(number);
                        continue;
                    }
                    seen.push(value.owned());
                }
                _ => self.last = Some((key.owned(), vec![value.owned()])),
            }
            kept.push(number);
        }
        if repeats.is_empty() {
            return Ok(batch.clone());
        }
        self.merged += repeats.len() as u64;
        read.subtract(&take_record_batch(batch, &UInt32Array::from(repeats))?);
        take_record_batch(batch, &UInt32Array::from(kept))
    }
}

/// Files of at least the size asked for, each with whole meters.
struct Output<'a> {
    state: &'a TableSnapshot,
    schema: &'a SchemaRef,
    effort: Effort,
    target_bytes: usize,
    writer: Option<FileWriter>,
    /// The meter of the last row.
    last: Option<String>,
    /// Those that are whole and not taken away yet.
    files: Vec<EncodedFile>,
}

impl Output<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        let mut rest = batch.clone();
        if self.writer.as_ref().is_some_and(|w| w.bytes() >= self.target_bytes)
            && let Some(cut) = self.next_meter(&rest)
        {
            self.append(&rest.slice(0, cut))?;
            self.close()?;
            rest = rest.slice(cut, rest.num_rows() - cut);
        }
        self.append(&rest)
    }

    /// The first row that a new file may begin with.
    fn next_meter(&self, batch: &RecordBatch) -> Option<usize> {
        let Some(meters) = self.texts(batch) else { return Some(0) };
        (0..batch.num_rows()).find(|row| Some(meters.value(*row)) != self.last.as_deref())
    }

    /// The column that must not be split: the first of the order, where it is a text.
    fn texts<'b>(&self, batch: &'b RecordBatch) -> Option<&'b arrow::array::StringArray> {
        let column = batch.column_by_name(self.state.sort_by.first()?)?;
        matches!(column.data_type(), DataType::Utf8).then(|| column.as_string::<i32>())
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        let Some(last) = batch.num_rows().checked_sub(1) else { return Ok(()) };
        self.last = self.texts(batch).map(|meters| meters.value(last).to_owned());
        if self.writer.is_none() {
            self.writer = Some(FileWriter::new(&self.state.name, self.schema, &self.state.sort_by, self.effort)?);
        }
        match &mut self.writer {
            Some(writer) => writer.write(batch),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if let Some(writer) = self.writer.take() {
            self.files.push(writer.finish()?);
        }
        Ok(())
    }
}

/// Adds the sums of a file as a reader sees it.
fn reread(table: &str, file: &EncodedFile, tally: &mut Tally) -> Result<(), StoreError> {
    let wrap = |source| StoreError::parquet(table, "(new)", source);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).map_err(wrap)?;
    for batch in reader.build().map_err(wrap)? {
        tally.add(&batch.map_err(|source| StoreError::arrow(table, source))?);
    }
    Ok(())
}
