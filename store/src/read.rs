//! Reading data files of a table: whole, or only the pages that can hold some meters.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use crate::error::StoreError;
use crate::log::Log;
use crate::table::{DataFile, TableSnapshot};
use crate::write::file_schema;

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

/// Opens a file of the table; columns have the table's types.
pub(crate) async fn open(
    store: &Arc<dyn ObjectStore>,
    state: &TableSnapshot,
    file: &DataFile,
    index: PageIndexPolicy,
) -> Result<ParquetRecordBatchStreamBuilder<StoredFile>, StoreError> {
    let schema: SchemaRef = file_schema(&state.schema, &state.partition_by);
    let stored = StoredFile { store: store.clone(), path: Path::from(file.path.as_str()), size: file.size };
    let options = ArrowReaderOptions::new().with_schema(schema).with_page_index_policy(index);
    ParquetRecordBatchStreamBuilder::new_with_options(stored, options)
        .await
        .map_err(|source| StoreError::parquet(&state.name, &file.path, source))
}

/// Rows of `columns` from all pages that may hold one of the texts in `column`.
pub(crate) async fn pages_with(
    log: &Log,
    file: &DataFile,
    column: &str,
    texts: &BTreeSet<&str>,
    columns: &[&str],
) -> Result<ParquetRecordBatchStream<StoredFile>, StoreError> {
    let wrap = |source| StoreError::parquet(&log.state().name, &file.path, source);
    let builder = open(log.store(), log.state(), file, PageIndexPolicy::Optional).await?;
    let leaf = builder.parquet_schema().columns().iter().position(|c| c.name() == column);
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let selection = leaf.map(|leaf| selection(builder.metadata(), leaf, texts));
    let builder = builder.with_projection(mask);
    match selection {
        Some(selection) => builder.with_row_selection(selection).build().map_err(wrap),
        None => builder.build().map_err(wrap),
    }
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
