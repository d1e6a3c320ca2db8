//! What a rewrite leaves behind: files of older versions, their names and statistics in the log, records of the journal.
//!
//! All of it goes with time (files after 7 days, log after 30, journal after a day); an erasure may not wait so long.

use std::collections::HashSet;
use std::fs;
use std::path::{Path as FilePath, PathBuf};

use futures::{StreamExt, TryStreamExt};
use meterlake_model::Timestamp;
use object_store::path::Path;

use crate::compact::upkeep::{force_checkpoint, removed_since};
use crate::error::StoreError;
use crate::journal::{JournalError, JournalReader, JournalWriter};
use crate::lake::{Lake, list_data};
use crate::log::{AppStep, Change};
use crate::schema;
use crate::table::maintenance_app;

/// Files that never were in the table may be on their way into it; what is older was left behind by a crash.
const ORPHAN_AGE_S: i64 = 3600;

/// What was removed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remains {
    /// Data files of older versions.
    pub files: usize,
    /// Commits and checkpoints of older versions.
    pub log_files: usize,
    /// Segments of the journal.
    pub segments: usize,
}

impl Lake {
    /// Removes all that a table's older versions consist of. Nobody can read them afterwards, and whoever does so now
    /// fails; the present version stays as it is.
    ///
    /// # Errors
    /// When the log or the files cannot be written.
    pub async fn cut_history(&self, table: &str) -> Result<Remains, StoreError> {
        let mut log = self.locked(table).await?;
        log.refresh().await?;
        // When commits were made is told of elsewhere, so that questions as of then still find their commit.
        self.remember_commits(&log).await?;
        let covered = force_checkpoint(&log).await?;
        // A commit behind the checkpoint, so that the log goes on where whoever has it open looks.
        let app = maintenance_app(table);
        let before = log.state().transactions.get(&app).copied();
        let transaction = Some(AppStep { app, before, after: before.unwrap_or(0) + 1 });
        log.commit(&Change { operation: "VACUUM", transaction, ..Change::default() }).await?;

        let live: HashSet<String> = log.state().files.iter().map(|f| f.path.clone()).collect();
        let was_there: HashSet<String> = removed_since(&log, i64::MIN).await?.into_iter().collect();
        let old = Timestamp::now().plus_seconds(-ORPHAN_AGE_S).micros();
        let files = list_data(&log).await?.into_iter().filter(|object| {
            let path = object.location.as_ref();
            let orphan = object.last_modified.timestamp_micros() < old;
            path.ends_with(".parquet") && !live.contains(path) && (was_there.contains(path) || orphan)
        });
        let files: Vec<Path> = files.map(|object| object.location).collect();
        let wrap = |source| StoreError::storage(format!("remove old versions of {table}"), source);
        let store = log.store().clone();
        let prefix = Path::from("_delta_log");
        let objects: Vec<_> = store.list(Some(&prefix)).try_collect().await.map_err(wrap)?;
        let logs: Vec<Path> = objects
            .into_iter()
            .map(|object| object.location)
            .filter(|path| {
                version_of(path).is_some_and(|(version, commit)| version < covered || (commit && version == covered))
            })
            .collect();
        // What the doctor set aside is old, too.
        let aside: Vec<_> = store.list(Some(&Path::from("_delta_log_aside"))).try_collect().await.map_err(wrap)?;
        let aside: Vec<Path> = aside.into_iter().map(|object| object.location).collect();
        let done = Remains { files: files.len(), log_files: logs.len() + aside.len(), segments: 0 };
        // The log first: what it names is then still there should this be interrupted.
        for paths in [logs, aside, files] {
            let removal = store.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
            removal.try_collect::<Vec<_>>().await.map_err(wrap)?;
        }
        Ok(done)
    }

    /// Removes every record of the journal, all of which the tables hold, and begins anew behind them. The collector must
    /// be stopped: its lock is taken.
    ///
    /// # Errors
    /// `Locked` when a collector runs; `Corrupt` when a table lacks records, which are then all kept.
    pub async fn cut_journal(&self, dir: &FilePath) -> Result<Result<Remains, JournalError>, StoreError> {
        if !dir.is_dir() {
            return Ok(Ok(Remains::default()));
        }
        let _lock = match JournalWriter::lock(dir) {
            Ok(lock) => lock,
            Err(e) => return Ok(Err(e)),
        };
        let reader = JournalReader::open(dir);
        let written = match reader.written() {
            Ok(written) => written,
            Err(e) => return Ok(Err(e)),
        };
        for spec in schema::collected() {
            let position = match self.snapshot(spec.name).await {
                Ok(state) => state.journal_position(),
                Err(StoreError::NoTable(_)) => 0,
                Err(e) => return Err(e),
            };
            if position < written {
                let reason = format!("table {} holds it up to {position} of {written}: collect first", spec.name);
                return Ok(Err(JournalError::corrupt(dir, 0, reason)));
            }
        }
        Ok(cut(dir, &reader, written))
    }
}

/// Should this be interrupted, the doctor begins the journal anew at the same position.
fn cut(dir: &FilePath, reader: &JournalReader, written: u64) -> Result<Remains, JournalError> {
    let mut files = reader.files()?;
    // What the doctor set aside beside it.
    let aside = aside_of(dir);
    if aside.is_dir() {
        let listed =
            fs::read_dir(&aside).and_then(|entries| entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>, _>>());
        files.extend(listed.map_err(|e| JournalError::io("read folder", &aside, e))?);
    }
    let segments = files.len();
    for file in files {
        fs::remove_file(&file).map_err(|e| JournalError::io("remove", &file, e))?;
    }
    if written > 0 {
        JournalWriter::restart(dir, written + 1)?;
    }
    Ok(Remains { segments, ..Remains::default() })
}

/// Where the doctor sets a journal's files aside.
pub fn aside_of(journal: &FilePath) -> PathBuf {
    let mut aside = journal.as_os_str().to_owned();
    aside.push("_aside");
    PathBuf::from(aside)
}

/// The version of a file of the log, and whether it is a commit.
fn version_of(path: &Path) -> Option<(i64, bool)> {
    let (version, rest) = path.filename()?.split_once('.')?;
    let version = Some(version).filter(|v| v.len() == 20)?.parse().ok()?;
    Some((version, rest == "json"))
}
