//! Proof: every byte below some folders is looked at for a subject's words, decoded where it is compressed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use bytes::Bytes;
use futures::TryStreamExt;
use meterlake_model::{Commodity, ReadingBatch};
use object_store::ObjectStoreExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::words::Words;
use crate::error::StoreError;
use crate::journal::JournalReader;
use crate::lake::Lake;

/// One place that still names the subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Where in it: a column, a record of the journal, or its bytes as they are.
    pub place: String,
}

/// What a search went through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Searched {
    /// Where the words are.
    pub found: Vec<Found>,
    /// Files that were looked at.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What could be looked at only as it is: a Parquet file or a journal that cannot be read.
    pub unreadable: Vec<PathBuf>,
}

impl Searched {
    /// Both searches together.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.found.extend(other.found);
        self.files += other.files;
        self.bytes += other.bytes;
        self.unreadable.extend(other.unreadable);
        self
    }
}

/// Looks for words in every file below the folders. Folders that are not there hold nothing.
///
/// # Errors
/// When a folder or a file cannot be read. A file that disappears meanwhile is passed over.
pub fn search(folders: &[PathBuf], words: &Words) -> io::Result<Searched> {
    let mut searched = Searched::default();
    let mut journals = BTreeSet::new();
    for folder in folders {
        walk(folder, words, &mut searched, &mut journals)?;
    }
    for journal in journals {
        if !in_journal(&journal, words, &mut searched.found) {
            searched.unreadable.push(journal);
        }
    }
    searched.found.sort();
    searched.found.dedup();
    Ok(searched)
}

impl Lake {
    /// As [`search`], in every object below the root of a lake on an object store. Older versions of objects that the
    /// bucket keeps are not seen.
    ///
    /// # Errors
    /// When the objects cannot be listed or one cannot be read. One that disappears meanwhile is passed over.
    pub async fn search(&self, words: &Words) -> Result<Searched, StoreError> {
        let (store, beginning) = (self.object_store(), self.place().beginning()?);
        let mut searched = Searched::default();
        let failed = |what: &str, source| StoreError::storage(format!("{what} {}", self.root().display()), source);
        let mut objects = store.list(beginning.as_ref());
        while let Some(object) = objects.try_next().await.map_err(|e| failed("list", e))? {
            let bytes = match store.get(&object.location).await {
                Ok(found) => found.bytes().await.map_err(|e| failed("read below", e))?,
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(e) => return Err(failed("read below", e)),
            };
            look(Path::new(object.location.as_ref()), bytes, words, &mut searched);
        }
        searched.found.sort();
        Ok(searched)
    }
}

fn walk(path: &Path, words: &Words, searched: &mut Searched, journals: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let gone = |e: io::Error| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) };
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(e) => return gone(e),
    };
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), words, searched, journals)?;
        }
        return Ok(());
    }
    if !kind.is_file() {
        return Ok(());
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(e) => return gone(e),
    };
    look(path, bytes, words, searched);
    if path.extension().is_some_and(|e| e == "mlj") {
        journals.insert(path.parent().unwrap_or(path).to_owned());
    }
    Ok(())
}

/// Looks at one file, or one object.
fn look(path: &Path, bytes: Bytes, words: &Words, searched: &mut Searched) {
    let mut found = |place: String| searched.found.push(Found { path: path.to_owned(), place });
    // A name may tell, too.
    if path.file_name().is_some_and(|name| words.are_in(name.as_encoded_bytes())) {
        found("its name".to_owned());
    }
    searched.files += 1;
    searched.bytes += bytes.len() as u64;
    if words.are_in(&bytes) {
        found("its bytes".to_owned());
    }
    if bytes.starts_with(b"PAR1") {
        match in_parquet(bytes, words) {
            Ok(columns) => columns.into_iter().for_each(|column| found(format!("column {column}"))),
            Err(_) => searched.unreadable.push(path.to_owned()),
        }
    }
}

/// Columns that have one of the words.
fn in_parquet(bytes: Bytes, words: &Words) -> Result<BTreeSet<String>, parquet::errors::ParquetError> {
    let mut columns = BTreeSet::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        let batch = batch?;
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if in_array(column, words) {
                columns.insert(field.name().clone());
            }
        }
    }
    Ok(columns)
}

fn in_array(array: &ArrayRef, words: &Words) -> bool {
    match array.data_type() {
        DataType::Utf8 => any(array.as_string::<i32>().iter().map(|t| t.map(str::as_bytes)), words),
        DataType::LargeUtf8 => any(array.as_string::<i64>().iter().map(|t| t.map(str::as_bytes)), words),
        DataType::Utf8View => any(array.as_string_view().iter().map(|t| t.map(str::as_bytes)), words),
        DataType::Binary => any(array.as_binary::<i32>().iter(), words),
        DataType::LargeBinary => any(array.as_binary::<i64>().iter(), words),
        DataType::BinaryView => any(array.as_binary_view().iter(), words),
        DataType::Struct(_) => array.as_struct().columns().iter().any(|c| in_array(c, words)),
        DataType::List(_) => in_array(array.as_list::<i32>().values(), words),
        DataType::LargeList(_) => in_array(array.as_list::<i64>().values(), words),
        DataType::Map(..) => array.as_map().entries().columns().iter().any(|c| in_array(c, words)),
        _ => false,
    }
}

fn any<'a>(mut values: impl Iterator<Item = Option<&'a [u8]>>, words: &Words) -> bool {
    values.any(|value| value.is_some_and(|bytes| words.are_in(bytes)))
}

/// Every record of a journal, decoded. Tells whether all could be read.
fn in_journal(dir: &Path, words: &Words, found: &mut Vec<Found>) -> bool {
    let reader = JournalReader::open(dir);
    let records = reader.oldest().and_then(|oldest| reader.read_from(oldest.unwrap_or(1)));
    let Ok(records) = records else { return false };
    for record in records {
        let Ok((position, batch)) = record else { return false };
        if in_batch(&batch, words) {
            found.push(Found { path: dir.to_owned(), place: format!("record {position}") });
        }
    }
    true
}

fn in_batch(batch: &ReadingBatch, words: &Words) -> bool {
    let mut last = None;
    let rows = Commodity::ALL.iter().flat_map(|c| batch.rows(*c).headers()).any(|header| {
        // Rows of one meter follow each other.
        let again = last == Some(&header.meter_id);
        last = Some(&header.meter_id);
        !again && words.are_in(header.meter_id.as_str().as_bytes())
    });
    let message = |m: &meterlake_model::RawMessage| words.are_in(m.topic.as_bytes()) || words.are_in(&m.payload);
    rows || batch
        .events
        .iter()
        .any(|e| words.are_in(e.meter_id.as_str().as_bytes()) || words.are_in(e.detail.as_bytes()))
        || batch.dead_letters.iter().any(|d| message(&d.message) || words.are_in(d.detail.as_bytes()))
        || batch.raw.iter().any(message)
}
