//! A table without some of its rows: whole files leave, others are written anew without them, in one commit.
//!
//! The rows that stay and those that go add up to those that were there, or nothing is written. It is a commit under the
//! transaction of whoever rewrites the table, so a compaction at the same time conflicts and leaves nothing.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::{StreamExt, TryStreamExt};
use parquet::file::metadata::PageIndexPolicy;

use crate::error::StoreError;
use crate::lake::{Lake, put_file};
use crate::log::{AppStep, Change};
use crate::parquet_file::{Effort, FileWriter};
use crate::read;
use crate::table::{DataFile, TableSnapshot, maintenance_app};
use crate::write::{data_file, file_schema, hash};

/// What becomes of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    /// It stays.
    No,
    /// It goes.
    Whole,
    /// Its rows must be looked at.
    Rows,
}

/// Which rows go.
pub(crate) trait Sieve: Send {
    /// By what the log says of a file.
    fn touch(&self, state: &TableSnapshot, file: &DataFile) -> Touch;

    /// True for the rows that stay. Partition columns are not in the batch but in `file`.
    fn keep(&mut self, batch: &RecordBatch, file: &DataFile) -> Result<BooleanArray, StoreError>;

    /// What rows that stay become, and how many of them are other than before; `None` when all stay as they are.
    fn edit(&self, _batch: &RecordBatch) -> Result<Option<(RecordBatch, u64)>, StoreError> {
        Ok(None)
    }
}

/// What was, or would be, taken out of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sifted {
    /// Files that leave and get no successor.
    pub(crate) whole_files: usize,
    /// Files that were written anew.
    pub(crate) rewritten_files: usize,
    pub(crate) rows: u64,
    /// Bytes of all files that leave.
    pub(crate) bytes: u64,
    /// Rows that stay, with other values.
    pub(crate) edited: u64,
}

impl Sifted {
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Takes rows out of a table, or with `dry` says what would be taken out.
pub(crate) async fn sift(lake: &Lake, table: &str, sieve: &mut dyn Sieve, dry: bool) -> Result<Sifted, StoreError> {
    let state = lake.snapshot(table).await?;
    let mut change = Change { operation: "DELETE", data_change: true, ..Change::default() };
    let mut done = Sifted::default();
    for file in &state.files {
        match sieve.touch(&state, file) {
            Touch::No => {}
            Touch::Whole => {
                done.whole_files += 1;
                done.rows += file.rows;
                done.bytes += file.size;
                change.remove.push(file.path.clone());
            }
            Touch::Rows => sift_file(lake, &state, file, sieve, &mut change, &mut done, dry).await?,
        }
    }
    if dry || change.remove.is_empty() {
        return Ok(done);
    }
    let app = maintenance_app(table);
    let before = state.transactions.get(&app).copied();
    change.transaction = Some(AppStep { app, before, after: before.unwrap_or(0) + 1 });
    lake.locked(table).await?.commit(&change).await?;
    Ok(done)
}

async fn sift_file(
    lake: &Lake,
    state: &TableSnapshot,
    file: &DataFile,
    sieve: &mut dyn Sieve,
    change: &mut Change,
    done: &mut Sifted,
    dry: bool,
) -> Result<(), StoreError> {
    // Most files that are looked at lose nothing; only those that do are written, at a second look.
    let (mut kept, mut gone, mut edited) = (0_u64, 0_u64, 0_u64);
    let mut rows = rows_of(lake, state, file).await?;
    while let Some(batch) = rows.try_next().await? {
        let (stays, changed) = part(state, sieve, file, &batch)?;
        kept += stays.num_rows() as u64;
        gone += (batch.num_rows() - stays.num_rows()) as u64;
        edited += changed;
    }
    drop(rows);
    if kept + gone != file.rows {
        let reason = format!("file {} has {} rows, the log says {}", file.path, kept + gone, file.rows);
        return Err(StoreError::refused(&state.name, reason));
    }
    if gone == 0 && edited == 0 {
        return Ok(());
    }
    done.rows += gone;
    done.edited += edited;
    done.bytes += file.size;
    change.remove.push(file.path.clone());
    if kept == 0 {
        done.whole_files += 1;
        return Ok(());
    }
    done.rewritten_files += 1;
    if dry {
        return Ok(());
    }
    let (directory, name) = file.path.rsplit_once('/').map_or(("", file.path.as_str()), |(d, n)| (d, n));
    let prefix = name.split_once('-').map_or("fresh", |(prefix, _)| prefix);
    let effort = if matches!(prefix, "closed" | "whole") { Effort::Closed } else { Effort::Open };
    let schema = file_schema(&state.schema, &state.partition_by);
    let mut writer = FileWriter::new(&state.name, &schema, &state.sort_by, effort)?;
    let mut rows = rows_of(lake, state, file).await?;
    while let Some(batch) = rows.try_next().await? {
        writer.write(&part(state, sieve, file, &batch)?.0)?;
    }
    let written = writer.finish()?;
    if written.rows != kept {
        let reason = format!("file {} should keep {kept} rows and would keep {}", file.path, written.rows);
        return Err(StoreError::refused(&state.name, reason));
    }
    let slash = if directory.is_empty() { "" } else { "/" };
    let path = format!("{directory}{slash}{prefix}-{}.parquet", hash(&written.bytes));
    let log = lake.locked(&state.name).await?;
    put_file(&log, &path, written.bytes.clone()).await?;
    change.add.push(data_file(path, file.partition.clone(), written));
    Ok(())
}

/// The rows that stay, and how many of them are other than before.
fn part(
    state: &TableSnapshot,
    sieve: &mut dyn Sieve,
    file: &DataFile,
    batch: &RecordBatch,
) -> Result<(RecordBatch, u64), StoreError> {
    let keep = sieve.keep(batch, file)?;
    let stays = if keep.true_count() == batch.num_rows() {
        batch.clone()
    } else {
        filter_record_batch(batch, &keep).map_err(|source| StoreError::arrow(&state.name, source))?
    };
    Ok(match sieve.edit(&stays)? {
        Some(edited) => edited,
        None => (stays, 0),
    })
}

type Rows = futures::stream::BoxStream<'static, Result<RecordBatch, StoreError>>;

/// The rows of a file with the table's columns, the partition's apart.
pub(crate) async fn rows_of(lake: &Lake, state: &TableSnapshot, file: &DataFile) -> Result<Rows, StoreError> {
    let store = lake.locked(&state.name).await?.store().clone();
    let schema = file_schema(&state.schema, &state.partition_by);
    let (table, path) = (state.name.clone(), file.path.clone());
    let stream = read::open(&store, state, file, PageIndexPolicy::Skip).await?.build();
    let stream = stream.map_err(|source| StoreError::parquet(&table, &path, source))?;
    let rows = stream.map(move |batch| {
        let batch = batch.map_err(|source| StoreError::parquet(&table, &path, source))?;
        read::conform(&batch, &schema).map_err(|source| StoreError::arrow(&table, source))
    });
    Ok(rows.boxed())
}

/// All rows of a small table, the columns of its partitions apart; none when there is no such table.
pub(crate) async fn all_rows(lake: &Lake, table: &str) -> Result<Vec<RecordBatch>, StoreError> {
    let state = match lake.snapshot(table).await {
        Ok(state) => state,
        Err(StoreError::NoTable(_)) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut batches = Vec::new();
    for file in &state.files {
        batches.extend(rows_of(lake, &state, file).await?.try_collect::<Vec<_>>().await?);
    }
    Ok(batches)
}
