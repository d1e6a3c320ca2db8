//! Checkpoints of a table's log, and the removal of files that no version needs any more.

use std::collections::HashSet;
use std::time::Duration;

use deltalake_core::DeltaTable;
use deltalake_core::protocol::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use deltalake_core::table::state::DeltaTableState;
use futures::{StreamExt, TryStreamExt};
use meterlake_model::Timestamp;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::StoreError;
use crate::lake::{Lake, list_data};
use crate::lease::Role;
use crate::log::{Log, last_checkpoint};

/// A checkpoint is made after so many commits.
const CHECKPOINT_COMMITS: i64 = 20;
/// Commits older than this that a checkpoint covers are removed.
const LOG_KEEP: Duration = Duration::from_secs(30 * 86_400);
/// Files that left the table are kept so long: a reader may still be at an older version.
const FILE_KEEP: Duration = Duration::from_secs(7 * 86_400);
/// Clocks may be set back by so much without harm.
const CLOCK_SLACK_S: i64 = 3600;

impl Lake {
    /// Writes a checkpoint of the log when many commits came since the last, and removes commits of more than 30 days
    /// ago that it covers. Tells whether it did.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub async fn checkpoint(&self, table: &str) -> Result<bool, StoreError> {
        self.checkpoint_as_of(table, Timestamp::now()).await
    }

    /// As [`Self::checkpoint`], at another present.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    pub async fn checkpoint_as_of(&self, table: &str, now: Timestamp) -> Result<bool, StoreError> {
        let mut log = self.locked(table).await?;
        log.refresh().await?;
        let mut covered = last_checkpoint(log.store(), table).await?.map_or(-1, |hint| hint.version);
        let due = log.state().version - covered >= CHECKPOINT_COMMITS;
        let keep_from = now.plus_seconds(-seconds(LOG_KEEP)).micros();
        // Also where no checkpoint is due: a table that seldom changes must not keep what was taken out of it.
        if !due && !is_old_before(&log, covered, keep_from).await? {
            return Ok(false);
        }
        // What the clean-up removes must be told of elsewhere first.
        self.remember_commits(&log).await?;
        if due {
            covered = force_checkpoint(&log).await?;
        }
        if let Ok(covered) = u64::try_from(covered) {
            let keep_from = keep_from.div_euclid(1000);
            let cleaned = cleanup_expired_logs_for(covered, log.log_store().as_ref(), keep_from, None).await;
            cleaned.map_err(|source| StoreError::delta(table, source))?;
        }
        Ok(due)
    }

    /// Whether the clock can be trusted with the age of rows.
    pub(crate) async fn check_clock(&self, now: Timestamp) -> Result<(), StoreError> {
        match clock_fault(self.commit_times().await?, now.unix_seconds(), seconds(FILE_KEEP)) {
            Some(reason) => Err(StoreError::refused("(all)", format!("nothing is removed by age: {reason}"))),
            None => Ok(()),
        }
    }

    /// Removes files that left the table more than 7 days ago, and those that old that never were in it (what a crash
    /// left). Gives their number.
    ///
    /// # Errors
    /// `Refused` when the clock cannot be trusted: the log is from the future, or its last commits jump by more than
    /// the 7 days.
    pub async fn vacuum(&self, table: &str) -> Result<usize, StoreError> {
        self.vacuum_as_of(table, Timestamp::now(), FILE_KEEP).await
    }

    /// As [`Self::vacuum`], at another present and with another age.
    ///
    /// # Errors
    /// As [`Self::vacuum`].
    pub async fn vacuum_as_of(&self, table: &str, now: Timestamp, keep: Duration) -> Result<usize, StoreError> {
        let mut log = self.locked(table).await?;
        log.refresh().await?;
        let before = now.plus_seconds(-seconds(keep)).micros();
        let mut needed: HashSet<String> = log.state().files.iter().map(|f| f.path.clone()).collect();
        needed.extend(removed_since(&log, before).await?);
        let old = list_data(&log).await?.into_iter().filter(|object| {
            let path = object.location.as_ref();
            object.last_modified.timestamp_micros() < before && path.ends_with(".parquet") && !needed.contains(path)
        });
        let paths: Vec<Path> = old.map(|object| object.location).collect();
        let count = paths.len();
        if count == 0 {
            return Ok(0);
        }
        let store = log.store().clone();
        drop(log);
        let times = self.commit_times().await?;
        if let Some(reason) = clock_fault(times, now.unix_seconds(), seconds(keep)) {
            return Err(StoreError::refused(table, format!("{count} old files are kept: {reason}")));
        }
        self.locked(table).await?.check_owner(Role::Maintenance)?;
        let removal = store.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
        let removed: Result<Vec<_>, _> = removal.try_collect().await;
        removed.map_err(|source| StoreError::storage(format!("remove old files of {table}"), source))?;
        Ok(count)
    }

    /// When commits were made, of all tables, in seconds since 1970.
    async fn commit_times(&self) -> Result<Vec<i64>, StoreError> {
        let mut times = Vec::new();
        for table in self.tables().await? {
            let store = self.locked(&table).await?.store().clone();
            let prefix = Path::from("_delta_log");
            let objects: Result<Vec<_>, _> = store.list(Some(&prefix)).try_collect().await;
            let objects = objects.map_err(|source| StoreError::storage(format!("list the log of {table}"), source))?;
            let commits = objects.iter().filter(|o| o.location.as_ref().ends_with(".json"));
            times.extend(commits.map(|o| o.last_modified.timestamp()));
        }
        Ok(times)
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Whether the log has commits that a checkpoint covers and that are old enough to go.
async fn is_old_before(log: &Log, covered: i64, keep_from: i64) -> Result<bool, StoreError> {
    let prefix = Path::from("_delta_log");
    let objects: Result<Vec<_>, _> = log.store().list(Some(&prefix)).try_collect().await;
    let what = || format!("list the log of {}", log.state().name);
    let objects = objects.map_err(|source| StoreError::storage(what(), source))?;
    let version = |name: Option<&str>| name?.strip_suffix(".json")?.parse::<i64>().ok();
    let old = |at: i64| at < keep_from;
    Ok(objects.iter().any(|o| {
        version(o.location.filename()).is_some_and(|v| v < covered) && old(o.last_modified.timestamp_micros())
    }))
}

/// Writes a checkpoint of a log that is up to date; gives its version.
pub(crate) async fn force_checkpoint(log: &Log) -> Result<i64, StoreError> {
    let version = log.state().version;
    let delta = |source| StoreError::delta(&log.state().name, source);
    let mut whole = DeltaTable::new(log.log_store().clone());
    whole.load().await.map_err(delta)?;
    create_checkpoint(&whole, None).await.map_err(delta)?;
    // Another may have committed since; then the checkpoint is of a later version, which covers this one too.
    Ok(version)
}

/// Files that left the table at or after `before`, in microseconds.
pub(crate) async fn removed_since(log: &Log, before: i64) -> Result<Vec<String>, StoreError> {
    let delta = |source| StoreError::delta(&log.state().name, source);
    let state = DeltaTableState::try_new(log.log_store().as_ref(), None).await.map_err(delta)?;
    let mut tombstones = state.all_tombstones(log.log_store().as_ref());
    let mut recent = Vec::new();
    while let Some(tombstone) = tombstones.next().await {
        let tombstone = tombstone.map_err(delta)?;
        let removed_at = tombstone.deletion_timestamp().map_or(i64::MAX, |ms| ms.saturating_mul(1000));
        if removed_at >= before {
            recent.push(tombstone.path().into_owned());
        }
    }
    Ok(recent)
}

/// Why the age of files cannot be told by the clock: it must have run steadily for as long, and commits tell.
fn clock_fault(mut commits: Vec<i64>, now: i64, keep: i64) -> Option<String> {
    commits.sort_unstable();
    let newest = *commits.last()?;
    if now < newest - CLOCK_SLACK_S {
        return Some(format!("the last commit is {} s in the future", newest - now));
    }
    // Walk back while commits follow each other; a jump of the clock is a gap among them, or the one up to now.
    let mut steady_since = now;
    for at in commits.into_iter().rev() {
        let gap = steady_since - at;
        if gap > keep {
            return Some(format!("the clock jumped by {gap} s, or nothing was committed for so long"));
        }
        steady_since = at;
        if now - steady_since > keep {
            break;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_trusted_only_while_commits_follow_each_other() {
        let day = 86_400;
        let check = |commits: &[i64], now| clock_fault(commits.iter().map(|d| d * day).collect(), now * day, 7 * day);
        assert_eq!(check(&[0, 3, 6, 9, 12], 13), None);
        assert_eq!(check(&[], 13), None);
        assert_eq!(check(&[12], 13), None, "a young lake");
        assert!(check(&[0, 3, 6, 9, 12], 52).unwrap().contains("jumped"), "it jumps before any commit");
        assert!(check(&[0, 3, 6, 46, 47], 48).unwrap().contains("jumped"), "it jumped two days ago");
        assert_eq!(check(&[0, 6, 46, 50, 54], 54), None, "by now it has run steadily for longer");
        assert!(check(&[0, 3, 6], 2).unwrap().contains("future"));
    }
}
