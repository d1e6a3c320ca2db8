//! An object store that fails at one call, before or after it took effect, and helpers to read what tables hold.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use meterlake_model::{Channel, Commodity, MeterId, ReadingBatch, ReadingFlags, RowHeader, Timestamp};
use meterlake_store::{Lake, TableSnapshot};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Whether the call that fails takes effect nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Before,
    After,
}

/// Fails the call of one number; the others pass.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: LocalFileSystem,
    calls: AtomicUsize,
    fail_at: usize,
    fault: Fault,
}

impl Faulty {
    pub(crate) fn new(fail_at: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self { inner: LocalFileSystem::new(), calls: AtomicUsize::new(0), fail_at, fault })
    }

    /// Whether the fault has shown.
    pub(crate) fn struck(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.fail_at
    }

    fn strikes(&self) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst) == self.fail_at
    }
}

fn failure() -> Error {
    Error::Generic { store: "faulty", source: "the line went dead".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let strikes = self.strikes();
        if strikes && self.fault == Fault::Before {
            return Err(failure());
        }
        let result = self.inner.put_opts(location, payload, opts).await;
        if strikes { Err(failure()) } else { result }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.strikes() { Err(failure()) } else { self.inner.get_opts(location, options).await }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if self.strikes() { Err(failure()) } else { self.inner.get_ranges(location, ranges).await }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A lake that does not wait for the disk: for tests that are not about it.
pub(crate) fn quick_lake(dir: &FilePath) -> Lake {
    Lake::open_with(dir, Arc::new(LocalFileSystem::new())).unwrap()
}

/// One reading of electricity: meter, seconds, values by column name.
pub(crate) type Said<'a> = (&'a str, i64, &'a [(&'a str, i64)]);

/// A record of readings.
pub(crate) fn record(rows: &[Said<'_>]) -> Arc<ReadingBatch> {
    let mut batch = ReadingBatch::default();
    for (meter, seconds, values) in rows {
        let header = RowHeader {
            meter_id: MeterId::new(meter).unwrap(),
            ts: Timestamp::from_unix_seconds(*seconds).unwrap(),
            received_at_s: seconds + 1,
            source: "test".into(),
            profile: "test@1".into(),
            flags: ReadingFlags::NONE,
        };
        let values: Vec<_> = values.iter().map(|(name, v)| (Channel::by_name(name).unwrap(), *v)).collect();
        batch.rows_mut(Commodity::Electricity).push(header, &values);
    }
    Arc::new(batch)
}

/// The rows of all files, file by file, as readers see them.
pub(crate) fn batches(lake: &Lake, found: &TableSnapshot) -> Vec<RecordBatch> {
    read_batches(lake, found).unwrap()
}

/// As [`batches`]; an error says which file is not what the log says.
pub(crate) fn read_batches(lake: &Lake, found: &TableSnapshot) -> std::result::Result<Vec<RecordBatch>, String> {
    let mut all = Vec::new();
    for file in &found.files {
        let said = |e: &dyn fmt::Display| format!("{} version {}, file {}: {e}", found.name, found.version, file.path);
        let bytes = Bytes::from(std::fs::read(lake.table_path(&found.name).join(&file.path)).map_err(|e| said(&e))?);
        if bytes.len() as u64 != file.size {
            return Err(said(&format!("{} bytes instead of {}", bytes.len(), file.size)));
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|b| b.build()).map_err(|e| said(&e))?;
        let read = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| said(&e))?;
        let rows = read.iter().map(|b| b.num_rows() as u64).sum::<u64>();
        if rows != file.rows {
            return Err(said(&format!("{rows} rows instead of {}", file.rows)));
        }
        all.extend(read);
    }
    Ok(all)
}

/// One row of electricity: meter, seconds, revision, flags, values by column name.
pub(crate) type Row = (String, i64, i64, i64, BTreeMap<&'static str, i64>);

/// All electricity rows, sorted.
pub(crate) async fn electricity(lake: &Lake) -> Vec<Row> {
    let found = lake.snapshot("electricity_readings").await.unwrap();
    let mut rows: Vec<Row> = batches(lake, &found).iter().flat_map(rows_of).collect();
    rows.sort();
    rows
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Decimal128Type, Int32Type, TimestampMicrosecondType};
    let column = |name: &str| batch.column_by_name(name).unwrap();
    (0..batch.num_rows())
        .map(|row| {
            let values = Channel::of(Commodity::Electricity).filter_map(|channel| {
                let column = column(channel.name());
                let value = || i64::try_from(column.as_primitive::<Decimal128Type>().value(row)).unwrap();
                column.is_valid(row).then(|| (channel.name(), value()))
            });
            (
                column("meter_id").as_string::<i32>().value(row).to_owned(),
                column("ts").as_primitive::<TimestampMicrosecondType>().value(row) / 1_000_000,
                i64::from(column("revision").as_primitive::<Int32Type>().value(row)),
                i64::from(column("flags").as_primitive::<Int32Type>().value(row)),
                values.collect(),
            )
        })
        .collect()
}
