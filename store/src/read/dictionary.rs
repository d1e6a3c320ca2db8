//! The texts of a column by its dictionaries alone: one small page a row group instead of all its rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::open;
use crate::error::StoreError;
use crate::parquet_file::CREATED_BY;
use crate::table::{DataFile, TableSnapshot};

/// All texts of a column without nulls; `None` when its dictionaries do not hold them all, or another program wrote it.
pub(crate) async fn texts(
    store: &Arc<dyn ObjectStore>,
    state: &TableSnapshot,
    file: &DataFile,
    column: &str,
) -> Result<Option<BTreeSet<String>>, StoreError> {
    let builder = open(store, state, file, PageIndexPolicy::Skip).await?;
    let metadata = builder.metadata();
    let leaf = builder.parquet_schema().columns().iter().position(|c| c.name() == column);
    let (Some(leaf), Some(CREATED_BY)) = (leaf, metadata.file_metadata().created_by()) else { return Ok(None) };
    let mut found = BTreeSet::new();
    for group in metadata.row_groups() {
        let chunk = group.column(leaf);
        // Once a dictionary is full our writer goes on with texts by length.
        let (true, Some(start)) = (is_all_dictionary(chunk), chunk.dictionary_page_offset()) else { return Ok(None) };
        let wrap = |source| StoreError::parquet(&state.name, &file.path, source);
        let place = |at: i64| u64::try_from(at).map_err(|e| wrap(ParquetError::External(Box::new(e))));
        let range = place(start)?..place(chunk.data_page_offset())?;
        let bytes = store.get_range(&Path::from(file.path.as_str()), range.clone()).await;
        let bytes =
            bytes.map_err(|source| StoreError::storage(format!("read {}/{}", state.name, file.path), source))?;
        found.extend(decode(Part { start: range.start, bytes }, chunk).map_err(wrap)?);
    }
    Ok(Some(found))
}

fn is_all_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    let has = |wanted| chunk.encodings().any(|e| e == wanted);
    has(Encoding::RLE_DICTIONARY) && !has(Encoding::DELTA_LENGTH_BYTE_ARRAY)
}

fn decode(part: Part, chunk: &ColumnChunkMetaData) -> ParquetResult<Vec<String>> {
    let mut pages = SerializedPageReader::new(Arc::new(part), chunk, 0, None)?;
    let Some(Page::DictionaryPage { mut buf, num_values, .. }) = pages.get_next_page()? else {
        return Err(ParquetError::General("a dictionary page was expected".into()));
    };
    let torn = || ParquetError::General("a dictionary page ends inside a text".into());
    let mut texts = Vec::new();
    for _ in 0..num_values {
        let length = buf.try_get_u32_le().map_err(|_| torn())? as usize;
        if length > buf.len() {
            return Err(torn());
        }
        let text = String::from_utf8(buf.split_to(length).to_vec());
        texts.push(text.map_err(|e| ParquetError::External(Box::new(e)))?);
    }
    Ok(texts)
}

/// Some bytes of a file at their place.
struct Part {
    start: u64,
    bytes: Bytes,
}

impl Part {
    fn from(&self, at: u64) -> ParquetResult<Bytes> {
        let outside = || ParquetError::General(format!("byte {at} of the file was not read"));
        let skip = at.checked_sub(self.start).and_then(|n| usize::try_from(n).ok());
        let skip = skip.filter(|n| *n <= self.bytes.len()).ok_or_else(outside)?;
        Ok(self.bytes.slice(skip..))
    }
}

impl Length for Part {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Part {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::General(format!("{length} bytes from {start} on were not read")));
        }
        Ok(bytes.slice(..length))
    }
}
