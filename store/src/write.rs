//! Writing whole batches: rows appended to a table, and partitions of derived tables replaced.
//!
//! Equal rows give equal bytes (see [`crate::replace`]), so a rerun of a job leaves no trace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Int32Type, Schema, SchemaRef};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::StoreError;
use crate::lake::{Lake, put_file};
use crate::log::Change;
use crate::parquet_file::{Effort, EncodedFile, FileWriter};
use crate::table::{DataFile, TableSpec};

/// Which partition: the values of [`TableSpec::partition_by`] in its order. Empty for a table without partitions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionKey(pub Vec<String>);

impl PartitionKey {
    /// From the values in the order of [`TableSpec::partition_by`].
    pub fn new<T: ToString>(values: impl IntoIterator<Item = T>) -> Self {
        Self(values.into_iter().map(|v| v.to_string()).collect())
    }

    /// The directory below the table, with a slash at its end.
    pub(crate) fn directory(&self, partition_by: &[impl AsRef<str>]) -> String {
        let mut path = String::new();
        for (column, value) in partition_by.iter().zip(&self.0) {
            // Writing to a text does not fail.
            let _ = write!(path, "{}={value}/", column.as_ref());
        }
        path
    }

    pub(crate) fn columns(&self, partition_by: &[impl AsRef<str>]) -> Vec<(String, Option<String>)> {
        partition_by.iter().zip(&self.0).map(|(c, v)| (c.as_ref().to_owned(), Some(v.clone()))).collect()
    }

    /// One value for each column, and none that would need escaping in a path.
    pub(crate) fn check(&self, table: &str, partition_by: &[impl AsRef<str>]) -> Result<(), StoreError> {
        let plain = |v: &String| {
            !v.is_empty() && v.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if self.0.len() != partition_by.len() || !self.0.iter().all(plain) {
            return Err(StoreError::rows(table, format!("{:?} is no partition", self.0)));
        }
        Ok(())
    }
}

/// What a replacement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replaced {
    /// Partitions whose rows are different now.
    pub changed: usize,
    /// Rows of all partitions handed over.
    pub rows: u64,
}

impl Lake {
    /// Replaces whole partitions in one commit; the others stay. A partition without rows is emptied. When nothing
    /// differs there is no commit. The batches may hold the partition columns or leave them out, in any order of rows.
    ///
    /// # Errors
    /// `Conflict` when another process rewrote the table meanwhile, `Rows` when columns do not fit.
    pub async fn replace(
        &self,
        spec: &TableSpec,
        partitions: Vec<(PartitionKey, Vec<RecordBatch>)>,
    ) -> Result<Replaced, StoreError> {
        let mut replacement = self.replacement(spec).await?;
        for (key, batches) in partitions {
            key.check(spec.name, spec.partition_by)?;
            let rows = file_rows(spec, &batches)?;
            replacement.partition(key, futures::stream::iter([Ok::<_, StoreError>(rows)])).await?;
        }
        replacement.commit().await
    }

    /// Adds rows, one file for each partition that they fall into, in one commit. Gives the number of rows.
    ///
    /// It is for what is written once by one hand, such as the list of job runs: after an error the caller cannot know
    /// by itself whether the rows are there.
    ///
    /// # Errors
    /// `Rows` when columns do not fit.
    pub async fn append(&self, spec: &TableSpec, batches: Vec<RecordBatch>) -> Result<u64, StoreError> {
        self.ensure(spec).await?;
        let mut change = Change { operation: "WRITE", data_change: true, ..Change::default() };
        let mut log = self.locked(spec.name).await?;
        let parts = split(spec, &batches)?;
        let mut rows = 0;
        for (key, batch) in parts {
            key.check(spec.name, spec.partition_by)?;
            rows += batch.num_rows() as u64;
            let file = encode(spec, &batch, Effort::Open).await?;
            let path = format!("{}fresh-{}.parquet", key.directory(spec.partition_by), Uuid::new_v4().simple());
            put_file(&log, &path, file.bytes.clone()).await?;
            change.add.push(data_file(path, key.columns(spec.partition_by), file));
        }
        if rows > 0 {
            log.commit(&change).await?;
        }
        Ok(rows)
    }
}

/// A file's entry for the log.
pub(crate) fn data_file(path: String, partition: Vec<(String, Option<String>)>, file: EncodedFile) -> DataFile {
    DataFile { path, size: file.bytes.len() as u64, rows: file.rows, partition, columns: file.columns }
}

/// Enough of a hash to tell files apart, in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..16].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The columns that are in the files: all but the partition's.
pub(crate) fn file_schema(schema: &SchemaRef, partition_by: &[impl AsRef<str>]) -> SchemaRef {
    let stays = |name: &str| !partition_by.iter().any(|p| p.as_ref() == name);
    Arc::new(Schema::new(schema.fields().iter().filter(|f| stays(f.name())).cloned().collect::<Vec<_>>()))
}

/// Rows as they lie in a file: its columns, sorted.
fn file_rows(spec: &TableSpec, batches: &[RecordBatch]) -> Result<RecordBatch, StoreError> {
    let schema = file_schema(&spec.schema, spec.partition_by);
    let rows = joined(spec, &schema, batches)?;
    sort_rows(spec, &rows)
}

fn joined(spec: &TableSpec, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, StoreError> {
    let fitted = batches.iter().map(|b| fit(spec.name, schema, b)).collect::<Result<Vec<_>, _>>()?;
    concat_batches(schema, &fitted).map_err(|source| StoreError::arrow(spec.name, source))
}

/// The batch with exactly these columns, by name.
pub(crate) fn fit(table: &str, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, StoreError> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let column = batch.column_by_name(field.name());
            let column =
                column.ok_or_else(|| StoreError::rows(table, format!("column {} is missing", field.name())))?;
            let (found, wanted) = (column.data_type(), field.data_type());
            if found != wanted {
                let reason = format!("column {} is {found} and should be {wanted}", field.name());
                return Err(StoreError::rows(table, reason));
            }
            Ok(column.clone())
        })
        .collect::<Result<Vec<ArrayRef>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|source| StoreError::rows(table, source.to_string()))
}

/// Rows in the order of the table. All other columns break ties, so that equal sets of rows are equal in whatever order
/// they come.
///
/// # Errors
/// When the rows cannot be compared.
pub fn sort_rows(spec: &TableSpec, rows: &RecordBatch) -> Result<RecordBatch, StoreError> {
    if spec.sort_by.is_empty() || rows.num_rows() < 2 {
        return Ok(rows.clone());
    }
    let wrap = |source| StoreError::arrow(spec.name, source);
    let others = rows.schema();
    let others = others.fields().iter().map(|f| f.name().as_str()).filter(|n| !spec.sort_by.contains(n));
    let columns = spec
        .sort_by
        .iter()
        .copied()
        .chain(others)
        .filter_map(|name| rows.column_by_name(name))
        .filter(|column| !matches!(column.data_type(), DataType::List(_)))
        .map(|column| SortColumn { values: column.clone(), options: None })
        .collect::<Vec<_>>();
    let order = lexsort_to_indices(&columns, None).map_err(wrap)?;
    take_record_batch(rows, &order).map_err(wrap)
}

/// Rows by partition, each sorted and without the partition's columns.
fn split(spec: &TableSpec, batches: &[RecordBatch]) -> Result<Vec<(PartitionKey, RecordBatch)>, StoreError> {
    let all = joined(spec, &spec.schema, batches)?;
    let mut by_key: BTreeMap<PartitionKey, Vec<u32>> = BTreeMap::new();
    let columns: Vec<_> = spec.partition_by.iter().filter_map(|name| all.column_by_name(name)).collect();
    for row in 0..all.num_rows() {
        let values = columns.iter().map(|column| partition_value(column, row)).collect::<Option<Vec<_>>>();
        let Some(values) = values else {
            return Err(StoreError::rows(spec.name, format!("row {row} has no partition")));
        };
        by_key.entry(PartitionKey(values)).or_default().push(u32::try_from(row).unwrap_or(u32::MAX));
    }
    by_key
        .into_iter()
        .map(|(key, rows)| {
            let part = take_record_batch(&all, &UInt32Array::from(rows));
            let part = part.map_err(|source| StoreError::arrow(spec.name, source))?;
            Ok((key, file_rows(spec, &[part])?))
        })
        .collect()
}

fn partition_value(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row).to_owned()),
        DataType::Int32 => Some(column.as_primitive::<Int32Type>().value(row).to_string()),
        _ => None,
    }
}

async fn encode(spec: &TableSpec, rows: &RecordBatch, effort: Effort) -> Result<EncodedFile, StoreError> {
    let (table, sort_by, rows) = (spec.name, spec.sort_by, rows.clone());
    off_worker(move || {
        let mut writer = FileWriter::new(table, &rows.schema(), sort_by, effort)?;
        writer.write(&rows)?;
        writer.finish()
    })
    .await
}

/// Work that takes longer than a moment, off the asynchronous workers.
pub(crate) async fn off_worker<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    begun_off_worker(work).await
}

/// As [`off_worker`], begun before it is waited for.
pub(crate) fn begun_off_worker<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
    let work = tokio::task::spawn_blocking(work);
    let failed = |source| StoreError::storage("encode rows", object_store::Error::JoinError { source });
    async move { work.await.map_err(failed)? }
}
