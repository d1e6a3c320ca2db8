//! Proof: every byte below some folders is looked at for a subject's words, decoded where it is compressed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use bytes::Bytes;
use meterlake_model::{Commodity, ReadingBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::words::Words;
use crate::journal::JournalReader;

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
    // A name may tell, too.
    if path.file_name().is_some_and(|name| words.are_in(name.as_encoded_bytes())) {
        searched.found.push(Found { path: path.to_owned(), place: "its name".to_owned() });
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(e) => return gone(e),
    };
    searched.files += 1;
    searched.bytes += bytes.len() as u64;
    if words.are_in(&bytes) {
        searched.found.push(Found { path: path.to_owned(), place: "its bytes".to_owned() });
    }
    match path.extension().and_then(|e| e.to_str()) {
        Some("mlj") => drop(journals.insert(path.parent().unwrap_or(path).to_owned())),
        _ if bytes.starts_with(b"PAR1") => match in_parquet(bytes, words) {
            Ok(columns) => {
                let found = columns.into_iter().map(|c| Found { path: path.to_owned(), place: format!("column {c}") });
                searched.found.extend(found);
            }
            Err(_) => searched.unreadable.push(path.to_owned()),
        },
        _ => {}
    }
    Ok(())
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
