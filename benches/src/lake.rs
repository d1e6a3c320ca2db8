//! A lake with the input in it, and questions to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use arrow::util::display::array_value_to_string;
use futures::TryStreamExt;
use meterlake_config::CollectConfig;
use meterlake_model::Commodity;
use meterlake_store::query::{LakeSession, ReadOptions, SqlLimits, sql};
use meterlake_store::schema::readings_name;
use meterlake_store::{Committer, CompactOptions, CompactReport, Lake};

use crate::input::Input;

/// The table of the input's readings.
pub fn readings_table() -> &'static str {
    readings_name(Commodity::Electricity)
}

/// A temporary folder on the disk of the build, so that a sync reaches a disk and not memory.
///
/// # Errors
/// When it cannot be made.
pub fn folder(below: &Path) -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(below)?;
    tempfile::tempdir_in(below).with_context(|| format!("cannot make a folder in {}", below.display()))
}

/// A lake with the registry alone.
///
/// # Errors
/// When the store refuses.
pub async fn with_registry(root: &Path, input: &Input) -> anyhow::Result<Lake> {
    let lake = Lake::open(root)?;
    lake.write_registry(&input.registry).await?;
    Ok(lake)
}

/// Commits all records, as often as the collector would by its defaults for memory; each commit is durable.
///
/// # Errors
/// When the store refuses, or does not hold each reading once.
pub async fn commit(lake: &Lake, input: &Input) -> anyhow::Result<()> {
    let limit = usize::try_from(CollectConfig::default().commit_bytes)?;
    let mut committer = Committer::open(lake).await?;
    let mut stored = 0;
    for (position, record) in (1..).zip(&input.records) {
        committer.push(position, Arc::clone(record));
        if committer.pending_bytes() >= limit {
            stored += committer.flush().await?.stored;
        }
    }
    let last = committer.flush().await?;
    stored += last.stored;
    ensure!(stored == input.readings, "{} readings were handed over, {stored} stored", input.readings);
    Ok(())
}

/// Rewrites the month as one that has been over for long.
///
/// # Errors
/// When the store refuses.
pub async fn compact(lake: &Lake, input: &Input) -> anyhow::Result<CompactReport> {
    let long_after = input.instants().1.plus_seconds(60 * 86_400);
    let options = CompactOptions { now: Some(long_after), ..CompactOptions::default() };
    Ok(lake.compact(readings_table(), &options).await?)
}

/// Number of files, rows and bytes of a table.
///
/// # Errors
/// When its log cannot be read.
pub async fn at_rest(lake: &Lake, table: &str) -> anyhow::Result<(usize, u64, u64)> {
    let snapshot = lake.snapshot(table).await?;
    Ok((snapshot.files.len(), snapshot.rows(), snapshot.files.iter().map(|f| f.size).sum()))
}

/// The files of a table.
///
/// # Errors
/// When its log cannot be read.
pub async fn files(lake: &Lake, table: &str) -> anyhow::Result<Vec<PathBuf>> {
    let root = lake.table_path(table);
    Ok(lake.snapshot(table).await?.files.iter().map(|f| root.join(&f.path)).collect())
}

/// Asks for one value, as text, through the door that users ask through.
#[derive(Clone)]
pub struct Door {
    session: LakeSession,
}

impl Door {
    /// Over the lake as it is now.
    ///
    /// # Errors
    /// When the lake cannot be read.
    pub async fn open(lake: &Lake) -> anyhow::Result<Self> {
        Ok(Self { session: lake.open_session(ReadOptions::default()).await? })
    }

    /// The first value of the answer.
    ///
    /// # Errors
    /// When the question is refused or fails, or the answer has no row.
    pub async fn ask(&self, text: &str) -> anyhow::Result<String> {
        Ok(self.ask_in_parts(text).await?.0)
    }

    /// As [`Self::ask`], with the time that went into planning.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_in_parts(&self, text: &str) -> anyhow::Result<(String, Duration)> {
        let begun = Instant::now();
        let result = sql(&self.session.context, text, SqlLimits::default()).await?;
        let planned = begun.elapsed();
        let batches: Vec<_> = result.stream()?.try_collect().await?;
        let batch = batches.iter().find(|b| b.num_rows() > 0).with_context(|| format!("no answer to: {text}"))?;
        Ok((array_value_to_string(batch.column(0), 0)?, planned))
    }
}
