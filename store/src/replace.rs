//! Partitions of a derived table replaced row by row: what is held is one partition's encoded file, never its rows.
//!
//! A replaced partition is one file named by the hash of its bytes, and its bytes follow from its rows alone, however they
//! were handed over: so what did not change is seen by its name and not written again.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use futures::future::{self, BoxFuture};
use futures::{FutureExt, Stream, StreamExt};

use crate::error::StoreError;
use crate::lake::{Lake, put_file};
use crate::log::{AppStep, Change};
use crate::parquet_file::{Effort, FileWriter};
use crate::table::{DataFile, TableSnapshot, TableSpec, maintenance_app};
use crate::write::{PartitionKey, Replaced, begun_off_worker, data_file, file_schema, fit, hash, off_worker};

/// Rows are encoded in pieces of so many, so that pages do not depend on how the rows came.
const CHUNK_ROWS: usize = 1 << 16;

/// Partitions that are about to be replaced, all in one commit. Nothing is seen of them before [`Replacement::commit`].
pub struct Replacement<'a> {
    lake: &'a Lake,
    spec: &'a TableSpec,
    /// The table as it was at the beginning.
    before: TableSnapshot,
    /// The new file of each partition; `None` for one that shall be empty.
    files: BTreeMap<PartitionKey, Option<DataFile>>,
    rows: u64,
}

impl Lake {
    /// Begins to replace whole partitions of a table; the others stay.
    ///
    /// # Errors
    /// `Foreign` when the table is there with another schema.
    pub async fn replacement<'a>(&'a self, spec: &'a TableSpec) -> Result<Replacement<'a>, StoreError> {
        self.ensure(spec).await?;
        let before = self.snapshot(spec.name).await?;
        Ok(Replacement { lake: self, spec, before, files: BTreeMap::new(), rows: 0 })
    }
}

impl Replacement<'_> {
    /// Partitions that have rows now, whatever becomes of them.
    pub fn present(&self) -> impl Iterator<Item = PartitionKey> {
        let key = |f: &DataFile| {
            let values = self.spec.partition_by.iter().map(|column| f.partition_value(column).unwrap_or_default());
            PartitionKey::new(values)
        };
        let mut keys: Vec<_> = self.before.files.iter().map(key).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter()
    }

    /// Rows that a partition has now.
    pub fn rows_of(&self, key: &PartitionKey) -> u64 {
        let columns = key.columns(self.spec.partition_by);
        self.before.files.iter().filter(|f| f.partition == columns).map(|f| f.rows).sum()
    }

    /// Takes the rows of one partition, which come in the order of the table, without its partition columns or with them.
    /// Without a row it is emptied. True when the rows are not those that are there.
    ///
    /// # Errors
    /// `Refused` when the rows are not in order, `Rows` when columns do not fit, else what the rows or the store report.
    pub async fn partition<E: From<StoreError>>(
        &mut self,
        key: PartitionKey,
        rows: impl Stream<Item = Result<RecordBatch, E>>,
    ) -> Result<bool, E> {
        key.check(self.spec.name, self.spec.partition_by)?;
        let schema = file_schema(&self.spec.schema, self.spec.partition_by);
        let mut chunks = Chunks::new(self.spec, schema.clone())?;
        let mut rows = std::pin::pin!(rows);
        while let Some(batch) = rows.next().await {
            chunks.push(fit(self.spec.name, &schema, &batch?)?).await?;
        }
        let columns = key.columns(self.spec.partition_by);
        let live: Vec<&DataFile> = self.before.files.iter().filter(|f| f.partition == columns).collect();
        let Some(writer) = chunks.finish().await? else {
            let changed = !live.is_empty();
            self.files.insert(key, None);
            return Ok(changed);
        };
        let file = off_worker(move || writer.finish()).await?;
        self.rows += file.rows;
        let path = format!("{}whole-{}.parquet", key.directory(self.spec.partition_by), hash(&file.bytes));
        let changed = live.len() != 1 || live[0].path != path;
        let there = live.iter().any(|f| f.path == path);
        let (bytes, file) = (file.bytes.clone(), data_file(path.clone(), columns, file));
        if !there {
            let log = self.lake.locked(self.spec.name).await?;
            put_file(&log, &path, bytes).await?;
        }
        self.files.insert(key, Some(file));
        Ok(changed)
    }

    /// Puts the new files in the place of the old ones, in one commit; none when nothing differs.
    ///
    /// # Errors
    /// `Conflict` when another process rewrote the table meanwhile.
    pub async fn commit(self) -> Result<Replaced, StoreError> {
        let mut log = self.lake.locked(self.spec.name).await?;
        log.refresh().await?;
        let mut change = Change { operation: "WRITE", data_change: true, ..Change::default() };
        let mut done = Replaced { changed: 0, rows: self.rows };
        for (key, file) in self.files {
            let columns = key.columns(self.spec.partition_by);
            let live: Vec<String> =
                log.state().files.iter().filter(|f| f.partition == columns).map(|f| f.path.clone()).collect();
            let before = self.before.files.iter().filter(|f| f.partition == columns).map(|f| f.path.as_str());
            if !before.eq(live.iter().map(String::as_str)) {
                let reason = format!("partition {:?} is not what it was when its replacement began", key.0);
                return Err(StoreError::Conflict { table: self.spec.name.to_owned(), reason });
            }
            match file {
                Some(file) if live == [file.path.as_str()] => {}
                Some(file) => {
                    done.changed += 1;
                    change.remove.extend(live.iter().filter(|p| **p != file.path).cloned());
                    if !live.contains(&file.path) {
                        change.add.push(file);
                    }
                }
                None => {
                    done.changed += usize::from(!live.is_empty());
                    change.remove.extend(live);
                }
            }
        }
        if change.add.is_empty() && change.remove.is_empty() {
            return Ok(done);
        }
        let app = maintenance_app(self.spec.name);
        let before = log.state().transactions.get(&app).copied();
        change.transaction = Some(AppStep { app, before, after: before.unwrap_or(0) + 1 });
        log.commit(&change).await?;
        Ok(done)
    }
}

/// Rows on their way into a file, in pieces of one size.
struct Chunks {
    table: &'static str,
    schema: SchemaRef,
    waiting: Vec<RecordBatch>,
    rows: usize,
    /// The writer, once it is done with the chunk before: while it encodes one, the next is gathered.
    writer: Option<BoxFuture<'static, Result<FileWriter, StoreError>>>,
    any: bool,
}

impl Chunks {
    fn new(spec: &TableSpec, schema: SchemaRef) -> Result<Self, StoreError> {
        let writer = FileWriter::new(spec.name, &schema, spec.sort_by, Effort::Closed)?;
        let writer = Some(future::ok(writer).boxed());
        Ok(Self { table: spec.name, schema, waiting: Vec::new(), rows: 0, writer, any: false })
    }

    async fn push(&mut self, mut batch: RecordBatch) -> Result<(), StoreError> {
        while self.rows + batch.num_rows() >= CHUNK_ROWS {
            let take = CHUNK_ROWS - self.rows;
            self.waiting.push(batch.slice(0, take));
            batch = batch.slice(take, batch.num_rows() - take);
            self.flush().await?;
        }
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.waiting.push(batch);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.rows = 0;
        let chunk = concat_batches(&self.schema, &waiting).map_err(|source| StoreError::arrow(self.table, source))?;
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let mut writer = writer.await?;
        self.any |= chunk.num_rows() > 0;
        self.writer = Some(begun_off_worker(move || writer.write(&chunk).map(|()| writer)).boxed());
        Ok(())
    }

    /// The writer with all rows; `None` when there were none.
    async fn finish(mut self) -> Result<Option<FileWriter>, StoreError> {
        if self.rows > 0 {
            self.flush().await?;
        }
        match self.writer.filter(|_| self.any) {
            Some(writer) => writer.await.map(Some),
            None => Ok(None),
        }
    }
}
