//! Reading data files of a table: whole, or only the pages that can hold some meters.

pub(crate) mod dictionary;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use crate::error::StoreError;
use crate::log::Log;
use crate::table::{DataFile, TableSnapshot};

/// Bytes of a file, by ranges.
pub(crate) struct StoredFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.store.get_range(&self.path, range).map_err(external).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let policy = options.map_or(PageIndexPolicy::Skip, ArrowReaderOptions::column_index_policy);
            let size = self.size;
            let reader = ParquetMetaDataReader::new().with_page_index_policy(policy);
            reader.load_and_finish(self, size).await.map(Arc::new)
        }
        .boxed()
    }
}

fn external(source: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(source))
}

/// Opens a file of the table. Its columns are the file's own, by which an older file may lack some, in the table's types:
/// [`conform`] makes them the table's.
pub(crate) async fn open(
    store: &Arc<dyn ObjectStore>,
    state: &TableSnapshot,
    file: &DataFile,
    index: PageIndexPolicy,
) -> Result<ParquetRecordBatchStreamBuilder<StoredFile>, StoreError> {
    let wrap = |source| StoreError::parquet(&state.name, &file.path, source);
    let mut stored = StoredFile { store: store.clone(), path: Path::from(file.path.as_str()), size: file.size };
    let options = ArrowReaderOptions::new().with_page_index_policy(index);
    let found = ArrowReaderMetadata::load_async(&mut stored, options.clone()).await.map_err(wrap)?;
    let options = options.with_schema(typed(found.schema(), &state.schema));
    let metadata = ArrowReaderMetadata::try_new(found.metadata().clone(), options).map_err(wrap)?;
    Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(stored, metadata))
}

/// The columns of a file, each with the type that the table gives it.
fn typed(file: &Schema, table: &Schema) -> SchemaRef {
    let fields = file.fields().iter().map(|found| match table.field_with_name(found.name()) {
        Ok(known) => Field::new(found.name(), known.data_type().clone(), found.is_nullable()),
        Err(_) => found.as_ref().clone(),
    });
    SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows with exactly these columns, found by name. What an older file lacks is null.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), rows),
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new_with_options(schema.clone(), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
}

/// Rows of `columns` from all pages that may hold one of the texts in `column`.
pub(crate) async fn pages_with(
    log: &Log,
    file: &DataFile,
    column: &str,
    texts: &BTreeSet<&str>,
    columns: &[&str],
) -> Result<BoxStream<'static, ParquetResult<RecordBatch>>, StoreError> {
    rows_of(log.store(), log.state(), file, Some((column, texts)), columns).await
}

/// Rows of `columns`: from all pages, or from those that may hold one of the texts in a column.
pub(crate) async fn rows_of(
    store: &Arc<dyn ObjectStore>,
    state: &TableSnapshot,
    file: &DataFile,
    only: Option<(&str, &BTreeSet<&str>)>,
    columns: &[&str],
) -> Result<BoxStream<'static, ParquetResult<RecordBatch>>, StoreError> {
    let wrap = |source| StoreError::parquet(&state.name, &file.path, source);
    let index = if only.is_some() { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
    let builder = open(store, state, file, index).await?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let selection = only.and_then(|(column, texts)| {
        let leaf = builder.parquet_schema().columns().iter().position(|c| c.name() == column)?;
        Some(selection(builder.metadata(), leaf, texts))
    });
    let builder = builder.with_projection(mask);
    let stream = match selection {
        Some(selection) => builder.with_row_selection(selection).build(),
        None => builder.build(),
    };
    let fields = columns.iter().filter_map(|name| state.schema.field_with_name(name).ok().cloned());
    let schema = SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()));
    let conformed = stream.map_err(wrap)?.map(move |batch| Ok(conform(&batch?, &schema)?));
    Ok(conformed.boxed())
}

fn selection(metadata: &ParquetMetaData, leaf: usize, texts: &BTreeSet<&str>) -> RowSelection {
    let mut ranges = Vec::new();
    let mut start = 0;
    for (group, meta) in metadata.row_groups().iter().enumerate() {
        let rows = usize::try_from(meta.num_rows()).unwrap_or(0);
        let pages = group_pages(metadata, group, leaf, rows);
        match pages {
            Some(pages) => {
                let holding = pages.into_iter().filter(|(low, high, _)| holds(texts, low, high));
                ranges.extend(holding.map(|(_, _, range)| start + range.start..start + range.end));
            }
            None => ranges.push(start..start + rows),
        }
        start += rows;
    }
    RowSelection::from_consecutive_ranges(ranges.into_iter(), start)
}

type PageBounds<'a> = (&'a [u8], &'a [u8], Range<usize>);

/// The bounds and rows of each page; `None` when the file does not tell.
fn group_pages(metadata: &ParquetMetaData, group: usize, leaf: usize, rows: usize) -> Option<Vec<PageBounds<'_>>> {
    let ColumnIndexMetaData::BYTE_ARRAY(index) = metadata.column_index()?.get(group)?.get(leaf)? else {
        return None;
    };
    let locations = metadata.offset_index()?.get(group)?.get(leaf)?.page_locations();
    let first = |page: usize| locations.get(page).and_then(|l| usize::try_from(l.first_row_index).ok());
    (0..locations.len())
        .map(|page| {
            let end = if page + 1 < locations.len() { first(page + 1)? } else { rows };
            Some((index.min_value(page)?, index.max_value(page)?, first(page)?..end))
        })
        .collect()
}

fn holds(texts: &BTreeSet<&str>, low: &[u8], high: &[u8]) -> bool {
    // A bound that was cut inside a character is no text; such a page is read.
    let Ok(low) = std::str::from_utf8(low) else { return true };
    texts.range(low..).next().is_some_and(|text| text.as_bytes() <= high)
}
